//! Endpoints.

use netloom_core::model::{Device, DeviceMode, Endpoint, MacAddress};
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
    /// The label by which its sockets see services' addresses as they are; none if services are translated for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untranslated: Option<String>,
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

/// Whether an endpoint is as it was added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointCheck {
    /// What is not so, each in words; empty when all is well.
    pub problems: Vec<String>,
}

/// An endpoint to take to a pair of another mode.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointMigration {
    /// The mode.
    pub mode: DeviceMode,
    /// The hardware address it shall have there; the one it has, or one of its own, if none.
    #[serde(default)]
    pub mac: Option<MacAddress>,
}

/// An endpoint was taken to a pair of another mode.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointMigrated {
    /// The mode it had.
    pub from: DeviceMode,
    /// For how long there was no path to and from it, in microseconds.
    pub gap_us: u64,
    /// The attachments of others that went along, each with the id it has now.
    pub attachments: Vec<AttachmentMoved>,
    /// The endpoint, as it is now.
    pub endpoint: EndpointView,
    /// What could not be cleaned up of the pair it left; empty when all went well.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// An attachment that has another id now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentMoved {
    /// What it was called.
    pub was: String,
    /// What it is called.
    pub id: String,
}
