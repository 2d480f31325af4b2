use std::sync::Arc;

use netloom_core::model::Name;

use crate::{kv::KvStore, limits::Meter, log::LogGate, metrics::PluginMetrics, settings::Settings};

/// What the host keeps beside one instance: what its imports act on, and what it has used.
pub(crate) struct State {
    pub(crate) plugin: Name,
    pub(crate) settings: Arc<Settings>,
    pub(crate) kv: Arc<dyn KvStore>,
    pub(crate) kv_quota: u64,
    pub(crate) metrics: Arc<PluginMetrics>,
    pub(crate) log: Arc<LogGate>,
    pub(crate) meter: Meter,
}
