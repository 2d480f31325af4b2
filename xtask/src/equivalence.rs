//! `cargo xtask equivalence`: the test that compares the fast path with the node's stack, with as many cases as one likes.

use std::process::ExitCode;

use anyhow::Result;

use crate::long;

/// The program of tests, which the tier `netns` runs as well, with a fixed seed and number.
const PROGRAM: &str = "tests/netns/tests/equivalence";

/// Gives two nodes the same random rules and traffic, one of them without a fast path, and compares what arrives
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What rules and traffic are made of; a failure names it
    #[arg(long)]
    seed: Option<u64>,
    /// So many datagrams and connections
    #[arg(long, default_value_t = 10_000)]
    cases: u64,
}

/// `cargo xtask equivalence`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let mut variables = vec![("NETLOOM_CASES", args.cases.to_string())];
    variables.extend(args.seed.map(|seed| ("NETLOOM_SEED", seed.to_string())));
    long::run(PROGRAM, &format!("{} cases by the stack and otherwise", args.cases), &variables)
}
