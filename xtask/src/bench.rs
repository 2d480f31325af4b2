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
    setup::ensure(&needs(&args.names))?;
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

/// What these benches take: a figure is not left out as a tool is missing.
fn needs(names: &[String]) -> Vec<Need> {
    let mut needs = vec![Need::Bpf, Need::Guest, Need::Netns];
    if names.iter().any(|name| name == "plugin") {
        needs.extend([Need::C, Need::Python, Need::JavaScript, Need::Go]);
    }
    if names.iter().any(|name| name == "attach" || name == "datapath") {
        needs.push(Need::Vm);
    }
    needs
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bench_asks_for_the_tools_of_each_of_its_figures() {
        let needs = |name: &str| needs(&[name.to_owned()]);
        for language in [Need::C, Need::Python, Need::JavaScript, Need::Go] {
            assert!(needs("plugin").contains(&language), "{language:?}");
        }
        assert!(needs("attach").contains(&Need::Vm) && needs("datapath").contains(&Need::Vm));
        assert!(!needs("reap").contains(&Need::Vm) && !needs("reap").contains(&Need::Go));
    }
}
