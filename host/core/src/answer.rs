//! Answers of plugins as they came, not yet checked. [`crate::validate`] turns them into the model's types;
//! nothing else takes them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    AttachmentKind, DeviceMode, NetkitPolicy, NetkitScrub, NetnsCookie, Placement, Protocol, ReapAction,
    SocketState,
};

/// A plugin's answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMode {
    /// The device pair.
    pub device: DeviceMode,
    /// How programs attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<AttachmentKind>,
    /// netkit: towards the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_policy: Option<NetkitPolicy>,
    /// netkit: from the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_policy: Option<NetkitPolicy>,
    /// netkit: towards the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrub: Option<NetkitScrub>,
    /// netkit: from the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_scrub: Option<NetkitScrub>,
    /// netkit: bytes in front of packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headroom: Option<u16>,
    /// netkit: bytes behind packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tailroom: Option<u16>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gso_max_size: Option<u32>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gro_max_size: Option<u32>,
}

/// `socket-reap.plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReapPlan {
    /// Empty means both.
    #[serde(default)]
    pub protocols: Vec<Protocol>,
    /// Empty means every state of a connected socket.
    #[serde(default)]
    pub states: Vec<SocketState>,
    /// False also matches unconnected UDP sockets.
    pub connected_only: bool,
    /// Empty means all.
    #[serde(default)]
    pub netns_cookies: Vec<NetnsCookie>,
    /// Only sockets bound at least so long ago.
    #[serde(default, rename = "min_age_ms", with = "millis")]
    pub min_age: Duration,
    /// Wait so long before looking.
    #[serde(default, rename = "grace_ms", with = "millis")]
    pub grace: Duration,
    /// What to do with the matches.
    pub action: ReapAction,
}

/// Durations as milliseconds, as people write them.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
