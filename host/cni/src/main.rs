//! netloom-cni, the CNI executable: container runtimes run it, it asks netloomd.
//!
//! It speaks versions 0.3.0 to 1.1.0 of <https://www.cni.dev/docs/spec/>: parameters come in the
//! environment ([`environment`]), the network's configuration on stdin ([`config`]), the answer goes to stdout
//! ([`result`]), and so do errors ([`failure`]). It keeps no state: what is there, netloomd knows.

mod config;
mod environment;
mod failure;
mod ipam;
mod name;
mod result;
mod verbs;
mod version;

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

use serde_json::Value;

use crate::{environment::Command, failure::Failure, version::SpecVersion};

fn main() -> ExitCode {
    // Errors are written in the version of the configuration, as soon as that is known.
    let mut version = SpecVersion::NEWEST;
    let (answer, code) = match answer(&mut version) {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(failure) => (Some(failure.to_json(version.as_str())), ExitCode::FAILURE),
    };
    match answer.map_or(Ok(()), |answer| writeln!(io::stdout(), "{answer}")) {
        Ok(()) => code,
        // Without its result the runtime takes the call for failed, and cleans up with DEL.
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer(version: &mut SpecVersion) -> Result<Option<Value>, Failure> {
    let command = environment::command()?;
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(Failure::Read)?;
    if command == Command::Version {
        return version::answer(&text).map(Some);
    }
    let document: Value = serde_json::from_str(&text).map_err(Failure::Decode)?;
    *version = match SpecVersion::of(&document) {
        // What is to go goes, whatever else is in the configuration.
        Err(_) if command == Command::Del => SpecVersion::NEWEST,
        version => version?,
    };
    let config = config::NetworkConfig::parse(document, command)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(verbs::run(command, *version, &config, &text))
}
