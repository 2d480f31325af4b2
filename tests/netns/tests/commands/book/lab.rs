use std::{cell::Cell, path::PathBuf, thread};

use netloom_api::types::NodeView;
use netloom_core::model::Feature;
use netloom_netns_tests::{Endpoint, Node};
use netloom_test_support::{Netns, Page, binary, typed};
use serde_json::{Value, json};

use super::{not_run, page};

/// A node, and somebody at its command line who types what a page says.
pub(super) struct Lab {
    pub(super) node: Node,
    path: &'static str,
    page: Page,
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    words: Vec<Replaced>,
    typed: Cell<usize>,
}

/// A word of a page that is called otherwise on this machine.
struct Replaced {
    from: String,
    to: String,
    used: Cell<bool>,
}

impl Lab {
    /// A node on which nothing is, for this page.
    pub(super) fn of(path: &'static str) -> Self {
        let node = crate::patient_node();
        let instance = node.daemon.instance().to_string();
        Self {
            node,
            path,
            page: page(path),
            folder: tempfile::tempdir().unwrap(),
            environment: vec![("NETLOOM_INSTANCE".to_owned(), instance)],
            words: Vec::new(),
            typed: Cell::new(0),
        }
    }

    /// With this in the environment.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// What the page calls so is called otherwise here. It fails if the page does not.
    pub(super) fn replace(&mut self, from: &str, to: impl Into<String>) {
        self.words.push(Replaced { from: from.to_owned(), to: to.into(), used: Cell::new(false) });
    }

    /// A namespace that the page calls so.
    pub(super) fn namespace(&mut self, word: &str) -> Netns {
        let netns = Netns::new(word.rsplit('/').next().unwrap());
        let name =
            if word.contains('/') { netns.path().display().to_string() } else { netns.name().to_owned() };
        self.replace(word, name);
        netns
    }

    /// An endpoint that the page presupposes.
    pub(super) fn endpoint(&self, name: &str, more: &Value) -> Endpoint {
        let netns = Netns::new(name);
        let mut spec = json!({ "name": name, "netns": netns.path() });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        let view = self.node.add(spec).unwrap();
        Endpoint { netns, view }
    }

    /// Whether this kernel can do what some commands need.
    pub(super) fn has(&self, feature: Feature) -> bool {
        let node: NodeView = self.node.daemon.get("/v1/node").unwrap();
        node.capabilities.iter().any(|capability| capability.feature == feature && capability.available)
    }

    /// A file that the page presupposes.
    pub(super) fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// Types the commands of a section.
    pub(super) fn section(&self, heading: &str) -> String {
        self.page.section(heading).iter().map(|command| self.command(command)).collect()
    }

    /// Every command of the page.
    pub(super) fn commands(&self) -> Vec<String> {
        self.page.commands().map(str::to_owned).collect()
    }

    /// Types all commands of the page.
    pub(super) fn all(&self) -> String {
        self.page.commands().map(|command| self.command(command)).collect()
    }

    /// The one command of the page that begins so, for those that need something at their side.
    pub(super) fn find(&self, start: &str) -> String {
        let mut found = self.page.commands().filter(|command| command.starts_with(start));
        let command = found.next().unwrap_or_else(|| panic!("{} has no `{start}`", self.path));
        assert_eq!(found.next(), None, "{} has more than one `{start}`", self.path);
        command.to_owned()
    }

    /// Types the commands of the page that begin so; what they wrote.
    pub(super) fn those(&self, starts: &[&str]) -> String {
        starts.iter().map(|start| self.command(&self.find(start))).collect()
    }

    /// Types a command of the page, which has to succeed, unless it is listed as one that is not run.
    pub(super) fn command(&self, command: &str) -> String {
        self.typed.set(self.typed.get() + 1);
        if not_run(self.path, command).is_some() {
            return String::new();
        }
        let said = self.run(command);
        assert!(said.ok(), "{}: `{command}` exited with {:?}:\n{}", self.path, said.code, said.stdout);
        self.check_json(command, &said.stdout);
        said.stdout
    }

    /// Types a command of the page with more arguments at its end.
    pub(super) fn command_with(&self, command: &str, more: &str) -> String {
        let words = command.split_once('#').map_or(command, |(words, _)| words);
        self.command(&format!("{words} {more}"))
    }

    /// Types a command of the page that this kernel cannot carry out, and that has to say so.
    pub(super) fn refused(&self, command: &str, because: &str) {
        self.typed.set(self.typed.get() + 1);
        let said = self.run(command);
        assert!(!said.ok() && said.stdout.contains(because), "{}: `{command}`: {}", self.path, said.stdout);
    }

    /// Runs a command that is not the page's, and has to succeed.
    #[track_caller]
    pub(super) fn prepare(&self, command: &str) {
        let said = self.run(command);
        assert!(said.ok(), "`{command}` exited with {:?}:\n{}", said.code, said.stdout);
    }

    /// Runs a command with the words of this machine.
    pub(super) fn run(&self, command: &str) -> netloom_test_support::Output {
        let mut command = command.to_owned();
        for word in &self.words {
            if command.contains(&word.from) {
                command = command.replace(&word.from, &word.to);
                word.used.set(true);
            }
        }
        let programs = binary("netloom").parent().unwrap().to_owned();
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        typed(&[command], self.folder.path(), &programs, &environment)
    }

    /// Each command was typed, and each word that is replaced is on the page.
    fn check_done(&self) {
        let unused: Vec<_> =
            self.words.iter().filter(|word| !word.used.get()).map(|word| &word.from).collect();
        assert!(unused.is_empty(), "{} has no {unused:?} any more", self.path);
        let all = self.page.commands().count();
        assert_eq!(self.typed.get(), all, "of the {all} commands of {}, not each was typed once", self.path);
    }

    /// What is to be JSON, on the screen or in a file, is.
    fn check_json(&self, command: &str, said: &str) {
        let words = command.split_once('#').map_or(command, |(words, _)| words);
        if let Some((_, file)) = words.split_once("> ").filter(|(_, file)| file.trim().ends_with(".json")) {
            let written = std::fs::read(self.folder.path().join(file.trim())).unwrap();
            let parsed: Result<Value, _> = serde_json::from_slice(&written);
            assert!(parsed.is_ok(), "{}: `{command}`: {parsed:?}", self.path);
        } else if words.contains("--output json") || words.contains("-o json") {
            // The first line is the command itself.
            let parsed: Result<Value, _> = serde_json::from_str(said.split_once('\n').unwrap().1);
            assert!(parsed.is_ok(), "{}: `{command}`: {parsed:?}", self.path);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.check_done();
        }
    }
}
