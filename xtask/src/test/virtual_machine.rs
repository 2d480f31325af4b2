//! The tests of a tier in one machine, one program after the other.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{libtest, outcome::Progress};
use crate::{
    build::Program,
    process::quote,
    vm::{self, Kernel, Options, Output, same_path},
};

/// Marks where a program's output ends, with its exit code. No test writes such a line.
const END: &str = "\u{1}end ";

/// How long one program of tests may take: emulated, on a busy machine.
const PATIENCE_SECONDS: u32 = 2700;

/// What is run.
pub(crate) struct Job<'a> {
    /// The programs of tests.
    pub(crate) tests: &'a [&'a Program],
    /// Programs that the tests run.
    pub(crate) programs: &'a [Program],
    /// Arguments for the tests.
    pub(crate) filter: &'a [String],
    /// The features that must be there.
    pub(crate) required: &'a str,
}

/// Runs them, and reports each as it ends.
pub(crate) fn run(kernel: Kernel, job: &Job<'_>, progress: &mut Progress) -> Result<()> {
    let scratch = tempfile::tempdir().context("creating a folder for the machine")?;
    let script = scratch.path().join("tests.sh");
    std::fs::write(&script, text(job)).context("writing the machine's script")?;
    let mut machine = vm::Job {
        command: vec!["/bin/sh".into(), script.display().to_string()],
        env: vec![("NETLOOM_REQUIRE".into(), job.required.into()), ("RUST_BACKTRACE".into(), "1".into())],
        copies: vec![same_path(&script)],
    };
    let own = job.programs.iter().filter(|program| is_netlooms(&program.executable));
    machine.copies.extend(job.tests.iter().copied().chain(own).map(|program| same_path(&program.executable)));

    let mut reader = Reader {
        tests: job.tests,
        done: 0,
        pending: Vec::new(),
        output: String::new(),
        last_line: Instant::now(),
    };
    let options = Options { memory: 4096, timeout: Duration::from_secs(3600), ..Options::default() };
    let ended = vm::run(kernel, &machine, &options, |output| match output {
        Output::Stdout(bytes) => reader.take(&bytes, progress),
        Output::Stderr(bytes) => reader.output.push_str(&String::from_utf8_lossy(&bytes)),
    });
    if let Err(error) = ended {
        let name = job.tests.get(reader.done).map_or("the machine", |program| &program.name);
        let report = libtest::read(&reader.output);
        progress.program(name, &report, &Err(format!("{error:#}")), &reader.output);
    }
    Ok(())
}

/// Whether tests may want to start it: the daemon, the command, the CNI plugin.
fn is_netlooms(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("netloom"))
}

/// One program after the other, each under a time limit of its own. What they write past the harness comes after
/// its output, so that it breaks none of its lines.
fn text(job: &Job<'_>) -> String {
    let filter: Vec<String> = job.filter.iter().map(|word| quote(word)).collect();
    let mut script = String::new();
    for program in job.tests {
        script.push_str(&format!(
            "timeout -k 5 {PATIENCE_SECONDS} {} --show-output {} 2>/tmp/stderr; code=$?\ncat /tmp/stderr\nprintf '\\n\\001end %s\\n' \"$code\"\n",
            quote(&program.executable.display().to_string()),
            filter.join(" "),
        ));
    }
    script
}

struct Reader<'a> {
    tests: &'a [&'a Program],
    done: usize,
    pending: Vec<u8>,
    output: String,
    last_line: Instant,
}

impl Reader<'_> {
    fn take(&mut self, bytes: &[u8], progress: &mut Progress) {
        self.pending.extend_from_slice(bytes);
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            self.line(&String::from_utf8_lossy(&line), progress);
        }
    }

    fn line(&mut self, line: &str, progress: &mut Progress) {
        // A machine has one CPU, so that its tests run one after the other, a line each.
        let time = self.last_line.elapsed();
        self.last_line = Instant::now();
        if let Some(test) = libtest::ended(line) {
            progress.took(test, time);
        }
        let Some(code) = line.strip_prefix(END) else {
            self.output.push_str(line);
            return;
        };
        let ended = match code.trim() {
            "0" => Ok(()),
            "124" | "137" | "143" => Err(format!("no end within {PATIENCE_SECONDS} s; it was killed")),
            code => Err(format!("exit code {code}")),
        };
        let name = self.tests.get(self.done).map_or("?", |program| &program.name);
        progress.program(name, &libtest::read(&self.output), &ended, &self.output);
        self.done += 1;
        self.output.clear();
    }
}
