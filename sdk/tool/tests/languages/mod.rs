//! Which languages this machine can build plugins in.

use std::process::Command;

use netloom_test_support::require_condition;

/// Whether plugins in a language can be built here; fetches its compiler the first time. If not, the test is to return.
#[must_use]
pub(crate) fn can_build(language: &str) -> bool {
    let setup = Command::new(env!("CARGO_BIN_EXE_netloom-plugin"))
        .args(["setup", "--lang", language])
        .output()
        .expect("the tool runs");
    let why = String::from_utf8_lossy(&setup.stderr).replace('\n', " ");
    require_condition(setup.status.success(), &format!("a compiler of {language}"), why.trim())
}
