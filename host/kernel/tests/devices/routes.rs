//! Routes and neighbours as they are read back, beside those that are not asked for.

use std::process::Command;

use netloom_core::model::{DeviceMode, EndpointRoute, IfIndex};
use netloom_kernel::{
    devices::{DeviceError, Devices, Route},
    netns::Netns,
};

use crate::node::{Node, ip, spec};

/// The index of no device.
const NOBODY: IfIndex = IfIndex(9_999);

fn run(netns: &Netns, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let status = netns.run(|| Command::new(words[0]).args(&words[1..]).status().unwrap()).unwrap();
    assert!(status.success(), "{command}");
}

/// A node with an address, which gateways are looked for beside.
fn node_with_address() -> Node {
    let node = Node::new();
    run(&node.netns, "ip address add 10.1.0.254/32 dev lo");
    run(&node.netns, "ip link set lo up");
    node
}

fn is_v4(route: &Route) -> bool {
    route.destination.addr().is_ipv4()
}

#[tokio::test]
async fn routes_by_a_device_are_those_of_the_main_table_that_lead_there() {
    let node = Node::new();
    let blue = node.endpoint(DeviceMode::Veth, "lxc-blue", &["10.1.0.1"]).await;
    let red = node.endpoint(DeviceMode::Veth, "lxc-red", &["10.1.0.2"]).await;
    for command in [
        "ip route add 10.9.0.0/16 dev lxc-blue table 77",
        "ip route add blackhole 10.8.0.0/16",
        "ip address add 10.7.0.1/24 dev lxc-red",
    ] {
        run(&node.netns, command);
    }
    let own = Route::on_link("10.1.0.1/32".parse().unwrap(), blue.pair.host.ifindex);
    // IPv6's are beside them: the kernel has one of the link.
    let mut by_blue = node.devices.routes_by(blue.pair.host.ifindex).await.unwrap();
    by_blue.retain(is_v4);
    assert_eq!(by_blue, [own]);
    let by_red = node.devices.routes_by(red.pair.host.ifindex).await.unwrap();
    let to: Vec<String> =
        by_red.iter().filter(|route| is_v4(route)).map(|route| route.destination.to_string()).collect();
    assert_eq!(to, ["10.1.0.2/32", "10.7.0.0/24"]);
    assert_eq!(node.devices.routes_by(NOBODY).await.unwrap(), []);
}

#[tokio::test]
async fn gateways_are_those_of_all_routes_and_of_each_of_their_ways() {
    let node = node_with_address();
    let blue = node.endpoint(DeviceMode::Veth, "lxc-blue", &["10.1.0.1", "fd00::1"]).await;
    let _red = node.endpoint(DeviceMode::Veth, "lxc-red", &["10.1.0.2"]).await;
    assert_eq!(node.devices.gateways().await.unwrap(), Vec::<std::net::IpAddr>::new());
    for command in [
        "ip route add 10.7.0.0/16 nexthop via 10.1.0.1 dev lxc-blue onlink nexthop via 10.1.0.2 dev lxc-red onlink",
        "ip route add 10.6.0.0/16 via 10.1.0.2",
        "ip -6 route add fd01::/64 via fd00::9 dev lxc-blue onlink",
    ] {
        run(&node.netns, command);
    }
    assert_eq!(node.devices.gateways().await.unwrap(), ["10.1.0.1", "10.1.0.2", "fd00::9"].map(ip));
    assert_eq!(blue.devices.gateways().await.unwrap(), ["169.254.1.1", "fe80::1"].map(ip));
}

#[tokio::test]
async fn neighbours_are_those_that_somebody_set_for_good() {
    let node = Node::new();
    let blue = node.endpoint(DeviceMode::Veth, "lxc-blue", &["10.1.0.1", "fd00::1"]).await;
    let _red = node.endpoint(DeviceMode::Veth, "lxc-red", &["10.1.0.2"]).await;
    run(&node.netns, "ip neigh add 10.1.0.77 lladdr 02:00:00:00:00:77 dev lxc-blue nud reachable");
    let mut neighbours = node.devices.neighbours(blue.pair.host.ifindex).await.unwrap();
    neighbours.sort_by_key(|(address, _)| *address);
    let mac = blue.pair.peer.mac.unwrap();
    assert_eq!(neighbours, [(ip("10.1.0.1"), mac), (ip("fd00::1"), mac)]);
    assert_eq!(node.devices.neighbours(NOBODY).await.unwrap(), []);
}

#[tokio::test]
async fn a_destination_is_routed_in_one_way_for_each_metric() {
    let node = node_with_address();
    let blue = node.endpoint(DeviceMode::Veth, "lxc-blue", &["10.1.0.1"]).await;
    let red = node.endpoint(DeviceMode::Veth, "lxc-red", &["10.1.0.2"]).await;
    let destination = "10.9.0.0/16".parse().unwrap();
    let by_red = Route::via(destination, ip("10.1.0.2"), red.pair.host.ifindex);
    let by_blue = Route::via(destination, ip("10.1.0.1"), blue.pair.host.ifindex);
    node.devices.add_route(&by_red).await.unwrap();
    node.devices.add_route(&by_red).await.unwrap();
    let error = node.devices.add_route(&by_blue).await.unwrap_err();
    assert!(matches!(&error, DeviceError::RouteTaken { device, .. } if device == "lxc-red"), "{error}");
    // By the same device, and by another gateway.
    let other = Route { via: Some(ip("10.1.0.9")), ..by_red.clone() };
    let error = node.devices.add_route(&other).await.unwrap_err();
    assert!(matches!(&error, DeviceError::RouteTaken { .. }), "{error}");
    node.devices.add_route(&Route { metric: Some(7), ..by_blue.clone() }).await.unwrap();
    let mut metrics: Vec<_> =
        node.devices.routes(destination).await.unwrap().into_iter().map(|route| route.metric).collect();
    metrics.sort_unstable();
    assert_eq!(metrics, [None, Some(7)]);
    assert!(node.devices.delete_route(&by_red).await.unwrap());
    assert!(!node.devices.delete_route(&by_red).await.unwrap());
    let gone = Route { device: NOBODY, ..by_red };
    assert!(!node.devices.delete_route(&gone).await.unwrap());
}

#[tokio::test]
async fn what_is_unreachable_is_so_once_until_it_is_taken_back() {
    let node = Node::new();
    for prefix in ["10.9.0.0/16", "fd09::/64"] {
        let prefix = prefix.parse().unwrap();
        assert!(!node.devices.remove_unreachable(prefix).await.unwrap());
        node.devices.add_unreachable(prefix).await.unwrap();
        node.devices.add_unreachable(prefix).await.unwrap();
        assert!(node.devices.remove_unreachable(prefix).await.unwrap());
        assert!(!node.devices.remove_unreachable(prefix).await.unwrap());
    }
}

#[tokio::test]
async fn a_route_inside_has_the_metric_it_is_given() {
    let node = Node::new();
    let netns = Netns::create().unwrap();
    let pair = node.devices.create_pair(&spec(DeviceMode::Veth, "lxc-blue"), &netns).await.unwrap();
    let addresses = ["10.1.0.1/32".parse().unwrap()];
    let destination = "0.0.0.0/0".parse().unwrap();
    let routes = [EndpointRoute { destination, metric: Some(4_097) }];
    let connected =
        node.devices.connect_endpoint(&pair, &netns, &addresses, &routes, pair.host.mac).await.unwrap();
    let inside = Devices::open(&netns).unwrap();
    let found = inside.routes(destination).await.unwrap();
    assert_eq!(found.iter().map(|route| route.metric).collect::<Vec<_>>(), [Some(4_097)]);
    let warned = |family: &str| connected.warnings.iter().any(|warning| warning.contains(family));
    assert_eq!((warned("IPv4"), warned("IPv6")), (true, false), "it has no address of the other family");
}
