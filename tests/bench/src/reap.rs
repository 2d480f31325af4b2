//! What it costs to find and destroy the sockets of a dead backend, among many that live.

mod connect;
pub(crate) mod holder;
mod judge;
mod known;
mod world;

use std::path::Path;

use anyhow::ensure;
use netloom_api::types::Fate;
use netloom_core::model::{DestroyOutcome, Protocol};
use netloom_kernel::sockets::{Destroyer, Ways};

use self::{
    known::Iterators,
    world::{STALE, World, dead},
};
use crate::{
    measure::{Samples, in_turn, milliseconds},
    plot::{Labels, Line, log_log},
    report::Report,
};

/// What a million sockets take, in KiB, with room for everybody else.
const MEMORY_OF_A_MILLION: u64 = 8 << 20;

/// The bench `reap`.
pub(crate) fn run(report: &mut Report, out: &Path) -> anyhow::Result<()> {
    judge::run(report)?;
    connect::run(report)?;
    let mut sizes = vec![(10_000, "10k"), (100_000, "100k")];
    if available_memory() > MEMORY_OF_A_MILLION {
        sizes.push((1_000_000, "1m"));
    } else {
        eprintln!("  a million sockets take {} GiB of free memory: left out", MEMORY_OF_A_MILLION >> 20);
    }
    among(report, Protocol::Udp, &sizes)?;
    among(report, Protocol::Tcp, &[(10_000, "tcp_10k"), (100_000, "tcp_100k")])?;
    std::fs::create_dir_all(out)?;
    plot(report, &sizes, out)
}

/// The end to end figures of UDP as `reap.svg`.
fn plot(report: &Report, sizes: &[(usize, &str)], out: &Path) -> anyhow::Result<()> {
    let line = |name, figure: &str, baseline: bool| {
        let points = sizes.iter().filter_map(|(count, label)| {
            let (value, base) = report.figure(&format!("{figure}_{label}"))?;
            #[allow(clippy::cast_precision_loss)]
            Some((*count as f64, if baseline { base? } else { value }))
        });
        Line { name, points: points.collect() }
    };
    let lines = [
        line("Netloom: find", "find", false),
        line("Netloom: event to verified gone", "end_to_end", false),
        line("iterate and destroy in each namespace", "end_to_end", true),
        line("sock_diag in each namespace", "sock_diag", false),
        line("ss -K in each namespace", "ss", false),
    ];
    let labels = Labels {
        title: "50 stale sockets among many, in 100 namespaces",
        x: "connected UDP sockets",
        y: "milliseconds",
    };
    log_log(&out.join("reap.svg"), &labels, &lines)
}

/// The figures of each of these numbers of sockets.
fn among(report: &mut Report, protocol: Protocol, sizes: &[(usize, &str)]) -> anyhow::Result<()> {
    let mut world = World::new(protocol)?;
    if protocol == Protocol::Udp {
        destroy(report, &mut world)?;
    }
    for (count, label) in sizes {
        world.fill(*count)?;
        let rounds = if *count > 100_000 { 2 } else { 5 };
        find(report, &mut world, label, rounds)?;
        end_to_end(report, &mut world, label, rounds)?;
    }
    Ok(())
}

fn find(report: &mut Report, world: &mut World, label: &str, rounds: usize) -> anyhow::Result<()> {
    world.make_stale(STALE)?;
    let filter = world.stale();
    let ours = || {
        milliseconds(|| {
            let found = world.sockets.find(&filter)?.len();
            ensure!(found == STALE, "{found} found instead of {STALE}");
            Ok(())
        })
    };
    let mut fast = Samples::default();
    for _ in 0..20 {
        fast.push(ours()?);
    }
    if known::is_possible() {
        let iterators = Iterators::new(dead(), world.protocol)?;
        let known = || {
            milliseconds(|| {
                let found = iterators.find(&world.handles)?;
                ensure!(found == STALE, "{found} found the known way instead of {STALE}");
                Ok(())
            })
        };
        let (more, known) = in_turn(rounds, ours, known)?;
        fast.extend(&more);
        report.compare(&format!("find_{label}"), "ms", &fast, &known);
    } else {
        report.state(&format!("find_{label}"), "ms", &fast);
    }
    world.drop_stale()
}

/// From the event to the last socket verified gone, beside what others do.
fn end_to_end(report: &mut Report, world: &mut World, label: &str, rounds: usize) -> anyhow::Result<()> {
    let mut ours = Samples::default();
    for _ in 0..5 {
        world.make_stale(STALE)?;
        ours.push(milliseconds(|| {
            let reaped = world.kill_backend()?;
            ensure!(reaped.sockets.len() == STALE, "{} reaped", reaped.sockets.len());
            // The second pass of the round before may be at work on the same sockets.
            let gone = |fate: &Fate| matches!(fate, Fate::Destroyed | Fate::Gone);
            let left = reaped.sockets.iter().filter(|socket| !gone(&socket.fate)).count();
            ensure!(left == 0, "{left} sockets live on");
            Ok(())
        })?);
        world.revive_backend()?;
        world.drop_stale()?;
    }
    let (address, protocol) = (dead(), world.protocol);
    let mut measure = |work: &dyn Fn(&World) -> anyhow::Result<usize>| -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        for _ in 0..rounds.min(3) {
            world.make_stale(STALE)?;
            let mut destroyed = 0;
            samples.push(milliseconds(|| {
                destroyed = work(world)?;
                Ok(())
            })?);
            ensure!(destroyed >= STALE, "{destroyed} destroyed instead of {STALE}");
            world.drop_stale()?;
        }
        Ok(samples)
    };
    if known::is_possible() {
        let iterators = Iterators::new(address, protocol)?;
        let known = measure(&|world| iterators.destroy(&world.handles))?;
        report.compare(&format!("end_to_end_{label}"), "ms", &ours, &known);
    } else {
        report.state(&format!("end_to_end_{label}"), "ms", &ours);
    }
    let diag = measure(&|world| known::sock_diag(&world.handles, address, protocol))?;
    report.state(&format!("sock_diag_{label}"), "ms", &diag);
    let ss = measure(&|world| {
        let names: Vec<&str> = world.namespaces.iter().map(netloom_test_support::Netns::name).collect();
        known::ss(&names, address, protocol)
    })?;
    report.state(&format!("ss_{label}"), "ms", &ss);
    Ok(())
}

/// Ten thousand sockets of one backend, microseconds each, by SOCK_DESTROY and by the iterators.
fn destroy(report: &mut Report, world: &mut World) -> anyhow::Result<()> {
    const SOCKETS: usize = 10_000;
    let iterators = known::is_possible()
        .then(|| world.by(Ways { destroyer: Some(Destroyer::Namespaces), ..Ways::default() }));
    let iterators = iterators.transpose()?;
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for _ in 0..5 {
        for (samples, iterators) in [(&mut ours, None), (&mut theirs, iterators.as_ref())] {
            world.make_stale(SOCKETS)?;
            let sockets = iterators.unwrap_or(&world.sockets);
            let found = sockets.find(&world.stale())?;
            let milliseconds = milliseconds(|| {
                let outcomes = sockets.destroy(&found)?;
                let gone = outcomes.iter().all(|outcome| *outcome == DestroyOutcome::Destroyed);
                ensure!(gone, "not all sockets are destroyed");
                Ok(())
            })?;
            #[allow(clippy::cast_precision_loss)]
            samples.push(milliseconds * 1e3 / SOCKETS as f64);
            world.drop_stale()?;
        }
    }
    report.compare("destroy_10k", "µs", &ours, &theirs);
    Ok(())
}

/// In KiB.
fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_default()
}
