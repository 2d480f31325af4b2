use std::process::Command;

use super::{libtest, outcome::Progress};
use crate::{
    build::selection,
    process::{describe, find, line, quiet, tail, watch},
    workspace,
};

/// Formatting, lints, licences and the documentation's examples.
pub(crate) fn run(packages: &[String], progress: &mut Progress) {
    let selection = selection(packages);
    let formatted = if packages.is_empty() { vec!["--all".to_owned()] } else { selection.clone() };
    progress.check("cargo fmt", passes(workspace::cargo().arg("fmt").args(formatted).arg("--check")));
    let mut clippy = workspace::cargo();
    clippy.arg("clippy").args(&selection).args(["--all-targets", "--quiet", "--", "-D", "warnings"]);
    progress.check("cargo clippy", passes(&mut clippy));
    progress.check("cargo deny", licences());
    documentation(&selection, progress);
}

fn passes(command: &mut Command) -> Result<Option<String>, String> {
    quiet(command).map(|()| None).map_err(|error| format!("{error:#}"))
}

/// cargo-deny takes minutes to compile, so it is asked only where it is installed.
fn licences() -> Result<Option<String>, String> {
    let cargo_home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let in_cargo_home = cargo_home.is_some_and(|home| home.join("bin/cargo-deny").is_file());
    if find("cargo-deny").is_none() && !in_cargo_home {
        return Ok(Some("cargo-deny is not installed (`cargo install --locked cargo-deny`)".to_owned()));
    }
    passes(workspace::cargo().args(["deny", "--log-level", "error", "check"]))
}

fn documentation(selection: &[String], progress: &mut Progress) {
    let mut command = workspace::cargo();
    command.args(["test", "--doc", "--quiet"]).args(selection);
    match watch(&mut command, |_| {}) {
        Ok(finished) => {
            let ended = if finished.status.success() { Ok(()) } else { Err(describe(finished.status)) };
            progress.program("documentation", &libtest::read(&finished.output), &ended, &finished.output);
        }
        Err(error) => progress.check(&line(&command), Err(tail(&format!("{error:#}")))),
    }
}
