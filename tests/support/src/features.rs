use std::{env, fs, path::Path, sync::OnceLock, thread};

use netloom_core::model::Feature;

use crate::command::command;

/// Whether a test that needs this can run. If not, it says so in a line that `cargo xtask test` counts, and the
/// test is to return:
///
/// ```no_run
/// # use netloom_core::model::Feature;
/// # use netloom_test_support::require;
/// if !require(Feature::Netkit) {
///     return;
/// }
/// ```
///
/// What the kernel has is found without the code under test, which could hide its own failure otherwise.
///
/// # Panics
/// If `NETLOOM_REQUIRE`, a list of features with commas between, names it: on the kernel that this is set for, a
/// missing feature is a failure. Also if it names something that is no feature.
#[must_use]
pub fn require(feature: Feature) -> bool {
    if available(feature) {
        return true;
    }
    let required = required();
    assert!(!required.contains(&feature), "NETLOOM_REQUIRE names {feature}, which this kernel does not have");
    println!("skipped: {}: needs {feature}", thread::current().name().unwrap_or("a test"));
    false
}

/// Whether plugins in C can be built here. If not, it says so as [`require`] does.
#[must_use]
pub fn c_for_wasm() -> bool {
    let there = Path::new("/usr/include/wasm32-wasi/stdlib.h").is_file();
    if !there {
        println!("skipped: {}: needs wasi-libc", thread::current().name().unwrap_or("a test"));
    }
    there
}

fn required() -> Vec<Feature> {
    let list = env::var("NETLOOM_REQUIRE").unwrap_or_default();
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(parse).collect()
}

fn parse(name: &str) -> Feature {
    let found = Feature::ALL.into_iter().find(|feature| feature.as_str() == name);
    found.unwrap_or_else(|| panic!("NETLOOM_REQUIRE names {name:?}, which is no feature"))
}

fn available(feature: Feature) -> bool {
    match feature {
        Feature::Btf => Path::new("/sys/kernel/btf/vmlinux").exists(),
        Feature::Netkit => has_symbol("netkit_prog_attach"),
        Feature::NetkitLinks => has_symbol("netkit_link_attach"),
        Feature::Tcx => has_symbol("tcx_link_attach"),
        Feature::LegacyTc => clsact(),
        Feature::SocketLb => has_symbol("__cgroup_bpf_run_filter_sock_addr") && cgroup2(),
        Feature::SocketStorageIterator => has_symbol("bpf_sk_storage_map_seq_stop"),
        Feature::SocketDestroyKfunc => has_symbol("bpf_sock_destroy"),
        Feature::SocketDestroy => has_symbol("sock_diag_destroy"),
        Feature::ListNamespaces => has_symbol("__x64_sys_listns"),
        Feature::ChainLimit => has_symbol("tcx_link_attach"),
        Feature::TaskFileIterator => has_symbol("bpf_iter_task_file"),
        Feature::AfXdp => has_symbol("xsk_create"),
        // Attributes and flags leave no symbol behind: the version has to do.
        Feature::BigTcp => release() >= (5, 19),
        Feature::BigTcpIpv4 => release() >= (6, 3),
        Feature::CgroupLinkOrder => release() >= (6, 17),
        Feature::NetkitPairing => has_symbol("netkit_link_attach") && release() >= (7, 1),
        Feature::NetkitScrub => has_symbol("netkit_link_attach") && release() >= (6, 13),
        Feature::NetkitHeadroom => has_symbol("netkit_link_attach") && release() >= (6, 14),
        Feature::NetkitQueueLeasing => has_symbol("netkit_link_attach") && release() >= (7, 1),
    }
}

fn has_symbol(symbol: &str) -> bool {
    static SYMBOLS: OnceLock<String> = OnceLock::new();
    let symbols = SYMBOLS.get_or_init(|| fs::read_to_string("/proc/kallsyms").unwrap_or_default());
    symbols.lines().any(|line| line.split_whitespace().nth(2) == Some(symbol))
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

fn release() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_can_be_named() {
        for feature in Feature::ALL {
            assert_eq!(parse(feature.as_str()), feature);
        }
    }

    #[test]
    #[should_panic(expected = "which is no feature")]
    fn another_name_is_refused() {
        parse("netkitt");
    }

    #[test]
    fn symbols_are_matched_whole() {
        assert!(has_symbol("schedule") || fs::read_to_string("/proc/kallsyms").is_err());
        assert!(!has_symbol("schedul"));
        assert!(!has_symbol(""));
    }

    #[test]
    fn the_release_is_read() {
        assert!(release() >= (5, 0), "{:?}", release());
    }
}
