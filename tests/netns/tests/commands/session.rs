use std::{
    cell::RefCell,
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use netloom_netns_tests::Node;
use netloom_test_support::{Output, binary};
use serde::de::DeserializeOwned;

/// A command that a test runs, in every form that its answer has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Covered {
    /// Its words, as in `endpoint add`.
    pub(crate) command: &'static str,
    /// Whether `--output json` is another form.
    json: bool,
}

/// A command whose answer people and programs read.
pub(crate) const fn both(command: &'static str) -> Covered {
    Covered { command, json: true }
}

/// A command whose answer has one form.
pub(crate) const fn text(command: &'static str) -> Covered {
    Covered { command, json: false }
}

/// Somebody at the command line of a node, in a folder of their own. It fails if a command that it is to cover was not
/// run in each of its forms.
#[derive(Debug)]
pub(crate) struct Session {
    instance: String,
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    covers: &'static [Covered],
    ran: RefCell<BTreeSet<(&'static str, bool)>>,
}

impl Session {
    /// On this node.
    pub(crate) fn on(node: &Node, covers: &'static [Covered]) -> Self {
        Self {
            instance: node.daemon.instance().to_string(),
            folder: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
            covers,
            ran: RefCell::default(),
        }
    }

    /// With this in its environment.
    pub(crate) fn with(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.environment.push((name.to_owned(), value.as_ref().to_str().unwrap().to_owned()));
        self
    }

    /// A file in its folder.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), contents).unwrap();
    }

    /// What a file in its folder has.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// The full path of a file in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a command shows people.
    #[track_caller]
    pub(crate) fn table(&self, command: &'static str, arguments: &str) -> String {
        self.note(command, false);
        self.run(command, arguments).expect_ok()
    }

    /// What a command tells programs.
    #[track_caller]
    pub(crate) fn json<T: DeserializeOwned>(&self, command: &'static str, arguments: &str) -> T {
        self.note(command, true);
        let said = self.run(command, &format!("{arguments} --output json")).expect_ok();
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{command} {arguments}: {error}: {said}"))
    }

    /// Runs a command to its end, whatever that is.
    pub(crate) fn run(&self, command: &str, arguments: &str) -> Output {
        let output = self.command(command, arguments).output().unwrap();
        Output {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }

    /// The same, to be started.
    pub(crate) fn command(&self, command: &str, arguments: &str) -> Command {
        let mut netloom = Command::new(binary("netloom"));
        netloom
            .args(["--instance", &self.instance])
            .args(command.split(' '))
            .args(arguments.split_whitespace());
        netloom.current_dir(self.folder.path()).envs(self.environment.iter().cloned()).stdin(Stdio::null());
        netloom
    }

    /// That a command was run.
    #[track_caller]
    pub(crate) fn note(&self, command: &'static str, json: bool) {
        let known = self.covers.iter().any(|covered| covered.command == command && (covered.json || !json));
        assert!(known, "`{command}` (JSON: {json}) is not among the commands that this test covers");
        self.ran.borrow_mut().insert((command, json));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        for covered in self.covers {
            for json in [false, true].into_iter().filter(|json| covered.json || !json) {
                let ran = self.ran.borrow().contains(&(covered.command, json));
                assert!(ran, "`{}` is said to be covered and was not run (JSON: {json})", covered.command);
            }
        }
    }
}
