//! Which languages this machine can build plugins in.

use std::{process::Command, thread};

/// Whether plugins in a language can be built here; fetches its compiler the first time. If not, it says so in a line
/// that `cargo xtask test` counts, and the test is to return.
#[must_use]
pub(crate) fn can_build(language: &str) -> bool {
    let setup = Command::new(env!("CARGO_BIN_EXE_netloom-plugin"))
        .args(["setup", "--lang", language])
        .output()
        .expect("the tool runs");
    if !setup.status.success() {
        let test = thread::current().name().unwrap_or("a test").to_owned();
        let why = String::from_utf8_lossy(&setup.stderr).replace('\n', " ");
        println!("skipped: {test}: no plugins in {language}: {}", why.trim());
    }
    setup.status.success()
}
