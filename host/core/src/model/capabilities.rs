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
    /// netkit links (6.7).
    NetkitLinks,
    /// netkit scrub attributes (6.13).
    NetkitScrub,
    /// netkit headroom and tailroom (6.14).
    NetkitHeadroom,
    /// Single netkit devices, told from pairs (7.1).
    NetkitPairing,
    /// netkit queue leasing for AF_XDP (7.1).
    NetkitQueueLeasing,
    /// AF_XDP sockets.
    AfXdp,
    /// tcx links (6.6).
    Tcx,
    /// clsact and direct-action BPF filters.
    LegacyTc,
    /// How many programs a hook takes.
    ChainLimit,
    /// Positions of cgroup links (6.17).
    CgroupLinkOrder,
    /// GSO and GRO sizes above 65,536 bytes (5.19).
    BigTcp,
    /// The same for IPv4 (6.3).
    BigTcpIpv4,
    /// cgroup socket-address hooks, and a cgroup2 mount to attach them to.
    SocketLb,
    /// `iter/bpf_sk_storage_map` (5.9).
    SocketStorageIterator,
    /// `iter/task_file` (5.8).
    TaskFileIterator,
    /// `bpf_sock_destroy` (6.5).
    SocketDestroyKfunc,
    /// `SOCK_DESTROY` through sock_diag (`CONFIG_INET_DIAG_DESTROY`).
    SocketDestroy,
    /// `listns()` (6.19).
    ListNamespaces,
}

impl Feature {
    /// Every feature, in the order in which they are shown.
    pub const ALL: [Self; 20] = [
        Self::Btf,
        Self::Netkit,
        Self::NetkitLinks,
        Self::NetkitScrub,
        Self::NetkitHeadroom,
        Self::NetkitPairing,
        Self::NetkitQueueLeasing,
        Self::AfXdp,
        Self::Tcx,
        Self::LegacyTc,
        Self::ChainLimit,
        Self::CgroupLinkOrder,
        Self::BigTcp,
        Self::BigTcpIpv4,
        Self::SocketLb,
        Self::SocketStorageIterator,
        Self::TaskFileIterator,
        Self::SocketDestroyKfunc,
        Self::SocketDestroy,
        Self::ListNamespaces,
    ];

    /// The name, as in CLI and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Btf => "btf",
            Self::Netkit => "netkit",
            Self::NetkitLinks => "netkit-links",
            Self::NetkitScrub => "netkit-scrub",
            Self::NetkitHeadroom => "netkit-headroom",
            Self::NetkitPairing => "netkit-pairing",
            Self::NetkitQueueLeasing => "netkit-queue-leasing",
            Self::AfXdp => "af-xdp",
            Self::Tcx => "tcx",
            Self::LegacyTc => "legacy-tc",
            Self::ChainLimit => "chain-limit",
            Self::CgroupLinkOrder => "cgroup-link-order",
            Self::BigTcp => "big-tcp",
            Self::BigTcpIpv4 => "big-tcp-ipv4",
            Self::SocketLb => "socket-lb",
            Self::SocketStorageIterator => "socket-storage-iterator",
            Self::TaskFileIterator => "task-file-iterator",
            Self::SocketDestroyKfunc => "socket-destroy-kfunc",
            Self::SocketDestroy => "socket-destroy",
            Self::ListNamespaces => "list-namespaces",
        }
    }

    /// What Netloom and its users have of it.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Btf => "every BPF program: without it none is loaded",
            Self::Netkit => "endpoints whose packets skip a queue; else they get veth pairs",
            Self::NetkitLinks => "the datapath of netkit endpoints",
            Self::NetkitScrub => "keeping or clearing mark and priority between node and endpoint",
            Self::NetkitHeadroom => "tunnels and encryption behind netkit without copying packets",
            Self::NetkitPairing => "netkit devices without a peer",
            Self::NetkitQueueLeasing => "AF_XDP and zero-copy receive inside endpoints",
            Self::AfXdp => "applications that bypass the stack",
            Self::Tcx => "programs with links, positions and revisions; else legacy tc",
            Self::LegacyTc => "programs where the kernel has no tcx",
            Self::ChainLimit => "several programs on one hook, in an order of their own",
            Self::CgroupLinkOrder => "placing socket-LB before or after programs of others",
            Self::BigTcp => "BIG TCP on IPv6: fewer, larger packets through the stack",
            Self::BigTcpIpv4 => "BIG TCP on IPv4",
            Self::SocketLb => "services: addresses translated as sockets connect",
            Self::SocketStorageIterator => "finding sockets of a backend in one pass over all namespaces",
            Self::TaskFileIterator => "finding sockets of every process in one pass",
            Self::SocketDestroyKfunc => "destroying sockets from an iterator",
            Self::SocketDestroy => "reaping: without it no socket is destroyed",
            Self::ListNamespaces => "finding a socket's namespace without an index of all",
        }
    }

    /// What brings it: the kernel's configuration, and the upstream version that had it first. Distributions backport
    /// features and leave configurations out, so this is a hint for people, and nothing is decided by it.
    #[must_use]
    pub const fn brought_by(self) -> &'static str {
        match self {
            Self::Btf => "CONFIG_DEBUG_INFO_BTF (Linux 5.4)",
            Self::Netkit | Self::NetkitLinks => "CONFIG_NETKIT (Linux 6.7)",
            Self::NetkitScrub => "Linux 6.13",
            Self::NetkitHeadroom => "Linux 6.14",
            Self::NetkitPairing | Self::NetkitQueueLeasing => "Linux 7.1",
            Self::AfXdp => "CONFIG_XDP_SOCKETS (Linux 4.18)",
            Self::Tcx | Self::ChainLimit => "CONFIG_NET_XGRESS (Linux 6.6)",
            Self::LegacyTc => "CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS (Linux 4.5)",
            Self::CgroupLinkOrder => "Linux 6.17",
            Self::BigTcp => "Linux 5.19",
            Self::BigTcpIpv4 => "Linux 6.3",
            Self::SocketLb => "CONFIG_CGROUP_BPF (Linux 5.8), and a cgroup2 mount",
            Self::SocketStorageIterator => "CONFIG_DEBUG_INFO_BTF (Linux 5.9)",
            Self::TaskFileIterator => "CONFIG_DEBUG_INFO_BTF (Linux 5.8)",
            Self::SocketDestroyKfunc => "CONFIG_DEBUG_INFO_BTF (Linux 6.5)",
            Self::SocketDestroy => "CONFIG_INET_DIAG_DESTROY (Linux 4.5)",
            Self::ListNamespaces => "Linux 6.19",
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
