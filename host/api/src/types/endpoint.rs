//! Endpoints.

use netloom_core::model::{Device, Endpoint};
use serde::{Deserialize, Serialize};

/// An endpoint as recorded, with what the kernel shows of it now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointView {
    /// The record.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// The node's end as it is now; none if it is gone.
    pub device: Option<Device>,
    /// What its programs counted.
    pub counters: EndpointCounters,
}

/// What an endpoint's programs counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointCounters {
    /// From the endpoint.
    pub sent_packets: u64,
    /// From the endpoint.
    pub sent_bytes: u64,
    /// To the endpoint.
    pub received_packets: u64,
    /// To the endpoint.
    pub received_bytes: u64,
    /// Dropped: source address not the endpoint's.
    pub dropped_spoofed: u64,
    /// Dropped for any other reason.
    pub dropped_other: u64,
}
