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

    /// The hardware address by which an endpoint knows its node, given that of the node's end. A veth pair has no
    /// policy that would drop what no program looked at: there it is not the device's own, so that the node's stack
    /// takes every frame for another host's, and only the endpoint's program makes it one for the node.
    #[must_use]
    pub const fn gateway_mac(self, host: MacAddress) -> MacAddress {
        match self {
            Self::Netkit | Self::NetkitL2 => host,
            Self::Veth => {
                let [first, b, c, d, e, f] = host.0;
                MacAddress([first ^ 4, b, c, d, e, f])
            }
        }
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

/// The largest packets that a device's segmentation offload makes (GSO) and aggregates (GRO), in bytes. Above 65,536
/// they are "BIG TCP".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segmentation {
    /// Largest GSO packet; of IPv6 alone where it is above 65,536.
    pub gso_max_size: Option<u32>,
    /// Largest GRO packet; of IPv6 alone where it is above 65,536.
    pub gro_max_size: Option<u32>,
    /// Largest GSO packet of IPv4 (6.3). Up to 65,536 the kernel lets it follow `gso_max_size`.
    #[serde(default)]
    pub gso_ipv4_max_size: Option<u32>,
    /// Largest GRO packet of IPv4 (6.3). Up to 65,536 the kernel lets it follow `gro_max_size`.
    #[serde(default)]
    pub gro_ipv4_max_size: Option<u32>,
}

impl Segmentation {
    /// Each size with its name, as in CLI and API.
    #[must_use]
    pub const fn sizes(&self) -> [(&'static str, Option<u32>); 4] {
        [
            ("gso-max-size", self.gso_max_size),
            ("gro-max-size", self.gro_max_size),
            ("gso-ipv4-max-size", self.gso_ipv4_max_size),
            ("gro-ipv4-max-size", self.gro_ipv4_max_size),
        ]
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// This, and where it says nothing the other.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        const fn either(first: Option<u32>, second: Option<u32>) -> Option<u32> {
            if first.is_some() { first } else { second }
        }
        Self {
            gso_max_size: either(self.gso_max_size, other.gso_max_size),
            gro_max_size: either(self.gro_max_size, other.gro_max_size),
            gso_ipv4_max_size: either(self.gso_ipv4_max_size, other.gso_ipv4_max_size),
            gro_ipv4_max_size: either(self.gro_ipv4_max_size, other.gro_ipv4_max_size),
        }
    }
}

/// What one end of a pair is to be set to, at once; what is none stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndSettings {
    /// Bytes.
    pub mtu: Option<u32>,
    /// Bytes.
    #[serde(flatten)]
    pub segmentation: Segmentation,
}

/// What is to change of a pair while packets go through it; what is none stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PairChange {
    /// Bytes, both ends.
    pub mtu: Option<u32>,
    /// Bytes, both ends.
    pub gso_max_size: Option<u32>,
    /// Bytes, both ends.
    pub gro_max_size: Option<u32>,
    /// Bytes, both ends.
    pub gso_ipv4_max_size: Option<u32>,
    /// Bytes, both ends.
    pub gro_ipv4_max_size: Option<u32>,
    /// netkit: towards the endpoint.
    pub primary_policy: Option<NetkitPolicy>,
    /// netkit: from the endpoint.
    pub peer_policy: Option<NetkitPolicy>,
    /// Administratively up, the node's end; not of an endpoint's pair, which would lose its routes.
    pub up: Option<bool>,
}

impl PairChange {
    /// What concerns each end.
    #[must_use]
    pub const fn end(&self) -> EndSettings {
        EndSettings {
            mtu: self.mtu,
            segmentation: Segmentation {
                gso_max_size: self.gso_max_size,
                gro_max_size: self.gro_max_size,
                gso_ipv4_max_size: self.gso_ipv4_max_size,
                gro_ipv4_max_size: self.gro_ipv4_max_size,
            },
        }
    }

    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
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
    /// The index that the node's end is to have; none leaves it to the kernel. One that was chosen at random and
    /// written down before is what tells the pair from anybody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ifindex: Option<IfIndex>,
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
    /// Both ends; what is none keeps the kernel's default.
    #[serde(flatten)]
    pub segmentation: Segmentation,
    /// Transmit queues of each end; none leaves the kernel's default of one.
    #[serde(default)]
    pub tx_queues: Option<u32>,
    /// Receive queues of each end; none leaves the kernel's default of one.
    #[serde(default)]
    pub rx_queues: Option<u32>,
    /// Shown by `ip link`; says whose device it is.
    pub alias: String,
    /// Both ends stay down: somebody sets them up when what is to see their packets is in place.
    #[serde(default)]
    pub closed: bool,
}

impl PairSpec {
    /// A pair without addresses and wishes: MTU 1500, packets forwarded in both directions, all else as the kernel
    /// has it.
    #[must_use]
    pub fn plain(mode: DeviceMode, host_name: impl Into<String>, peer_name: impl Into<String>) -> Self {
        Self {
            mode,
            host_name: host_name.into(),
            host_ifindex: None,
            peer_name: peer_name.into(),
            host_mac: None,
            peer_mac: None,
            addresses: Vec::new(),
            mtu: 1_500,
            primary_policy: NetkitPolicy::Forward,
            peer_policy: NetkitPolicy::Forward,
            scrub: None,
            peer_scrub: None,
            headroom: None,
            tailroom: None,
            segmentation: Segmentation::default(),
            tx_queues: None,
            rx_queues: None,
            alias: String::new(),
            closed: false,
        }
    }
}

/// A device as the kernel reports it: what `ip -details -statistics link show` tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// The other end's namespace, by the number this one's namespace has for it; none if both are in one.
    pub peer_nsid: Option<i32>,
    /// Bytes.
    pub mtu: u32,
    /// The least MTU it takes.
    pub min_mtu: u32,
    /// The greatest MTU it takes; 0 if there is no limit.
    pub max_mtu: u32,
    /// None without a link layer.
    pub mac: Option<MacAddress>,
    /// Administratively up.
    pub up: bool,
    /// Its operational state: `up`, `down`, `lower-layer-down`, `unknown`, as RFC 2863 has them.
    pub state: String,
    /// The queueing discipline: `noqueue`, `fq`.
    pub qdisc: String,
    /// Packets its queue holds.
    pub tx_queue_length: u32,
    /// Transmit queues.
    pub tx_queues: u32,
    /// Receive queues.
    pub rx_queues: u32,
    /// Set by Netloom on its own devices.
    pub alias: Option<String>,
    /// The index of the bridge, bond or VRF it belongs to.
    pub controller: Option<IfIndex>,
    /// netkit: whether this end is the primary.
    pub netkit_primary: Option<bool>,
    /// netkit: this end's policy.
    pub policy: Option<NetkitPolicy>,
    /// netkit: the other end's policy.
    pub peer_policy: Option<NetkitPolicy>,
    /// netkit: this end's scrubbing (6.13).
    pub scrub: Option<NetkitScrub>,
    /// netkit: the other end's scrubbing (6.13).
    pub peer_scrub: Option<NetkitScrub>,
    /// netkit: bytes in front of packets (6.14).
    pub headroom: Option<u16>,
    /// netkit: bytes behind packets (6.14).
    pub tailroom: Option<u16>,
    /// Bytes; largest GSO packet.
    pub gso_max_size: u32,
    /// Bytes; largest GRO packet.
    pub gro_max_size: u32,
    /// Bytes; largest GSO packet of IPv4; none before 6.3.
    pub gso_ipv4_max_size: Option<u32>,
    /// Bytes; largest GRO packet of IPv4; none before 6.3.
    pub gro_ipv4_max_size: Option<u32>,
    /// The most segments of a GSO packet.
    pub gso_max_segs: u32,
    /// Bytes; the largest GSO packet that the device can be set to; none before 5.19.
    pub tso_max_size: Option<u32>,
    /// Counters.
    pub stats: DeviceStats,
}

impl Device {
    /// What it has of the things that can be set.
    #[must_use]
    pub const fn segmentation(&self) -> Segmentation {
        Segmentation {
            gso_max_size: Some(self.gso_max_size),
            gro_max_size: Some(self.gro_max_size),
            gso_ipv4_max_size: self.gso_ipv4_max_size,
            gro_ipv4_max_size: self.gro_ipv4_max_size,
        }
    }
}

/// A device's counters since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Received packets that were broken.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Multicast packets received.
    pub multicast: u64,
}
