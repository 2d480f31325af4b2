//! `cargo xtask mutants`: small faults are put into a module, one after the other is switched on, and its tests are to
//! notice each.
//!
//! - `modules`: which files a module has, and which tests guard it
//! - `mutant`: the faults, as cargo-mutants lists them
//! - `scratch`: a copy of the sources
//! - `switch`: all faults of a file at once, each with its switch
//! - `build`: compiling them, without those that do not compile
//! - `guard`: running tests until the first notices
//! - `excused`: survivors that are listed with a reason
//! - `report`: what is told

mod build;
mod excused;
mod guard;
mod modules;
mod mutant;
mod report;
mod scratch;
mod switch;

use std::{
    collections::VecDeque,
    ops::RangeFrom,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};

use self::{
    guard::{End, Tests},
    modules::{Guard, Module},
    mutant::Mutant,
    report::{Fate, Pass},
    scratch::Scratch,
};
use crate::{
    progress::step,
    setup::{self, Need},
    workspace,
};

/// Puts small faults into modules, one at a time, and says which of them their tests do not notice
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Modules of the table in xtask/src/mutants/modules.rs, which are compiled in one go
    #[arg(required = true, value_name = "MODULE")]
    modules: Vec<String>,
    /// Of a module, begin no fault after so long
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    minutes: u64,
    /// Try so many faults of a module
    #[arg(long, value_name = "COUNT", default_value_t = 30)]
    sample: usize,
    /// Which ones: another seed, others
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Try all faults, however long that takes
    #[arg(long, conflicts_with_all = ["minutes", "sample"])]
    all: bool,
    /// Only those whose `file:line:column: what` has this
    #[arg(long, value_name = "TEXT", default_value = "")]
    matching: String,
    /// Try so many at once; none is twice the CPUs: tests wait more than they compute
    #[arg(long, value_name = "COUNT")]
    jobs: Option<usize>,
}

/// The least time that tests have, and how many times longer than without a fault and alone.
const LEAST_PATIENCE: Duration = Duration::from_secs(180);
const PATIENCE: u32 = 10;

/// `cargo xtask mutants`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let modules: Vec<_> = args.modules.iter().map(|name| modules::named(name)).collect::<Result<_>>()?;
    let excuses = excused::read()?;
    prepare(&modules)?;
    let mut numbers = 1..;
    let (mut passes, mut chosen) = (Vec::new(), Vec::new());
    for module in &modules {
        let listed = mutant::list(module)?;
        passes.push(Pass::new(module.name, &listed, excuses.clone()));
        chosen.push(args.choose(listed, &mut numbers));
    }
    let scratch = Scratch::open()?;
    let faults = chosen.concat();
    step(&format!("compiling the tests of {} with {} faults", args.modules.join(", "), faults.len()));
    let built = build::build(&modules, &scratch, &faults)?;
    for ((module, pass), mutants) in modules.iter().zip(&mut passes).zip(chosen) {
        let tests = Tests { built: &built, root: scratch.root() };
        step(&format!("running the tests of {} without a fault", module.name));
        let limits = baseline(module, &tests)?;
        step(&format!("and with each of {} faults", mutants.len()));
        Run { module, tests, limits, until: args.until() }.all(mutants, args.jobs(), pass)?;
    }
    Ok(report::tell(&passes))
}

impl Args {
    /// The faults to be tried, each with a number.
    fn choose(&self, mut listed: Vec<Mutant>, numbers: &mut RangeFrom<u32>) -> Vec<(u32, Mutant)> {
        listed.retain(|mutant| mutant.to_string().contains(&self.matching));
        let count = if self.all { listed.len() } else { self.sample };
        let sample = mutant::sample(listed, count, self.seed).into_iter();
        // The faults come first, so that no number is taken out that none gets.
        sample.zip(numbers).map(|(mutant, number)| (number, mutant)).collect()
    }

    fn until(&self) -> Option<Instant> {
        (!self.all).then(|| Instant::now() + Duration::from_secs(60 * self.minutes))
    }

    fn jobs(&self) -> usize {
        self.jobs.unwrap_or_else(|| 2 * thread::available_parallelism().map_or(1, usize::from))
    }
}

/// Gets what the modules' tests need.
fn prepare(modules: &[&Module]) -> Result<()> {
    let touches_kernel = |module: &&&Module| module.guards.iter().any(|guard| guard.touches_kernel);
    let Some(module) = modules.iter().find(touches_kernel) else { return Ok(()) };
    if !workspace::is_root() {
        bail!("the tests of {} make namespaces, which needs root: try with sudo", module.name);
    }
    setup::ensure(&[Need::Bpf, Need::Guest, Need::Netns])
}

/// How often tests are run without a fault until all pass: a machine that is busy with other things has some fail.
const ATTEMPTS: usize = 3;

/// Runs the tests without a fault: how long each program may take with one.
fn baseline(module: &Module, tests: &Tests<'_>) -> Result<Vec<Duration>> {
    module.guards.iter().map(|guard| patience(guard, tests)).collect()
}

fn patience(guard: &Guard, tests: &Tests<'_>) -> Result<Duration> {
    let mut failed = String::new();
    for _ in 0..ATTEMPTS {
        let began = Instant::now();
        match tests.run(guard, 0, Duration::from_secs(900))? {
            End::Passed => return Ok(LEAST_PATIENCE.max(PATIENCE * began.elapsed())),
            End::Failed(test) => failed = test,
            End::TimedOut => bail!("{} does not end without any fault", guard.program),
        }
    }
    bail!("{} fails without any fault, {ATTEMPTS} times: {failed}", guard.program)
}

/// A pass under way.
struct Run<'a> {
    module: &'a Module,
    tests: Tests<'a>,
    /// For each guard, how long it may take.
    limits: Vec<Duration>,
    /// When no further fault is begun.
    until: Option<Instant>,
}

impl Run<'_> {
    /// Tries these faults, several at once.
    fn all(&self, mutants: Vec<(u32, Mutant)>, jobs: usize, pass: &mut Pass) -> Result<()> {
        let (left, pass) = (Mutex::new(VecDeque::from(mutants)), Mutex::new(pass));
        let work = || -> Result<()> {
            loop {
                let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((number, mutant)) = next else { return Ok(()) };
                let began = Instant::now();
                let fate = self.fate(number)?;
                pass.lock().unwrap_or_else(PoisonError::into_inner).note(mutant, fate, began.elapsed());
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().map_err(|_| anyhow!("a thread that ran tests panicked"))?
            })
        })
    }

    /// What becomes of a fault.
    fn fate(&self, number: u32) -> Result<Fate> {
        if self.tests.built.unbuildable.contains(&number) {
            return Ok(Fate::Unbuildable);
        }
        if self.until.is_some_and(|until| Instant::now() > until) {
            return Ok(Fate::NotTried);
        }
        for (guard, limit) in self.module.guards.iter().zip(&self.limits) {
            match self.tests.run(guard, number, *limit)? {
                End::Passed => {}
                End::Failed(test) => return Ok(Fate::Caught(format!("{} {test}", guard.program))),
                End::TimedOut => return Ok(Fate::TimedOut(guard.program)),
            }
        }
        Ok(Fate::Survived)
    }
}
