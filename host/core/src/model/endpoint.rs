use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
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
    /// The MTU it asks for, in bytes; as policy says if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether its namespace gets a default route by it.
    #[serde(default, skip_serializing_if = "DefaultRoute::is_first")]
    pub default_route: DefaultRoute,
    /// Where else its namespace gets to by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<IpNet>,
    /// The orchestrator's labels.
    #[serde(default)]
    pub labels: Labels,
}

impl EndpointSpec {
    /// An endpoint without wishes, with its device `eth0`.
    #[must_use]
    pub fn plain(name: Name, netns: impl Into<PathBuf>) -> Self {
        Self {
            name,
            netns: netns.into(),
            interface: default_interface(),
            addresses: Vec::new(),
            mac: None,
            runtime_class: None,
            virtual_machine: false,
            mtu: None,
            default_route: DefaultRoute::First,
            routes: Vec::new(),
            labels: Labels::new(),
        }
    }
}

/// Whether an endpoint's namespace gets a default route by it, for each family it has addresses of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultRoute {
    /// If it has none yet.
    #[default]
    First,
    /// If it has one already, behind that.
    Always,
    /// No.
    Never,
}

impl DefaultRoute {
    /// Every choice, with its name.
    pub const ALL: [(&'static str, Self); 3] =
        [("first", Self::First), ("always", Self::Always), ("never", Self::Never)];

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
    fn is_first(&self) -> bool {
        *self == Self::First
    }
}

/// A route of an endpoint's namespace by the endpoint's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRoute {
    /// Where to.
    pub destination: IpNet,
    /// Its metric, if it is not the kernel's own: of two to the same destination, the lower one is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

impl EndpointRoute {
    /// Where default routes lead, of each family.
    pub const EVERYWHERE: [IpNet; 2] = [
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    ];

    /// The default routes of a namespace whose only device has these addresses.
    #[must_use]
    pub fn defaults(addresses: &[IpNet]) -> Vec<Self> {
        let has = |everywhere: &IpNet| {
            addresses.iter().any(|address| address.addr().is_ipv4() == everywhere.addr().is_ipv4())
        };
        let of_families = Self::EVERYWHERE.into_iter().filter(has);
        of_families.map(|destination| Self { destination, metric: None }).collect()
    }
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
    /// The routes of its namespace by it; none if they are the default ones alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<EndpointRoute>>,
}

impl Endpoint {
    /// The routes of its namespace by it.
    #[must_use]
    pub fn routes_inside(&self) -> Vec<EndpointRoute> {
        self.routes.clone().unwrap_or_else(|| EndpointRoute::defaults(&self.addresses))
    }
}
