//! Answers of plugins as they came, not yet checked. [`crate::validate`] turns them into the model's types;
//! nothing else takes them.

use std::time::Duration;

use crate::model::{
    AttachmentKind, DeviceMode, NetkitPolicy, NetkitScrub, NetnsCookie, Placement, Protocol, ReapAction,
    SocketState,
};

/// A plugin's answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// It decided.
    Decide(T),
    /// It has no opinion.
    Abstain,
    /// It forbids the whole, and why.
    Veto(String),
}

impl<T> Answer<T> {
    /// The same answer with its decision turned into something else.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Decide(value) => Answer::Decide(f(value)),
            Self::Abstain => Answer::Abstain,
            Self::Veto(why) => Answer::Veto(why),
        }
    }
}

/// `attach-order.place`: entries are named by numbers that may not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawPlacement {
    /// In front of everything.
    Head,
    /// Behind everything.
    Tail,
    /// Just in front of this entry.
    Before(u32),
    /// Just behind this entry.
    After(u32),
    /// In the place of this entry.
    Replace(u32),
}

impl From<Placement> for RawPlacement {
    fn from(placement: Placement) -> Self {
        match placement {
            Placement::Head => Self::Head,
            Placement::Tail => Self::Tail,
            Placement::Before(id) => Self::Before(id.0),
            Placement::After(id) => Self::After(id.0),
            Placement::Replace(id) => Self::Replace(id.0),
        }
    }
}

/// `datapath-mode.choose`: a field that is none takes the node's configured value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMode {
    /// The device pair.
    pub device: DeviceMode,
    /// How programs attach.
    pub attachment: Option<AttachmentKind>,
    /// netkit: towards the endpoint.
    pub primary_policy: Option<NetkitPolicy>,
    /// netkit: from the endpoint.
    pub peer_policy: Option<NetkitPolicy>,
    /// netkit: towards the endpoint.
    pub scrub: Option<NetkitScrub>,
    /// netkit: from the endpoint.
    pub peer_scrub: Option<NetkitScrub>,
    /// netkit: bytes in front of packets.
    pub headroom: Option<u16>,
    /// netkit: bytes behind packets.
    pub tailroom: Option<u16>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Bytes.
    pub gso_max_size: Option<u32>,
    /// Bytes.
    pub gro_max_size: Option<u32>,
}

/// `socket-reap.plan`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawReapPlan {
    /// Empty means both.
    pub protocols: Vec<Protocol>,
    /// Empty means every state of a connected socket.
    pub states: Vec<SocketState>,
    /// False also matches unconnected UDP sockets.
    pub connected_only: bool,
    /// Empty means all.
    pub netns_cookies: Vec<NetnsCookie>,
    /// Only sockets bound at least so long ago.
    pub min_age: Duration,
    /// Wait so long before looking.
    pub grace: Duration,
    /// What to do with the matches.
    pub action: ReapAction,
}
