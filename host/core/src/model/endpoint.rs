use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    AttachmentKind, DeviceMode, IfIndex, Labels, MacAddress, Name, NetkitPolicy, NetkitScrub, NetnsCookie,
    NetnsId, PairChange, Segmentation,
};

/// What is asked for: an endpoint to attach to the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSpec {
    /// Unique on the node.
    pub name: Name,
    /// A path of its network namespace, such as `/run/netns/blue` or `/proc/1234/ns/net`.
    pub netns: PathBuf,
    /// The name of the device inside it; `eth0` unless given.
    #[serde(default = "default_interface")]
    pub interface: String,
    /// Its addresses, each a single host (`/32`, `/128`); from the node's pool if there are none.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// The hardware address it asks for.
    #[serde(default)]
    pub mac: Option<MacAddress>,
    /// The container runtime class, such as `kata`.
    #[serde(default)]
    pub runtime_class: Option<String>,
    /// Whether it is a virtual machine.
    #[serde(default)]
    pub virtual_machine: bool,
    /// The orchestrator's labels.
    #[serde(default)]
    pub labels: Labels,
}

fn default_interface() -> String {
    "eth0".to_owned()
}

/// Everything about an endpoint's device that policy decided, complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointMode {
    /// The device pair.
    pub device: DeviceMode,
    /// How programs attach.
    pub attachment: AttachmentKind,
    /// netkit: towards the endpoint, without a program's verdict.
    pub primary_policy: NetkitPolicy,
    /// netkit: from the endpoint, without a program's verdict.
    pub peer_policy: NetkitPolicy,
    /// netkit: metadata clearing towards the endpoint.
    pub scrub: Option<NetkitScrub>,
    /// netkit: metadata clearing from the endpoint.
    pub peer_scrub: Option<NetkitScrub>,
    /// netkit: bytes in front of packets.
    pub headroom: Option<u16>,
    /// netkit: bytes behind packets.
    pub tailroom: Option<u16>,
    /// Bytes.
    pub mtu: u32,
    /// Bytes.
    #[serde(flatten)]
    pub segmentation: Segmentation,
}

impl EndpointMode {
    /// A mode without wishes: MTU 1500, packets to the endpoint forwarded and those from it dropped unless a program
    /// decides, all else as the kernel has it.
    #[must_use]
    pub fn plain(device: DeviceMode, attachment: AttachmentKind) -> Self {
        Self {
            device,
            attachment,
            primary_policy: NetkitPolicy::Forward,
            peer_policy: NetkitPolicy::Blackhole,
            scrub: None,
            peer_scrub: None,
            headroom: None,
            tailroom: None,
            mtu: 1_500,
            segmentation: Segmentation::default(),
        }
    }

    /// Takes a change of the pair over.
    pub fn apply(&mut self, change: &PairChange) {
        self.mtu = change.mtu.unwrap_or(self.mtu);
        self.segmentation = change.end().segmentation.or(self.segmentation);
        self.primary_policy = change.primary_policy.unwrap_or(self.primary_policy);
        self.peer_policy = change.peer_policy.unwrap_or(self.peer_policy);
    }
}

/// An endpoint on the node: the record of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// What was asked for.
    pub spec: EndpointSpec,
    /// Its number in the datapath's maps; unique while it lives.
    pub id: u32,
    /// Its namespace's identity.
    pub netns: NetnsId,
    /// Its namespace's cookie.
    pub netns_cookie: NetnsCookie,
    /// What policy decided.
    pub mode: EndpointMode,
    /// Who decided it: a plugin's name, or `built-in`.
    pub decided_by: String,
    /// The addresses it has.
    pub addresses: Vec<IpNet>,
    /// The node's end of the pair.
    pub host_interface: String,
    /// Its index on the node.
    pub host_ifindex: IfIndex,
    /// The index of the endpoint's end, in the endpoint's namespace.
    pub peer_ifindex: IfIndex,
    /// Hardware address of the endpoint's end.
    pub mac: Option<MacAddress>,
    /// Hardware address of the node's end.
    pub host_mac: Option<MacAddress>,
    /// The ids of its datapath attachments.
    pub attachments: Vec<String>,
}
