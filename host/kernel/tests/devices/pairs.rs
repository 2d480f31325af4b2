//! What both kinds of pairs have: the other end found across namespaces, queues, sizes, routes held to an MTU.

use netloom_core::model::{DeviceMode, EndSettings, Feature, PairSpec, Segmentation};
use netloom_kernel::{
    devices::{DeviceError, Route},
    netns::Netns,
};
use netloom_test_support::{each_way, require_without};

use crate::node::{Node, capabilities, spec};

each_way!(async the_other_end_is_found_in_whatever_namespace_it_is, queues_and_sizes_are_as_asked_for_and_shown,
    a_pair_is_born_with_the_index_that_was_chosen_for_it_and_takes_nobody_elses; {
    veth: [] => DeviceMode::Veth,
    netkit: [Feature::Netkit] => DeviceMode::Netkit,
    netkit_l2: [Feature::Netkit] => DeviceMode::NetkitL2,
});

async fn the_other_end_is_found_in_whatever_namespace_it_is(mode: DeviceMode) {
    let (node, endpoint, elsewhere) = (Node::new(), Netns::create().unwrap(), Netns::create().unwrap());
    let pair = node.devices.create_pair(&spec(mode, "nl-a"), &endpoint).await.unwrap();
    // Indexes repeat from namespace to namespace: this one has the same, at both ends.
    let decoy = Node::new();
    decoy.devices.create_pair(&spec(mode, "nl-a"), &elsewhere).await.unwrap();

    let found = node.devices.peer(&pair.host).await.unwrap().unwrap();
    assert_eq!(found.devices.netns(), &endpoint, "{mode}");
    assert_eq!((found.device.name.as_str(), found.device.ifindex), ("eth0", pair.peer.ifindex));
    assert!(!found.names.is_empty(), "a way to it is named");
    for (netns, there) in
        [(&endpoint, Some(pair.peer.ifindex)), (&elsewhere, None), (&decoy.netns, None), (&node.netns, None)]
    {
        let found = node.devices.peer_in(&pair.host, netns).await.unwrap();
        assert_eq!(found.map(|device| device.ifindex), there, "{mode}: in {netns:?}");
    }
    let back = found.devices.peer(&found.device).await.unwrap().unwrap();
    assert_eq!((back.device.name.as_str(), back.devices.netns()), ("nl-a", &node.netns));

    let inside = node.devices.create_pair(&spec(mode, "nl-b"), &node.netns).await.unwrap();
    assert_eq!(inside.host.peer_nsid, None);
    let found = node.devices.peer(&inside.host).await.unwrap().unwrap();
    assert_eq!((found.device.ifindex, found.names.len()), (inside.peer.ifindex, 0));
}

async fn a_pair_is_born_with_the_index_that_was_chosen_for_it_and_takes_nobody_elses(mode: DeviceMode) {
    let (node, endpoint) = (Node::new(), Netns::create().unwrap());
    let index = node.devices.free_index().await.unwrap();
    let wanted = PairSpec { host_ifindex: Some(index), ..spec(mode, "nl-a") };
    let pair = node.devices.create_pair(&wanted, &endpoint).await.unwrap();
    assert_eq!(pair.host.ifindex, index, "{mode}");

    let taken = PairSpec { host_name: "nl-b".into(), peer_name: "eth1".into(), ..wanted };
    assert!(node.devices.create_pair(&taken, &endpoint).await.is_err(), "{mode}: the index is in use");
    let there = node.devices.by_index(index).await.unwrap().unwrap();
    assert_eq!(there.name, "nl-a", "{mode}: whoever has it keeps it");
}

#[tokio::test]
async fn what_is_no_pair_has_no_other_end() {
    let node = Node::new();
    let loopback = node.devices.get("lo").await.unwrap().unwrap();
    assert!(node.devices.peer(&loopback).await.unwrap().is_none(), "it is no pair");
}

async fn queues_and_sizes_are_as_asked_for_and_shown(mode: DeviceMode) {
    let (node, endpoint) = (Node::new(), Netns::create().unwrap());
    let mut spec = spec(mode, "nl-a");
    (spec.tx_queues, spec.rx_queues) = (Some(4), Some(2));
    spec.segmentation =
        Segmentation { gso_max_size: Some(180_000), gro_max_size: Some(170_000), ..Segmentation::default() };
    let ipv4 = node.devices.get("lo").await.unwrap().unwrap().gso_ipv4_max_size.is_some();
    if ipv4 {
        spec.segmentation.gso_ipv4_max_size = Some(90_000);
        spec.segmentation.gro_ipv4_max_size = Some(80_000);
    }
    let mut made = node.devices.create_pair(&spec, &endpoint).await;
    if mode.is_netkit() && capabilities().await.features[&Feature::NetkitQueueLeasing].available {
        let refused = made.unwrap_err().to_string();
        assert!(refused.contains("numbers of queues"), "{refused}");
        (spec.tx_queues, spec.rx_queues) = (None, None);
        made = node.devices.create_pair(&spec, &endpoint).await;
    }
    let pair = made.unwrap();
    for end in [&pair.host, &pair.peer] {
        let queues = (spec.tx_queues.unwrap_or(1), spec.rx_queues.unwrap_or(1));
        assert_eq!((end.tx_queues, end.rx_queues), queues, "{mode}");
        assert_eq!(end.segmentation().gso_max_size, Some(180_000));
        if ipv4 {
            assert_eq!(end.segmentation(), spec.segmentation, "{mode}");
        }
        assert!(end.tso_max_size.is_some_and(|most| most >= 180_000), "{end:?}");
        // The kernel takes its time to call it operational.
        assert!(["up", "down", "lower-layer-down"].contains(&end.state.as_str()), "{}", end.state);
        assert_eq!(end.qdisc, "noqueue");
        assert!(end.min_mtu <= 1_500 && (end.max_mtu == 0 || end.max_mtu >= 1_500));
    }
}

#[tokio::test]
async fn sizes_of_ipv4_are_reported_where_a_kernel_ignores_them() {
    if !require_without(Feature::BigTcpIpv4) {
        return;
    }
    let (node, endpoint) = (Node::new(), Netns::create().unwrap());
    let mut spec = spec(DeviceMode::Veth, "nl-a");
    spec.segmentation.gso_ipv4_max_size = Some(90_000);
    let error = node.devices.create_pair(&spec, &endpoint).await.unwrap_err();
    assert!(
        matches!(error, DeviceError::Ignored { attribute: "gso-ipv4-max-size", needs: "Linux 6.3", .. }),
        "{error}"
    );
    assert_eq!(node.devices.get("nl-a").await.unwrap(), None, "the pair was left behind");
}

#[tokio::test]
async fn routes_are_held_and_released_whatever_becomes_of_the_device() {
    let node = Node::new();
    let web = node.endpoint(DeviceMode::Veth, "nl-web", &["10.1.0.1", "fd00::1"]).await;
    let (devices, index) = (&web.devices, web.pair.peer.ifindex);
    let own = Route::on_link("10.9.0.0/16".parse().unwrap(), index);
    devices.add_route(&own).await.unwrap();
    let routes = devices.routes_to_hold(index).await.unwrap();
    assert_eq!(routes.len(), 3, "two defaults and the one just added: {routes:?}");

    devices.hold_routes(index, &routes, 1_400).await.unwrap();
    assert_eq!(devices.routes_to_hold(index).await.unwrap(), [], "all of them are");
    let larger = EndSettings { mtu: Some(9_000), ..EndSettings::default() };
    devices.set(index, &larger).await.unwrap();
    // The kernel overrides the MTU of IPv6 routes as it likes: not of these.
    for target in ["10.9.1.1", "2001:db8::1"] {
        let route = route_to(&web.netns, target);
        assert!(route.contains(" mtu ") && route.contains(" 1400"), "{route}");
    }
    assert!(devices.delete_route(&own).await.unwrap());
    devices.release_routes(index, &routes).await.unwrap();
    assert_eq!(devices.routes_to_hold(index).await.unwrap().len(), 2, "the deleted one came back");
    assert!(!route_to(&web.netns, "2001:db8::1").contains("mtu"), "{}", route_to(&web.netns, "2001:db8::1"));
    let default = devices.routes("0.0.0.0/0".parse().unwrap()).await.unwrap();
    assert_eq!(default.len(), 1, "{default:?}");
    assert!(default[0].onlink && default[0].via.is_some(), "the gateway was lost: {default:?}");
}

fn route_to(netns: &Netns, target: &str) -> String {
    let answer =
        netns.run(|| std::process::Command::new("ip").args(["route", "get", target]).output().unwrap());
    String::from_utf8(answer.unwrap().stdout).unwrap()
}
