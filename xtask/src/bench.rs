//! `cargo xtask bench`: what Netloom costs, measured beside what a user would pick instead.

use std::{
    env,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{
    build::{self, Profile, Program},
    process::{describe, line},
    progress::step,
    setup::{self, Need},
    workspace,
};

/// Measures with optimised programs, prints a table and writes target/bench/NAME.json
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure: each name is a command of netloom-bench, which `--help` lists
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// `cargo xtask bench`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Need::Bpf, Need::Guest, Need::Netns])?;
    step("building everything, optimised");
    let programs = build::programs(Profile::Release)?;
    for name in &args.names {
        let mut command = bench(&programs)?;
        command.arg("--out").arg(workspace::target().join("bench")).arg(name);
        let status = command.status().with_context(|| format!("`{}` cannot be started", line(&command)))?;
        if !status.success() {
            bail!("`{}` failed ({})", line(&command), describe(status));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The program that measures, and in its environment those that it measures.
fn bench(programs: &[Program]) -> Result<Command> {
    let mut command = Command::new(build::named(programs, "netloom-bench")?);
    for (variable, name) in [
        ("NETLOOM_NETLOOMD", "netloomd"),
        ("NETLOOM_NETLOOM", "netloom"),
        ("NETLOOM_ROUNDTRIPS", "netloom-roundtrips"),
    ] {
        command.env(variable, build::named(programs, name)?);
    }
    command.env("PATH", workspace::path());
    command.env("NETLOOM_XTASK", env::current_exe().context("finding this program")?);
    Ok(command)
}
