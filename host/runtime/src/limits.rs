use std::time::{Duration, Instant};

use wasmtime::ResourceLimiter;

/// How often a running guest is interrupted to look at the clock.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Sockets in one call of `judge` or `judge-packed`, at most.
pub const JUDGE_BATCH: usize = 4_096;

/// How many times its deadline a guest that hardly got to run may take, and how long it may at least.
const PATIENCE: u32 = 4;
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// The longest that a call with this deadline may take, waiting in the host included.
pub(crate) fn longest(deadline: Duration) -> Duration {
    deadline.saturating_mul(PATIENCE).max(LEAST_PATIENCE)
}

/// What one plugin may use. The defaults suit plugins written in Rust or C; one that carries a language runtime
/// (Python, JavaScript) needs more memory and table elements.
///
/// Deadlines are wall-clock time. On a node so busy that the plugin hardly got to run, it is given up to four times
/// as long, and two seconds at least: a slow node is not the plugin's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time of one decision: `place`, `rebalance`, `choose`, `plan` and `health`. 50 ms.
    pub deadline: Duration,
    /// Wall-clock time of one batch of judgements, at most 4,096 sockets. 500 ms.
    pub judge_deadline: Duration,
    /// Wall-clock time to instantiate and `init`. 500 ms.
    pub init_deadline: Duration,
    /// Bytes of the component. 64 MiB.
    pub component_bytes: usize,
    /// Bytes of linear memory of one instance, all its memories together. 16 MiB.
    pub memory_bytes: usize,
    /// Table elements of one instance, all its tables together. 20,000.
    pub table_elements: usize,
    /// Core instances, memories and tables of one instance, each. 128.
    pub parts: usize,
    /// Calls from the plugin to the host during one hook call. 10,000.
    pub host_calls: u32,
    /// Bytes the plugin may pass to the host in one call to it, or return from one hook call. 4 MiB.
    pub transfer_bytes: usize,
    /// Resource handles one instance may hold. 1,024.
    pub handles: usize,
    /// Log entries a second; as many again in a burst. 50.
    pub log_rate: u32,
    /// Bytes of keys and values in the plugin's store. 1 MiB.
    pub kv_bytes: u64,
    /// Instances of the plugin, and so its concurrent calls; further calls wait. 4.
    pub instances: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(50),
            judge_deadline: Duration::from_millis(500),
            init_deadline: Duration::from_millis(500),
            component_bytes: 64 << 20,
            memory_bytes: 16 << 20,
            table_elements: 20_000,
            parts: 128,
            host_calls: 10_000,
            transfer_bytes: 4 << 20,
            handles: 1_024,
            log_rate: 50,
            kv_bytes: 1 << 20,
            instances: 4,
        }
    }
}

/// A limit that a plugin ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// It ran past its deadline.
    #[error("ran past its deadline")]
    Deadline,
    /// It wanted more memory.
    #[error("wanted more than {0} bytes of memory")]
    Memory(usize),
    /// It wanted more table elements.
    #[error("wanted more than {0} table elements")]
    Table(usize),
    /// It called the host too often in one call.
    #[error("called the host more than {0} times in one call")]
    HostCalls(u32),
}

/// What one instance has used, against its limits.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Limits,
    memory: usize,
    elements: usize,
    host_calls: u32,
    deadline: Instant,
    /// When it ends, whether it got to run or not.
    end: Instant,
    /// Ticks it ran into, and how many are its fair share until the deadline.
    ticks: u32,
    share: u32,
    breach: Option<Breach>,
}

impl Meter {
    pub(crate) fn new(limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            limits,
            memory: 0,
            elements: 0,
            host_calls: 0,
            deadline: now,
            end: now,
            ticks: 0,
            share: 0,
            breach: None,
        }
    }

    /// Starts the account of one call.
    pub(crate) fn start(&mut self, deadline: Duration) {
        self.host_calls = 0;
        self.breach = None;
        let now = Instant::now();
        self.deadline = now + deadline;
        self.end = now + longest(deadline);
        self.ticks = 0;
        let ticks = deadline.as_millis() / TICK.as_millis().max(1);
        self.share = u32::try_from(ticks).unwrap_or(u32::MAX) / PATIENCE;
    }

    /// Called at each tick the guest runs into.
    pub(crate) fn check_deadline(&mut self) -> Result<(), Breach> {
        let now = Instant::now();
        self.ticks = self.ticks.saturating_add(1);
        let over = now >= self.end || (now >= self.deadline && self.ticks >= self.share);
        if over { Err(self.note(Breach::Deadline)) } else { Ok(()) }
    }

    pub(crate) fn count_host_call(&mut self) -> Result<(), Breach> {
        self.host_calls = self.host_calls.saturating_add(1);
        let most = self.limits.host_calls;
        if self.host_calls <= most { Ok(()) } else { Err(self.note(Breach::HostCalls(most))) }
    }

    /// The last limit it ran into during this call: explains a trap that follows.
    pub(crate) fn breach(&self) -> Option<Breach> {
        self.breach
    }

    fn note(&mut self, breach: Breach) -> Breach {
        self.breach = Some(breach);
        breach
    }
}

impl ResourceLimiter for Meter {
    // A refusal is the guest's to handle (`memory.grow` gives -1): only its language runtime knows what to do.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_sub(current).saturating_add(desired);
        if total > self.limits.memory_bytes {
            self.note(Breach::Memory(self.limits.memory_bytes));
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.elements.saturating_sub(current).saturating_add(desired);
        if total > self.limits.table_elements {
            self.note(Breach::Table(self.limits.table_elements));
            return Ok(false);
        }
        self.elements = total;
        Ok(true)
    }

    // wasmtime means the core instances in one component instance; `Limits::instances` counts the latter.
    #[allow(clippy::misnamed_getters)]
    fn instances(&self) -> usize {
        self.limits.parts
    }

    fn tables(&self) -> usize {
        self.limits.parts
    }

    fn memories(&self) -> usize {
        self.limits.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(deadline_ms: u64, ago_ms: u64, ticks: u32) -> Meter {
        let mut meter = Meter::new(Limits::default());
        meter.start(Duration::from_millis(deadline_ms));
        let ago = Duration::from_millis(ago_ms);
        meter.deadline -= ago;
        meter.end -= ago;
        meter.ticks = ticks;
        meter
    }

    #[test]
    fn a_guest_that_ran_is_cut_off_at_its_deadline() {
        assert_eq!(meter(50_000, 49_000, 49_000).check_deadline(), Ok(()));
        assert_eq!(meter(50_000, 50_000, 49_000).check_deadline(), Err(Breach::Deadline));
    }

    #[test]
    fn a_guest_that_hardly_got_to_run_has_four_times_as_long() {
        assert_eq!(meter(50_000, 199_000, 3).check_deadline(), Ok(()));
        assert_eq!(meter(50_000, 200_000, 3).check_deadline(), Err(Breach::Deadline));
    }

    #[test]
    fn memories_and_tables_are_counted_together() {
        let mut meter = Meter::new(Limits { memory_bytes: 100, table_elements: 10, ..Limits::default() });
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(!meter.memory_growing(0, 60, None).unwrap(), "a second memory");
        assert_eq!(meter.breach(), Some(Breach::Memory(100)));
        assert!(meter.memory_growing(60, 100, None).unwrap());
        assert!(meter.table_growing(0, 10, None).unwrap());
        assert!(!meter.table_growing(10, 11, None).unwrap());
    }
}
