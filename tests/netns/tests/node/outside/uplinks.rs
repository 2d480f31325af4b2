//! Devices to outside that are named, and IPv6.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use netloom_netns_tests::{Endpoint, Node};
use netloom_test_support::{Netns, at_this_pace, until};
use serde_json::json;

use super::{NATIVE, await_outside, by_eth9, join, reach};

fn await_direct(what: impl Fn() -> bool) {
    let started = Instant::now();
    while what() {
        assert!(started.elapsed() < at_this_pace(Duration::from_secs(10)), "the node's stack forwards");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_devices_that_are_named_are_uplinks_and_those_of_default_routes_are_not() {
    let node = Node::configured(&format!("{NATIVE}uplinks = [\"eth9\"]\n"));
    let (outside, elsewhere) = (Netns::new("outside"), Netns::new("elsewhere"));
    let web = node.endpoint("web");
    node.netns.link("203.0.113.1/24").named("eth8").to(&elsewhere, "203.0.113.2/24");
    node.netns.ip(&["route", "add", "default", "via", "203.0.113.2"]);
    let without = await_outside(&node, |outside| outside.through_stack.is_some());
    assert_eq!(without.through_stack.as_deref(), Some("none of datapath.uplinks is there"));

    node.netns.link("198.51.100.1/24").named("eth9").to(&outside, "198.51.100.2/24");
    outside.ip(&["route", "add", "10.210.0.0/16", "via", "198.51.100.1"]);
    await_outside(&node, by_eth9);
    await_direct(|| reach(&node, &web, &outside));
    assert!(node.chains("eth8").is_empty(), "the default route's device is left alone");
    assert_eq!(node.chains("eth9").len(), 1);
}

/// Packets that the node's stack has forwarded, of IPv6.
fn forwarded(node: &Node) -> String {
    let text = node.netns.command(&["cat", "/proc/net/snmp6"]).stdout;
    let line = text.lines().find(|line| line.starts_with("Ip6OutForwDatagrams")).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

fn forwards(node: &Node, endpoint: &Endpoint, outside: &Netns) -> bool {
    let before = forwarded(node);
    let address: IpAddr = "2001:db8:9::2".parse().unwrap();
    assert!(endpoint.netns.can_ping(address), "{}", node.daemon.log());
    assert!(outside.can_ping(endpoint.v6()), "{}", node.daemon.log());
    forwarded(node) != before
}

#[test]
fn packets_of_ipv6_to_and_from_outside_pass_the_nodes_stack_by() {
    let node = Node::configured(NATIVE);
    let outside = Netns::new("outside");
    join(&node, &outside);
    node.netns.add_address("eth9", "2001:db8:9::1/64");
    outside.add_address("eth9", "2001:db8:9::2/64");
    node.netns.ip(&["-6", "route", "add", "default", "via", "2001:db8:9::2"]);
    outside.ip(&["-6", "route", "add", "fd6e:6c00::/112", "via", "2001:db8:9::1"]);
    let web = node.endpoint("web");
    await_outside(&node, by_eth9);
    await_direct(|| forwards(&node, &web, &outside));
    // A stream, in both directions, and a datagram as large as they come.
    let echo = outside.tcp_echo("[2001:db8:9::2]:7000");
    let mut connection = web.netns.connect_tcp(echo.address());
    let text = "x".repeat(100_000);
    assert_eq!(connection.exchange(&text), text);
    let datagrams = web.netns.udp_echo(&format!("[{}]:7000", web.v6()));
    let mut query = outside.connect_udp(datagrams.address());
    let text = "y".repeat(1_500 - 40 - 8);
    assert_eq!(query.exchange(&text), text);
}

#[test]
fn packets_with_ipv4_options_go_by_the_nodes_stack_to_and_from_outside() {
    let node = Node::configured(NATIVE);
    let outside = Netns::new("outside");
    join(&node, &outside);
    let web = node.endpoint("web");
    for device in ["all", "eth9"] {
        let switch = format!("echo 1 >/proc/sys/net/ipv4/conf/{device}/forwarding");
        assert!(node.netns.command(&["sh", "-c", &switch]).ok());
    }
    await_outside(&node, by_eth9);
    await_direct(|| reach(&node, &web, &outside));
    // Each router on the way, which is the node both times, writes the address into the packet that it sends it from.
    let from = web.v4().to_string();
    let recorded = web.netns.command(&["ping", "-R", "-c", "1", "-W", "20", "198.51.100.2"]).expect_ok();
    let way: Vec<&str> = recorded.lines().skip_while(|line| !line.starts_with("RR:")).collect();
    let way: Vec<&str> = way.iter().take_while(|line| !line.is_empty()).map(|line| line.trim()).collect();
    let way: Vec<&str> = way.iter().map(|line| line.trim_start_matches("RR:").trim()).collect();
    assert_eq!(way.len(), 6, "{recorded}");
    assert_eq!(
        [way[0], way[1], way[2], way[5]],
        [&from, "198.51.100.1", "198.51.100.2", &from],
        "{recorded}"
    );
    assert!(!reach(&node, &web, &outside), "without options they pass it by");
}

#[test]
fn a_new_endpoint_has_the_mtu_of_the_way_to_outside_unless_it_is_configured() {
    let mut node = Node::start();
    let outside = Netns::new("outside");
    let mtu = |node: &Node| {
        let netns = Netns::new("web");
        let view = node.add(json!({ "name": "web", "netns": netns.path() })).unwrap();
        node.delete("web").unwrap();
        view.endpoint.mode.mtu
    };
    assert_eq!(mtu(&node), 1_500, "nothing leads to outside");
    join(&node, &outside);
    for (uplink, wanted) in [("1400", 1_400), ("9000", 9_000), ("1000", 1_280)] {
        node.netns.ip(&["link", "set", "eth9", "mtu", uplink]);
        until(|| mtu(&node), |mtu| *mtu == wanted);
    }
    node.daemon.set_config("[endpoints]\nmtu = 1450\n");
    node.daemon.stop();
    node.daemon.restart();
    assert_eq!(mtu(&node), 1_450);
}
