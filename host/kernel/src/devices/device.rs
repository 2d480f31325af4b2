//! From the kernel's messages to the model, and back.

use netlink_packet_core::Nla as _;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoNetkit, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    NetkitMode, NetkitPolicy as KernelPolicy, NetkitScrub as KernelScrub, State,
};
use netloom_core::model::{
    Device, DeviceMode, DeviceStats, IfIndex, MacAddress, NetkitPolicy, NetkitScrub, NetnsId,
};

use super::attribute;

/// What the kernel reports of a netkit device beyond the common attributes. What a kernel does not know is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetkitDetails {
    /// Whether the device is the pair's primary.
    pub primary: bool,
    /// L3 mode, as opposed to L2.
    pub l3: bool,
    /// This end's policy.
    pub policy: Option<NetkitPolicy>,
    /// The other end's policy.
    pub peer_policy: Option<NetkitPolicy>,
    /// This end's scrubbing (6.13).
    pub scrub: Option<NetkitScrub>,
    /// The other end's scrubbing (6.13).
    pub peer_scrub: Option<NetkitScrub>,
    /// Bytes in front of packets (6.14).
    pub headroom: Option<u16>,
    /// Bytes behind packets (6.14).
    pub tailroom: Option<u16>,
}

pub(super) fn describe(message: &LinkMessage, netns: NetnsId) -> Device {
    let kind = link_info(message, |info| match info {
        LinkInfo::Kind(kind) => Some(kind.clone()),
        _ => None,
    });
    let netkit = netkit(message);
    let mode = match kind {
        Some(InfoKind::Veth) => Some(DeviceMode::Veth),
        Some(InfoKind::Netkit) if netkit.is_some_and(|netkit| netkit.l3) => Some(DeviceMode::Netkit),
        Some(InfoKind::Netkit) => Some(DeviceMode::NetkitL2),
        _ => None,
    };
    let data = netkit.unwrap_or_default();
    let mut device = Device {
        ifindex: IfIndex(message.header.index),
        netns,
        mode,
        kind: kind.map(|kind| kind.to_string()).unwrap_or_default(),
        mac: mac(message),
        up: message.header.flags.contains(LinkFlags::Up),
        netkit_primary: netkit.map(|netkit| netkit.primary),
        policy: data.policy,
        peer_policy: data.peer_policy,
        scrub: data.scrub,
        peer_scrub: data.peer_scrub,
        headroom: data.headroom,
        tailroom: data.tailroom,
        ..Device::default()
    };
    for attribute in &message.attributes {
        common(attribute, &mut device);
    }
    device
}

/// What devices of every kind have.
fn common(attribute: &LinkAttribute, device: &mut Device) {
    match attribute {
        LinkAttribute::IfName(name) => device.name.clone_from(name),
        LinkAttribute::IfAlias(alias) => device.alias = Some(alias.clone()),
        LinkAttribute::Qdisc(qdisc) => device.qdisc.clone_from(qdisc),
        // IFLA_LINK means "the device below" on other kinds.
        LinkAttribute::Link(index) if device.mode.is_some() => device.peer_ifindex = Some(IfIndex(*index)),
        LinkAttribute::LinkNetNsId(nsid) if device.mode.is_some() => device.peer_nsid = Some(*nsid),
        LinkAttribute::Controller(index) => device.controller = Some(IfIndex(*index)),
        LinkAttribute::OperState(state) => device.state = operational(*state).to_owned(),
        LinkAttribute::Mtu(bytes) => device.mtu = *bytes,
        LinkAttribute::MinMtu(bytes) => device.min_mtu = *bytes,
        LinkAttribute::MaxMtu(bytes) => device.max_mtu = *bytes,
        LinkAttribute::TxQueueLen(packets) => device.tx_queue_length = *packets,
        LinkAttribute::NumTxQueues(queues) => device.tx_queues = *queues,
        LinkAttribute::NumRxQueues(queues) => device.rx_queues = *queues,
        LinkAttribute::GsoMaxSize(bytes) => device.gso_max_size = *bytes,
        LinkAttribute::GroMaxSize(bytes) => device.gro_max_size = *bytes,
        LinkAttribute::GsoIpv4MaxSize(bytes) => device.gso_ipv4_max_size = Some(*bytes),
        LinkAttribute::GroIpv4MaxSize(bytes) => device.gro_ipv4_max_size = Some(*bytes),
        LinkAttribute::GsoMaxSegs(segments) => device.gso_max_segs = *segments,
        LinkAttribute::TsoMaxSize(bytes) => device.tso_max_size = Some(*bytes),
        LinkAttribute::Stats64(stats) => {
            device.stats = DeviceStats {
                rx_packets: stats.rx_packets,
                rx_bytes: stats.rx_bytes,
                tx_packets: stats.tx_packets,
                tx_bytes: stats.tx_bytes,
                rx_dropped: stats.rx_dropped,
                tx_dropped: stats.tx_dropped,
                rx_errors: stats.rx_errors,
                tx_errors: stats.tx_errors,
                multicast: stats.multicast,
            };
        }
        _ => {}
    }
}

/// RFC 2863, section 3.1.14, as `ip` writes it.
fn operational(state: State) -> &'static str {
    match state {
        State::NotPresent => "not-present",
        State::Down => "down",
        State::LowerLayerDown => "lower-layer-down",
        State::Testing => "testing",
        State::Dormant => "dormant",
        State::Up => "up",
        _ => "unknown",
    }
}

pub(super) fn netkit(message: &LinkMessage) -> Option<NetkitDetails> {
    let data = link_info(message, |info| match info {
        LinkInfo::Data(InfoData::Netkit(data)) => Some(data),
        _ => None,
    })?;
    let mut details = NetkitDetails::default();
    for attribute in data {
        match attribute {
            InfoNetkit::Primary(primary) => details.primary = *primary,
            InfoNetkit::Mode(mode) => details.l3 = *mode == NetkitMode::L3,
            InfoNetkit::Policy(policy) => details.policy = policy_in(*policy),
            InfoNetkit::PeerPolicy(policy) => details.peer_policy = policy_in(*policy),
            InfoNetkit::Scrub(scrub) => details.scrub = Some(scrub_in(*scrub)),
            InfoNetkit::PeerScrub(scrub) => details.peer_scrub = Some(scrub_in(*scrub)),
            InfoNetkit::Headroom(bytes) => details.headroom = Some(*bytes),
            InfoNetkit::Tailroom(bytes) => details.tailroom = Some(*bytes),
            _ => {}
        }
    }
    Some(details)
}

/// `IFLA_NETKIT_PAIRING` of `include/uapi/linux/if_link.h` (7.1): whether a device is one of a pair.
const PAIRING: u16 = 10;

pub(super) fn reports_pairing(message: &LinkMessage) -> bool {
    let data = link_info(message, |info| match info {
        LinkInfo::Data(InfoData::Netkit(data)) => Some(data),
        _ => None,
    });
    data.is_some_and(|data| {
        data.iter().any(|attribute| matches!(attribute, InfoNetkit::Other(nla) if nla.kind() == PAIRING))
    })
}

/// The hardware address of a device that has a link layer: netkit in L3 mode shows six zero bytes.
fn mac(message: &LinkMessage) -> Option<MacAddress> {
    if message.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    attribute(message, |attribute| match attribute {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    })
    .filter(|mac| *mac != [0; 6])
    .map(MacAddress)
}

fn link_info<'a, T>(message: &'a LinkMessage, pick: impl Fn(&'a LinkInfo) -> Option<T>) -> Option<T> {
    attribute(message, |attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    })?
    .iter()
    .find_map(pick)
}

fn policy_in(policy: KernelPolicy) -> Option<NetkitPolicy> {
    match policy {
        KernelPolicy::Pass => Some(NetkitPolicy::Forward),
        KernelPolicy::Drop => Some(NetkitPolicy::Blackhole),
        _ => None,
    }
}

pub(super) fn policy_out(policy: NetkitPolicy) -> KernelPolicy {
    match policy {
        NetkitPolicy::Forward => KernelPolicy::Pass,
        NetkitPolicy::Blackhole => KernelPolicy::Drop,
    }
}

fn scrub_in(scrub: KernelScrub) -> NetkitScrub {
    if scrub == KernelScrub::None { NetkitScrub::None } else { NetkitScrub::Default }
}

pub(super) fn scrub_out(scrub: NetkitScrub) -> KernelScrub {
    match scrub {
        NetkitScrub::None => KernelScrub::None,
        NetkitScrub::Default => KernelScrub::Default,
    }
}
