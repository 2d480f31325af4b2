use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Something a kernel may or may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// BPF type information in `/sys/kernel/btf/vmlinux`.
    Btf,
    /// netkit devices (6.7).
    Netkit,
    /// netkit scrub attributes (6.13).
    NetkitScrub,
    /// netkit headroom and tailroom (6.14).
    NetkitHeadroom,
    /// netkit links (6.7).
    NetkitLinks,
    /// tcx links (6.6).
    Tcx,
    /// clsact and direct-action BPF filters.
    LegacyTc,
    /// cgroup socket-address hooks, and a cgroup2 mount to attach them to.
    SocketLb,
    /// `iter/bpf_sk_storage_map` (5.9).
    SocketStorageIterator,
    /// `bpf_sock_destroy` (6.5).
    SocketDestroyKfunc,
    /// `SOCK_DESTROY` through sock_diag (`CONFIG_INET_DIAG_DESTROY`).
    SocketDestroy,
    /// `listns()` (6.19).
    ListNamespaces,
    /// netkit queue leasing for AF_XDP (7.1).
    NetkitQueueLeasing,
}

impl Feature {
    /// Every feature, in the order in which they are shown.
    pub const ALL: [Self; 13] = [
        Self::Btf,
        Self::Netkit,
        Self::NetkitScrub,
        Self::NetkitHeadroom,
        Self::NetkitLinks,
        Self::Tcx,
        Self::LegacyTc,
        Self::SocketLb,
        Self::SocketStorageIterator,
        Self::SocketDestroyKfunc,
        Self::SocketDestroy,
        Self::ListNamespaces,
        Self::NetkitQueueLeasing,
    ];

    /// The name, as in CLI and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Btf => "btf",
            Self::Netkit => "netkit",
            Self::NetkitScrub => "netkit-scrub",
            Self::NetkitHeadroom => "netkit-headroom",
            Self::NetkitLinks => "netkit-links",
            Self::Tcx => "tcx",
            Self::LegacyTc => "legacy-tc",
            Self::SocketLb => "socket-lb",
            Self::SocketStorageIterator => "socket-storage-iterator",
            Self::SocketDestroyKfunc => "socket-destroy-kfunc",
            Self::SocketDestroy => "socket-destroy",
            Self::ListNamespaces => "list-namespaces",
            Self::NetkitQueueLeasing => "netkit-queue-leasing",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether a feature is there, and what was seen when it was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Support {
    /// It works.
    pub available: bool,
    /// What the probe saw: `netkit pair created`, `BPF_LINK_CREATE: EINVAL`.
    pub detail: String,
}

/// What a node's kernel can do, found by trying each thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The kernel's release, for reading only.
    pub kernel: String,
    /// Each feature that was probed.
    pub features: BTreeMap<Feature, Support>,
}

impl Capabilities {
    /// Whether a feature was probed and works.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.features.get(&feature).is_some_and(|support| support.available)
    }
}
