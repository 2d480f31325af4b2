//! A registry of a test's own: Debian's docker-registry on a free port of this machine, with its storage in a folder
//! that goes with it.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// A registry that runs.
pub struct Registry {
    pub address: String,
    folder: tempfile::TempDir,
    process: Child,
}

/// Who may enter a registry that asks: `acme`, with `open sesame`, whose bcrypt hash this is.
const LOGIN: &str = "acme:$2b$04$O208R1e5iC/0TtC7Zgi9FeITWyMjb.ugoCtdEoHM1zJd.5/VRbm9W\n";

/// A registry; none where the program is not there.
pub fn start() -> Option<Registry> {
    start_with("")
}

/// A registry that asks for a login.
pub fn start_with_login() -> Option<Registry> {
    start_with("auth:\n  htpasswd:\n    realm: acme\n    path: FOLDER/htpasswd\n")
}

/// A registry with TLS, whose certificate nobody but itself vouches for, and that certificate.
pub fn start_with_tls() -> Option<(Registry, String)> {
    let names = ["127.0.0.1".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    let keys = tempfile::tempdir().unwrap();
    std::fs::write(keys.path().join("certificate.pem"), cert.pem()).unwrap();
    std::fs::write(keys.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
    let folder = keys.path().display();
    let tls = format!("  tls:\n    certificate: {folder}/certificate.pem\n    key: {folder}/key.pem\n");
    // It has read them once it answers.
    Some((start_with(&tls)?, cert.pem()))
}

fn start_with(more: &str) -> Option<Registry> {
    let Some(program) = program() else {
        println!("skipped: docker-registry is not installed; `cargo xtask setup` gets it");
        return None;
    };
    // A port is taken by whoever is first: another process may have been.
    for _ in 0..5 {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let process = serve(&program, folder.path(), port, more);
        let mut registry = Registry { address: format!("127.0.0.1:{port}"), folder, process };
        let patience = Instant::now() + Duration::from_secs(20);
        while Instant::now() < patience && registry.process.try_wait().unwrap().is_none() {
            if TcpStream::connect(&registry.address).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    panic!("docker-registry does not start");
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/bin")]);
    folders.map(|folder| folder.join("docker-registry")).find(|program| program.is_file())
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn serve(program: &Path, folder: &Path, port: u16, more: &str) -> Child {
    let config = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: FOLDER/storage\n\
         http:\n  addr: 127.0.0.1:{port}\n{more}"
    );
    let config = config.replace("FOLDER", folder.to_str().unwrap());
    std::fs::write(folder.join("htpasswd"), LOGIN).unwrap();
    let file = folder.join("config.yml");
    std::fs::write(&file, config).unwrap();
    Command::new(program).arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Registry {
    /// How a repository is called here.
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// The file that holds contents.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.storage().join("blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// The folder of a tag.
    pub fn tag(&self, repository: &str, tag: &str) -> PathBuf {
        self.storage().join("repositories").join(repository).join("_manifests/tags").join(tag)
    }

    /// Puts contents into the registry's storage, past its API, and gives their digest.
    pub fn put(&self, repository: &str, contents: &str) -> String {
        let digest = self.link(repository, contents, "_layers/sha256");
        let blob = self.blob(&digest);
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        std::fs::write(blob, contents).unwrap();
        digest
    }

    /// The same for a manifest, with a tag if there is one.
    pub fn put_manifest(&self, repository: &str, manifest: &str, tag: Option<&str>) -> String {
        let digest = self.put(repository, manifest);
        self.link(repository, manifest, "_manifests/revisions/sha256");
        if let Some(tag) = tag {
            let current = self.tag(repository, tag).join("current");
            std::fs::create_dir_all(&current).unwrap();
            std::fs::write(current.join("link"), &digest).unwrap();
        }
        digest
    }

    fn link(&self, repository: &str, contents: &str, place: &str) -> String {
        let digest = netloom_signing::Digest::of(contents.as_bytes());
        let folder = self.storage().join("repositories").join(repository).join(place).join(digest.hex());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("link"), digest.to_string()).unwrap();
        digest.to_string()
    }

    fn storage(&self) -> PathBuf {
        self.folder.path().join("storage/docker/registry/v2")
    }

    /// Ends it; its storage stays.
    pub fn end(&mut self) {
        // It has ended already where it did not get its port.
        drop(self.process.kill());
        self.process.wait().unwrap();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.end();
    }
}

/// Somebody who uses the tool: a folder to work in, and a cache of their own.
pub struct User {
    pub folder: tempfile::TempDir,
    cache: tempfile::TempDir,
}

impl User {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), cache: tempfile::tempdir().unwrap() }
    }

    fn run(&self, command: &str) -> Output {
        self.command(command).output().unwrap()
    }

    /// A command of this user's, to be run.
    pub fn command(&self, command: &str) -> Command {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_netloom-plugin"));
        tool.args(command.split_whitespace())
            .current_dir(self.folder.path())
            .env("NETLOOM_CACHE", self.cache.path())
            .env("DOCKER_CONFIG", self.cache.path());
        tool
    }

    /// What a command that works prints.
    pub fn ok(&self, command: &str) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What a command that fails says.
    pub fn refused(&self, command: &str) -> String {
        let output = self.run(command);
        assert!(
            !output.status.success(),
            "{command} went through: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8(output.stderr).unwrap()
    }

    /// Leaves what `docker login` does.
    pub fn log_in(&self, registry: &Registry) {
        // acme:open sesame
        let config =
            format!(r#"{{"auths":{{"{}":{{"auth":"YWNtZTpvcGVuIHNlc2FtZQ=="}}}}}}"#, registry.address);
        std::fs::write(self.cache.path().join("config.json"), config).unwrap();
    }

    pub fn write(&self, file: &str, contents: &[u8]) {
        std::fs::write(self.folder.path().join(file), contents).unwrap();
    }

    pub fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(file)).unwrap()
    }

    pub fn has(&self, file: &str) -> bool {
        self.folder.path().join(file).exists()
    }

    /// The cache's file of contents.
    pub fn cached(&self, digest: &str) -> PathBuf {
        self.cache.path().join("oci/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
    }
}
