use std::{
    path::Path,
    time::{Duration, Instant},
};

use netloom_core::model::Feature;
use netloom_kernel::{capabilities::probe, mounts, netns};
use netloom_test_support::{expected, kernel_has};

use crate::node::capabilities;

#[tokio::test]
async fn every_feature_is_probed_with_a_reason() {
    let capabilities = capabilities().await;
    println!("Linux {}", capabilities.kernel);
    for feature in Feature::ALL {
        let support = &capabilities.features[&feature];
        println!("{:5} {feature:24} {}", support.available, support.detail);
        assert!(!support.detail.is_empty(), "{feature}");
    }
    assert!(!capabilities.kernel.is_empty());
    // What other features are made of cannot be missing where they are there.
    let has = |feature| capabilities.has(feature);
    assert!(has(Feature::Netkit) || !has(Feature::NetkitScrub));
    assert!(has(Feature::Netkit) || !has(Feature::NetkitHeadroom));
    assert!(has(Feature::NetkitScrub) || !has(Feature::NetkitHeadroom));
    assert_eq!(has(Feature::Netkit), has(Feature::NetkitLinks));
    assert!(has(Feature::Btf) || !has(Feature::SocketDestroyKfunc));
    assert_eq!(has(Feature::Btf), Path::new("/sys/kernel/btf/vmlinux").exists());
    assert!(
        has(Feature::LegacyTc),
        "every kernel has clsact: {}",
        capabilities.features[&Feature::LegacyTc].detail
    );
    // The chain that a tcx hook keeps is there with it, and has had one size ever since.
    assert_eq!(has(Feature::Tcx), has(Feature::ChainLimit));
    let limit = &capabilities.features[&Feature::ChainLimit].detail;
    assert!(!has(Feature::ChainLimit) || limit.starts_with("63 programs"), "{limit}");
    let socket_lb = &capabilities.features[&Feature::SocketLb];
    assert_eq!(socket_lb.available, mounts::cgroup2_mount().is_some(), "{}", socket_lb.detail);
}

/// Three that know nothing of each other: the table of kernels, the tests' own probes, and what the daemon goes by.
#[tokio::test]
async fn the_kernel_has_what_the_table_says_and_what_the_tests_find() {
    let capabilities = capabilities().await;
    let wrong: Vec<String> = Feature::ALL
        .into_iter()
        .filter_map(|feature| {
            let (told, found, table) = (capabilities.has(feature), kernel_has(feature), expected(feature));
            let detail = &capabilities.features[&feature].detail;
            let agree = told == found && table.is_none_or(|table| table == found);
            (!agree).then(|| {
                format!(
                    "{feature}: the daemon says {told} ({detail}), the tests {found}, the table {table:?}"
                )
            })
        })
        .collect();
    assert!(wrong.is_empty(), "Linux {}:\n{}", capabilities.kernel, wrong.join("\n"));
}

#[tokio::test]
async fn probing_is_quick_and_leaves_nothing() {
    let before = netns::all().unwrap().len();
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        probe().await;
        quickest = quickest.min(start.elapsed());
    }
    println!("{quickest:?}");
    // An emulated CPU takes ten times as long; what this catches is a probe that waits for something.
    assert!(quickest < Duration::from_secs(10), "{quickest:?}");
    // Other tests make namespaces meanwhile, and the kernel takes its time to remove them; a leak stays.
    let deadline = Instant::now() + Duration::from_secs(60);
    while netns::all().unwrap().len() >= before + 20 {
        assert!(Instant::now() < deadline, "there are 20 namespaces more than before");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn a_bpf_file_system_is_mounted_where_there_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let point = directory.path().join("bpf");
    mounts::ensure_bpffs(&point).unwrap();
    assert!(mounts::is_bpffs(&point));
    mounts::ensure_bpffs(&point).unwrap();
    std::fs::create_dir(point.join("pins")).unwrap();
    mounts::ensure_bpffs(&point.join("pins")).unwrap();
    rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(!mounts::is_bpffs(&point), "it was mounted twice");

    let error = mounts::ensure_bpffs(Path::new("/proc/no/such")).unwrap_err().to_string();
    assert!(error.contains("/proc/no/such"), "{error}");
}

#[test]
fn cgroup2_is_used_where_it_is_or_mounted_where_asked() {
    let directory = tempfile::tempdir().unwrap();
    let point = directory.path().join("cgroup");
    let before = mounts::cgroup2_mount();
    let used = mounts::ensure_cgroup2(&point).unwrap();
    match before {
        Some(there) => {
            assert_eq!(used, there);
            assert!(!point.exists(), "a second one was mounted");
        }
        None => {
            assert_eq!(used, point);
            assert!(point.join("cgroup.procs").exists());
            rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    }
}
