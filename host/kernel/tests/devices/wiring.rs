use netloom_core::model::{DeviceMode, EndpointRoute, Feature, IfIndex};
use netloom_kernel::devices::{DeviceError, ForwardingWay, IpFamily, Route};
use netloom_test_support::require;

use crate::{
    node::{Endpoint, Node, ip, spec},
    ping::{is_silent, ping},
};

#[tokio::test]
async fn veth_endpoints_reach_each_other_and_the_node_by_the_host_stack() {
    reach_each_other(DeviceMode::Veth).await;
}

#[tokio::test]
async fn netkit_endpoints_reach_each_other_and_the_node_by_the_host_stack() {
    if require(Feature::Netkit) {
        reach_each_other(DeviceMode::Netkit).await;
    }
}

#[tokio::test]
async fn netkit_l2_endpoints_reach_each_other_and_the_node_by_the_host_stack() {
    if require(Feature::Netkit) {
        reach_each_other(DeviceMode::NetkitL2).await;
    }
}

/// No setting of the whole node helps: it does not forward.
async fn reach_each_other(mode: DeviceMode) {
    let node = Node::new();
    let blue = node.endpoint(mode, "lxc-blue", &["10.1.0.1", "fd00::1"]).await;
    let red = node.endpoint(mode, "lxc-red", &["10.1.0.2", "fd00::2"]).await;
    for family in [IpFamily::V4, IpFamily::V6] {
        assert_eq!(node.devices.sysctl(family, "all", "forwarding").unwrap().as_deref(), Some("0"));
    }

    assert!(ping(&blue.netns, ip("10.1.0.1")), "an endpoint does not reach itself");
    assert!(ping(&blue.netns, ip("10.1.0.2")), "v4, endpoint to endpoint");
    assert!(ping(&red.netns, ip("10.1.0.1")), "v4, and back");
    assert!(blue.connected.warnings.iter().any(|warning| warning.contains("net.ipv4.ip_forward")));
    // Before 6.17 a kernel forwards IPv6 for the whole node or not at all.
    let for_one_device =
        node.devices.sysctl(IpFamily::V6, &blue.pair.host.name, "force_forwarding").unwrap().is_some();
    if !for_one_device {
        let all = netloom_kernel::devices::Sysctl::new(IpFamily::V6, "all", "forwarding", 1);
        node.devices.set_sysctls(&[all]).unwrap();
    }
    assert!(ping(&blue.netns, ip("fd00::2")), "v6, endpoint to endpoint");
    let warned = |text: &str| blue.connected.warnings.iter().any(|warning| warning.contains(text));
    assert!(warned("net.ipv6.conf.all.forwarding"));
    assert_eq!(warned("Linux 6.17"), !for_one_device);

    node.devices.add_address(IfIndex(1), "10.1.0.254/32".parse().unwrap()).await.unwrap();
    node.devices.set_up(IfIndex(1), true).await.unwrap();
    assert!(ping(&node.netns, ip("10.1.0.1")), "v4, node to endpoint");
    assert!(ping(&blue.netns, ip("10.1.0.254")), "v4, endpoint to node");
    assert!(is_silent(&blue.netns, ip("10.1.0.99")), "an address of nobody answers");

    leave(&node, &red).await;
    assert!(is_silent(&blue.netns, ip("10.1.0.2")), "a deleted endpoint answers");
    assert_eq!(node.devices.routes("10.1.0.2/32".parse().unwrap()).await.unwrap(), []);
}

#[tokio::test]
async fn the_way_of_a_packet_is_told_as_the_nodes_stack_would_take_it() {
    let node = Node::new();
    let blue = node.endpoint(DeviceMode::Veth, "lxc-blue", &["10.1.0.1"]).await;
    let red = node.endpoint(DeviceMode::Veth, "lxc-red", &["10.1.0.2"]).await;
    let (loopback, to_red) = (IfIndex(1), red.pair.host.ifindex);
    node.devices.add_address(loopback, "10.1.0.254/32".parse().unwrap()).await.unwrap();
    node.devices.set_up(loopback, true).await.unwrap();
    let behind_red = Route::via("10.9.0.0/16".parse().unwrap(), ip("10.1.0.2"), to_red);
    node.devices.add_route(&behind_red).await.unwrap();

    let way = async |to: &str, by| node.devices.forwarding_way(ip("10.1.0.1"), ip(to), by).await;
    let from_blue = async |to: &str| way(to, blue.pair.host.ifindex).await.unwrap();
    assert_eq!(from_blue("10.1.0.2").await, Some(ForwardingWay::Device { index: to_red, via: None }));
    let gateway = Some(ip("10.1.0.2"));
    assert_eq!(from_blue("10.9.0.1").await, Some(ForwardingWay::Device { index: to_red, via: gateway }));
    assert_eq!(from_blue("10.1.0.254").await, Some(ForwardingWay::Local));
    assert_eq!(from_blue("10.8.0.1").await, None, "no route");
    assert!(way("10.1.0.2", IfIndex(9_999)).await.is_err(), "a device that is not there");
}

async fn leave(node: &Node, endpoint: &Endpoint) {
    assert!(node.devices.delete(endpoint.pair.host.ifindex).await.unwrap());
    assert_eq!(endpoint.devices.get("eth0").await.unwrap(), None);
}

#[tokio::test]
async fn wiring_twice_is_fine_and_an_address_in_use_is_not() {
    let node = Node::new();
    let blue = node.endpoint(DeviceMode::Veth, "lxc-blue", &["10.1.0.1", "fd00::1"]).await;
    let addresses = ["10.1.0.1/32".parse().unwrap(), "fd00::1/128".parse().unwrap()];
    let routes = EndpointRoute::defaults(&addresses);
    let (netns, mac) = (&blue.netns, blue.pair.host.mac);
    node.devices.connect_endpoint(&blue.pair, netns, &addresses, &routes, mac).await.unwrap();

    let other = netloom_kernel::netns::Netns::create().unwrap();
    let pair = node.devices.create_pair(&spec(DeviceMode::Veth, "lxc-red"), &other).await.unwrap();
    let failed = node.devices.connect_endpoint(&pair, &other, &addresses, &routes, pair.host.mac).await;
    let error = failed.unwrap_err();
    assert!(matches!(&error, DeviceError::RouteTaken { device, .. } if device == "lxc-blue"), "{error}");
}

#[tokio::test]
async fn ipv6_works_in_a_namespace_that_had_it_off() {
    let node = Node::new();
    let blue = node.endpoint(DeviceMode::Veth, "lxc-blue", &["fd00::1"]).await;
    assert!(
        !blue.connected.warnings.iter().any(|warning| warning.contains("IPv4")),
        "it has no such address"
    );
    let netns = netloom_kernel::netns::Netns::create().unwrap();
    netns.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")).unwrap().unwrap();
    let mut spec = spec(DeviceMode::Veth, "lxc-red");
    spec.addresses = vec!["fd00::2/128".parse().unwrap()];
    let pair = node.devices.create_pair(&spec, &netns).await.unwrap();
    let routes = EndpointRoute::defaults(&spec.addresses);
    node.devices.connect_endpoint(&pair, &netns, &spec.addresses, &routes, pair.host.mac).await.unwrap();
    node.devices
        .set_sysctls(&[netloom_kernel::devices::Sysctl::new(IpFamily::V6, "all", "forwarding", 1)])
        .unwrap();
    assert!(ping(&netns, ip("fd00::1")));
    assert!(ping(&blue.netns, ip("fd00::2")));
}
