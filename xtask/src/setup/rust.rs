//! What is added to the Rust compiler in use: by rustup, where it came from there.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use super::needs;
use crate::{
    process::{capture, find, quiet},
    progress::step,
};

/// Whether the compiler came from rustup, which alone has what fits it.
pub(super) fn is_rustups() -> bool {
    find("rustup").is_some()
}

/// Gets the target that plugins are compiled for. Where that fails the distribution's packages serve.
pub(super) fn add_target() {
    rustup(&["target", "add", "wasm32-unknown-unknown"]);
}

/// Gets what checks code.
pub(super) fn add_components() {
    rustup(&["component", "add", "clippy", "rustfmt"]);
}

fn rustup(args: &[&str]) {
    if !is_rustups() {
        return;
    }
    step(&format!("rustup {}", args.join(" ")));
    let mut command = Command::new("timeout");
    let added = quiet(command.args(["120", "rustup"]).args(args)).context("rustup cannot add this here");
    if let Err(error) = added {
        step(&format!("{error:#}"));
    }
}

/// The compiler that lints. rustup's programs are there also where what they start is not.
pub(crate) fn clippy() -> Option<PathBuf> {
    let driver = find("clippy-driver")?;
    capture(Command::new(&driver).arg("--version")).is_ok().then_some(driver)
}

/// Whether code can be formatted.
pub(super) fn rustfmt() -> bool {
    capture(Command::new("rustfmt").arg("--version")).is_ok()
}

/// Whether plugins can be compiled: by the Rust in use, or by the distribution's with its own standard library
/// and linker.
pub(super) fn guest_toolchain() -> bool {
    let libdir = capture(Command::new("rustc").args([
        "--print",
        "target-libdir",
        "--target",
        "wasm32-unknown-unknown",
    ]));
    if libdir.is_ok_and(|dir| Path::new(dir.trim()).is_dir()) {
        return true;
    }
    let sources = Path::new("/usr/lib/rustlib/src/rust/library").is_dir();
    needs::linker()
        && sources
        && Path::new("/usr/bin/rustc").is_file()
        && Path::new("/usr/bin/cargo").is_file()
}
