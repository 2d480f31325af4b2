//! `cargo xtask fuzz`: random bytes for what takes bytes from plugins.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{find, line, run},
    progress::step,
    workspace,
};

/// What a stable compiler takes to compile a program as libFuzzer wants it: each way through it counted, and the
/// numbers that it compares.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// For which the program is compiled; named, so that programs which cargo runs itself are compiled as ever.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Looks for bytes from a plugin that bring the host down, and keeps those that show a new way through it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What is fed: component, decision or packed-batch
    target: String,
    /// Stop after so long
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    seconds: u32,
    /// Add what shows a new way to the corpus in tests/fuzz/corpus, which the tests go through
    #[arg(long)]
    keep: bool,
    /// Options of libFuzzer, such as -jobs=2
    #[arg(last = true)]
    options: Vec<String>,
}

/// `cargo xtask fuzz`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if find("c++").is_none() {
        bail!("libFuzzer is written in C++, and there is no compiler for it: install g++ or clang");
    }
    let corpus = workspace::root().join("tests/fuzz/corpus").join(&args.target);
    if !corpus.is_dir() {
        bail!(
            "there is nothing to feed {:?} with: the targets are the folders of tests/fuzz/corpus",
            args.target
        );
    }
    let program = build()?;
    let place = workspace::target().join("fuzz").join(&args.target);
    let (found, failures) = (place.join("found"), place.join("failures"));
    for folder in [&found, &failures] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let start = || {
        let mut command = Command::new(&program);
        command.env("NETLOOM_FUZZ_TARGET", &args.target);
        command
    };
    step(&format!("feeding {} for {} s", args.target, args.seconds));
    let mut fuzz = start();
    fuzz.arg(format!("-max_total_time={}", args.seconds))
        .arg(format!("-artifact_prefix={}/", failures.display()))
        .args(["-print_final_stats=1", "-timeout=30", "-rss_limit_mb=4096"])
        .args(&args.options)
        .args([&found, &corpus]);
    let status = fuzz.status().with_context(|| format!("`{}` cannot be started", line(&fuzz)))?;
    if args.keep {
        step("keeping what shows a new way");
        run(start().args(["-merge=1", "-rss_limit_mb=4096"]).args([&corpus, &found]))?;
    }
    if !status.success() {
        step(&format!("found something: the bytes are in {}", failures.display()));
        return Ok(ExitCode::FAILURE);
    }
    step("found nothing");
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<PathBuf> {
    step("building everything with coverage");
    let folder = workspace::target().join("fuzz/build");
    let mut cargo = workspace::cargo();
    cargo
        .args([
            "build",
            "--release",
            "--package",
            "netloom-fuzz",
            "--features",
            "libfuzzer",
            "--target",
            TARGET,
        ])
        .env("CARGO_TARGET_DIR", &folder)
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
    run(&mut cargo)?;
    Ok(folder.join(TARGET).join("release/netloom-fuzz"))
}
