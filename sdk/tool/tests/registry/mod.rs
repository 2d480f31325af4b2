//! A registry of a test's own, and somebody who uses it.

mod server;

use std::{
    path::PathBuf,
    process::{Command, Output},
};

// Each program of tests uses a part of it.
#[allow(unused_imports)]
pub use server::{Registry, start, start_with_login};

/// A registry with TLS, whose certificate nobody but itself vouches for, and that certificate.
pub fn start_with_tls() -> Option<(Registry, String)> {
    let names = ["127.0.0.1".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    let files = [("certificate.pem", &*cert.pem()), ("key.pem", &*signing_key.serialize_pem())];
    let tls = "  tls:\n    certificate: FOLDER/certificate.pem\n    key: FOLDER/key.pem\n";
    Some((server::start_with(tls, &files)?, cert.pem()))
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
