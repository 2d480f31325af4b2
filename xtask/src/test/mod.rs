//! `cargo xtask test`: every test, by what it needs.

mod checks;
mod libtest;
mod outcome;
mod selected;
mod skips;
mod tier;
mod virtual_machine;

use std::{
    process::{Command, ExitCode},
    thread,
};

use anyhow::{Result, anyhow};

pub(crate) use libtest::ended;
use outcome::{Outcome, Progress, Ran, Rules};
use skips::Expected;
pub(crate) use tier::Tier;
use virtual_machine::Fleet;

use crate::{
    build::{self, Built, Program},
    cgroup::Cgroup,
    process::{capture, describe, watch},
    setup::{self, Need},
    vm, workspace,
};

/// How long one program of tests may take.
const PATIENCE_SECONDS: &str = "1800";

/// Tests in namespaces wait most of the time: for grace periods of the kernel, for packets, for what must not come.
const THREADS_A_CPU: usize = 2;

/// Each machine takes 4 GiB of memory.
const MACHINES_AT_ONCE: usize = 4;

/// Runs the tests, tier by tier; the last line is the sum
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this tier; may be given more than once
    #[arg(long, value_enum)]
    tier: Vec<Tier>,
    /// Only this package's tests; may be given more than once
    #[arg(short, long, value_name = "NAME")]
    package: Vec<String>,
    /// For the test programs: a part of tests' names, `--exact`, …
    #[arg(last = true)]
    filter: Vec<String>,
}

impl Args {
    fn asks_for(&self, tier: Tier) -> bool {
        self.tier.contains(&tier)
    }

    /// How a tier's tests are judged.
    fn rules(&self, tier: Tier) -> Result<Rules> {
        let (ci, complete) = (workspace::is_ci(), self.package.is_empty() && self.filter.is_empty());
        Ok(Rules { expected: Expected::of(tier, ci)?, ci, complete })
    }
}

/// `cargo xtask test`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let wanted = |tier: &Tier| args.tier.is_empty() || args.asks_for(*tier);
    setup::ensure(&[Need::Bpf, Need::Guest])?;
    // Clippy looks while everything is compiled.
    setup::offer(&[Need::Lint]);
    let suite = Suite { args, built: build::tests(&args.package)? };
    let selected = Tier::ALL.into_iter().filter(wanted);
    let (machines, here): (Vec<_>, Vec<_>) = selected.partition(|tier| tier.kernel().is_some());
    let (first, beside) = here.split_at(usize::from(here.first() == Some(&Tier::Unit)));
    let mut outcomes = suite.run_here(first)?;
    outcomes.extend(suite.run_here(beside)?);
    let here = outcomes.iter().find(|outcome| outcome.tier == Tier::Netns);
    let here = here.map(|outcome| outcome.ran.clone()).unwrap_or_default();
    outcomes.extend(suite.run_in_machines(&machines, &here)?);
    let summary = outcome::summarize(&outcomes, workspace::is_ci());
    Ok(if summary.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Suite<'a> {
    args: &'a Args,
    built: Built,
}

impl Suite<'_> {
    /// A machine keeps one CPU of ours busy, but for when its tests wait: there is one more at once than we have CPUs, of
    /// whichever tiers.
    /// `here` has passed on the running kernel.
    fn run_in_machines(&self, tiers: &[Tier], here: &Ran) -> Result<Vec<Outcome>> {
        let mut cannot = Vec::new();
        let mut fleets = Vec::new();
        for tier in tiers {
            let Some(kernel) = tier.kernel() else { continue };
            match prepare(*tier).and_then(|()| self.args.rules(*tier)) {
                Ok(rules) => {
                    let tests = self.programs_of(*tier);
                    let programs = &self.built.programs;
                    fleets.push(Fleet::new(*tier, kernel, rules, &tests, programs, self.args, here)?);
                }
                Err(reason) => cannot.push(cannot_run(*tier, &reason)),
            }
        }
        let all = || -> Result<()> {
            for fleet in &fleets {
                while fleet.run_one()? {}
            }
            Ok(())
        };
        thread::scope(|scope| {
            let cpus = thread::available_parallelism().map_or(1, usize::from);
            let at_once = (cpus + 1).min(MACHINES_AT_ONCE);
            let running: Vec<_> = (0..at_once).map(|_| scope.spawn(all)).collect();
            running
                .into_iter()
                .try_for_each(|each| each.join().map_err(|_| anyhow!("the thread of a machine panicked"))?)
        })?;
        cannot.extend(fleets.into_iter().map(Fleet::end));
        Ok(cannot)
    }

    fn programs_of(&self, tier: Tier) -> Vec<&Program> {
        self.built.tests.iter().filter(|program| tier.runs(program, &workspace::root())).collect()
    }

    /// Tiers beside one another: those in namespaces wait a lot, and those with compilers do not.
    fn run_here(&self, tiers: &[Tier]) -> Result<Vec<Outcome>> {
        thread::scope(|scope| {
            let running: Vec<_> = tiers.iter().map(|tier| scope.spawn(|| self.run(*tier))).collect();
            let ended = running.into_iter();
            ended.map(|each| each.join().map_err(|_| anyhow!("the thread of a tier panicked"))?).collect()
        })
    }

    fn run(&self, tier: Tier) -> Result<Outcome> {
        let rules = match prepare(tier).and_then(|()| self.args.rules(tier)) {
            Ok(rules) => rules,
            Err(reason) => return Ok(cannot_run(tier, &reason)),
        };
        let mut progress = Progress::begin(tier, rules);
        if tier == Tier::Unit && self.args.filter.is_empty() {
            checks::run(&self.args.package, self.built.warnings, &mut progress);
        }
        for program in self.programs_of(tier) {
            self.run_program(tier, program, &mut progress)?;
        }
        Ok(progress.end())
    }

    fn run_program(&self, tier: Tier, program: &Program, progress: &mut Progress) -> Result<()> {
        let cgroup = if tier == Tier::Netns { Cgroup::make() } else { None };
        let mut command = cgroup.as_ref().map_or_else(|| Command::new("timeout"), |it| it.command("timeout"));
        command.args(["--kill-after=5", PATIENCE_SECONDS]).arg(&program.executable).arg("--show-output");
        command.args(&self.args.filter);
        command.current_dir(&program.package_dir).env("CARGO_MANIFEST_DIR", &program.package_dir);
        command.env("PATH", workspace::path()).envs(progress.environment());
        if tier == Tier::Netns {
            let cpus = thread::available_parallelism().map_or(1, usize::from);
            command.env("RUST_TEST_THREADS", (THREADS_A_CPU * cpus).to_string());
        }
        if let Ok(libraries) = capture(Command::new("rustc").args(["--print", "target-libdir"])) {
            // The tests of a procedural macro load the standard library, as the compiler does.
            command.env("LD_LIBRARY_PATH", libraries.trim());
        }
        let finished = watch(&mut command, |_| {});
        let removed = cgroup.map_or(Ok(()), Cgroup::remove);
        let finished = finished?;
        let ended = match finished.status.code() {
            Some(0) => Ok(()),
            Some(124 | 137) => Err(format!("no end within {PATIENCE_SECONDS} s; it was killed")),
            _ => Err(describe(finished.status)),
        };
        let report = libtest::read(&finished.output);
        progress.program(&program.name, &report, &ended, &finished.output);
        removed
    }
}

fn cannot_run(tier: Tier, reason: &anyhow::Error) -> Outcome {
    outcome::cannot_run(tier, &format!("{reason:#}"))
}

/// Gets what a tier needs, or says why it cannot be had.
fn prepare(tier: Tier) -> Result<()> {
    match tier {
        // What of these is not there is said, and the tests that want it are skipped.
        Tier::Unit => {
            setup::offer(&[Need::Licences, Need::Archives]);
            Ok(())
        }
        Tier::Plugin => {
            setup::offer(&[Need::Registry, Need::C, Need::Python, Need::JavaScript, Need::Go]);
            Ok(())
        }
        Tier::Netns if !workspace::is_root() => {
            anyhow::bail!(
                "it makes network namespaces and loads BPF programs, which needs root: try with sudo"
            )
        }
        Tier::Netns => setup::ensure(&[Need::Netns]),
        Tier::Vm6_12 => vm::ready(vm::Kernel::V6_12),
        Tier::Vm6_1 => vm::ready(vm::Kernel::V6_1),
        Tier::VmNewest => vm::ready(vm::Kernel::Newest),
    }
}
