//! Endpoints reach hosts that do not know the way to them.

use netloom_api::types::{Doctor, Outside};
use netloom_netns_tests::Node;
use netloom_test_support::{Netns, until};

use super::await_outside;

/// Joins a node to a host outside that does not know the pools.
fn join(node: &Node) -> Netns {
    let outside = Netns::new("outside");
    node.netns.link("198.51.100.1/24").named("eth9").to(&outside, "198.51.100.2/24");
    node.netns.ip(&["route", "add", "default", "via", "198.51.100.2"]);
    node.netns.add_address("eth9", "2001:db8:9::1/64");
    outside.add_address("eth9", "2001:db8:9::2/64");
    node.netns.ip(&["-6", "route", "add", "default", "via", "2001:db8:9::2"]);
    outside
}

fn masquerades(outside: &Outside) -> bool {
    outside.masquerade.off.is_none()
}

fn sysctl(netns: &Netns, key: &str) -> String {
    netns.command(&["sysctl", "-n", key]).expect_ok().trim().to_owned()
}

const FORWARDING: &str = "net.ipv4.conf.eth9.forwarding";

#[test]
fn without_configuration_an_endpoint_reaches_who_does_not_know_it() {
    let mut node = Node::start();
    let _ = node.netns.command(&["sysctl", "-qw", "net.ipv4.conf.all.forwarding=0"]).expect_ok();
    let outside = join(&node);
    let _ = node.netns.command(&["sysctl", "-qw", &format!("{FORWARDING}=0")]).expect_ok();
    let web = node.endpoint("web");
    await_outside(&node, masquerades);
    let reached = || {
        web.netns.can_ping([198, 51, 100, 2])
            && web.netns.can_ping("2001:db8:9::2".parse::<std::net::IpAddr>().unwrap())
    };
    until(reached, |reached| *reached);
    assert_eq!(sysctl(&node.netns, FORWARDING), "1");
    let datagrams = outside.udp_echo("198.51.100.2:7000");
    assert_eq!(web.netns.connect_udp(datagrams.address()).exchange("hello"), "hello");
    let server = outside.tcp_echo("[2001:db8:9::2]:7000");
    assert_eq!(web.netns.connect_tcp(server.address()).exchange("hello"), "hello");
    let shown = node.daemon.netloom(&["status"]).expect_ok();
    assert!(shown.contains("from 10.210.0.0/16, fd6e:6c00::/112, but not to"), "{shown}");

    // It goes on without a daemon, and ends with it.
    node.daemon.stop();
    assert!(reached());
    node.daemon.restart();
    await_outside(&node, masquerades);
    drop(web);
    let Node { daemon, netns, .. } = node;
    // Which has it clean up.
    drop(daemon);
    assert!(!netns.command(&["nft", "list", "tables"]).stdout.contains("netloom"));
    assert_eq!(sysctl(&netns, FORWARDING), "0");
    let routes = netns.command(&["ip", "route", "show", "type", "unreachable"]).stdout;
    assert!(routes.is_empty(), "{routes}");
}

#[test]
fn between_endpoints_and_to_native_prefixes_nothing_is_masqueraded() {
    let node = Node::configured("[datapath]\nnative = [\"198.51.100.0/24\"]\n");
    let outside = join(&node);
    outside.ip(&["route", "add", "10.210.0.0/16", "via", "198.51.100.1"]);
    let (web, other) = (node.endpoint("web"), node.endpoint("other"));
    let told = await_outside(&node, masquerades);
    assert_eq!(told.uplinks, ["eth9"], "it goes past the node's stack: {told:?}");
    assert!(web.netns.can_ping([198, 51, 100, 2]));
    assert!(outside.can_ping(web.v4()), "connections from there come in as they are");
    assert!(web.netns.can_ping(other.v4()));
    let table = node.netns.command(&["nft", "list", "ruleset"]).expect_ok();
    assert!(table.contains("10.210.0.0/16 to 198.51.100.0/24 keeps its address"), "{table}");
}

#[test]
fn the_table_is_made_anew_where_others_change_it_and_theirs_is_left_alone() {
    let node = Node::start();
    let outside = join(&node);
    let web = node.endpoint("web");
    await_outside(&node, masquerades);
    let table = node.netns.command(&["nft", "list", "tables"]).stdout;
    let name = table.lines().find_map(|line| line.strip_prefix("table inet ")).unwrap().to_owned();
    for change in [format!("flush chain inet {name} postrouting"), format!("delete table inet {name}")] {
        let _ = node.netns.command(&["nft", &change]).expect_ok();
        // Rules are no announcement: they are looked at from time to time.
        let there = || node.netns.command(&["nft", "list", "ruleset"]).stdout;
        until(there, |ruleset| ruleset.contains("is masqueraded"));
        until(|| web.netns.can_ping([198, 51, 100, 2]), |reached| *reached);
    }
    drop(outside);
    let other = Node::configured("[datapath]\nmasquerade = false\n");
    let told = until(|| other.status().outside, |outside| outside.masquerade.off.is_some());
    assert_eq!(told.masquerade.off.as_deref(), Some("datapath.masquerade says so"));
}

#[test]
fn a_firewall_that_drops_what_is_forwarded_is_an_error_with_the_way_out() {
    let node = Node::start();
    let _outside = join(&node);
    let web = node.endpoint("web");
    await_outside(&node, masquerades);
    let gate = "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop;\n}\n}";
    let _ = node.netns.command(&["nft", gate]).expect_ok();
    let refused = || {
        let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
        doctor.findings.into_iter().find(|finding| finding.subject.contains("ip filter FORWARD"))
    };
    let told = until(refused, Option::is_some).unwrap();
    assert_eq!(told.severity, "error");
    assert!(!web.netns.can_ping([198, 51, 100, 2]));
    for command in told.hint.split("; ") {
        let words: Vec<&str> = command.split(' ').map(|word| word.trim_matches('"')).collect();
        let _ = node.netns.command(&words).expect_ok();
    }
    until(refused, Option::is_none);
    assert!(web.netns.can_ping([198, 51, 100, 2]));
}
