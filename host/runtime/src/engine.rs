//! The Wasm engine, and the clock that interrupts guests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::{error::HostError, limits::TICK};

const STACK_BYTES: usize = 512 << 10;

/// The engine with its ticker. Whoever may run a guest holds it, so the ticker outlives every guest.
pub(crate) struct TickingEngine {
    engine: Engine,
    stop: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
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
        let stop = Arc::new(AtomicBool::new(false));
        let (clock, stopped) = (engine.clone(), Arc::clone(&stop));
        let tick = move || {
            while !stopped.load(Ordering::Acquire) {
                std::thread::park_timeout(TICK);
                clock.increment_epoch();
            }
        };
        let ticker = std::thread::Builder::new()
            .name("netloom-ticker".to_owned())
            .spawn(tick)
            .map_err(HostError::Ticker)?;
        Ok(Self { engine, stop, ticker: Some(ticker) })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for TickingEngine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
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
