//! Compiles `tests/node/applications/*.c` into programs that run anywhere, also where there is no compiler.

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
};

/// What a test calls a program, and what it was compiled from.
const PROGRAMS: [&str; 2] = ["client", "peer"];
const SOURCES: &str = "tests/node/applications";

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed=CC");
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let out = env::var("OUT_DIR").unwrap_or_default();
    for program in PROGRAMS {
        let source = Path::new(SOURCES).join(program).with_extension("c");
        println!("cargo::rerun-if-changed={}", source.display());
        // With its C library: a machine of the tests may have none.
        let compiled = Command::new(&compiler)
            .args(["-static", "-s", "-O1", "-Wall", "-Werror", "-o"])
            .arg(Path::new(&out).join(program))
            .arg(&source)
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            println!(
                "cargo::error={compiler} cannot make a static program of {}: is the static C library there (libc6-dev)?",
                source.display()
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
