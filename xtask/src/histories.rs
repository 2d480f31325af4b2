//! `cargo xtask histories`: the test of random histories, for as long as one likes.

use std::process::ExitCode;

use anyhow::Result;

use crate::long;

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
    let mut variables = vec![("NETLOOM_MINUTES", args.minutes.to_string())];
    variables.extend(args.seed.map(|seed| ("NETLOOM_SEED", seed.to_string())));
    long::run(PROGRAM, &format!("histories for {} minutes", args.minutes), &variables)
}
