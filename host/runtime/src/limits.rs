use std::time::{Duration, Instant};

use wasmtime::ResourceLimiter;

/// What one plugin may use. The defaults suit plugins written in Rust or C; one that carries a language runtime
/// (Python, JavaScript) needs more memory and table elements.
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
    /// Core instances, memories and tables of one instance, each. 32.
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
            parts: 32,
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
    breach: Option<Breach>,
}

impl Meter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, memory: 0, elements: 0, host_calls: 0, deadline: Instant::now(), breach: None }
    }

    /// Starts the account of one call.
    pub(crate) fn start(&mut self, deadline: Duration) {
        self.host_calls = 0;
        self.breach = None;
        self.deadline = Instant::now() + deadline;
    }

    pub(crate) fn check_deadline(&mut self) -> Result<(), Breach> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(self.note(Breach::Deadline)) }
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
