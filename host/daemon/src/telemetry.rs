//! What is told of the daemon's work: metrics, events, and the last of anything.

pub(crate) mod events;
pub(crate) mod kept;
pub(crate) mod metrics;
