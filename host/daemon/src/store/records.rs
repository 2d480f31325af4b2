//! What is kept: a table each, keyed by name or number.

use std::{net::IpAddr, path::PathBuf};

use netloom_core::{
    model::{Attachment, Endpoint, IfIndex, NetnsId, PairSpec, ReapEvent, Service, ServiceId},
    plan::{PairEnds, Plan},
};
use netloom_kernel::devices::Pair;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A kind of record, and the table it is kept in.
pub(crate) trait Record: Serialize + DeserializeOwned {
    const TABLE: &'static str;

    /// The record as it is written.
    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// The record as it was written.
    fn decode(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }
}

impl Record for Endpoint {
    const TABLE: &'static str = "endpoints";
}
impl Record for Attachment {
    const TABLE: &'static str = "attachments";
}
impl Record for Plan {
    const TABLE: &'static str = "plans";
}
impl Record for ReapEvent {
    const TABLE: &'static str = "reaps";
}

/// A service and its number in the datapath.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceRecord {
    pub(crate) id: ServiceId,
    pub(crate) service: Service,
}
impl Record for ServiceRecord {
    const TABLE: &'static str = "services";
}

/// A pair that somebody asked for, by the name of the node's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PairRecord {
    pub(crate) spec: PairSpec,
    /// A path of the other end's namespace.
    pub(crate) netns: PathBuf,
    /// What that namespace is.
    pub(crate) netns_id: NetnsId,
    pub(crate) host_ifindex: IfIndex,
    pub(crate) peer_ifindex: IfIndex,
}
impl Record for PairRecord {
    const TABLE: &'static str = "devices";
}

impl PairRecord {
    /// A pair as it was made.
    pub(crate) fn of(spec: PairSpec, netns: PathBuf, netns_id: NetnsId, made: &Pair) -> Self {
        let (host_ifindex, peer_ifindex) = (made.host.ifindex, made.peer.ifindex);
        Self { spec, netns, netns_id, host_ifindex, peer_ifindex }
    }

    pub(crate) fn ends(&self) -> PairEnds {
        PairEnds {
            host: self.host_ifindex,
            alias: self.spec.alias.clone(),
            netns: self.netns.clone(),
            netns_id: self.netns_id,
            peer: self.peer_ifindex,
        }
    }
}

/// A sysctl of the node that was set, and what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SysctlRecord {
    /// Of IPv4, otherwise of IPv6.
    pub(crate) v4: bool,
    /// A device's name, or `all`.
    pub(crate) device: String,
    pub(crate) key: String,
    pub(crate) was: String,
    pub(crate) set: String,
}
impl Record for SysctlRecord {
    const TABLE: &'static str = "sysctls";
}

impl SysctlRecord {
    /// The key that it is kept under.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}/{}", if self.v4 { "ipv4" } else { "ipv6" }, self.device, self.key)
    }
}

/// A plugin loaded at run time. Its component is a file of the state directory, by its digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PluginRecord {
    pub(crate) load: netloom_api::types::PluginLoad,
    pub(crate) digest: String,
    pub(crate) order: u64,
    /// Milliseconds since the epoch.
    #[serde(default)]
    pub(crate) loaded_ms: u64,
}
impl Record for PluginRecord {
    const TABLE: &'static str = "plugins";
}

/// A version of a plugin that can be gone back to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VersionRecord(pub(crate) PluginRecord);
impl Record for VersionRecord {
    const TABLE: &'static str = "plugin_versions";
}

/// A plugin's own value. It is kept as the bytes it is, which in JSON would take four times their size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KvRecord(pub(crate) Vec<u8>);
impl Record for KvRecord {
    const TABLE: &'static str = "kv";

    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        Ok(self.0.clone())
    }

    fn decode(bytes: &[u8]) -> serde_json::Result<Self> {
        Ok(Self(bytes.to_vec()))
    }
}

/// The last number given.
#[derive(Serialize, Deserialize)]
pub(super) struct Counter(pub(super) u64);
impl Record for Counter {
    const TABLE: &'static str = "counters";
}

/// The address that was given last, by the pool that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastAddress(pub(crate) IpAddr);
impl Record for LastAddress {
    const TABLE: &'static str = "last_addresses";
}

/// The key of a numbered record, such that keys sort as the numbers do.
pub(crate) fn number_key(number: u64) -> String {
    format!("{number:020}")
}
