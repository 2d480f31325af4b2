//! A registry of a test's own: Debian's docker-registry on a free port of this machine, with its storage in a folder
//! that goes with it.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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

/// A registry with more in its configuration, in which FOLDER stands for its own.
pub fn start_with(more: &str) -> Option<Registry> {
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
