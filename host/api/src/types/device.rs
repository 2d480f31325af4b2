//! Devices and pairs of them.

use std::path::PathBuf;

use ipnet::IpNet;
use netloom_core::model::{Device, DeviceMode, MacAddress, NetkitPolicy, NetkitScrub};
use serde::{Deserialize, Serialize};

/// A device pair to create, which is no endpoint's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRequest {
    /// The node's end; at most 15 bytes.
    pub name: String,
    /// netkit, netkit-l2 or veth.
    pub mode: DeviceMode,
    /// The other end; at most 15 bytes.
    pub peer: String,
    /// A path of the namespace the other end is born in; the daemon's own if none.
    #[serde(default)]
    pub peer_netns: Option<PathBuf>,
    /// Addresses of the other end.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
    /// Hardware address of the node's end; an error in `netkit` mode.
    #[serde(default)]
    pub mac: Option<MacAddress>,
    /// Hardware address of the other end; an error in `netkit` mode.
    #[serde(default)]
    pub peer_mac: Option<MacAddress>,
    /// Bytes; the configured MTU of endpoints if none.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// netkit: towards the other end; forward if none.
    #[serde(default)]
    pub primary_policy: Option<NetkitPolicy>,
    /// netkit: from the other end; forward if none.
    #[serde(default)]
    pub peer_policy: Option<NetkitPolicy>,
    /// netkit: towards the other end.
    #[serde(default)]
    pub scrub: Option<NetkitScrub>,
    /// netkit: from the other end.
    #[serde(default)]
    pub peer_scrub: Option<NetkitScrub>,
    /// netkit: bytes in front of packets.
    #[serde(default)]
    pub headroom: Option<u16>,
    /// netkit: bytes behind packets.
    #[serde(default)]
    pub tailroom: Option<u16>,
    /// Bytes, both ends.
    #[serde(default)]
    pub gso_max_size: Option<u32>,
    /// Bytes, both ends.
    #[serde(default)]
    pub gro_max_size: Option<u32>,
    /// Bytes, both ends.
    #[serde(default)]
    pub gso_ipv4_max_size: Option<u32>,
    /// Bytes, both ends.
    #[serde(default)]
    pub gro_ipv4_max_size: Option<u32>,
    /// Transmit queues of each end.
    #[serde(default)]
    pub tx_queues: Option<u32>,
    /// Receive queues of each end.
    #[serde(default)]
    pub rx_queues: Option<u32>,
    /// Shown by `ip link` after whose device it is; at most 160 bytes.
    #[serde(default)]
    pub alias: Option<String>,
}

/// A device, as the kernel shows it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceView {
    /// The device.
    #[serde(flatten)]
    pub device: Device,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Whose it is, if it is one of Netloom's: `endpoint web`, `device uplink0`.
    pub owner: Option<String>,
    /// The other end of a pair. Looked for only where one device is asked for; none then means that it is no pair, or
    /// that nothing leads to the other end's namespace.
    pub peer: Option<PeerView>,
}

/// The other end of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// The device, as its own namespace sees it.
    #[serde(flatten)]
    pub device: Device,
    /// Ways to its namespace, the most telling first; empty if both ends are in one.
    pub netns_paths: Vec<PathBuf>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}
