use std::{fmt, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Backend, NetnsCookie, Protocol, ServiceId, SocketCookie};

/// A TCP socket's state. A connected UDP socket is `Established`, an unconnected one `Close`.
///
/// The numbers are the kernel's: `include/net/tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum SocketState {
    /// Connected.
    Established = 1,
    /// SYN sent.
    SynSent = 2,
    /// SYN received.
    SynRecv = 3,
    /// Closed here, the peer has not acknowledged.
    #[serde(rename = "fin-wait-1")]
    FinWait1 = 4,
    /// Closed here, the peer has not closed.
    #[serde(rename = "fin-wait-2")]
    FinWait2 = 5,
    /// Closed on both sides, waiting.
    TimeWait = 6,
    /// Not connected.
    Close = 7,
    /// Closed by the peer.
    CloseWait = 8,
    /// Closed by the peer, then here.
    LastAck = 9,
    /// Listening.
    Listen = 10,
    /// Closed on both sides at once.
    Closing = 11,
    /// A request socket.
    NewSynRecv = 12,
}

impl SocketState {
    /// Every state, in the kernel's order.
    pub const ALL: [Self; 12] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
        Self::NewSynRecv,
    ];

    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The state of a kernel number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }

    /// Whether a socket in this state has a peer that would notice its end.
    #[must_use]
    pub const fn is_connected(self) -> bool {
        !matches!(self, Self::Close | Self::Listen | Self::TimeWait | Self::NewSynRecv)
    }
}

impl fmt::Display for SocketState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Established => "established",
            Self::SynSent => "syn-sent",
            Self::SynRecv => "syn-recv",
            Self::FinWait1 => "fin-wait-1",
            Self::FinWait2 => "fin-wait-2",
            Self::TimeWait => "time-wait",
            Self::Close => "close",
            Self::CloseWait => "close-wait",
            Self::LastAck => "last-ack",
            Self::Listen => "listen",
            Self::Closing => "closing",
            Self::NewSynRecv => "new-syn-recv",
        })
    }
}

/// A socket that the service translation connected to a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundSocket {
    /// Unique on the node until it boots again.
    pub cookie: SocketCookie,
    /// Its namespace's cookie.
    pub netns_cookie: NetnsCookie,
    /// The transport.
    pub protocol: Protocol,
    /// Its state.
    pub state: SocketState,
    /// Its own address, as the kernel has it: v4-mapped on an IPv6 socket that talks IPv4.
    pub local: SocketAddr,
    /// The backend's address, as the kernel has it.
    pub remote: SocketAddr,
    /// The bound backend's address: IPv4 if `remote` is v4-mapped.
    pub backend: SocketAddr,
    /// The service it was bound through, by its number in the datapath.
    pub service: ServiceId,
    /// Since it was bound.
    pub age: Duration,
    /// Payload bytes sent and acknowledged; 0 for UDP.
    pub bytes_sent: u64,
    /// Payload bytes received; 0 for UDP.
    pub bytes_received: u64,
}

/// Which bound sockets to find. All conditions must hold; an empty list is no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFilter {
    /// Bound to one of these.
    pub backends: Vec<(SocketAddr, Protocol)>,
    /// Transports.
    pub protocols: Vec<Protocol>,
    /// States.
    pub states: Vec<SocketState>,
    /// Leave out unconnected sockets.
    pub connected_only: bool,
    /// In these namespaces.
    pub netns_cookies: Vec<NetnsCookie>,
    /// Bound at least so long ago.
    pub min_age: Duration,
}

/// What became of a socket that was to be destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DestroyOutcome {
    /// Destroyed, and verified gone.
    Destroyed,
    /// It had gone by itself, or its namespace had.
    Gone,
    /// It lives on, and why.
    Failed(DestroyFailure),
}

/// Why a socket lives on that was to be destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyFailure {
    /// In a word, for counting.
    pub kind: DestroyFailureKind,
    /// For people.
    pub detail: String,
}

/// The kinds of [`DestroyFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DestroyFailureKind {
    /// Its namespace lives on, and cannot be found or entered.
    Namespace,
    /// The kernel refused.
    Refused,
    /// The kernel said that it is destroyed, or finds nothing at its addresses, and it is there still.
    LivesOn,
    /// Whether it is gone could not be told.
    Unverified,
}

impl DestroyFailureKind {
    /// The name, as in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Refused => "refused",
            Self::LivesOn => "lives-on",
            Self::Unverified => "unverified",
        }
    }

    /// With what people want to know.
    pub fn because(self, detail: impl Into<String>) -> DestroyOutcome {
        DestroyOutcome::Failed(DestroyFailure { kind: self, detail: detail.into() })
    }
}

/// Why a reap is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReapReason {
    /// The backend was removed from its service.
    Removed,
    /// The backend is going away.
    Terminating,
    /// An operator asked for it.
    Requested,
}

/// One change of backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReapEvent {
    /// Why.
    pub reason: ReapReason,
    /// 1 to 1,024.
    pub backends: Vec<Backend>,
}

/// What the host does with each socket found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReapAction {
    /// Destroy it.
    Destroy,
    /// List it, touch nothing.
    Observe,
    /// Ask the plugin, as records.
    JudgeRecords,
    /// Ask the plugin, in packed batches.
    JudgePacked,
}

/// What the host looks for, and what it does with what it finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReapPlan {
    /// Which sockets, among those bound to the event's backends.
    pub filter: SocketFilter,
    /// Wait so long before looking.
    pub grace: Duration,
    /// What to do with them.
    pub action: ReapAction,
}
