use std::{net::IpAddr, path::Path};

use ipnet::IpNet;
use netloom_core::model::{DeviceMode, EndSettings, IfIndex, MacAddress, NetkitScrub};
use netloom_kernel::{
    devices::{DeviceError, Devices, Route},
    netns::{Netns, NetnsError},
};

use crate::node::{Node, ip, spec};

#[tokio::test]
async fn a_pair_is_born_complete() {
    let node = Node::new();
    let endpoint = Netns::create().unwrap();
    let mut spec = spec(DeviceMode::Veth, "lxc-a");
    spec.host_mac = Some("02:00:00:00:00:01".parse().unwrap());
    spec.peer_mac = Some("02:00:00:00:00:02".parse().unwrap());
    spec.addresses = vec!["10.1.0.7/32".parse().unwrap(), "fd00::7/128".parse().unwrap()];
    spec.mtu = 9000;
    spec.segmentation.gso_max_size = Some(40_000);
    spec.segmentation.gro_max_size = Some(50_000);
    spec.alias = "netloom:a".to_owned();

    let pair = node.devices.create_pair(&spec, &endpoint).await.unwrap();

    let inside = Devices::open(&endpoint).unwrap();
    assert_eq!(
        node.devices.get("lxc-a").await.unwrap().as_ref().map(|device| &device.name),
        Some(&pair.host.name)
    );
    assert_eq!(inside.get("eth0").await.unwrap().unwrap().ifindex, pair.peer.ifindex);
    for (end, other, mac) in
        [(&pair.host, &pair.peer, spec.host_mac), (&pair.peer, &pair.host, spec.peer_mac)]
    {
        assert_eq!(end.mode, Some(DeviceMode::Veth));
        assert_eq!(end.kind, "veth");
        assert_eq!(end.mtu, 9000);
        assert_eq!(end.mac, mac);
        assert_eq!((end.gso_max_size, end.gro_max_size), (40_000, 50_000));
        assert_eq!(end.alias.as_deref(), Some("netloom:a"));
        assert_eq!(end.peer_ifindex, Some(other.ifindex));
        assert_eq!(end.netkit_primary, None);
        assert!(end.up);
    }
    assert_eq!(pair.host.netns, node.netns.id());
    assert_eq!(pair.peer.netns, endpoint.id());
    let addresses = inside.addresses(pair.peer.ifindex).await.unwrap();
    for address in &spec.addresses {
        assert!(addresses.contains(address), "{address} is not among {addresses:?}");
    }
}

#[tokio::test]
async fn macs_that_are_not_given_are_set_explicitly() {
    let node = Node::new();
    let endpoint = Netns::create().unwrap();
    let pair = node.devices.create_pair(&spec(DeviceMode::Veth, "lxc-a"), &endpoint).await.unwrap();
    assert_ne!(pair.host.mac.unwrap(), pair.peer.mac.unwrap());
    // NET_ADDR_SET: what udev's MAC address policy leaves alone.
    let assigned = node.netns.run(|| sysfs_assign_type("lxc-a")).unwrap();
    assert_eq!(assigned, "3");
}

/// sysfs shows the namespace it was mounted in, hence one of the thread's own.
fn sysfs_assign_type(device: &str) -> String {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
    let context = fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_create(&context).unwrap();
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
    let path = format!("class/net/{device}/addr_assign_type");
    let file =
        rustix::fs::openat(&mount, path, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    std::io::read_to_string(std::fs::File::from(file)).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_name_in_use_is_reported_for_the_end_it_is_in_use_at() {
    let node = Node::new();
    let endpoint = Netns::create().unwrap();
    node.devices.create_pair(&spec(DeviceMode::Veth, "lxc-a"), &endpoint).await.unwrap();

    let other = Netns::create().unwrap();
    let error = node.devices.create_pair(&spec(DeviceMode::Veth, "lxc-a"), &other).await.unwrap_err();
    assert!(matches!(&error, DeviceError::TakenOnNode { device, .. } if device == "lxc-a"), "{error}");

    let error = node.devices.create_pair(&spec(DeviceMode::Veth, "lxc-b"), &endpoint).await.unwrap_err();
    assert!(
        matches!(&error, DeviceError::TakenInEndpoint { device, netns } if device == "eth0" && *netns == endpoint.id()),
        "{error}"
    );
    assert_eq!(node.devices.get("lxc-b").await.unwrap(), None, "half a pair was left behind");
}

#[tokio::test]
async fn a_failure_after_the_birth_leaves_nothing() {
    let node = Node::new();
    let endpoint = Netns::create().unwrap();
    let mut spec = spec(DeviceMode::Veth, "lxc-a");
    // The kernel takes at most 255 bytes.
    spec.alias = "x".repeat(300);
    let error = node.devices.create_pair(&spec, &endpoint).await.unwrap_err();
    assert!(matches!(error, DeviceError::Netlink { .. }), "{error}");
    assert_eq!(node.devices.get("lxc-a").await.unwrap(), None);
    assert_eq!(Devices::open(&endpoint).unwrap().get("eth0").await.unwrap(), None);
}

#[tokio::test]
async fn a_maker_that_goes_away_leaves_nothing() {
    let node = Node::new();
    // Kept: an endpoint's end would take its pair along.
    let mut endpoints = Vec::new();
    // Dropped ever later: before the birth, in the middle, and at last not at all.
    let limits = std::iter::successors(Some(0), |micros: &u64| Some(micros + micros / 4 + 100));
    for limit in limits.map(std::time::Duration::from_micros) {
        let endpoint = Netns::create().unwrap();
        let spec = spec(DeviceMode::Veth, &format!("lxc-{}", limit.as_micros()));
        let made = tokio::time::timeout(limit, node.devices.create_pair(&spec, &endpoint)).await;
        endpoints.push(endpoint);
        if let Ok(pair) = made {
            node.devices.delete(pair.unwrap().host.ifindex).await.unwrap();
            break;
        }
    }
    // What was under way is answered first; then it is undone.
    for _ in 0..400 {
        let left = node.devices.list().await.unwrap();
        if left.iter().all(|device| device.kind != "veth") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("left behind: {:?}", node.devices.list().await.unwrap());
}

#[tokio::test]
async fn specifications_that_cannot_be_are_refused_before_anything_happens() {
    let node = Node::new();
    let endpoint = Netns::create().unwrap();
    let refused = async |change: fn(&mut netloom_core::model::PairSpec)| {
        let mut spec = spec(DeviceMode::Veth, "lxc-a");
        change(&mut spec);
        let error = node.devices.create_pair(&spec, &endpoint).await.unwrap_err();
        assert_eq!(node.devices.get("lxc-a").await.unwrap(), None);
        error
    };
    assert!(matches!(refused(|s| s.mtu = 67).await, DeviceError::Mtu { min: 68, max: 65_535, .. }));
    assert!(matches!(refused(|s| s.mtu = 65_536).await, DeviceError::Mtu { .. }));
    let with_v6 = refused(|s| {
        s.mtu = 1000;
        s.addresses = vec!["fd00::1/128".parse().unwrap()];
    });
    assert!(matches!(with_v6.await, DeviceError::Mtu { min: 1280, .. }));
    assert!(matches!(refused(|s| s.scrub = Some(NetkitScrub::None)).await, DeviceError::NotForMode { .. }));
    assert!(matches!(refused(|s| s.peer_name = "a/b".to_owned()).await, DeviceError::InvalidName { .. }));
    let group = refused(|s| s.peer_mac = Some(MacAddress([1, 0, 0, 0, 0, 1])));
    assert!(matches!(group.await, DeviceError::InvalidMac { .. }));
    let l3 = refused(|s| {
        s.mode = DeviceMode::Netkit;
        s.peer_mac = Some(MacAddress([2, 0, 0, 0, 0, 1]));
    });
    assert!(matches!(l3.await, DeviceError::MacOnL3 { .. }));
}

#[tokio::test]
async fn a_device_changes_and_goes() {
    let node = Node::new();
    let endpoint = Netns::create().unwrap();
    let pair = node.devices.create_pair(&spec(DeviceMode::Veth, "lxc-a"), &endpoint).await.unwrap();
    let index = pair.host.ifindex;
    let now = async || node.devices.by_index(index).await.unwrap().unwrap();

    let mut settings = EndSettings { mtu: Some(1400), ..EndSettings::default() };
    node.devices.set(index, &settings).await.unwrap();
    assert_eq!(now().await.mtu, 1400);
    settings.mtu = Some(1);
    assert!(matches!(node.devices.set(index, &settings).await, Err(DeviceError::Mtu { .. })));

    settings.mtu = None;
    settings.segmentation.gso_max_size = Some(30_000);
    node.devices.set(index, &settings).await.unwrap();
    assert_eq!((now().await.gso_max_size, now().await.mtu), (30_000, 1400));

    node.devices.set_up(index, false).await.unwrap();
    assert!(!now().await.up);

    let policy = netloom_core::model::NetkitPolicy::Blackhole;
    let error = node.devices.set_policies(index, policy, policy).await.unwrap_err();
    assert!(matches!(error, DeviceError::NotPrimary { .. }), "{error}");

    assert!(node.devices.delete(index).await.unwrap());
    assert!(!node.devices.delete(index).await.unwrap(), "it was gone already");
    assert_eq!(Devices::open(&endpoint).unwrap().get("eth0").await.unwrap(), None);
    assert!(matches!(node.devices.set(index, &settings).await, Err(DeviceError::NotFound { .. })));
}

#[tokio::test]
async fn a_device_that_is_not_there_is_none() {
    let node = Node::new();
    assert_eq!(node.devices.get("nothing").await.unwrap(), None);
    assert_eq!(node.devices.get("a-name-no-device-can-have").await.unwrap(), None);
    assert_eq!(node.devices.get("").await.unwrap(), None);
    assert_eq!(node.devices.by_index(IfIndex(4242)).await.unwrap(), None);
    assert_eq!(node.devices.by_index(IfIndex(0)).await.unwrap(), None);
    let names: Vec<_> = node.devices.list().await.unwrap().into_iter().map(|device| device.name).collect();
    assert!(names.contains(&"lo".to_owned()), "{names:?}");
}

#[tokio::test]
async fn the_kernels_own_words_are_passed_on() {
    let node = Node::new();
    let nowhere: IpAddr = ip("192.0.2.1");
    let route = Route::via("10.9.0.0/16".parse().unwrap(), nowhere, IfIndex(4242));
    let error = node.devices.add_route(&route).await.unwrap_err();
    let DeviceError::Netlink { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.errno, Some(libc::ENODEV));

    node.devices.set_up(IfIndex(1), true).await.unwrap();
    let unreachable =
        Route { onlink: false, ..Route::via("10.9.0.0/16".parse().unwrap(), nowhere, IfIndex(1)) };
    let error = node.devices.add_route(&unreachable).await.unwrap_err();
    let DeviceError::Netlink { source, .. } = &error else { panic!("{error}") };
    assert!(source.to_string().contains("gateway"), "{source}");
}

#[tokio::test]
async fn a_route_in_use_elsewhere_is_an_error_and_the_same_one_is_not() {
    let node = Node::new();
    let (one, two) = (Netns::create().unwrap(), Netns::create().unwrap());
    let one = node.devices.create_pair(&spec(DeviceMode::Veth, "lxc-a"), &one).await.unwrap();
    let two = node.devices.create_pair(&spec(DeviceMode::Veth, "lxc-b"), &two).await.unwrap();
    for destination in ["10.1.0.7/32", "fd00::7/128"] {
        let destination: IpNet = destination.parse().unwrap();
        let route = Route::on_link(destination, one.host.ifindex);
        node.devices.add_route(&route).await.unwrap();
        node.devices.add_route(&route).await.unwrap();
        let error = node.devices.add_route(&Route::on_link(destination, two.host.ifindex)).await.unwrap_err();
        assert!(matches!(&error, DeviceError::RouteTaken { device, .. } if device == "lxc-a"), "{error}");
        assert!(node.devices.delete_route(&route).await.unwrap());
        assert!(!node.devices.delete_route(&route).await.unwrap());
        assert_eq!(node.devices.routes(destination).await.unwrap(), []);
    }
    let mixed = Route::via("10.1.0.0/16".parse().unwrap(), ip("fd00::1"), one.host.ifindex);
    assert!(matches!(node.devices.add_route(&mixed).await, Err(DeviceError::MixedFamilies { .. })));
}

#[tokio::test]
async fn a_namespace_that_vanishes_takes_the_pair_along() {
    let node = Node::new();
    let endpoint = Netns::create().unwrap();
    node.devices.create_pair(&spec(DeviceMode::Veth, "lxc-a"), &endpoint).await.unwrap();
    drop(endpoint);
    // The kernel takes a namespace apart in its own time.
    for _ in 0..200 {
        if node.devices.get("lxc-a").await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the pair outlived its namespace: something still holds it");
}

#[tokio::test]
async fn a_path_that_is_gone_or_no_namespace_is_told() {
    assert!(matches!(Netns::open(Path::new("/run/netns/nobody")), Err(NetnsError::NotFound { .. })));
    for path in ["/etc/passwd", "/proc/self/ns/mnt", "/run"] {
        let error = Netns::open(Path::new(path)).unwrap_err();
        assert!(matches!(error, NetnsError::NotANamespace { .. }), "{path}: {error}");
        assert!(error.to_string().contains(path));
    }
}
