use std::fmt;

use serde::{Deserialize, Serialize};

use super::{IfIndex, NetnsId};

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
