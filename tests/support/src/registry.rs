use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::require_tool;

const PROGRAM: &str = "docker-registry";

/// A registry of a test's own: Debian's docker-registry on a free port of this machine, with its storage in a folder
/// that goes with it.
#[derive(Debug)]
pub struct Registry {
    /// Its address, as in `127.0.0.1:5000`.
    pub address: String,
    folder: TempDir,
    process: Child,
}

impl Registry {
    /// Starts one, with more lines of its configuration, in which FOLDER stands for its folder, and files in there.
    /// None where the program is not there, which is said as [`crate::require_tool`] does: the test is to return.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(configuration: &str, files: &[(&str, &str)]) -> Option<Self> {
        if !require_tool(PROGRAM, "`cargo xtask setup` gets it") {
            return None;
        }
        // A port is taken by whoever is first: another process may have been.
        for _ in 0..5 {
            let folder = tempfile::tempdir().expect("a folder can be made");
            let port = free_port();
            let process = serve(folder.path(), port, configuration, files);
            let mut registry = Self { address: format!("127.0.0.1:{port}"), folder, process };
            let patience = Instant::now() + Duration::from_secs(20);
            while Instant::now() < patience && matches!(registry.process.try_wait(), Ok(None)) {
                if TcpStream::connect(&registry.address).is_ok() {
                    return Some(registry);
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("docker-registry does not start");
    }

    /// How a repository is called here.
    #[must_use]
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// The folder of what it stores.
    #[must_use]
    pub fn storage(&self) -> PathBuf {
        self.folder.path().join("storage/docker/registry/v2")
    }

    /// Ends it; its storage stays.
    pub fn end(&mut self) {
        // It has ended already where it did not get its port.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.end();
    }
}

/// A port of this machine that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("a listener has an address").port()
}

fn serve(folder: &Path, port: u16, configuration: &str, files: &[(&str, &str)]) -> Child {
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: FOLDER/storage\n\
         http:\n  addr: 127.0.0.1:{port}\n{configuration}"
    );
    let text = text.replace("FOLDER", &folder.display().to_string());
    for (name, contents) in files.iter().copied().chain([("config.yml", text.as_str())]) {
        fs::write(folder.join(name), contents).expect("a file can be written");
    }
    let mut command = Command::new(PROGRAM);
    command.arg("serve").arg(folder.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"))
}
