use std::sync::{Arc, Mutex, PoisonError};

use netloom_core::{grants::Grants, model::Name};
use wasmtime::component::ResourceTable;

use crate::{
    files::Directories, kv::KvStore, limits::Meter, log::LogGate, metrics::PluginMetrics,
    operations::Operations, settings::Settings,
};

/// What the host keeps beside one instance: what its imports act on, and what it has used.
pub(crate) struct State {
    pub(crate) plugin: Name,
    pub(crate) settings: Arc<Settings>,
    pub(crate) kv: Arc<dyn KvStore>,
    pub(crate) kv_quota: u64,
    pub(crate) metrics: Arc<PluginMetrics>,
    pub(crate) log: Arc<LogGate>,
    pub(crate) meter: Meter,
    pub(crate) grants: Arc<Grants>,
    pub(crate) operations: Option<Arc<dyn Operations>>,
    pub(crate) directories: Arc<Directories>,
    /// The handles the guest holds.
    pub(crate) table: Mutex<ResourceTable>,
}

impl State {
    /// The handles the guest holds. The lock is never waited for: it makes the table shareable, nothing more.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        self.table.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}
