use std::fmt;

use serde::{Deserialize, Serialize};

use super::{IfIndex, Labels, LinkId, NetnsId, Owner, ProgramId, Revision};

/// A place at which programs attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookPoint {
    /// tcx, packets arriving at the device.
    TcxIngress,
    /// tcx, packets leaving through the device.
    TcxEgress,
    /// The node's end of a netkit pair: packets towards the endpoint.
    NetkitPrimary,
    /// The endpoint's end of a netkit pair: packets from the endpoint. Addressed by the primary's index.
    NetkitPeer,
    /// Legacy tc (clsact), packets arriving at the device.
    TcIngress,
    /// Legacy tc (clsact), packets leaving through the device.
    TcEgress,
}

impl HookPoint {
    /// Every hook point.
    pub const ALL: [Self; 6] = [
        Self::TcxIngress,
        Self::TcxEgress,
        Self::NetkitPrimary,
        Self::NetkitPeer,
        Self::TcIngress,
        Self::TcEgress,
    ];

    /// The name, as in CLI and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TcxIngress => "tcx-ingress",
            Self::TcxEgress => "tcx-egress",
            Self::NetkitPrimary => "netkit-primary",
            Self::NetkitPeer => "netkit-peer",
            Self::TcIngress => "tc-ingress",
            Self::TcEgress => "tc-egress",
        }
    }

    /// Whether it is a legacy tc hook point: no links, no revision.
    #[must_use]
    pub const fn is_legacy(self) -> bool {
        matches!(self, Self::TcIngress | Self::TcEgress)
    }

    /// The same side of a device on tcx or, if `legacy`, on legacy tc. None for netkit's, which have no such side.
    #[must_use]
    pub const fn on(self, legacy: bool) -> Option<Self> {
        match (self, legacy) {
            (Self::TcxIngress | Self::TcIngress, false) => Some(Self::TcxIngress),
            (Self::TcxIngress | Self::TcIngress, true) => Some(Self::TcIngress),
            (Self::TcxEgress | Self::TcEgress, false) => Some(Self::TcxEgress),
            (Self::TcxEgress | Self::TcEgress, true) => Some(Self::TcEgress),
            (Self::NetkitPrimary | Self::NetkitPeer, _) => None,
        }
    }

    /// Whether only netkit devices have it.
    #[must_use]
    pub const fn is_netkit(self) -> bool {
        matches!(self, Self::NetkitPrimary | Self::NetkitPeer)
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A hook: one hook point of one device in one network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hook {
    /// The namespace the device is in.
    pub netns: NetnsId,
    /// The device's name when the hook was looked up.
    pub device: String,
    /// The device's index.
    pub ifindex: IfIndex,
    /// The place on it.
    pub point: HookPoint,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} in {}", self.point, self.device, self.netns)
    }
}

/// A name for one entry of a chain snapshot: its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryId(pub u32);

/// One program in a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEntry {
    /// The kernel's program id.
    pub program: ProgramId,
    /// The kernel's link id; none without a link.
    pub link: Option<LinkId>,
    /// The program's name, at most 15 bytes.
    pub name: String,
    /// The program's tag, 16 hexadecimal digits.
    pub tag: String,
    /// Legacy tc: the filter's priority and handle.
    pub filter: Option<(u16, u32)>,
    /// Netloom's attachment, if the entry is one; none for a foreign one.
    pub attachment: Option<String>,
    /// Its owner; none for a foreign entry.
    pub owner: Option<Owner>,
    /// The priority asked for; none for a foreign entry.
    pub priority: Option<i32>,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
}

/// The programs on a hook in the order in which they run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Where.
    pub hook: Hook,
    /// The kernel's revision; 0 on legacy tc.
    pub revision: Revision,
    /// First to run first.
    pub entries: Vec<ChainEntry>,
}

impl Chain {
    /// The most programs the kernel takes on one hook.
    pub const MAX_ENTRIES: usize = 63;

    /// The entry a snapshot name stands for.
    #[must_use]
    pub fn entry(&self, id: EntryId) -> Option<&ChainEntry> {
        self.entries.get(id.0 as usize)
    }
}

/// Where a program goes in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// In front of everything.
    Head,
    /// Behind everything.
    Tail,
    /// Just in front of this entry.
    Before(EntryId),
    /// Just behind this entry.
    After(EntryId),
    /// In the place of this entry.
    Replace(EntryId),
}
