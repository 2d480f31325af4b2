//! What the kernel has, found without the code under test: by doing, or by what the kernel names.

mod netlink;

use std::{fs, io, os::fd::AsFd, path::Path, sync::OnceLock};

use aya_obj::btf::{Btf, BtfKind};
use netloom_core::model::Feature;
use netloom_sys::bpf::{self, AttachType};

use crate::command::command;

/// Whether this kernel has a feature, found without the code under test, which could hide its own failure otherwise.
#[must_use]
pub fn kernel_has(feature: Feature) -> bool {
    match feature {
        Feature::Btf => Path::new("/sys/kernel/btf/vmlinux").exists(),
        Feature::Netkit => netlink::netkit().is_some(),
        Feature::NetkitLinks => has_symbol("netkit_link_attach"),
        Feature::NetkitScrub => netlink::netkit().is_some_and(|pair| pair.scrub),
        Feature::NetkitHeadroom => netlink::netkit().is_some_and(|pair| pair.headroom),
        Feature::NetkitPairing => netlink::netkit().is_some_and(|pair| pair.pairing),
        Feature::NetkitQueueLeasing => has_symbol("netdev_nl_queue_create_doit"),
        Feature::Tcx | Feature::ChainLimit => has_symbol("tcx_link_attach"),
        Feature::LegacyTc => clsact(),
        Feature::BigTcp => netlink::big_tcp().0,
        Feature::BigTcpIpv4 => netlink::big_tcp().1,
        Feature::CgroupLinkOrder => cgroup_link_order(),
        Feature::SocketLb => has_symbol("__cgroup_bpf_run_filter_sock_addr") && cgroup2(),
        Feature::SocketStorageIterator => has_iterator("bpf_iter_bpf_sk_storage_map"),
        Feature::TaskFileIterator => has_iterator("bpf_iter_task_file"),
        Feature::SocketDestroyKfunc => has_symbol("bpf_sock_destroy"),
        Feature::SocketDestroy => has_symbol("sock_diag_destroy"),
        Feature::ListNamespaces => has_symbol("__x64_sys_listns"),
        Feature::AfXdp => has_symbol("xsk_create"),
    }
}

fn has_symbol(symbol: &str) -> bool {
    static SYMBOLS: OnceLock<String> = OnceLock::new();
    let symbols = SYMBOLS.get_or_init(|| fs::read_to_string("/proc/kallsyms").unwrap_or_default());
    symbols.lines().any(|line| line.split_whitespace().nth(2) == Some(symbol))
}

/// Whether the kernel loads an iterator: some have its name and refuse it.
fn has_iterator(name: &str) -> bool {
    static TYPES: OnceLock<Option<Btf>> = OnceLock::new();
    let types = TYPES.get_or_init(|| Btf::from_sys_fs().ok());
    let id = types.as_ref().and_then(|types| types.id_by_type_name_kind(name, BtfKind::Func).ok());
    id.is_some_and(|id| bpf::load_iterator("probe", id).is_ok())
}

/// Whether a link in front of all others is refused for its cgroup, which is none, and not for its position.
fn cgroup_link_order() -> bool {
    let link = || {
        let program = bpf::load_connect("probe")?;
        bpf::cgroup_link_nowhere(program.as_fd(), AttachType::CGROUP_INET4_CONNECT, true)
    };
    link().is_err_and(|error: io::Error| error.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error()))
}

fn clsact() -> bool {
    static CLSACT: OnceLock<bool> = OnceLock::new();
    *CLSACT.get_or_init(|| {
        let netns = crate::Netns::new("probe");
        command(&["tc", "-n", netns.name(), "qdisc", "add", "dev", "lo", "clsact"]).ok()
    })
}

fn cgroup2() -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split_whitespace().nth(2) == Some("cgroup2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_matched_whole() {
        assert!(has_symbol("schedule") || fs::read_to_string("/proc/kallsyms").is_err());
        assert!(!has_symbol("schedul"));
        assert!(!has_symbol(""));
    }

    #[test]
    fn what_is_no_iterator_is_not_loaded() {
        assert!(!has_iterator("schedule"));
        assert!(!has_iterator("no_such_function"));
    }
}
