//! What happened on the node without a request: other tools' programs that came and went, devices that vanished,
//! programs that no packet reaches.

use std::sync::Arc;

use netloom_api::types::{Event, EventKind};

use super::{
    kept::Kept,
    metrics::{Metrics, OfKind},
};

/// The last events.
pub(crate) struct Events {
    kept: Kept<Event>,
    metrics: Arc<Metrics>,
}

impl Events {
    pub(crate) fn new(metrics: &Arc<Metrics>) -> Self {
        Self { kept: Kept::default(), metrics: Arc::clone(metrics) }
    }

    /// Keeps, logs and counts an event.
    pub(crate) fn add(&self, kind: EventKind, subject: String, message: String) {
        if kind.is_trouble() {
            tracing::warn!(event = kind.as_str(), subject, "{message}");
        } else {
            tracing::info!(event = kind.as_str(), subject, "{message}");
        }
        self.metrics.events.get_or_create(&OfKind { kind: kind.as_str() }).inc();
        self.kept.add(|sequence, time_ms| Event { sequence, time_ms, kind, subject, message });
    }

    /// All that are kept, newest last.
    pub(crate) fn all(&self) -> Vec<Event> {
        self.kept.all()
    }
}
