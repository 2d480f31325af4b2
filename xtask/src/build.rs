//! What cargo builds, found in its messages.

use std::{
    io::{BufRead, BufReader, IsTerminal},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{process::line, setup::clippy, workspace};

/// What a test program tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A crate's inside.
    Unit,
    /// A crate as others see it, from its `tests` folder.
    Integration,
}

/// A program that cargo built.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The package's name, and the target's where it differs.
    pub(crate) name: String,
    /// Where its package lies.
    pub(crate) package_dir: PathBuf,
    /// What it tests; for a program that is no test, `Unit`.
    pub(crate) kind: Kind,
    /// The program.
    pub(crate) executable: PathBuf,
}

/// How much cargo optimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As the tests: dependencies a little, the workspace not.
    Dev,
    /// As users run it.
    Release,
}

/// What the tests need.
pub(crate) struct Built {
    /// The programs of tests.
    pub(crate) tests: Vec<Program>,
    /// The workspace's own programs, which some tests run.
    pub(crate) programs: Vec<Program>,
    /// How often the compiler or clippy warned; none where there is no clippy.
    pub(crate) warnings: Option<usize>,
}

/// Compiles every test of these packages, and the workspace's own programs: all in one go if it is every package,
/// since tests and programs built apart would have their dependencies compiled twice, with other features.
pub(crate) fn tests(packages: &[String]) -> Result<Built> {
    let mut built = Built { tests: Vec::new(), programs: Vec::new(), warnings: None };
    let mut warnings = 0;
    messages(linting().args(["build", "--all-targets"]), packages, |message| {
        warnings += usize::from(is_warning(message));
        let list = if is_test(message) { &mut built.tests } else { &mut built.programs };
        list.extend(program(message));
    })?;
    built.warnings = clippy().map(|_| warnings);
    built.tests.sort_by(|a, b| a.name.cmp(&b.name));
    if !packages.is_empty() {
        // With the same compiler, or the workspace would be compiled twice.
        built.programs.clear();
        let programs = &mut built.programs;
        messages(linting().args(["build", "--bins"]), &[], |message| programs.extend(program(message)))?;
    }
    Ok(built)
}

/// Cargo, with clippy looking at the workspace as it is compiled. `cargo clippy` would go through every dependency
/// once more, which takes minutes.
pub(crate) fn linting() -> Command {
    let mut cargo = workspace::cargo();
    if let Some(clippy) = clippy() {
        cargo.env("RUSTC_WORKSPACE_WRAPPER", clippy);
    }
    cargo
}

/// A warning of the compiler or clippy, and not their count.
fn is_warning(message: &Value) -> bool {
    message.pointer("/message/level").is_some_and(|level| level == "warning")
        && message.pointer("/message/spans").and_then(Value::as_array).is_some_and(|spans| !spans.is_empty())
}

/// Compiles the workspace's own programs.
pub(crate) fn programs(profile: Profile) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    let args: &[&str] = match profile {
        Profile::Dev => &["build", "--bins"],
        Profile::Release => &["build", "--bins", "--release"],
    };
    messages(workspace::cargo().args(args), &[], |message| programs.extend(program(message)))?;
    Ok(programs)
}

/// The program of this name.
pub(crate) fn named<'a>(programs: &'a [Program], name: &str) -> Result<&'a Path> {
    let found = programs.iter().find(|program| program.executable.ends_with(name));
    found.map(|program| program.executable.as_path()).with_context(|| format!("cargo built no {name}"))
}

fn is_test(message: &Value) -> bool {
    message.pointer("/profile/test").and_then(Value::as_bool).unwrap_or(false)
}

/// The folders that the build scripts of these packages wrote to.
pub(crate) fn script_outputs(packages: &[String]) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    messages(workspace::cargo().arg("build"), packages, |message| {
        folders.extend(script_output(message, packages));
    })?;
    Ok(folders)
}

fn messages(command: &mut Command, packages: &[String], mut each: impl FnMut(&Value)) -> Result<()> {
    let format = if std::io::stderr().is_terminal() { "json-diagnostic-rendered-ansi" } else { "json" };
    command.args(selection(packages)).arg(format!("--message-format={format}"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{}` cannot be started", line(command)))?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    for message in BufReader::new(stdout).lines() {
        let message = message.context("reading cargo's messages")?;
        // Cargo's messages are JSON; other lines are from the programs it runs.
        if let Ok(message) = serde_json::from_str(&message) {
            if let Some(text) = rendered(&message) {
                eprint!("{text}");
            }
            each(&message);
        }
    }
    let status = child.wait().context("waiting for cargo")?;
    if !status.success() {
        bail!("`{}` failed; what cargo says is above", line(command));
    }
    Ok(())
}

/// What the compiler says, for people.
fn rendered(message: &Value) -> Option<&str> {
    message.pointer("/message/rendered")?.as_str()
}

/// The packages as cargo's arguments.
pub(crate) fn selection(packages: &[String]) -> Vec<String> {
    if packages.is_empty() {
        return vec!["--workspace".to_owned()];
    }
    packages.iter().flat_map(|package| ["--package".to_owned(), package.clone()]).collect()
}

fn program(message: &Value) -> Option<Program> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let executable = PathBuf::from(text(message.get("executable")?)?);
    let target = message.get("target")?;
    let kinds = target.get("kind")?.as_array()?;
    let is = |kind: &str| kinds.iter().any(|value| value == kind);
    let package_dir = Path::new(message.get("manifest_path")?.as_str()?).parent()?.to_path_buf();
    let name = text(target.get("name")?)?;
    let place = package_dir.strip_prefix(workspace::root()).unwrap_or(&package_dir).display().to_string();
    let kind = if is("test") { Kind::Integration } else { Kind::Unit };
    let name = match kind {
        Kind::Integration => format!("{place}/tests/{name}"),
        Kind::Unit if is("bin") => format!("{place} ({name})"),
        Kind::Unit => place,
    };
    Some(Program { name, package_dir, kind, executable })
}

/// Of `{"reason": "build-script-executed", "package_id": "path+file:///…/ebpf#netloom-ebpf@0.1.0", "out_dir": …}`.
fn script_output(message: &Value, packages: &[String]) -> Option<PathBuf> {
    let id = message.get("package_id")?.as_str()?;
    let of = |package: &String| id.contains(&format!("#{package}@")) || id.contains(&format!("/{package}#"));
    let executed = message.get("reason")? == "build-script-executed" && packages.iter().any(of);
    executed.then(|| message.get("out_dir")?.as_str().map(PathBuf::from)).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_test_program_is_found_in_cargos_messages() {
        let manifest = workspace::root().join("host/kernel/Cargo.toml");
        let message = json!({
            "reason": "compiler-artifact",
            "manifest_path": manifest,
            "target": {"kind": ["test"], "name": "links"},
            "profile": {"test": true},
            "executable": "/target/debug/deps/links-0123",
        });
        assert!(is_test(&message) && !is_test(&json!({"profile": {"test": false}})));
        let found = program(&message).unwrap();
        assert_eq!(found.name, "host/kernel/tests/links");
        assert_eq!(found.kind, Kind::Integration);
        let script = json!({
            "reason": "build-script-executed",
            "package_id": "path+file:///clone/ebpf#netloom-ebpf@0.1.0",
            "out_dir": "/target/out",
        });
        assert_eq!(script_output(&script, &["netloom-ebpf".into()]), Some("/target/out".into()));
        assert_eq!(script_output(&script, &["netloom".into()]), None);
        assert!(program(&json!({"reason": "compiler-artifact", "executable": null})).is_none());
    }

    #[test]
    fn a_warning_counts_and_the_line_that_sums_them_up_does_not() {
        let message = |level: &str, spans| {
            json!({
                "reason": "compiler-message",
                "message": {"level": level, "spans": spans, "rendered": "warning: …"},
            })
        };
        assert!(is_warning(&message("warning", json!([{"line_start": 1}]))));
        assert!(!is_warning(&message("warning", json!([]))));
        assert!(!is_warning(&message("note", json!([{"line_start": 1}]))));
        assert_eq!(rendered(&message("warning", json!([]))), Some("warning: …"));
    }
}
