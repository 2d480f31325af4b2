//! What happened on the node without a request: other tools' programs that came and went, devices that vanished,
//! programs that no packet reaches.

use netloom_api::types::{Event, EventKind};

use crate::{
    kept::Kept,
    metrics::{Metrics, OfKind},
};

/// The last events.
#[derive(Default)]
pub(crate) struct Events(Kept<Event>);

impl Events {
    /// Keeps, logs and counts an event.
    pub(crate) fn add(&self, metrics: &Metrics, kind: EventKind, subject: String, message: String) {
        if kind.is_trouble() {
            tracing::warn!(event = kind.as_str(), subject, "{message}");
        } else {
            tracing::info!(event = kind.as_str(), subject, "{message}");
        }
        metrics.events.get_or_create(&OfKind { kind: kind.as_str() }).inc();
        self.0.add(|sequence, time_ms| Event { sequence, time_ms, kind, subject, message });
    }

    /// All that are kept, newest last.
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.all()
    }
}
