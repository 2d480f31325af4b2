//! Snapshots for unit tests, and the plugin called as the host would: plain Rust, no Wasm and no root.
//!
//! Each function gives a plausible value. Its fields are public, so a test writes down what it is about:
//!
//! ```
//! use netloom_sdk::{prelude::*, testing};
//!
//! let node = Node { netkit: false, ..testing::node() };
//! let chain = testing::chain([
//!     testing::foreign("other_tool"),
//!     testing::entry("acme/firewall").with_priority(10),
//!     testing::entry("netloom/datapath"),
//! ]);
//! assert_eq!(chain.ours().map(|entry| entry.id).collect::<Vec<_>>(), [1, 2]);
//! ```

use std::net::{IpAddr, SocketAddr};

use crate::{
    Batch, Lifecycle, SocketReap, Verdict,
    hooks::configure,
    types::{
        Backend, BoundSocket, Candidate, Chain, ChainEntry, Endpoint, Hook, HookPoint, IpPrefix, Label,
        NetnsId, Node, Protocol, ReapEvent, ReapReason, SocketState,
    },
};

/// A node whose kernel has everything.
#[must_use]
pub fn node() -> Node {
    Node {
        name: "node-1".to_owned(),
        kernel: "6.18.0".to_owned(),
        netkit: true,
        tcx: true,
        tc: true,
        netkit_scrub: true,
        netkit_headroom: true,
        socket_storage_iterator: true,
        socket_destroy: true,
        capabilities: Vec::new(),
    }
}

/// A chain on the tcx ingress of `eth0`, its entries in the order given and named 0, 1, 2 and so on.
#[must_use]
pub fn chain(entries: impl IntoIterator<Item = ChainEntry>) -> Chain {
    let entries = (0..)
        .zip(entries)
        .map(|(id, entry)| ChainEntry { id, program: 100 + id, link: entry.link.map(|_| 200 + id), ..entry })
        .collect();
    Chain {
        hook: Hook {
            netns: NetnsId { device: 4, inode: 4_026_531_840 },
            device: "eth0".to_owned(),
            ifindex: 2,
            point: HookPoint::TcxIngress,
        },
        revision: 1,
        entries,
    }
}

/// One of Netloom's entries, of this owner, with priority 0 and no labels.
#[must_use]
pub fn entry(owner: &str) -> ChainEntry {
    ChainEntry { owner: Some(owner.to_owned()), priority: Some(0), ..foreign("program") }
}

/// An entry of another tool.
#[must_use]
pub fn foreign(name: &str) -> ChainEntry {
    ChainEntry {
        id: 0,
        program: 0,
        link: Some(0),
        name: name.to_owned(),
        tag: "0123456789abcdef".to_owned(),
        owner: None,
        priority: None,
        labels: Vec::new(),
    }
}

/// A program that this owner asks to attach, with priority 0 and no labels.
#[must_use]
pub fn candidate(owner: &str) -> Candidate {
    Candidate {
        owner: owner.to_owned(),
        name: "program".to_owned(),
        tag: "fedcba9876543210".to_owned(),
        priority: 0,
        labels: Vec::new(),
        required: false,
    }
}

/// A container with one address of each family.
#[must_use]
pub fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        netns: NetnsId { device: 4, inode: 4_026_532_000 },
        interface: "eth0".to_owned(),
        addresses: vec![
            IpPrefix { address: IpAddr::from([10, 1, 0, 2]).into(), length: 32 },
            IpPrefix { address: IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2]).into(), length: 128 },
        ],
        mac: None,
        runtime_class: None,
        virtual_machine: false,
        labels: Vec::new(),
    }
}

/// A TCP backend of the service `web`, such as `10.0.0.7:443`.
///
/// # Panics
/// If the text is not an address with a port.
#[must_use]
pub fn backend(address: &str) -> Backend {
    Backend { address: parse(address).into(), protocol: Protocol::Tcp, service: "web".to_owned() }
}

/// A change of backends.
#[must_use]
pub fn event(reason: ReapReason, backends: impl IntoIterator<Item = Backend>) -> ReapEvent {
    ReapEvent { reason, backends: backends.into_iter().collect() }
}

/// An established TCP socket bound a second ago to the first backend of its event.
///
/// # Panics
/// If a text is not an address with a port.
#[must_use]
pub fn socket(local: &str, remote: &str) -> BoundSocket {
    BoundSocket {
        cookie: 1,
        netns_cookie: 1,
        endpoint: None,
        protocol: Protocol::Tcp,
        state: SocketState::Established,
        local: parse(local).into(),
        remote: parse(remote).into(),
        backend: 0,
        age_ns: 1_000_000_000,
        bytes_sent: 0,
        bytes_received: 0,
    }
}

fn parse(address: &str) -> SocketAddr {
    #[expect(clippy::panic, reason = "for tests, which fail this way")]
    address.parse().unwrap_or_else(|_| panic!("{address:?} is not an address such as 10.0.0.7:443"))
}

/// Configures a plugin with a JSON object, as the host does.
///
/// # Errors
/// What the operator would see.
pub fn init<P: Lifecycle>(plugin: &mut P, config: &str) -> Result<(), String> {
    configure(plugin, config)
}

/// Has a plugin judge sockets, once as records and once packed, and gives the verdicts.
///
/// # Panics
/// If the two differ, as they do if it asks for [`Socket::endpoint`](crate::Socket::endpoint), which packed
/// sockets have not: such a plugin is tested with [`Batch`] itself.
pub fn judge<P: SocketReap>(plugin: &mut P, event: &ReapEvent, sockets: &[BoundSocket]) -> Vec<Verdict> {
    let records = plugin.judge_batch(event, Batch::records(sockets));
    let packed = plugin.judge_batch(event, Batch::packed(&pack(sockets)));
    assert_eq!(records, packed, "the verdicts on records differ from those on packed sockets");
    records.iter().collect()
}

/// Packs sockets as the host does for `judge-packed`.
#[must_use]
pub fn pack(sockets: &[BoundSocket]) -> Vec<u64> {
    sockets.iter().flat_map(pack_one).collect()
}

fn pack_one(socket: &BoundSocket) -> [u64; 10] {
    let [local, remote] = [socket.local, socket.remote].map(|address| match IpAddr::from(address.ip) {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    });
    let state: u8 = match socket.state {
        SocketState::Established => 1,
        SocketState::SynSent => 2,
        SocketState::SynRecv => 3,
        SocketState::FinWait1 => 4,
        SocketState::FinWait2 => 5,
        SocketState::TimeWait => 6,
        SocketState::Close => 7,
        SocketState::CloseWait => 8,
        SocketState::LastAck => 9,
        SocketState::Listen => 10,
        SocketState::Closing => 11,
        SocketState::NewSynRecv => 12,
    };
    let protocol: u8 = match socket.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    let ports = u64::from(socket.local.port) | u64::from(socket.remote.port) << 16;
    let numbers = u64::from(state) << 32 | u64::from(protocol) << 40 | u64::from(socket.backend) << 48;
    [
        socket.cookie,
        socket.netns_cookie,
        socket.age_ns,
        ports | numbers,
        (local >> 64) as u64,
        local as u64,
        (remote >> 64) as u64,
        remote as u64,
        socket.bytes_sent,
        socket.bytes_received,
    ]
}

macro_rules! with_label {
    ($($type:ty),+) => {$(
        impl $type {
            /// With one more label.
            #[must_use]
            pub fn with_label(mut self, key: &str, value: &str) -> Self {
                self.labels.push(Label { key: key.to_owned(), value: value.to_owned() });
                self
            }
        }
    )+};
}

with_label!(Candidate, ChainEntry, Endpoint);

impl ChainEntry {
    /// With the priority its owner asked for.
    #[must_use]
    pub fn with_priority(self, priority: i32) -> Self {
        Self { priority: Some(priority), ..self }
    }
}

impl Candidate {
    /// With the priority its owner asks for.
    #[must_use]
    pub fn with_priority(self, priority: i32) -> Self {
        Self { priority, ..self }
    }
}
