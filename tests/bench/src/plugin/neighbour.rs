//! What decisions take while another plugin spins: the noise is measured too, since a plugin that does not spin would
//! disturb nobody.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use netloom_core::model::{Candidate, Capabilities, Chain, Name};
use netloom_runtime::{Failure, LoadRequest, NodeFacts, Plugin, PluginHost, Registry};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use super::{BATCH, MICRO, ROUNDS, candidate, capabilities, chain, decide, registry_of};
use crate::{
    measure::{Samples, in_turn},
    report::Report,
};

/// The share of one CPU that a noise has to take, also on a machine whose CPUs others use as well: one that waits,
/// or is not asked at all, takes next to nothing.
const NOISE: f64 = 0.1;

/// What decisions are made on.
struct Fixtures {
    registry: Registry,
    capabilities: Capabilities,
    chain: Chain,
    candidate: Candidate,
}

/// `noisy_neighbour`, and `noise_cpu`, the share of a CPU that the noise took.
pub(super) fn run(report: &mut Report, runtime: &Runtime, host: &PluginHost) -> anyhow::Result<()> {
    let (registry, _) = runtime.block_on(registry_of(host))?;
    let mut noisy = LoadRequest::new(Name::new("noisy")?, netloom_test_components::MISBEHAVING);
    noisy.config = serde_json::from_value(serde_json::json!({ "in": "place", "do": "loop" }))?;
    let noisy = Arc::new(runtime.block_on(host.load(noisy))?);
    let fixtures =
        Fixtures { registry, capabilities: capabilities(), chain: chain()?, candidate: candidate()? };
    let fixtures = Arc::new(fixtures);
    let mut shares = Samples::default();
    let (beside, alone) = in_turn(
        ROUNDS / 2,
        || {
            let noise = Noise::start(runtime, &noisy, &fixtures);
            std::thread::sleep(Duration::from_millis(5));
            let measured = p99(runtime, &fixtures);
            shares.push(noise.stop(runtime)?);
            measured
        },
        || p99(runtime, &fixtures),
    )?;
    let share = shares.median();
    ensure!(share >= NOISE, "the noise took {:.0} % of a CPU: it spins too little to be one", share * 100.0);
    report.compare("noisy_neighbour", "µs", &beside, &alone)?;
    report.state("noise_cpu", "%", &shares.iter().map(|share| share * 100.0).collect());
    Ok(())
}

/// The time below which 99 of 100 decisions are made, in microseconds.
fn p99(runtime: &Runtime, fixtures: &Arc<Fixtures>) -> anyhow::Result<f64> {
    let fixtures = Arc::clone(fixtures);
    let task = runtime.spawn(async move {
        let Fixtures { registry, capabilities, chain, candidate } = &*fixtures;
        let mut each = Samples::default();
        for _ in 0..BATCH * 5 {
            let started = Instant::now();
            decide(registry, capabilities, chain, candidate).await?;
            each.push(started.elapsed().as_secs_f64() * MICRO);
        }
        Ok::<_, anyhow::Error>(each.quantile(0.99))
    });
    runtime.block_on(task)?
}

/// A plugin that always runs into its deadline, asked again and again by a task of its own.
struct Noise {
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    /// The nanoseconds of CPU time that it took.
    taken: Arc<AtomicU64>,
    began: Instant,
}

impl Noise {
    fn start(runtime: &Runtime, noisy: &Arc<Plugin>, fixtures: &Arc<Fixtures>) -> Self {
        let (noisy, fixtures, taken) = (Arc::clone(noisy), Arc::clone(fixtures), Arc::<AtomicU64>::default());
        let spin = async move {
            loop {
                let node = NodeFacts { name: "node-1", capabilities: &fixtures.capabilities };
                match noisy.place(node, &fixtures.chain, &fixtures.candidate).await {
                    Err(error) if matches!(error.failure, Failure::Deadline(_)) => {}
                    other => bail!("a plugin that spins ends at its deadline, and this one: {other:?}"),
                }
            }
        };
        let task = runtime.spawn(metered(spin, Arc::clone(&taken)));
        Self { task, taken, began: Instant::now() }
    }

    /// Ends it: the share of one CPU that it took.
    fn stop(self, runtime: &Runtime) -> anyhow::Result<f64> {
        let (taken, time) = (self.taken.load(Ordering::Relaxed), self.began.elapsed());
        self.task.abort();
        match runtime.block_on(self.task) {
            Ok(ended) => ended?,
            Err(error) => ensure!(error.is_cancelled(), "the noise: {error}"),
        }
        Ok(Duration::from_nanos(taken).as_secs_f64() / time.as_secs_f64())
    }
}

/// Adds up the CPU time that a future takes of the threads it runs on, in nanoseconds.
async fn metered<F: Future>(future: F, taken: Arc<AtomicU64>) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let before = thread_time();
        let polled = future.as_mut().poll(context);
        taken.fetch_add(thread_time().saturating_sub(before), Ordering::Relaxed);
        polled
    })
    .await
}

/// The nanoseconds of CPU time that this thread took so far.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or_default() * 1_000_000_000 + nanoseconds.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_by(future: impl Future<Output = ()>) -> Duration {
        let taken = Arc::<AtomicU64>::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(metered(future, Arc::clone(&taken)));
        Duration::from_nanos(taken.load(Ordering::Relaxed))
    }

    #[test]
    fn a_task_that_waits_takes_no_cpu_and_one_that_spins_does() {
        let waits = taken_by(async { tokio::time::sleep(Duration::from_millis(50)).await });
        assert!(waits < Duration::from_millis(25), "{waits:?}");
        let spins = taken_by(async {
            let before = thread_time();
            while thread_time() - before < 50_000_000 {}
        });
        assert!(spins > Duration::from_millis(25), "{spins:?}");
    }
}
