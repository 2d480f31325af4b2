//! The structs that maps hold, as `bpf/netloom.h` has them. A test compares the two by the objects' BTF.
//!
//! Maps take and give plain byte arrays: `to_bytes` and `from_bytes` of each struct.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, network_endian::U16, transmute};

macro_rules! layout {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $name {
            /// Its size in maps.
            pub const SIZE: usize = size_of::<Self>();

            /// Each field's name, offset and size.
            pub const FIELDS: &'static [(&'static str, usize, usize)] = &[
                $((stringify!($field), core::mem::offset_of!($name, $field), size_of::<$type>()),)*
            ];

            /// As a map holds it.
            #[must_use]
            pub fn to_bytes(self) -> [u8; Self::SIZE] {
                transmute!(self)
            }

            /// From what a map holds.
            #[must_use]
            pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
                transmute!(bytes)
            }
        }
    };
}

/// `struct nl_addr`: an address of either family, IPv4 as v4-mapped IPv6; words in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// Its size in maps.
    pub const SIZE: usize = size_of::<Self>();

    /// As a map holds it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        transmute!(self)
    }

    /// From what a map holds.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        transmute!(bytes)
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let octets = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Self::from_bytes(octets)
    }
}

impl From<Address> for IpAddr {
    /// A v4-mapped address comes out as IPv4.
    fn from(address: Address) -> Self {
        Self::V6(Ipv6Addr::from(address.to_bytes())).to_canonical()
    }
}

layout! {
    /// `struct nl_binding`: what the socket-LB stores with a socket that it connected to a backend.
    Binding {
        /// The socket's cookie.
        cookie: u64,
        /// Its namespace's cookie.
        netns_cookie: u64,
        /// When it was bound: `CLOCK_MONOTONIC`, in nanoseconds.
        bound_at: u64,
        /// The backend's address.
        backend: Address,
        /// The service's address.
        vip: Address,
        /// The service's number.
        service: u32,
        /// The backend's port.
        backend_port: U16,
        /// The service's port.
        vip_port: U16,
        /// The IP protocol's number.
        protocol: u8,
        /// The socket's own family: `AF_INET6` with a v4-mapped backend is an IPv6 socket that talks IPv4.
        family: u8,
        /// Zero.
        reserved: [u8; 6],
    }
}

impl Binding {
    /// The backend.
    #[must_use]
    pub fn backend_address(&self) -> SocketAddr {
        SocketAddr::new(self.backend.into(), self.backend_port.get())
    }

    /// The service's virtual address.
    #[must_use]
    pub fn vip_address(&self) -> SocketAddr {
        SocketAddr::new(self.vip.into(), self.vip_port.get())
    }
}

layout! {
    /// `struct nl_bound_key`: a backend, as its bindings are found by.
    BoundKey {
        /// Its address.
        address: Address,
        /// Its port.
        port: U16,
        /// The IP protocol's number.
        protocol: u8,
        /// Zero.
        reserved: u8,
    }
}

impl BoundKey {
    /// The key of a backend.
    #[must_use]
    pub fn new(address: SocketAddr, protocol: u8) -> Self {
        Self { address: address.ip().into(), port: U16::new(address.port()), protocol, reserved: 0 }
    }

    /// The backend's address.
    #[must_use]
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address.into(), self.port.get())
    }
}

layout! {
    /// `struct nl_service_key`: what a client connects to.
    ServiceKey {
        /// The address.
        vip: Address,
        /// The port.
        port: U16,
        /// The IP protocol's number.
        protocol: u8,
        /// Zero.
        reserved: u8,
    }
}

impl ServiceKey {
    /// The key of a virtual address.
    #[must_use]
    pub fn new(vip: SocketAddr, protocol: u8) -> Self {
        Self { vip: vip.ip().into(), port: U16::new(vip.port()), protocol, reserved: 0 }
    }

    /// The virtual address.
    #[must_use]
    pub fn vip_address(&self) -> SocketAddr {
        SocketAddr::new(self.vip.into(), self.port.get())
    }
}

layout! {
    /// `struct nl_service`: a service. Its backends are in the slots up to `count`.
    Service {
        /// Its number.
        id: u32,
        /// How many backends it has.
        count: u32,
        /// Its element of the counters.
        counters: u32,
        /// [`choice`].
        choice: u32,
        /// Seconds for which a client that comes again gets the backend it had; 0 for none.
        affinity: u32,
    }
}

/// `enum nl_choice`: how a service chooses its backend.
pub mod choice {
    /// By chance.
    pub const RANDOM: u32 = 0;
    /// By the client's network namespace.
    pub const HASH: u32 = 1;
}

layout! {
    /// `struct nl_client`: a client of a service.
    Client {
        /// Its network namespace.
        netns_cookie: u64,
        /// The service's number.
        service: u32,
        /// Zero.
        reserved: u32,
    }
}

layout! {
    /// `struct nl_affinity`: which backend a client had.
    Affinity {
        /// Its address.
        backend: Address,
        /// Its port.
        port: U16,
        /// Zero.
        reserved: u16,
        /// Its slot when it was chosen.
        slot: u32,
        /// When, in nanoseconds of the monotonic clock.
        used: u64,
    }
}

layout! {
    /// `struct nl_backend_key`: one slot of a service.
    BackendKey {
        /// The service's number.
        service: u32,
        /// From 0.
        slot: u32,
    }
}

layout! {
    /// `struct nl_backend`: a backend.
    Backend {
        /// Its address.
        address: Address,
        /// Its port.
        port: U16,
        /// Zero.
        reserved: u16,
        /// The key's service, so that a program notices an element that was given away under its eyes.
        service: u32,
    }
}

impl Backend {
    /// A backend of a service.
    #[must_use]
    pub fn new(address: SocketAddr, service: u32) -> Self {
        Self { address: address.ip().into(), port: U16::new(address.port()), reserved: 0, service }
    }

    /// Its address and port.
    #[must_use]
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address.into(), self.port.get())
    }
}

layout! {
    /// `struct nl_flow`: an address that an unconnected UDP socket sent to, and where its packets went.
    Flow {
        /// The service's address.
        vip: Address,
        /// The backend's address.
        backend: Address,
        /// The service's port.
        vip_port: U16,
        /// The backend's port.
        backend_port: U16,
        /// The backend's slot when it was chosen.
        slot: u32,
    }
}

layout! {
    /// `struct nl_flows`: the flows of an unconnected UDP socket.
    Flows {
        /// Counts the flows ever written: this, modulo their number, is the next to be overwritten.
        next: u32,
        /// The flow of the message that was sent last.
        last: u32,
        /// The flows.
        flow: [Flow; 16],
    }
}

layout! {
    /// `struct nl_exchange_key`: an unconnected UDP socket, and a backend that it sent to.
    ExchangeKey {
        /// The socket's cookie.
        cookie: u64,
        /// The backend's address.
        backend: Address,
        /// The backend's port.
        port: U16,
        /// Zero.
        reserved: [u8; 6],
    }
}

layout! {
    /// `struct nl_exchange`: the service that was asked.
    Exchange {
        /// Its address.
        vip: Address,
        /// Its port.
        port: U16,
        /// Zero.
        reserved: u16,
    }
}

layout! {
    /// `struct nl_service_counters`: what the socket-LB counted of a service.
    ServiceCounters {
        /// Connects, and exchanges begun by unconnected UDP sockets, sent to a backend.
        connected: u64,
        /// Connects and messages refused because the service has no backend.
        refused: u64,
        /// Connects whose binding could not be stored: no reap will find them.
        unbound: u64,
    }
}

layout! {
    /// `struct nl_endpoint`: how packets are handed over to an endpoint.
    Endpoint {
        /// Its number.
        id: u32,
        /// The index of the node's end of its device pair.
        ifindex: u32,
        /// Bytes.
        mtu: u32,
        /// Hardware address of the endpoint's end; zero where the link has none.
        mac: [u8; 6],
        /// Hardware address by which the endpoint knows its node; zero where the link has none.
        gateway_mac: [u8; 6],
        /// `enum nl_mode`: [`mode`].
        mode: u8,
        /// 1 if what it sends and gets goes through the node's stack.
        through_stack: u8,
        /// Zero.
        reserved: [u8; 2],
    }
}

/// `NL_UPLINKS`: the most devices to outside.
pub const UPLINKS: usize = 8;

layout! {
    /// `struct nl_node`: what is the same for every endpoint of the node.
    Node {
        /// The indices of the devices to outside, zeros at the end.
        uplinks: [u32; UPLINKS],
        /// Another one with each change of the endpoints or of what is here.
        generation: u32,
        /// Bits of [`node_flag`].
        flags: u32,
    }
}

/// `NL_NODE_…`: what the node's stack has a say in.
pub mod node_flag {
    /// What goes from one endpoint to another goes through it.
    pub const LOCAL_BY_STACK: u32 = 1;
    /// It translates addresses of flows.
    pub const TRANSLATES: u32 = 2;
    /// The way to outside depends on which of a sender's addresses a packet comes from.
    pub const ROUTES_BY_SOURCE: u32 = 4;
    /// What goes to an address outside the native prefixes leaves through it.
    pub const MASQUERADES: u32 = 8;
}

layout! {
    /// `struct nl_prefix`: a prefix of addresses, as a trie has it.
    Prefix {
        /// Its length, in bits of a v4-mapped address.
        bits: u32,
        /// Its address.
        address: Address,
    }
}

layout! {
    /// `struct nl_local_flow_key`: one direction of a flow between two endpoints, as its sender addresses it.
    LocalFlowKey {
        /// The sender's address.
        source: Address,
        /// The address that it sends to.
        destination: Address,
        /// The sender's port.
        source_port: U16,
        /// The port that it sends to.
        destination_port: U16,
        /// The IP protocol's number.
        protocol: u8,
        /// Zero.
        reserved: [u8; 3],
    }
}

layout! {
    /// `struct nl_local_flow`: what is known of it.
    LocalFlow {
        /// When a packet of it went through the node's stack last, in nanoseconds of the monotonic clock.
        asked: u64,
        /// When a packet of it was seen last.
        seen: u64,
        /// 1 if what went through the stack came out as it was.
        untranslated: u32,
        /// Zero.
        reserved: u32,
    }
}

layout! {
    /// `struct nl_route`: where a sender's packets to an address went last, on one CPU.
    Route {
        /// Where to; of an element about a source, that source.
        destination: Address,
        /// The sending endpoint's number, 0 for an uplink, or `NL_SOURCE` where it is about a source.
        sender: u32,
        /// [`Node::generation`] before it was looked up.
        generation: u32,
        /// Jiffies up to which the node's routes are not asked again.
        until: u64,
        /// The device it leaves by, 0 for the node's stack.
        ifindex: u32,
        /// Bytes, of the way.
        mtu: u32,
        /// The receiving endpoint's number, or 0 for outside.
        receiver: u32,
        /// The first twelve bytes of a frame to the endpoint.
        macs: [u8; 12],
        /// [`mode`] of the endpoint; `enum nl_origin` of a source.
        mode: u32,
        /// Outside: the next hop's address family.
        next_hop_family: u32,
        /// Outside: the next hop.
        next_hop: Address,
    }
}

/// `enum nl_mode`: an endpoint's device pair.
pub mod mode {
    /// A netkit pair in L3 mode.
    pub const NETKIT: u8 = 1;
    /// A netkit pair in L2 mode.
    pub const NETKIT_L2: u8 = 2;
    /// A veth pair.
    pub const VETH: u8 = 3;
}

/// `enum nl_drop`: why a packet from an endpoint, or from outside to one, was dropped, as an index of
/// [`Counters::dropped`].
pub mod drop_reason {
    /// The source address is not the endpoint's; from outside, it is an endpoint's or the node's own.
    pub const SPOOFED: usize = 0;
    /// Shorter than its headers, or these contradict each other.
    pub const MALFORMED: usize = 1;
    /// A protocol that this kind of link does not carry.
    pub const UNSUPPORTED: usize = 2;
    /// It has a VLAN tag.
    pub const TAGGED: usize = 3;
    /// It belongs to one link, and would leave it.
    pub const LINK: usize = 4;
    /// To an address that no link carries.
    pub const MARTIAN: usize = 5;
    /// How many reasons there are.
    pub const COUNT: usize = 6;
    /// Their names.
    pub const NAMES: [&str; COUNT] = ["spoofed", "malformed", "unsupported", "tagged", "link", "martian"];
}

/// `enum nl_event_kind`: kinds of events, as bits of [`Monitor::kinds`].
pub mod event_kind {
    /// A packet was dropped.
    pub const DROP: u32 = 1;
    /// A connect or message to a service was translated or refused.
    pub const CONNECT: u32 = 2;
}

/// `enum nl_direction`: which way a dropped packet went.
pub mod direction {
    /// The endpoint sent it.
    pub const FROM_ENDPOINT: u32 = 1;
    /// It was for the endpoint.
    pub const TO_ENDPOINT: u32 = 2;
}

layout! {
    /// `struct nl_monitor`: what is listened to.
    Monitor {
        /// Bits of [`event_kind`]; 0 as long as nobody listens.
        kinds: u32,
        /// Nanoseconds that must have passed on a CPU for each event.
        cost: u32,
    }
}

layout! {
    /// `struct nl_event_rate`: how many events a CPU may still give.
    EventRate {
        /// `CLOCK_MONOTONIC`, in nanoseconds: up to when credit was given.
        at: u64,
        /// In nanoseconds.
        credit: u64,
        /// Events that were wanted and could not be given.
        lost: u64,
    }
}

layout! {
    /// `struct nl_event`: a dropped packet, or a connect. Zero is what it does not have.
    Event {
        /// `CLOCK_MONOTONIC`, in nanoseconds.
        at: u64,
        /// Connect: the socket's cookie.
        cookie: u64,
        /// Connect: its namespace's cookie.
        netns_cookie: u64,
        /// Drop: where the packet came from.
        source: Address,
        /// Where it went; of a connect, the service.
        destination: Address,
        /// Connect: the backend.
        backend: Address,
        /// [`event_kind`].
        kind: u32,
        /// Drop: the endpoint's number.
        endpoint: u32,
        /// Drop: [`drop_reason`].
        reason: u32,
        /// Drop: [`direction`].
        direction: u32,
        /// Drop: bytes, with the link header.
        length: u32,
        /// Drop: the device that the program is on.
        ifindex: u32,
        /// Connect: the service's number.
        service: u32,
        /// Connect: the process that asked.
        process: u32,
        /// Drop: of the source.
        source_port: U16,
        /// Of the destination.
        destination_port: U16,
        /// Connect: of the backend.
        backend_port: U16,
        /// Drop: what is in the frame.
        ethertype: U16,
        /// The IP protocol's number.
        protocol: u8,
        /// Zero.
        reserved: [u8; 7],
        /// Connect: the process's name, filled up with zeros.
        command: [u8; 16],
    }
}

layout! {
    /// `struct nl_counters`: what an endpoint's programs counted on one CPU. Bytes include the link header.
    Counters {
        /// From the endpoint, without those dropped.
        sent_packets: u64,
        /// From the endpoint, without those dropped.
        sent_bytes: u64,
        /// To the endpoint.
        received_packets: u64,
        /// To the endpoint.
        received_bytes: u64,
        /// From the endpoint, or from outside to it, by [`drop_reason`].
        dropped: [u64; drop_reason::COUNT],
    }
}

/// `NL_ADDRESSES`: the most addresses of one family that an endpoint may send from.
pub const ADDRESSES: usize = 8;

layout! {
    /// `struct nl_config`: what an endpoint's copy of the datapath programs is made for.
    Config {
        /// The endpoint's number.
        id: u32,
        /// Bytes.
        mtu: u32,
        /// The verdict that hands a packet on.
        pass: i32,
        /// `enum nl_mode`: [`mode`].
        mode: u8,
        /// How many of `v4` there are.
        v4_count: u8,
        /// How many of `v6` there are.
        v6_count: u8,
        /// Zero.
        reserved: u8,
        /// The addresses that the endpoint may send from, in network byte order.
        v4: [u32; ADDRESSES],
        /// The addresses that the endpoint may send from.
        v6: [Address; ADDRESSES],
    }
}

layout! {
    /// `struct nl_find`: which bound sockets an iterator pass writes.
    Find {
        /// Nanoseconds since the socket was bound.
        min_age: u64,
        /// Bit n for the kernel's state n.
        states: u32,
        /// Bit 0 for TCP, bit 1 for UDP.
        protocols: u16,
        /// [`find_only`]: which of the maps beside it are conditions.
        conditions: u16,
    }
}

/// What [`Find::conditions`] is made of.
pub mod find_only {
    /// Only sockets bound to a backend in `nl_find_backend`.
    pub const BACKENDS: u16 = 1;
    /// Only sockets of a namespace in `nl_find_netns`.
    pub const NETNS: u16 = 2;
}

layout! {
    /// `struct nl_found`: a socket that an iterator pass found.
    Found {
        /// The socket's cookie.
        cookie: u64,
        /// Its namespace's cookie.
        netns_cookie: u64,
        /// When it was bound: `CLOCK_MONOTONIC`, in nanoseconds.
        bound_at: u64,
        /// TCP: bytes that the peer acknowledged, the SYN counted as one.
        bytes_acked: u64,
        /// TCP: bytes received in order.
        bytes_received: u64,
        /// The backend's address.
        backend: Address,
        /// The socket's own address; of an IPv4 socket, v4-mapped.
        local: Address,
        /// Its peer's address; of an IPv4 socket, v4-mapped.
        remote: Address,
        /// The service's number.
        service: u32,
        /// The index of the device that the socket is bound to, or 0.
        device: u32,
        /// The backend's port.
        backend_port: U16,
        /// The socket's own port, in host byte order.
        local_port: u16,
        /// Its peer's port.
        remote_port: U16,
        /// The IP protocol's number.
        protocol: u8,
        /// `AF_INET` or `AF_INET6`.
        family: u8,
        /// The kernel's number of its state.
        state: u8,
        /// Zero.
        reserved: [u8; 7],
    }
}

layout! {
    /// `struct nl_doomed`: a socket that an iterator is to destroy.
    Doomed {
        /// The backend that it is destroyed for.
        backend: Address,
        /// The backend's port.
        backend_port: U16,
        /// Zero.
        reserved: u16,
        /// 1 until the socket was met; then 0, or a negative errno.
        result: i32,
    }
}

impl Doomed {
    /// A socket to be destroyed as long as it is connected to this backend.
    #[must_use]
    pub fn new(backend: SocketAddr) -> Self {
        Self { backend: backend.ip().into(), backend_port: U16::new(backend.port()), reserved: 0, result: 1 }
    }
}
