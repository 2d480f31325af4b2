//! cargo-mutants, which lists the faults that a mutation pass puts into the code. No package has it: it is compiled when
//! it is wanted first, which takes minutes.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::keep;
use crate::{
    process::{find, run},
    progress::step,
    workspace,
};

const PROGRAM: &str = "cargo-mutants";

/// One whose lists `xtask/src/mutants/mutant.rs` reads.
const VERSION: &str = "27.1.0";

/// The program: ours or the user's, or else compiled now.
///
/// # Errors
/// If it cannot be compiled.
pub(crate) fn cargo_mutants() -> Result<PathBuf> {
    if find(PROGRAM).is_none() {
        step("compiling cargo-mutants");
        let scratch = tempfile::tempdir().context("creating a folder for cargo-mutants")?;
        let mut cargo = workspace::cargo();
        cargo.args(["install", "--quiet", "--locked", "--version", VERSION, "--root"]).arg(scratch.path());
        run(cargo.arg(PROGRAM))?;
        keep(&scratch.path().join("bin").join(PROGRAM), PROGRAM)?;
    }
    find(PROGRAM).with_context(|| format!("{PROGRAM} was compiled, and is not there"))
}
