//! A container runtime, as far as a CNI plugin notices it.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

/// What a plugin answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) succeeded: bool,
    pub(crate) stdout: String,
}

impl Answer {
    /// Its result.
    #[track_caller]
    pub(crate) fn result(self) -> Value {
        assert!(self.succeeded, "{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// That it succeeded, and said nothing.
    #[track_caller]
    pub(crate) fn silent(self) {
        assert_eq!((self.succeeded, self.stdout.as_str()), (true, ""));
    }

    /// Its error's code and text.
    #[track_caller]
    pub(crate) fn error(self) -> (u64, String) {
        assert!(!self.succeeded, "{}", self.stdout);
        let error: Value = serde_json::from_str(&self.stdout).unwrap();
        assert!(error["cniVersion"].is_string(), "{error}");
        (error["code"].as_u64().unwrap(), error["msg"].as_str().unwrap().to_owned())
    }
}

/// A network's configuration of a version.
pub(crate) fn config(version: &str, socket: &Path) -> Value {
    json!({"cniVersion": version, "name": "pods", "type": "netloom-cni", "socket": socket})
}

/// A call of the plugin, with the variables of an attachment.
#[derive(Clone)]
pub(crate) struct Call {
    variables: Vec<(String, String)>,
}

impl Call {
    /// A command for container `c1`'s `eth0`.
    pub(crate) fn new(command: &str, netns: &Path) -> Self {
        Self { variables: Vec::new() }
            .with("CNI_COMMAND", command)
            .with("CNI_CONTAINERID", "c1")
            .with("CNI_NETNS", netns.to_str().unwrap())
            .with("CNI_IFNAME", "eth0")
            .with("CNI_PATH", "/opt/cni/bin")
    }

    /// With another value of a variable.
    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        let mut call = self.without(name);
        call.variables.push((name.to_owned(), value.to_owned()));
        call
    }

    /// Without a variable.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn run(&self, config: &Value) -> Answer {
        self.run_text(&config.to_string())
    }

    pub(crate) fn run_text(&self, stdin: &str) -> Answer {
        let mut child = Command::new(env!("CARGO_BIN_EXE_netloom-cni"))
            .env_clear()
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A plugin that dislikes its environment may end before it has read this.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Answer { succeeded: output.status.success(), stdout: String::from_utf8(output.stdout).unwrap() }
    }
}
