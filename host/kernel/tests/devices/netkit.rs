use netloom_core::model::{DeviceMode, Feature, NetkitPolicy, NetkitScrub, PairSpec};
use netloom_kernel::{
    devices::{DeviceError, Devices, Pair},
    netns::Netns,
};
use netloom_test_support::{require, require_without};

use crate::{
    node::{Node, ip, spec},
    ping::{is_silent, ping},
};

#[tokio::test]
async fn an_l3_pair_is_born_complete() {
    if !require(Feature::Netkit) {
        return;
    }
    let (node, endpoint) = (Node::new(), Netns::create().unwrap());
    let mut spec = spec(DeviceMode::Netkit, "nk-a");
    spec.peer_policy = NetkitPolicy::Blackhole;
    spec.mtu = 8000;
    spec.segmentation.gso_max_size = Some(40_000);
    spec.alias = "netloom:a".to_owned();
    spec.addresses = vec!["10.1.0.7/32".parse().unwrap(), "fd00::7/128".parse().unwrap()];

    let pair = node.devices.create_pair(&spec, &endpoint).await.unwrap();

    let inside = Devices::open(&endpoint).unwrap();
    assert_eq!(inside.get("eth0").await.unwrap().unwrap().ifindex, pair.peer.ifindex);
    for (end, primary) in [(&pair.host, true), (&pair.peer, false)] {
        assert_eq!(end.mode, Some(DeviceMode::Netkit));
        assert_eq!(end.kind, "netkit");
        assert_eq!(end.netkit_primary, Some(primary));
        assert_eq!(end.mac, None);
        assert_eq!(end.mtu, 8000);
        assert_eq!(end.gso_max_size, 40_000);
        assert_eq!(end.alias.as_deref(), Some("netloom:a"));
    }
    assert_eq!(pair.host.policy, Some(NetkitPolicy::Forward));
    assert_eq!(pair.host.peer_policy, Some(NetkitPolicy::Blackhole));
    assert_eq!(pair.peer.policy, Some(NetkitPolicy::Blackhole), "the other end sees it the other way round");
}

#[tokio::test]
async fn an_l2_pair_has_the_macs_it_was_given() {
    if !require(Feature::Netkit) {
        return;
    }
    let (node, endpoint) = (Node::new(), Netns::create().unwrap());
    let mut spec = spec(DeviceMode::NetkitL2, "nk-a");
    spec.host_mac = Some("02:00:00:00:00:01".parse().unwrap());
    spec.peer_mac = Some("02:00:00:00:00:02".parse().unwrap());
    let pair = node.devices.create_pair(&spec, &endpoint).await.unwrap();
    assert_eq!(pair.host.mode, Some(DeviceMode::NetkitL2));
    assert_eq!((pair.host.mac, pair.peer.mac), (spec.host_mac, spec.peer_mac));
}

#[tokio::test]
async fn policies_change_and_stop_packets() {
    if !require(Feature::Netkit) {
        return;
    }
    let node = Node::new();
    let blue = node.endpoint(DeviceMode::Netkit, "nk-blue", &["10.1.0.1"]).await;
    let red = node.endpoint(DeviceMode::Netkit, "nk-red", &["10.1.0.2"]).await;
    assert!(ping(&blue.netns, ip("10.1.0.2")));

    let (forward, blackhole) = (NetkitPolicy::Forward, NetkitPolicy::Blackhole);
    node.devices.set_policies(blue.pair.host.ifindex, forward, blackhole).await.unwrap();
    let now = node.devices.by_index(blue.pair.host.ifindex).await.unwrap().unwrap();
    assert_eq!((now.policy, now.peer_policy), (Some(forward), Some(blackhole)));
    assert!(is_silent(&blue.netns, ip("10.1.0.2")), "a packet passed the policy");

    node.devices.set_policies(blue.pair.host.ifindex, forward, forward).await.unwrap();
    assert!(ping(&blue.netns, ip("10.1.0.2")));

    let error = red.devices.set_policies(red.pair.peer.ifindex, forward, forward).await.unwrap_err();
    assert!(matches!(error, DeviceError::NotPrimary { .. }), "{error}");
}

#[tokio::test]
async fn scrubbing_is_set_for_each_direction() {
    if !require(Feature::NetkitScrub) {
        return;
    }
    let (node, endpoint) = (Node::new(), Netns::create().unwrap());
    let mut spec = spec(DeviceMode::Netkit, "nk-a");
    spec.scrub = Some(NetkitScrub::Default);
    spec.peer_scrub = Some(NetkitScrub::None);
    let Pair { host, .. } = node.devices.create_pair(&spec, &endpoint).await.unwrap();
    let details = node.devices.netkit(host.ifindex).await.unwrap().unwrap();
    assert_eq!((details.scrub, details.peer_scrub), (spec.scrub, spec.peer_scrub));
}

/// A mark is what scrubbing takes off: whoever gets a packet with one refuses it here.
#[tokio::test]
async fn a_mark_passes_where_nothing_is_scrubbed() {
    if !require(Feature::NetkitScrub) {
        return;
    }
    for mode in [DeviceMode::Netkit, DeviceMode::NetkitL2] {
        for (scrub, peer_scrub) in
            [(NetkitScrub::Default, NetkitScrub::None), (NetkitScrub::None, NetkitScrub::Default)]
        {
            let (node, endpoint) = (Node::new(), Netns::create().unwrap());
            let mut spec = spec(mode, "nk-a");
            spec.addresses = vec!["10.9.0.2/24".parse().unwrap()];
            (spec.scrub, spec.peer_scrub) = (Some(scrub), Some(peer_scrub));
            let pair = node.devices.create_pair(&spec, &endpoint).await.unwrap();
            node.devices.add_address(pair.host.ifindex, "10.9.0.1/24".parse().unwrap()).await.unwrap();
            for (from, to, address, scrubs) in [
                (&node.netns, &endpoint, "10.9.0.2", scrub),
                (&endpoint, &node.netns, "10.9.0.1", peer_scrub),
            ] {
                assert!(run(from, &format!("ping -c 1 -W 2 -m 7 {address}")), "{mode}: nobody minds marks");
                // In front of the table of its own addresses.
                for rule in ["add pref 2 lookup local", "delete pref 0", "add pref 1 fwmark 7 prohibit"] {
                    assert!(run(to, &format!("ip rule {rule}")), "{rule}");
                }
                let arrives = run(from, &format!("ping -c 1 -W 2 -m 7 {address}"));
                assert_eq!(arrives, scrubs == NetkitScrub::Default, "{mode}, {scrubs:?} to {address}");
                assert!(run(from, &format!("ping -c 1 -W 2 {address}")), "{mode}: without a mark");
                assert!(run(to, "ip rule delete pref 1"));
            }
        }
    }
}

/// Whether a command in a namespace ends well.
fn run(netns: &Netns, command: &str) -> bool {
    let words: Vec<&str> = command.split(' ').collect();
    let output = netns.run(|| std::process::Command::new(words[0]).args(&words[1..]).output().unwrap());
    output.unwrap().status.success()
}

fn with_headroom() -> PairSpec {
    let mut spec = spec(DeviceMode::Netkit, "nk-a");
    spec.headroom = Some(64);
    spec.tailroom = Some(32);
    spec
}

#[tokio::test]
async fn headroom_is_set() {
    if !require(Feature::NetkitHeadroom) {
        return;
    }
    let (node, endpoint) = (Node::new(), Netns::create().unwrap());
    let pair = node.devices.create_pair(&with_headroom(), &endpoint).await.unwrap();
    let details = node.devices.netkit(pair.host.ifindex).await.unwrap().unwrap();
    assert_eq!((details.headroom, details.tailroom), (Some(64), Some(32)));
}

#[tokio::test]
async fn headroom_that_the_kernel_ignores_is_reported() {
    if !require(Feature::Netkit) || !require_without(Feature::NetkitHeadroom) {
        return;
    }
    let (node, endpoint) = (Node::new(), Netns::create().unwrap());
    let error = node.devices.create_pair(&with_headroom(), &endpoint).await.unwrap_err();
    let DeviceError::Ignored { attribute, needs, .. } = error else { panic!("{error}") };
    assert_eq!((attribute, needs), ("headroom", "Linux 6.14"));
    assert_eq!(node.devices.get("nk-a").await.unwrap(), None, "the pair was left behind");
}

#[tokio::test]
async fn a_kernel_without_netkit_says_so_and_names_the_way_out() {
    if !require_without(Feature::Netkit) {
        return;
    }
    let (node, endpoint) = (Node::new(), Netns::create().unwrap());
    for mode in [DeviceMode::Netkit, DeviceMode::NetkitL2] {
        let error = node.devices.create_pair(&spec(mode, "nk-a"), &endpoint).await.unwrap_err();
        assert!(matches!(error, DeviceError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("use veth"), "{error}");
    }
}
