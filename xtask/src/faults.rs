//! `cargo xtask faults`: every system call of every operation fails once, and is once the daemon's last.

use std::process::ExitCode;

use anyhow::Result;

use crate::long;

/// The program of tests, of which the tier `netns` runs a sample.
const PROGRAM: &str = "tests/netns/tests/faults";

/// `cargo xtask faults`.
pub(crate) fn main() -> Result<ExitCode> {
    long::run(PROGRAM, "each call fails, and kills", &[("NETLOOM_FAULTS", "all".to_owned())])
}
