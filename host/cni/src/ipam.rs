//! Addresses from another plugin: what `ipam.type` names is run with our own environment and configuration, as the
//! specification's section "Plugin Delegation" has it.

use std::{
    env,
    io::Write as _,
    net::IpAddr,
    path::PathBuf,
    process::{Command, Stdio},
};

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    config::{Dns, is_empty, remove_nulls},
    failure::Failure,
};

/// The code of a plugin that says none itself.
const DELEGATE_FAILED: u32 = 103;

/// The plugin that gives a network its addresses.
#[derive(Debug)]
pub(crate) struct Ipam<'a> {
    /// Its name, which is its program's.
    pub(crate) kind: &'a str,
    /// The configuration as it came.
    pub(crate) stdin: &'a str,
}

/// What it gave to a container.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Given {
    ips: Vec<Ip>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Debug, Deserialize)]
struct Ip {
    address: IpNet,
}

#[derive(Debug, Deserialize)]
struct Route {
    dst: IpNet,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// What a container is to have by its word.
#[derive(Debug, Default)]
pub(crate) struct Assigned {
    pub(crate) addresses: Vec<IpAddr>,
    /// Without the default route, which is the network's to say.
    pub(crate) routes: Vec<IpNet>,
    pub(crate) dns: Option<Dns>,
}

/// An error as plugins write it.
#[derive(Deserialize)]
struct Refusal {
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

impl Ipam<'_> {
    /// Has it give addresses. What fails is taken back.
    pub(crate) fn add(&self) -> Result<Assigned, Failure> {
        let given = self.run("ADD").and_then(|answer| self.read(&answer));
        if given.is_err() {
            self.take_back();
        }
        given
    }

    /// Has it carry out another command.
    pub(crate) fn pass_on(&self, command: &str) -> Result<(), Failure> {
        self.run(command).map(drop)
    }

    /// Gives addresses back that nobody got: why that failed matters less than why nobody did, and DEL tries again.
    pub(crate) fn take_back(&self) {
        self.run("DEL").ok();
    }

    fn run(&self, command: &str) -> Result<String, Failure> {
        let failed = |error| self.failure(format!("it cannot be run: {error}"));
        let mut plugin = Command::new(self.program()?)
            .env("CNI_COMMAND", command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = plugin.stdin.take() {
            // One that dislikes its environment may end before it has read this: what it says matters.
            stdin.write_all(self.stdin.as_bytes()).ok();
        }
        let output = plugin.wait_with_output().map_err(failed)?;
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(answer);
        }
        let Ok(refusal) = serde_json::from_str::<Refusal>(&answer) else {
            let said = format!("it ended with {}, and said {:?}", output.status, answer.trim());
            return Err(self.failure(said));
        };
        Err(Failure::Delegate {
            plugin: self.kind.to_owned(),
            code: refusal.code,
            message: refusal.msg,
            details: Some(refusal.details).filter(|details| !details.is_empty()),
        })
    }

    /// The first of its name in the folders of CNI_PATH.
    fn program(&self) -> Result<PathBuf, Failure> {
        let folders = env::var_os("CNI_PATH").unwrap_or_default();
        let found =
            env::split_paths(&folders).map(|folder| folder.join(self.kind)).find(|path| path.is_file());
        found.ok_or_else(|| {
            let folders = folders.to_string_lossy();
            Failure::Config(format!(
                "ipam.type is {:?}, and CNI_PATH ({folders}) has no such program",
                self.kind
            ))
        })
    }

    /// It failed, and says no code itself.
    fn failure(&self, message: String) -> Failure {
        Failure::Delegate { plugin: self.kind.to_owned(), code: DELEGATE_FAILED, message, details: None }
    }

    fn read(&self, answer: &str) -> Result<Assigned, Failure> {
        let mut answer: Value = serde_json::from_str(answer)
            .map_err(|error| self.failure(format!("its answer is not JSON: {error}")))?;
        remove_nulls(&mut answer);
        let given: Given = serde_json::from_value(answer)
            .map_err(|error| self.failure(format!("its answer is not understood: {error}")))?;
        if given.ips.is_empty() {
            return Err(self.failure("it gave no address".to_owned()));
        }
        if let Some(route) =
            given.routes.iter().find(|route| route.others.get("gw").is_some_and(|gw| !is_empty(gw)))
        {
            return Err(self.failure(format!(
                "it gave a gateway for {}: all routes lead to the node, and to their destination from there: give dst alone",
                route.dst
            )));
        }
        Ok(Assigned {
            addresses: given.ips.iter().map(|ip| ip.address.addr()).collect(),
            routes: given.routes.iter().map(|route| route.dst).filter(|dst| dst.prefix_len() > 0).collect(),
            dns: Some(given.dns).filter(|dns| *dns != Dns::default()),
        })
    }
}
