//! An emulated machine with one CPU that runs one instruction each nanosecond: what takes time there is counted in
//! instructions, whatever else this machine does.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

/// The beginning of a command that runs another one there.
pub(crate) fn counting() -> anyhow::Result<Command> {
    let mut command = Command::new(program("NETLOOM_XTASK")?);
    command.args(["vm", "--kernel", "6.12", "--icount", "--timeout", "1800"]);
    Ok(command)
}

/// A program that `cargo xtask bench` names in this variable.
pub(crate) fn program(variable: &str) -> anyhow::Result<PathBuf> {
    let path =
        env::var_os(variable).with_context(|| format!("{variable} is not set: run `cargo xtask bench`"))?;
    Ok(path.into())
}

/// What a command writes.
///
/// # Errors
/// If it fails.
pub(crate) fn output(mut command: Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("{command:?} cannot be started"))?;
    ensure!(output.status.success(), "{command:?} failed ({})", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
