//! A program of namespace tests by itself, told by variables to do more than in its tier.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::{build, progress::step, setup, setup::Need, workspace};

/// Builds it, and runs it with its output shown.
pub(crate) fn run(name: &str, what: &str, variables: &[(&str, String)]) -> Result<ExitCode> {
    if !workspace::is_root() {
        bail!("it makes network namespaces and loads BPF programs, which needs root: try with sudo");
    }
    setup::ensure(&[Need::Bpf, Need::Guest, Need::Netns])?;
    let built = build::tests(&[])?;
    let program = built.tests.iter().find(|program| program.name == name);
    let program = program.with_context(|| format!("there is no program of tests {name}"))?;
    step(what);
    let mut command = Command::new(&program.executable);
    command.arg("--nocapture").current_dir(&program.package_dir);
    command.env("CARGO_MANIFEST_DIR", &program.package_dir).env("PATH", workspace::path());
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let status = command.status().with_context(|| format!("running {name}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
