//! The model's types to WIT's and back. What a plugin answers comes out as `netloom_core::answer`, unchecked.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use netloom_core::{
    answer::{Answer, RawMode, RawPlacement, RawReapPlan},
    model::{
        AttachmentKind, Backend, BoundSocket, Candidate, Capabilities, Chain, ChainEntry, DeviceMode,
        Feature, Hook, HookPoint, Labels, MacAddress, NetkitPolicy, NetkitScrub, NetnsCookie, NetnsId,
        Protocol, ReapAction, ReapEvent, ReapReason, SocketState, canonical,
    },
};
use rustc_hash::FxHashMap;

use super::{
    hooks::{attach_order, datapath_mode, socket_reap},
    kernel::types as wit,
};
use crate::question::{EndpointFacts, NodeFacts, Suspect};

/// Two enums with the same variants.
macro_rules! mirror {
    ($model:ty, $wit:ty, $($variant:ident),+ $(,)?) => {
        impl From<$model> for $wit {
            fn from(value: $model) -> Self {
                match value { $(<$model>::$variant => Self::$variant),+ }
            }
        }
        impl From<$wit> for $model {
            fn from(value: $wit) -> Self {
                match value { $(<$wit>::$variant => Self::$variant),+ }
            }
        }
    };
}

mirror!(Protocol, wit::Protocol, Tcp, Udp);
mirror!(DeviceMode, wit::DeviceMode, Netkit, NetkitL2, Veth);
mirror!(AttachmentKind, wit::AttachmentKind, Netkit, Tcx, Tc);
mirror!(NetkitPolicy, wit::NetkitPolicy, Forward, Blackhole);
mirror!(NetkitScrub, wit::NetkitScrub, None, Default);
mirror!(HookPoint, wit::HookPoint, TcxIngress, TcxEgress, NetkitPrimary, NetkitPeer, TcIngress, TcEgress);
mirror!(
    SocketState,
    wit::SocketState,
    Established,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynRecv,
);
mirror!(ReapReason, socket_reap::Reason, Removed, Terminating, Requested);
mirror!(ReapAction, socket_reap::Action, Destroy, Observe, JudgeRecords, JudgePacked);

impl From<NetnsId> for wit::NetnsId {
    fn from(id: NetnsId) -> Self {
        Self { device: id.device, inode: id.inode }
    }
}

impl From<wit::NetnsId> for NetnsId {
    fn from(id: wit::NetnsId) -> Self {
        Self { device: id.device, inode: id.inode }
    }
}

impl From<IpAddr> for wit::IpAddress {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::V4(v4.octets().into()),
            IpAddr::V6(v6) => Self::V6(v6.segments().into()),
        }
    }
}

impl From<wit::IpAddress> for IpAddr {
    fn from(address: wit::IpAddress) -> Self {
        match address {
            wit::IpAddress::V4(octets) => Self::V4(Ipv4Addr::from(<[u8; 4]>::from(octets))),
            wit::IpAddress::V6(groups) => Self::V6(Ipv6Addr::from(<[u16; 8]>::from(groups))),
        }
    }
}

impl From<IpNet> for wit::IpPrefix {
    fn from(net: IpNet) -> Self {
        Self { address: net.addr().into(), length: net.prefix_len() }
    }
}

impl From<SocketAddr> for wit::SocketAddress {
    fn from(address: SocketAddr) -> Self {
        Self { ip: address.ip().to_canonical().into(), port: address.port() }
    }
}

impl From<wit::SocketAddress> for SocketAddr {
    fn from(address: wit::SocketAddress) -> Self {
        Self::new(IpAddr::from(address.ip).to_canonical(), address.port)
    }
}

/// A prefix a guest gave, unless its length is out of bounds.
pub(crate) fn prefix(prefix: wit::IpPrefix) -> Result<IpNet, String> {
    let address = IpAddr::from(prefix.address);
    IpNet::new(address, prefix.length).map_err(|_| format!("{address}/{} is no prefix", prefix.length))
}

pub(crate) fn mac(address: MacAddress) -> wit::MacAddress {
    address.0.into()
}

pub(crate) fn labels(labels: &Labels) -> Vec<wit::Label> {
    labels.iter().map(|(key, value)| wit::Label { key: key.clone(), value: value.clone() }).collect()
}

pub(crate) fn node(facts: NodeFacts<'_>) -> wit::Node {
    let has = |feature| facts.capabilities.has(feature);
    wit::Node {
        name: facts.name.to_owned(),
        kernel: facts.capabilities.kernel.clone(),
        netkit: has(Feature::Netkit),
        tcx: has(Feature::Tcx),
        tc: has(Feature::LegacyTc),
        netkit_scrub: has(Feature::NetkitScrub),
        netkit_headroom: has(Feature::NetkitHeadroom),
        socket_storage_iterator: has(Feature::SocketStorageIterator),
        socket_destroy: has(Feature::SocketDestroy),
        capabilities: available(facts.capabilities),
    }
}

fn available(capabilities: &Capabilities) -> Vec<String> {
    let available = capabilities.features.iter().filter(|(_, support)| support.available);
    let mut names: Vec<&str> = available.map(|(feature, _)| feature.as_str()).collect();
    names.sort_unstable();
    names.into_iter().map(str::to_owned).collect()
}

fn hook(hook: &Hook) -> wit::Hook {
    wit::Hook {
        netns: hook.netns.into(),
        device: hook.device.clone(),
        ifindex: hook.ifindex.0,
        point: hook.point.into(),
    }
}

fn entry(id: u32, entry: &ChainEntry) -> wit::ChainEntry {
    wit::ChainEntry {
        id,
        program: entry.program.0,
        link: entry.link.map(|link| link.0),
        name: entry.name.clone(),
        tag: entry.tag.clone(),
        owner: entry.owner.as_ref().map(|owner| owner.as_str().to_owned()),
        priority: entry.priority,
        labels: labels(&entry.labels),
    }
}

pub(crate) fn chain(chain: &Chain) -> wit::Chain {
    wit::Chain {
        hook: hook(&chain.hook),
        revision: chain.revision.0,
        entries: (0..).zip(&chain.entries).map(|(id, each)| entry(id, each)).collect(),
    }
}

pub(crate) fn candidate(candidate: &Candidate) -> attach_order::Candidate {
    attach_order::Candidate {
        owner: candidate.owner.as_str().to_owned(),
        name: candidate.name.clone(),
        tag: candidate.tag.clone(),
        priority: candidate.priority,
        labels: labels(&candidate.labels),
        required: candidate.required,
    }
}

pub(crate) fn endpoint(facts: EndpointFacts<'_>) -> wit::Endpoint {
    let spec = facts.spec;
    wit::Endpoint {
        name: spec.name.as_str().to_owned(),
        netns: facts.netns.into(),
        interface: spec.interface.clone(),
        addresses: facts.addresses.iter().map(|net| (*net).into()).collect(),
        mac: spec.mac.map(mac),
        runtime_class: spec.runtime_class.clone(),
        virtual_machine: spec.virtual_machine,
        labels: labels(&spec.labels),
    }
}

pub(crate) fn backend(backend: &Backend) -> wit::Backend {
    wit::Backend {
        address: backend.address.into(),
        protocol: backend.protocol.into(),
        service: backend.service.as_str().to_owned(),
    }
}

pub(crate) fn event(event: &ReapEvent) -> socket_reap::Event {
    socket_reap::Event { reason: event.reason.into(), backends: event.backends.iter().map(backend).collect() }
}

/// A socket that is bound to none of the backends it is asked about: the asker's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("socket {cookie} is bound to {backend}, which is not among the event's backends")]
pub(crate) struct NotInEvent {
    cookie: u64,
    backend: SocketAddr,
}

/// Where each backend of an event stands in it.
pub(crate) struct Places {
    by_backend: FxHashMap<(SocketAddr, Protocol), u16>,
    /// Of the socket that was asked about last: most of a batch are bound to the same backend.
    last: Option<(SocketAddr, Protocol, u16)>,
}

impl Places {
    pub(crate) fn of(event: &ReapEvent) -> Self {
        let mut by_backend = FxHashMap::default();
        for (index, backend) in (0..).zip(&event.backends) {
            by_backend.entry((canonical(backend.address), backend.protocol)).or_insert(index);
        }
        Self { by_backend, last: None }
    }

    fn find(&mut self, socket: &BoundSocket) -> Result<u16, NotInEvent> {
        match self.last {
            Some((backend, protocol, index)) if backend == socket.backend && protocol == socket.protocol => {
                return Ok(index);
            }
            _ => {}
        }
        let index = self.by_backend.get(&(canonical(socket.backend), socket.protocol)).copied();
        let index = index.ok_or(NotInEvent { cookie: socket.cookie.0, backend: socket.backend })?;
        self.last = Some((socket.backend, socket.protocol, index));
        Ok(index)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn bound_socket(
    places: &mut Places,
    suspect: Suspect<'_>,
) -> Result<wit::BoundSocket, NotInEvent> {
    let endpoint = suspect.endpoint.map(|name| name.as_str().to_owned());
    Ok(socket(suspect.socket, endpoint, places.find(suspect.socket)?))
}

/// A socket, with the endpoint it belongs to and the index of its backend.
pub(crate) fn socket(socket: &BoundSocket, endpoint: Option<String>, backend: u16) -> wit::BoundSocket {
    wit::BoundSocket {
        cookie: socket.cookie.0,
        netns_cookie: socket.netns_cookie.0,
        endpoint,
        protocol: socket.protocol.into(),
        state: socket.state.into(),
        local: socket.local.into(),
        remote: socket.remote.into(),
        backend,
        age_ns: nanos(socket.age),
        bytes_sent: socket.bytes_sent,
        bytes_received: socket.bytes_received,
    }
}

/// Ten words a socket, as `judge-packed` documents them.
pub(crate) fn pack(places: &mut Places, sockets: &[Suspect<'_>]) -> Result<Vec<u64>, NotInEvent> {
    let mut words = Vec::with_capacity(sockets.len() * 10);
    for Suspect { socket, .. } in sockets {
        let ports = u64::from(socket.local.port()) | u64::from(socket.remote.port()) << 16;
        let kind = u64::from(socket.state.number()) << 32 | u64::from(socket.protocol.number()) << 40;
        let index = u64::from(places.find(socket)?) << 48;
        let ([local, more_local], [remote, more_remote]) =
            (address_words(socket.local), address_words(socket.remote));
        // In one piece: word by word takes twice as long.
        words.extend_from_slice(&[
            socket.cookie.0,
            socket.netns_cookie.0,
            nanos(socket.age),
            ports | kind | index,
            local,
            more_local,
            remote,
            more_remote,
            socket.bytes_sent,
            socket.bytes_received,
        ]);
    }
    Ok(words)
}

fn address_words(address: SocketAddr) -> [u64; 2] {
    let bits = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    // Both halves fit by construction.
    [(bits >> 64) as u64, bits as u64]
}

pub(crate) fn placement(placement: wit::Placement) -> RawPlacement {
    match placement {
        wit::Placement::Head => RawPlacement::Head,
        wit::Placement::Tail => RawPlacement::Tail,
        wit::Placement::Before(id) => RawPlacement::Before(id),
        wit::Placement::After(id) => RawPlacement::After(id),
        wit::Placement::Replace(id) => RawPlacement::Replace(id),
    }
}

impl From<attach_order::PlaceDecision> for Answer<RawPlacement> {
    fn from(decision: attach_order::PlaceDecision) -> Self {
        match decision {
            attach_order::PlaceDecision::Place(place) => Self::Decide(placement(place)),
            attach_order::PlaceDecision::Abstain => Self::Abstain,
            attach_order::PlaceDecision::Veto(why) => Self::Veto(why),
        }
    }
}

/// `keep` is no opinion: the next plugin may reorder.
impl From<attach_order::RebalanceDecision> for Answer<Vec<u32>> {
    fn from(decision: attach_order::RebalanceDecision) -> Self {
        match decision {
            attach_order::RebalanceDecision::Reorder(order) => Self::Decide(order),
            attach_order::RebalanceDecision::Keep => Self::Abstain,
        }
    }
}

impl From<datapath_mode::ModeDecision> for Answer<RawMode> {
    fn from(decision: datapath_mode::ModeDecision) -> Self {
        match decision {
            datapath_mode::ModeDecision::Choose(mode) => Self::Decide(RawMode {
                device: mode.device.into(),
                attachment: mode.attachment.map(Into::into),
                primary_policy: mode.primary_policy.map(Into::into),
                peer_policy: mode.peer_policy.map(Into::into),
                scrub: mode.scrub.map(Into::into),
                peer_scrub: mode.peer_scrub.map(Into::into),
                headroom: mode.headroom,
                tailroom: mode.tailroom,
                mtu: mode.mtu,
                gso_max_size: mode.gso_max_size,
                gro_max_size: mode.gro_max_size,
            }),
            datapath_mode::ModeDecision::Abstain => Self::Abstain,
            datapath_mode::ModeDecision::Veto(why) => Self::Veto(why),
        }
    }
}

impl From<socket_reap::PlanDecision> for Answer<RawReapPlan> {
    fn from(decision: socket_reap::PlanDecision) -> Self {
        match decision {
            socket_reap::PlanDecision::Reap(plan) => Self::Decide(RawReapPlan {
                protocols: plan.protocols.into_iter().map(Into::into).collect(),
                states: plan.states.into_iter().map(Into::into).collect(),
                connected_only: plan.connected_only,
                netns_cookies: plan.netns_cookies.into_iter().map(NetnsCookie).collect(),
                min_age: Duration::from_nanos(plan.min_age_ns),
                grace: Duration::from_millis(plan.grace_ms.into()),
                action: plan.action.into(),
            }),
            socket_reap::PlanDecision::Abstain => Self::Abstain,
            socket_reap::PlanDecision::Veto(why) => Self::Veto(why),
        }
    }
}

#[cfg(test)]
mod tests;
