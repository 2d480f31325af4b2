//! The Wasm engine, and the clock that interrupts guests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::{error::HostError, limits::TICK};

const STACK_BYTES: usize = 512 << 10;

/// How many ticks the ticker goes on after the last call, so that calls in a row need not wake it.
const LINGER: u32 = 50;

/// The engine with its ticker. Whoever may run a guest holds it, so the ticker outlives every guest.
pub(crate) struct TickingEngine {
    engine: Engine,
    ticking: Arc<Ticking>,
    ticker: Option<JoinHandle<()>>,
}

/// What the ticker goes by: it sleeps while no guest runs, for a node that decides nothing is to be idle.
#[derive(Default)]
struct Ticking {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

impl Ticking {
    fn tick(&self, engine: &Engine) {
        let mut idle = 0;
        while !self.stop.load(Ordering::SeqCst) {
            if idle < LINGER {
                std::thread::park_timeout(TICK);
                engine.increment_epoch();
            } else {
                self.sleep();
            }
            idle = if self.running.load(Ordering::SeqCst) > 0 { 0 } else { idle.saturating_add(1) };
        }
    }

    /// Until a guest runs. Whoever begins a call counts it first and looks for a sleeper then, and this the other way
    /// round: one of the two sees the other.
    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        while self.asleep.load(Ordering::SeqCst)
            && self.running.load(Ordering::SeqCst) == 0
            && !self.stop.load(Ordering::SeqCst)
        {
            std::thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

/// A guest may run, and is interrupted at each tick, as long as there is one of these.
pub(crate) struct Running<'a>(&'a Ticking);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl TickingEngine {
    pub(crate) fn start() -> Result<Self, HostError> {
        let engine = match configuration(true).and_then(|config| Engine::new(&config)) {
            Ok(engine) => engine,
            // The pool reserves terabytes of addresses: a limit on them (RLIMIT_AS) forbids it.
            Err(pooled) => {
                tracing::warn!(
                    "the pool for plugin instances could not be reserved, going on without: {pooled:#}"
                );
                configuration(false)
                    .and_then(|config| Engine::new(&config))
                    .map_err(|error| HostError::Engine(format!("{error:#}")))?
            }
        };
        let ticking = Arc::new(Ticking::default());
        let (clock, of_ticker) = (engine.clone(), Arc::clone(&ticking));
        let ticker = std::thread::Builder::new()
            .name("netloom-ticker".to_owned())
            .spawn(move || of_ticker.tick(&clock))
            .map_err(HostError::Ticker)?;
        Ok(Self { engine, ticking, ticker: Some(ticker) })
    }

    /// A guest is about to run.
    pub(crate) fn running(&self) -> Running<'_> {
        self.ticking.running.fetch_add(1, Ordering::SeqCst);
        if self.ticking.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
        Running(&self.ticking)
    }

    fn wake(&self) {
        if let Some(ticker) = &self.ticker {
            ticker.thread().unpark();
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for TickingEngine {
    fn drop(&mut self) {
        self.ticking.stop.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(ticker) = self.ticker.take() {
            // A ticker that panicked has nothing left to tell: it only ever slept and counted.
            drop(ticker.join());
        }
    }
}

fn configuration(pooled: bool) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    // What the architecture has, and not what this very CPU has beyond it: what is compiled on one machine is then
    // good on every other, as in an image that nodes start from. Policy gains nothing from wider registers.
    config.target(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH))?;
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.max_wasm_stack(STACK_BYTES);
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16));
    if pooled {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    }
    Ok(config)
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // Address space, not memory: what an instance may really use is its plugin's limits.
    pool.total_component_instances(1_000);
    pool.total_core_instances(4_000);
    pool.total_memories(1_000);
    pool.total_tables(4_000);
    pool.table_elements(100_000);
    pool.max_tables_per_component(64);
    pool.max_memories_per_component(8);
    pool.max_core_instances_per_component(128);
    pool.max_core_instance_size(4 << 20);
    // Keeping pages resident pays only where the kernel tells which ones were touched.
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes);
        pool.linear_memory_keep_resident(1 << 20);
        pool.table_keep_resident(64 << 10);
    }
    pool
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn within_seconds(what: &str, is_so: impl Fn() -> bool) {
        let patience = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < patience, "{what}: not within 20 s");
            std::thread::sleep(TICK);
        }
    }

    #[test]
    fn the_ticker_sleeps_while_no_guest_runs_and_wakes_for_the_next() {
        let engine = TickingEngine::start().unwrap();
        let asleep = || engine.ticking.asleep.load(Ordering::SeqCst);
        within_seconds("it sleeps before the first call", asleep);
        for _ in 0..3 {
            let (one, another) = (engine.running(), engine.running());
            within_seconds("a call wakes it", || !asleep());
            drop(one);
            std::thread::sleep(TICK * (2 * LINGER));
            assert!(!asleep(), "one guest still runs");
            drop(another);
            within_seconds("it sleeps again", asleep);
        }
    }

    #[test]
    fn an_engine_goes_whatever_its_ticker_does() {
        let awake = TickingEngine::start().unwrap();
        let running = awake.running();
        drop(running);
        drop(awake);
        let sleeping = TickingEngine::start().unwrap();
        within_seconds("it sleeps", || sleeping.ticking.asleep.load(Ordering::SeqCst));
        drop(sleeping);
    }
}
