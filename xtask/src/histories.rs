//! `cargo xtask histories`: the test of random histories, for as long as one likes.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::{build, progress::step, setup, setup::Need, workspace};

/// The program of tests, which the tier `netns` runs as well, with a fixed seed and length.
const PROGRAM: &str = "tests/netns/tests/histories";

/// Has clients ask a netloomd for random things at once, while it is killed now and then, and checks every answer
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the requests are made of; a failure names it. Their interleaving is the machine's
    #[arg(long)]
    seed: Option<u64>,
    /// Go on for so long
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

/// `cargo xtask histories`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if !workspace::is_root() {
        bail!("it makes network namespaces and loads BPF programs, which needs root: try with sudo");
    }
    setup::ensure(&[Need::Bpf, Need::Guest, Need::Netns])?;
    let built = build::tests(&[])?;
    let program = built.tests.iter().find(|program| program.name == PROGRAM);
    let program = program.with_context(|| format!("there is no program of tests {PROGRAM}"))?;
    step(&format!("histories for {} minutes", args.minutes));
    let mut command = Command::new(&program.executable);
    command.arg("--nocapture").current_dir(&program.package_dir);
    command.env("CARGO_MANIFEST_DIR", &program.package_dir).env("PATH", workspace::path());
    command.env("NETLOOM_MINUTES", args.minutes.to_string());
    command.envs(args.seed.map(|seed| ("NETLOOM_SEED", seed.to_string())));
    let status = command.status().context("running the histories")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
