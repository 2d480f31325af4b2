//! What it costs to find and destroy the sockets of a dead backend, among many that live.

mod connect;
pub(crate) mod holder;
mod judge;
mod known;
mod world;

use std::{path::Path, time::Duration};

use anyhow::ensure;
use netloom_api::types::Fate;
use netloom_core::model::{DestroyOutcome, Protocol};
use netloom_kernel::sockets::{Destroyer, Ways};

use self::{
    holder::monotonic,
    known::Iterators,
    world::{STALE, World, dead},
};
use crate::{
    measure::{Samples, all_in_turn, in_turn, milliseconds},
    plot::{Labels, Line, log_log},
    report::Report,
};

/// What a million sockets take, in KiB, with room for everybody else.
const MEMORY_OF_A_MILLION: u64 = 8 << 20;

/// The bench `reap`, among so many sockets at most.
pub(crate) fn run(report: &mut Report, at_most: usize, out: &Path) -> anyhow::Result<()> {
    ensure!(
        known::is_possible(),
        "this kernel has no bpf_sock_destroy, which the known way takes: Linux 6.5 or newer has it"
    );
    judge::run(report)?;
    connect::run(report)?;
    let mut sizes = vec![(10_000, "10k"), (100_000, "100k")];
    if available_memory() > MEMORY_OF_A_MILLION {
        sizes.push((1_000_000, "1m"));
    } else {
        eprintln!("  a million sockets take {} GiB of free memory: left out", MEMORY_OF_A_MILLION >> 20);
    }
    let mut over_tcp = vec![(10_000, "tcp_10k"), (100_000, "tcp_100k")];
    for sizes in [&mut sizes, &mut over_tcp] {
        sizes.retain(|(count, _)| *count <= at_most);
    }
    among(report, Protocol::Udp, &sizes)?;
    among(report, Protocol::Tcp, &over_tcp)?;
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
        line("Netloom: event to the last client's read", "client_read", false),
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
    eprintln!("  sockets of {protocol} are found by {}", world.sockets.finder());
    let iterators = Iterators::new(dead(), protocol)?;
    if protocol == Protocol::Udp {
        destroy(report, &mut world)?;
    }
    for (count, label) in sizes {
        world.fill(*count)?;
        let rounds = rounds(*count);
        find(report, &mut world, &iterators, label, rounds)?;
        end_to_end(report, &mut world, &iterators, label, rounds)?;
    }
    Ok(())
}

/// Samples of each way among so many sockets: at a million, a round takes two minutes.
const fn rounds(sockets: usize) -> usize {
    match sockets {
        0..=10_000 => 15,
        10_001..=100_000 => 7,
        _ => 3,
    }
}

fn find(
    report: &mut Report,
    world: &mut World,
    iterators: &Iterators,
    label: &str,
    rounds: usize,
) -> anyhow::Result<()> {
    world.make_stale(STALE)?;
    let filter = world.stale();
    let found = |by: &dyn Fn() -> anyhow::Result<usize>| {
        milliseconds(|| {
            let found = by()?;
            ensure!(found == STALE, "{found} found instead of {STALE}");
            Ok(())
        })
    };
    let ours = || found(&|| Ok(world.sockets.find(&filter)?.len()));
    let (ours, known) = in_turn(rounds, ours, || found(&|| iterators.find(&world.handles)))?;
    report.compare(&format!("find_{label}"), "ms", &ours, &known)?;
    world.drop_stale()
}

/// Who ends the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Netloom,
    Iterators,
    SockDiag,
    Ss,
}

/// The milliseconds from the event on.
struct Ended {
    /// Until all is done: for Netloom, until the last socket is verified gone and the request answered.
    done: f64,
    /// Until the last client's read returned.
    read: f64,
}

/// From the event to the last socket gone, as the one who ends them sees it and as the clients do.
fn end_to_end(
    report: &mut Report,
    world: &mut World,
    iterators: &Iterators,
    label: &str,
    rounds: usize,
) -> anyhow::Result<()> {
    let ways = [Way::Netloom, Way::Iterators, Way::SockDiag, Way::Ss];
    let [ours, known, diag, ss] = all_in_turn(rounds, &ways, |way| end(world, *way, iterators))?;
    let done = |ended: &[Ended]| ended.iter().map(|ended| ended.done).collect::<Samples>();
    let read = |ended: &[Ended]| ended.iter().map(|ended| ended.read).collect::<Samples>();
    report.compare(&format!("end_to_end_{label}"), "ms", &done(&ours), &done(&known))?;
    report.compare(&format!("client_read_{label}"), "ms", &read(&ours), &read(&known))?;
    report.state(&format!("sock_diag_{label}"), "ms", &done(&diag));
    report.state(&format!("ss_{label}"), "ms", &done(&ss));
    Ok(())
}

/// Makes sockets stale, and has them ended one way.
fn end(world: &mut World, way: Way, iterators: &Iterators) -> anyhow::Result<Ended> {
    world.make_stale(STALE)?;
    world.check_tables()?;
    world.read_stale()?;
    let (address, protocol, passes) = (dead(), world.protocol, world.passes()?);
    let began = monotonic();
    let ended = match way {
        Way::Netloom => reaped(world)?,
        Way::Iterators => iterators.destroy(&world.handles)?,
        Way::SockDiag => known::sock_diag(&world.handles, address, protocol)?,
        Way::Ss => known::ss(&world.names(), address, protocol)?,
    };
    let done = since(began, monotonic());
    ensure!(ended == STALE, "{way:?}: {ended} ended instead of {STALE}");
    let read = since(began, world.stale_returned()?);
    if way == Way::Netloom {
        world.wait_for_second_pass(passes)?;
        world.revive_backend()?;
    }
    world.drop_stale()?;
    Ok(Ended { done, read })
}

/// Removes the backend: how many sockets that ended.
fn reaped(world: &World) -> anyhow::Result<usize> {
    let reaped = world.kill_backend()?;
    Ok(reaped.sockets.iter().filter(|socket| socket.fate == Fate::Destroyed).count())
}

/// The milliseconds between two of [`monotonic`].
fn since(began: Duration, ended: Duration) -> f64 {
    ended.saturating_sub(began).as_secs_f64() * 1e3
}

/// Ten thousand sockets of one backend, microseconds each, by SOCK_DESTROY and by the iterators.
fn destroy(report: &mut Report, world: &mut World) -> anyhow::Result<()> {
    const SOCKETS: usize = 10_000;
    let iterators = world.by(Ways { destroyer: Some(Destroyer::Namespaces), ..Ways::default() })?;
    let [ours, theirs] = all_in_turn(5, &[None, Some(iterators)], |iterators| {
        world.make_stale(SOCKETS)?;
        let sockets = iterators.as_ref().unwrap_or(&world.sockets);
        let found = sockets.find(&world.stale())?;
        let milliseconds = milliseconds(|| {
            let outcomes = sockets.destroy(&found)?;
            let gone = outcomes.iter().all(|outcome| *outcome == DestroyOutcome::Destroyed);
            ensure!(gone, "not all sockets are destroyed");
            Ok(())
        })?;
        world.drop_stale()?;
        #[allow(clippy::cast_precision_loss, reason = "a small constant")]
        Ok(milliseconds * 1e3 / SOCKETS as f64)
    })?;
    report.compare("destroy_10k", "µs", &ours.into_iter().collect(), &theirs.into_iter().collect())
}

/// In KiB.
fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_default()
}
