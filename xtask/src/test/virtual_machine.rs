//! The tests of a tier in machines: each runs a share of them, one test after the other.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    Args, libtest,
    outcome::{Gathered, Outcome, Ran, Rules},
    tier::Tier,
};
use crate::{
    build::Program,
    process::{capture, quote},
    vm::{self, Kernel, Options, Output, same_path},
};

/// Marks where a program's output ends, with its exit code. No test writes such a line.
const END: &str = "\u{1}end ";

/// How long one program of tests may take: emulated, on a busy machine.
const PATIENCE_SECONDS: u32 = 2700;

/// Tests for which a machine of their own is worth its start, and machines of a tier at most: shares are small, so
/// that no CPU of ours is idle for long while another has tests left.
const TESTS_A_MACHINE: usize = 20;
const MACHINES: usize = 6;

/// A tier on a kernel of its own.
pub(crate) struct Fleet<'a> {
    kernel: Kernel,
    /// The workspace's own programs, which some tests run.
    programs: &'a [Program],
    shares: Mutex<Vec<Share<'a>>>,
    gathered: Mutex<Gathered>,
}

/// What one machine runs: programs, and which tests of each.
type Share<'a> = Vec<(&'a Program, Vec<String>)>;

impl<'a> Fleet<'a> {
    /// Shares the tests out. What the filter leaves is asked of the programs themselves; `here` has passed on the running
    /// kernel.
    pub(crate) fn new(
        tier: Tier,
        kernel: Kernel,
        rules: Rules,
        tests: &[&'a Program],
        programs: &'a [Program],
        args: &Args,
        here: &Ran,
    ) -> Result<Self> {
        let asked_for = args.asks_for(tier);
        let mut gathered = Gathered::begin(tier, rules);
        let mut named = Vec::new();
        for program in tests {
            let mut list = Command::new(&program.executable);
            let list = capture(list.args(["--list", "--format", "terse"]).args(&args.filter))?;
            let (mut names, mut left_out) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
            for name in list.lines().filter_map(|line| line.strip_suffix(": test")) {
                match tier.leaves_out(program, name, asked_for, here) {
                    None => names.push(name.to_owned()),
                    Some(why) => left_out.entry(why).or_default().push(name.to_owned()),
                }
            }
            left_out.iter().for_each(|(why, tests)| gathered.left_out(&program.name, tests, why));
            named.push((*program, names));
        }
        let shares = share(&named);
        for (program, _) in shares.iter().flatten() {
            gathered.expect(&program.name);
        }
        Ok(Self { kernel, programs, shares: Mutex::new(shares), gathered: Mutex::new(gathered) })
    }

    /// Runs a share that nobody has run, in a machine: whether there was one.
    pub(crate) fn run_one(&self) -> Result<bool> {
        let Some(share) = lock(&self.shares).pop() else { return Ok(false) };
        lock(&self.gathered).runs();
        let scratch = tempfile::tempdir().context("creating a folder for the machine")?;
        let script = scratch.path().join("tests.sh");
        std::fs::write(&script, text(&share)).context("writing the machine's script")?;
        let mut env = lock(&self.gathered).environment();
        env.push(("RUST_BACKTRACE".into(), "1".into()));
        let mut machine = vm::Job {
            command: vec!["/bin/sh".into(), script.display().to_string()],
            env,
            copies: vec![same_path(&script)],
        };
        let own = self.programs.iter().filter(|program| is_netlooms(&program.executable));
        let tests = share.iter().map(|(program, _)| *program);
        machine.copies.extend(tests.clone().chain(own).map(|program| same_path(&program.executable)));
        machine.copies.extend(compiled_plugins(tests));

        let mut reader = Reader {
            share: &share,
            gathered: &self.gathered,
            done: 0,
            pending: Vec::new(),
            output: String::new(),
            last_line: Instant::now(),
        };
        let options = Options { memory: 4096, timeout: Duration::from_secs(3600), ..Options::default() };
        let ended = vm::run(self.kernel, &machine, &options, |output| match output {
            Output::Stdout(bytes) => reader.take(&bytes),
            Output::Stderr(bytes) => reader.output.push_str(&String::from_utf8_lossy(&bytes)),
        });
        if let Err(error) = ended {
            let name = share.get(reader.done).map_or("the machine", |(program, _)| &program.name);
            let report = libtest::read(&reader.output);
            lock(&self.gathered).program(name, &report, &Err(format!("{error:#}")), &reader.output);
        }
        lock(&self.gathered).runs();
        Ok(true)
    }

    /// When all shares were run.
    pub(crate) fn end(self) -> Outcome {
        self.gathered.into_inner().unwrap_or_else(PoisonError::into_inner).end()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Deals the tests out in turn: those of one module, which take about as long as one another, to different machines.
fn share<'a>(named: &[(&'a Program, Vec<String>)]) -> Vec<Share<'a>> {
    let tests: usize = named.iter().map(|(_, names)| names.len()).sum();
    let machines = (tests / TESTS_A_MACHINE).clamp(1, MACHINES);
    let share = |machine: usize| {
        let mut before = 0;
        let mut share: Share<'a> = Vec::new();
        for (program, names) in named {
            let in_turn = names.iter().zip(before..).filter(|(_, turn)| turn % machines == machine);
            let names_here: Vec<String> = in_turn.map(|(name, _)| name.clone()).collect();
            before += names.len();
            if !names_here.is_empty() {
                share.push((*program, names_here));
            }
        }
        share
    };
    (0..machines).map(share).filter(|share| !share.is_empty()).collect()
}

/// The plugins that daemons of tests on this machine compiled, where such tests have run: emulated, it takes half a
/// minute of each machine.
fn compiled_plugins<'a>(tests: impl Iterator<Item = &'a Program>) -> Option<vm::Copy> {
    let folders = tests.filter_map(|program| Some(program.executable.parent()?.join("compiled-plugins")));
    folders.filter(|folder| folder.is_dir()).map(|folder| same_path(&folder)).next()
}

/// Whether tests may want to start it: the daemon, the command, the CNI plugin.
fn is_netlooms(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("netloom"))
}

/// One program after the other, each under a time limit of its own. What they write past the harness comes after
/// its output, so that it breaks none of its lines.
fn text(share: &Share<'_>) -> String {
    let mut script = String::new();
    for (program, names) in share {
        let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
        script.push_str(&format!(
            "timeout -k 5 {PATIENCE_SECONDS} {} --show-output --exact {} 2>/tmp/stderr; code=$?\ncat /tmp/stderr\nprintf '\\n\\001end %s\\n' \"$code\"\n",
            quote(&program.executable.display().to_string()),
            names.join(" "),
        ));
    }
    script
}

struct Reader<'a> {
    share: &'a Share<'a>,
    gathered: &'a Mutex<Gathered>,
    done: usize,
    pending: Vec<u8>,
    output: String,
    last_line: Instant,
}

impl Reader<'_> {
    fn take(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            self.line(&String::from_utf8_lossy(&line));
        }
    }

    fn line(&mut self, line: &str) {
        // A machine has one CPU, so that its tests run one after the other, a line each.
        let time = self.last_line.elapsed();
        self.last_line = Instant::now();
        if let Some((test, _)) = libtest::ended(line) {
            lock(self.gathered).took(test, time);
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
        let name = self.share.get(self.done).map_or("?", |(program, _)| &program.name);
        lock(self.gathered).program(name, &libtest::read(&self.output), &ended, &self.output);
        self.done += 1;
        self.output.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::build::Kind;

    fn program(name: &str) -> Program {
        Program {
            name: name.into(),
            package_dir: "/x".into(),
            kind: Kind::Integration,
            executable: "/x".into(),
        }
    }

    #[test]
    fn each_test_is_dealt_out_once_and_evenly() {
        let (one, two, none) = (program("one"), program("two"), program("none"));
        let names = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>();
        let named = [(&one, names(47)), (&none, names(0)), (&two, names(34))];
        let shares = share(&named);
        let sizes: Vec<usize> =
            shares.iter().map(|share| share.iter().map(|(_, names)| names.len()).sum()).collect();
        assert_eq!(sizes, [21, 20, 20, 20]);
        let dealt: BTreeSet<_> = shares
            .iter()
            .flatten()
            .flat_map(|(program, names)| names.iter().map(|name| (program.name.clone(), name.clone())))
            .collect();
        assert_eq!(dealt.len(), 81);
        assert!(dealt.iter().all(|(program, _)| program != "none"));

        assert_eq!(share(&[(&one, names(3))]).len(), 1, "not worth a second machine");
        assert_eq!(share(&[(&one, names(0))]).len(), 0);
    }
}
