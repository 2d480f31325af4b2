use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::binary;

/// A call of a CNI plugin as a container runtime makes it, with the variables of an attachment.
#[derive(Clone, Debug)]
pub struct CniCall {
    program: PathBuf,
    variables: Vec<(String, String)>,
}

impl CniCall {
    /// A command for container `c1`'s `eth0`.
    #[must_use]
    pub fn new(command: &str, netns: &Path) -> Self {
        Self { program: binary("netloom-cni"), variables: Vec::new() }
            .with("CNI_COMMAND", command)
            .with("CNI_CONTAINERID", "c1")
            .with("CNI_NETNS", &netns.display().to_string())
            .with("CNI_IFNAME", "eth0")
            .with("CNI_PATH", "/opt/cni/bin")
    }

    /// Of another plugin than netloom-cni.
    #[must_use]
    pub fn of(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// With another value of a variable.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        let mut call = self.without(name);
        call.variables.push((name.to_owned(), value.to_owned()));
        call
    }

    /// Without a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    /// Runs it with a configuration.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run(&self, config: &Value) -> CniAnswer {
        self.run_text(&config.to_string())
    }

    /// Runs it with this on its standard input.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run_text(&self, stdin: &str) -> CniAnswer {
        let mut child = Command::new(&self.program)
            .env_clear()
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.program.display()));
        // A plugin that dislikes its environment may end before it has read this.
        drop(child.stdin.take().expect("it was asked for").write_all(stdin.as_bytes()));
        let output = child.wait_with_output().expect("a child can be waited for");
        let stdout = String::from_utf8(output.stdout).expect("CNI is text");
        CniAnswer { succeeded: output.status.success(), stdout }
    }
}

/// What a CNI plugin answered.
#[derive(Clone, Debug)]
pub struct CniAnswer {
    /// Whether it exited with 0.
    pub succeeded: bool,
    /// Its standard output, which has its result or its error.
    pub stdout: String,
}

impl CniAnswer {
    /// Its result.
    ///
    /// # Panics
    /// If it failed.
    #[track_caller]
    #[allow(clippy::must_use_candidate, reason = "that there is one may be all that a test wants")]
    pub fn result(self) -> Value {
        assert!(self.succeeded, "{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// That it succeeded, and said nothing.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn silent(self) {
        assert_eq!((self.succeeded, self.stdout.as_str()), (true, ""));
    }

    /// Its error's code and text.
    ///
    /// # Panics
    /// If it succeeded, or its error is none.
    #[track_caller]
    #[must_use]
    pub fn error(self) -> (u64, String) {
        assert!(!self.succeeded, "{}", self.stdout);
        let error: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout));
        let fields = (error.get("cniVersion"), error.get("code"), error.get("msg"));
        let (Some(Value::String(_)), Some(code), Some(Value::String(message))) = fields else {
            panic!("no error of CNI: {error}")
        };
        (code.as_u64().expect("a code is a number"), message.clone())
    }
}
