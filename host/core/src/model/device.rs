use std::{fmt, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{IfIndex, NetnsId};

/// The device pair that joins an endpoint to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceMode {
    /// A netkit pair in L3 mode: no MAC, no ARP.
    Netkit,
    /// A netkit pair in L2 mode.
    NetkitL2,
    /// A veth pair.
    Veth,
}

impl DeviceMode {
    /// The mode's name, as in configuration, CLI and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Netkit => "netkit",
            Self::NetkitL2 => "netkit-l2",
            Self::Veth => "veth",
        }
    }

    /// Whether it is a netkit pair, L3 or L2.
    #[must_use]
    pub const fn is_netkit(self) -> bool {
        matches!(self, Self::Netkit | Self::NetkitL2)
    }

    /// Whether its devices have hardware addresses.
    #[must_use]
    pub const fn has_mac(self) -> bool {
        !matches!(self, Self::Netkit)
    }
}

impl fmt::Display for DeviceMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a netkit device does with a packet that no program decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetkitPolicy {
    /// Forward it.
    Forward,
    /// Drop it.
    Blackhole,
}

/// Whether netkit clears packet metadata (mark, priority) when a packet crosses the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetkitScrub {
    /// Keep it.
    None,
    /// Clear it: the kernel's default.
    Default,
}

/// An EUI-48 hardware address, written `02:00:00:00:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text is not a hardware address.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a MAC address such as 02:00:00:00:00:01")]
pub struct InvalidMac(String);

impl FromStr for MacAddress {
    type Err = InvalidMac;
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let bad = || InvalidMac(text.to_owned());
        let octets = text
            .split(':')
            .map(|part| if part.len() == 2 { u8::from_str_radix(part, 16).ok() } else { None })
            .collect::<Option<Vec<u8>>>()
            .ok_or_else(bad)?;
        octets.try_into().map(Self).map_err(|_| bad())
    }
}

impl TryFrom<String> for MacAddress {
    type Error = InvalidMac;
    fn try_from(text: String) -> Result<Self, InvalidMac> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

/// A device pair to create: the node's end and, born in the endpoint's namespace under its final name, the
/// endpoint's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairSpec {
    /// netkit, netkit-l2 or veth.
    pub mode: DeviceMode,
    /// The node's end; at most 15 bytes.
    pub host_name: String,
    /// The endpoint's end; at most 15 bytes.
    pub peer_name: String,
    /// Hardware address of the node's end; none in `netkit` mode.
    pub host_mac: Option<MacAddress>,
    /// Hardware address of the endpoint's end; none in `netkit` mode.
    pub peer_mac: Option<MacAddress>,
    /// Addresses of the endpoint's end.
    pub addresses: Vec<IpNet>,
    /// Bytes, both ends.
    pub mtu: u32,
    /// netkit: towards the endpoint.
    pub primary_policy: NetkitPolicy,
    /// netkit: from the endpoint.
    pub peer_policy: NetkitPolicy,
    /// netkit: towards the endpoint; none leaves the kernel's default.
    pub scrub: Option<NetkitScrub>,
    /// netkit: from the endpoint; none leaves the kernel's default.
    pub peer_scrub: Option<NetkitScrub>,
    /// netkit: bytes in front of packets.
    pub headroom: Option<u16>,
    /// netkit: bytes behind packets.
    pub tailroom: Option<u16>,
    /// Bytes, both ends; none leaves the kernel's default.
    pub gso_max_size: Option<u32>,
    /// Bytes, both ends; none leaves the kernel's default.
    pub gro_max_size: Option<u32>,
    /// Shown by `ip link`; says whose device it is.
    pub alias: String,
}

/// A device as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// At most 15 bytes.
    pub name: String,
    /// Its index.
    pub ifindex: IfIndex,
    /// The namespace it is in.
    pub netns: NetnsId,
    /// Set for netkit and veth.
    pub mode: Option<DeviceMode>,
    /// The kernel's kind: `netkit`, `veth`, `dummy`; empty for hardware.
    pub kind: String,
    /// Index of the other end of a pair, in the other end's namespace.
    pub peer_ifindex: Option<IfIndex>,
    /// Bytes.
    pub mtu: u32,
    /// None without a link layer.
    pub mac: Option<MacAddress>,
    /// Administratively up.
    pub up: bool,
    /// Set by Netloom on its own devices.
    pub alias: Option<String>,
    /// netkit: whether this end is the primary.
    pub netkit_primary: Option<bool>,
    /// netkit: this end's policy.
    pub policy: Option<NetkitPolicy>,
    /// netkit: the other end's policy.
    pub peer_policy: Option<NetkitPolicy>,
    /// Bytes.
    pub gso_max_size: u32,
    /// Bytes.
    pub gro_max_size: u32,
    /// Counters.
    pub stats: DeviceStats,
}

/// A device's counters since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Received packets dropped.
    pub rx_dropped: u64,
    /// Packets dropped instead of sent.
    pub tx_dropped: u64,
}
