//! Programs that know nothing of Netloom, as tests run them: in C, compiled with the tests, and in Python. Both are
//! everywhere where tests run; where one is not, that is a failure.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use netloom_test_support::command;

/// Connects, exchanges a word, and says what ends the connection.
pub const CLIENT: Application = Application {
    name: "client",
    compiled: include_bytes!(concat!(env!("OUT_DIR"), "/client")),
    script: include_str!("../tests/node/applications/client.py"),
};

/// Exchanges a word, and says who it was with, as the kernel tells it.
pub const PEER: Application = Application {
    name: "peer",
    compiled: include_bytes!(concat!(env!("OUT_DIR"), "/peer")),
    script: include_str!("../tests/node/applications/peer.py"),
};

/// One program, in both languages.
#[derive(Clone, Copy, Debug)]
pub struct Application {
    name: &'static str,
    compiled: &'static [u8],
    script: &'static str,
}

/// An application's programs, as files that can be run.
#[derive(Debug)]
pub struct Installed {
    _folder: tempfile::TempDir,
    compiled: PathBuf,
    script: PathBuf,
}

impl Application {
    /// Writes its programs down.
    ///
    /// # Panics
    /// If there is no Python.
    pub fn install(self) -> Installed {
        let python = command(&["python3", "--version"]);
        assert!(python.ok(), "there is no python3, which `cargo xtask setup` installs: {}", python.stderr);
        let folder = tempfile::tempdir().expect("a folder can be made");
        let compiled = folder.path().join(self.name);
        let (script, written) = (compiled.with_extension("py"), compiled.with_extension("written"));
        fs::write(&script, self.script).expect("a file can be written");
        fs::write(&written, self.compiled).expect("a file can be written");
        fs::set_permissions(&written, fs::Permissions::from_mode(0o755)).expect("its mode can be set");
        // By another process: what another test's thread starts just now has a copy of a descriptor of ours, and no
        // file can be run that is open for writing.
        let copied = command(&["cp", &written.display().to_string(), &compiled.display().to_string()]);
        assert!(copied.ok(), "{}", copied.stderr);
        Installed { _folder: folder, compiled, script }
    }
}

impl Installed {
    /// The command in each language.
    pub fn commands(&self) -> [Vec<String>; 2] {
        [self.in_c(), self.in_python()]
    }

    /// The program in C, which starts at once.
    pub fn in_c(&self) -> Vec<String> {
        vec![self.compiled.display().to_string()]
    }

    /// The one in Python, which takes a second to start where the machine is emulated.
    pub fn in_python(&self) -> Vec<String> {
        vec!["python3".to_owned(), self.script.display().to_string()]
    }
}
