//! The unit tier beside its tests: formatting, lints, structure, licences, the examples in the documentation.

use std::process::Command;

use super::{libtest, outcome::Progress};
use crate::{
    build::{linting, selection},
    process::{describe, find, line, quiet, tail, watch},
    structure, workspace,
};

/// Formatting, lints, structure, licences and the documentation's examples.
pub(crate) fn run(packages: &[String], warnings: Option<usize>, progress: &mut Progress) {
    let selection = selection(packages);
    let formatted = if packages.is_empty() { vec!["--all".to_owned()] } else { selection.clone() };
    progress.check("cargo fmt", passes(workspace::cargo().arg("fmt").args(formatted).arg("--check")));
    progress.check("clippy", lints(warnings));
    progress.check("cargo xtask structure", structure());
    progress.check("cargo deny", licences());
    documentation(&selection, progress);
}

fn passes(command: &mut Command) -> Result<Option<String>, String> {
    quiet(command).map(|()| None).map_err(|error| format!("{error:#}"))
}

/// Clippy has looked while everything was compiled.
fn lints(warnings: Option<usize>) -> Result<Option<String>, String> {
    match warnings {
        Some(0) => Ok(None),
        Some(warnings) => Err(format!("{warnings} warnings, above, where everything was compiled")),
        None => Ok(Some("there is no clippy".to_owned())),
    }
}

/// How the sources hang together.
fn structure() -> Result<Option<String>, String> {
    let findings = structure::findings().map_err(|error| format!("{error:#}"))?;
    if findings.is_empty() { Ok(None) } else { Err(findings.join("\n\n")) }
}

/// What this very commit decides. Advisories are another matter: they come as they come, and would fail commits that
/// passed.
fn licences() -> Result<Option<String>, String> {
    if find("cargo-deny").is_none() {
        return Ok(Some("there is no cargo-deny".to_owned()));
    }
    let mut deny = workspace::cargo();
    deny.env("PATH", workspace::path());
    passes(deny.args(["deny", "--log-level", "error", "check", "bans", "licenses", "sources"]))
}

fn documentation(selection: &[String], progress: &mut Progress) {
    let mut command = linting();
    command.args(["test", "--doc"]).args(selection);
    match watch(&mut command, |_| {}) {
        Ok(finished) => {
            let ended = if finished.status.success() { Ok(()) } else { Err(describe(finished.status)) };
            progress.program("documentation", &libtest::read(&finished.output), &ended, &finished.output);
        }
        Err(error) => progress.check(&line(&command), Err(tail(&format!("{error:#}")))),
    }
}
