//! `cargo xtask faults`: every system call of every operation fails once, and is once the daemon's last.

use std::process::ExitCode;

use anyhow::Result;

use crate::long;

/// The program of tests, of which the tier `netns` runs a sample.
const PROGRAM: &str = "tests/netns/tests/faults";

/// Has each system call of netloomd's operations fail, or kill it, and checks what is left
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One kind of call, such as `bpf` or `sendto`; all of them take an hour
    #[arg(default_value = "all")]
    calls: String,
}

/// `cargo xtask faults`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    long::run(PROGRAM, "each call fails, and kills", &[("NETLOOM_FAULTS", args.calls.clone())])
}
