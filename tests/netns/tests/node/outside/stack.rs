//! What the node's stack has a say in goes through it.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use netloom_api::types::{Doctor, LocalWay};
use netloom_netns_tests::{Endpoint, Node};
use netloom_test_support::{Netns, at_this_pace, until};

use super::{NATIVE, await_outside, by_eth9, join};

/// What closes a block begins a line.
fn nft(node: &Node, rules: &str) {
    let rules = rules.replace("; }", "\n}").replace("} }", "}\n}");
    let _ = node.netns.command(&["nft", &rules]).expect_ok();
}

/// Packets that the node's stack has forwarded, of both families.
fn forwarded(node: &Node) -> u64 {
    let v4 = node.netns.command(&["cat", "/proc/net/snmp"]).stdout;
    let v4 = v4.lines().filter(|line| line.starts_with("Ip:")).nth(1).unwrap().split(' ').nth(6).unwrap();
    let v6 = node.netns.command(&["cat", "/proc/net/snmp6"]).stdout;
    let v6 = v6.lines().find(|line| line.starts_with("Ip6OutForwDatagrams")).unwrap();
    let v6 = v6.split_whitespace().nth(1).unwrap();
    v4.parse::<u64>().unwrap() + v6.parse::<u64>().unwrap()
}

fn await_local(node: &Node, what: impl Fn(&LocalWay) -> bool) -> LocalWay {
    until(|| node.status().local, what)
}

/// A node with two endpoints, that forwards both families.
struct Two {
    node: Node,
    client: Endpoint,
    server: Endpoint,
}

impl Two {
    fn start() -> Self {
        let node = Node::start();
        let (client, server) = (node.endpoint("client"), node.endpoint("server"));
        let _ = node.netns.command(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]).expect_ok();
        Self { node, client, server }
    }

    /// Whether an exchange goes through the node's stack.
    fn goes_by_stack(&self, to: IpAddr) -> bool {
        let before = forwarded(&self.node);
        assert!(self.client.netns.can_ping(to), "{}", self.node.daemon.log());
        forwarded(&self.node) != before
    }
}

#[test]
fn a_flow_that_is_translated_between_endpoints_comes_back_the_way_it_went() {
    let it = Two::start();
    let (v4, v6) = (it.server.v4(), it.server.v6());
    let of = |address: IpAddr, port| SocketAddr::new(address, port).to_string();
    let servers = [v4, v6].map(|to| it.server.netns.tcp_echo(&of(to, 7000)));
    let datagrams = [v4, v6].map(|to| it.server.netns.udp_echo(&of(to, 7000)));
    nft(
        &it.node,
        &format!(
            "table inet proxy {{ chain services {{ type nat hook prerouting priority dstnat;
                ip daddr 10.96.0.10 meta l4proto {{ tcp, udp }} dnat ip to {v4};
                ip6 daddr fd96::10 meta l4proto {{ tcp, udp }} dnat ip6 to {v6};
            }} }}"
        ),
    );
    let told = await_local(&it.node, |local| local.translated_by.is_some());
    assert_eq!(told.through_stack, None);
    assert_eq!(told.translated_by.as_deref(), Some("the nftables chain inet proxy services"));
    let shown = it.node.daemon.netloom(&["status"]).expect_ok();
    assert!(
        shown.contains("but for flows that the nftables chain inet proxy services translates"),
        "{shown}"
    );

    for vip in ["10.96.0.10:7000", "[fd96::10]:7000"] {
        let vip: SocketAddr = vip.parse().unwrap();
        let mut connection = it.client.netns.connect_tcp(vip);
        let text = "x".repeat(20_000);
        for _ in 0..3 {
            assert_eq!(connection.exchange(&text), text, "{vip}");
        }
        let mut query = it.client.netns.connect_udp(vip);
        for _ in 0..3 {
            assert_eq!(query.exchange("hello"), "hello", "{vip}");
        }
    }
    drop((servers, datagrams));
}

#[test]
fn a_flow_that_nobody_translates_passes_the_stack_by_once_it_is_known() {
    let it = Two::start();
    nft(
        &it.node,
        "table ip nat { chain out { type nat hook postrouting priority srcnat; ip daddr 203.0.113.1 masquerade; } }",
    );
    await_local(&it.node, |local| local.translated_by.is_some());
    for to in [it.server.v4(), it.server.v6()] {
        let to = SocketAddr::new(to, 7000).to_string();
        let server = it.server.netns.tcp_echo(&to);
        let mut connection = it.client.netns.connect_tcp(server.address());
        let datagrams = it.server.netns.udp_echo(&to);
        let mut query = it.client.netns.connect_udp(datagrams.address());
        // Now and then one goes through the stack, to be remembered there.
        let mut passes_by = || {
            let before = forwarded(&it.node);
            for _ in 0..4 {
                assert_eq!(connection.exchange("hello"), "hello");
                assert_eq!(query.exchange("hello"), "hello");
            }
            forwarded(&it.node) == before
        };
        until(&mut passes_by, |passes_by| *passes_by);
    }
    assert!(it.goes_by_stack(it.server.v4()), "of other protocols it is not known");
    nft(&it.node, "delete table ip nat");
    await_local(&it.node, |local| local.translated_by.is_none());
    assert!(!it.goes_by_stack(it.server.v4()));
}

#[test]
fn a_filter_for_forwarded_packets_decides_between_endpoints_too() {
    let it = Two::start();
    let (v4, v6) = (it.server.v4(), it.server.v6());
    assert!(!it.goes_by_stack(v4) && !it.goes_by_stack(v6));
    // Answers of before are translated back, and others dropped: each has to be seen.
    for (family, hook) in [("inet", "forward"), ("ip", "prerouting"), ("ip", "postrouting")] {
        let why = format!("the nftables chain {family} fw gate has a say in what is forwarded");
        nft(
            &it.node,
            &format!(
                "table {family} fw {{ chain gate {{ type filter hook {hook} priority 0; ip daddr {v4} counter drop; }} }}"
            ),
        );
        let told = await_local(&it.node, |local| local.through_stack.is_some());
        assert_eq!(told.through_stack, Some(why));
        assert!(!it.client.netns.can_ping(v4), "{family} {hook} is passed by");
        assert!(it.goes_by_stack(v6));
        nft(&it.node, &format!("delete table {family} fw"));
        await_local(&it.node, |local| local.through_stack.is_none());
        assert!(!it.goes_by_stack(v4) && !it.goes_by_stack(v6));
    }
}

#[test]
fn a_rule_takes_effect_soon_also_for_what_flows_already() {
    let it = Two::start();
    let server = it.server.netns.udp_echo(&format!("{}:7000", it.server.v4()));
    let mut query = it.client.netns.connect_udp(server.address());
    assert_eq!(query.exchange("hello"), "hello");
    let before = forwarded(&it.node);
    nft(&it.node, "table ip fw { chain gate { type filter hook forward priority 0; policy accept; } }");
    let committed = Instant::now();
    while forwarded(&it.node) == before {
        assert_eq!(query.exchange("hello"), "hello");
        assert!(committed.elapsed() < at_this_pace(Duration::from_secs(10)), "it passes the rule by");
    }
    println!("from the commit of a rule to its effect: {:.1} ms", committed.elapsed().as_secs_f64() * 1e3);
}

#[test]
fn an_ipsec_policy_is_respected() {
    let it = Two::start();
    let (from, to) = (it.client.v4().to_string(), it.server.v4().to_string());
    let policy = |verb: &'static str| {
        it.node.netns.ip(&["xfrm", "policy", verb, "src", &from, "dst", &to, "dir", "fwd"]);
    };
    it.node.netns.ip(&[
        "xfrm", "policy", "add", "src", &from, "dst", &to, "dir", "fwd", "action", "block", "priority", "1",
    ]);
    let told = await_local(&it.node, |local| local.through_stack.is_some());
    let why = "an IPsec policy for what is forwarded has a say in what is forwarded";
    assert_eq!(told.through_stack.as_deref(), Some(why));
    assert!(!it.client.netns.can_ping(it.server.v4()), "the policy is passed by");
    policy("delete");
    await_local(&it.node, |local| local.through_stack.is_none());
    assert!(!it.goes_by_stack(it.server.v4()));
}

#[test]
fn a_routing_rule_that_looks_at_ports_is_followed() {
    let node = Node::configured(NATIVE);
    let (outside, elsewhere) = (Netns::new("outside"), Netns::new("elsewhere"));
    join(&node, &outside);
    node.netns.link("203.0.113.1/24").named("eth8").to(&elsewhere, "203.0.113.2/24");
    for far in [&outside, &elsewhere] {
        far.ip(&["address", "add", "192.0.2.77/32", "dev", "lo"]);
    }
    elsewhere.ip(&["route", "add", "10.210.0.0/16", "via", "203.0.113.1"]);
    let web = node.endpoint("web");
    await_outside(&node, by_eth9);
    let asked = "192.0.2.77:53";
    let by_rule = elsewhere.count_datagrams(asked);
    node.netns.ip(&["route", "add", "default", "via", "203.0.113.2", "table", "200"]);
    node.netns.ip(&["rule", "add", "ipproto", "17", "dport", "53", "lookup", "200", "priority", "100"]);
    let told = await_outside(&node, |outside| outside.through_stack.is_some());
    let why = "the routing rule 100 looks at more than addresses has a say in what is forwarded";
    assert_eq!(told.through_stack.as_deref(), Some(why));
    let sender = web.netns.send_datagrams(asked.parse().unwrap(), Duration::from_millis(20));
    until(|| by_rule.arrived(), |arrived| *arrived > 0);
    let _ = sender.stop();
    node.netns.ip(&["rule", "delete", "priority", "100"]);
    await_outside(&node, by_eth9);
}

#[test]
fn what_queues_at_an_endpoints_device_sees_its_packets_and_not_those_of_others() {
    let it = Two::start();
    let other = it.node.endpoint("other");
    let device = it.server.device().to_owned();
    it.node.netns.tc(&["qdisc", "add", "dev", &device, "root", "handle", "7:", "pfifo", "limit", "1000"]);
    let why = format!("{device} has the qdisc pfifo");
    let told = await_local(&it.node, |local| !local.endpoints.is_empty());
    let endpoints: Vec<_> = told.endpoints.iter().map(|(name, why)| (name.as_str(), why.clone())).collect();
    assert_eq!(endpoints, [("server", why.clone())]);
    assert!(it.goes_by_stack(it.server.v4()));
    let before = forwarded(&it.node);
    assert!(it.client.netns.can_ping(other.v4()));
    assert_eq!(forwarded(&it.node), before, "the others go on past the stack");
    let doctor: Doctor = it.node.daemon.get("/v1/doctor").unwrap();
    assert!(doctor.findings.iter().any(|finding| finding.message.contains(&why)), "{doctor:?}");
    it.node.netns.tc(&["qdisc", "delete", "dev", &device, "root"]);
    await_local(&it.node, |local| local.endpoints.is_empty());
    assert!(!it.goes_by_stack(it.server.v4()));
}

#[test]
fn what_is_for_an_address_that_nobody_has_ends_at_the_node() {
    let node = Node::configured(NATIVE);
    let outside = Netns::new("outside");
    join(&node, &outside);
    let web = node.endpoint("web");
    await_outside(&node, by_eth9);
    let _ = outside.command(&["sysctl", "-qw", "net.ipv4.conf.all.forwarding=1"]).expect_ok();
    let nobody = "10.210.77.7";
    let pinged = outside.command(&["ping", "-c", "1", "-W", "5", nobody]);
    assert!(pinged.stdout.contains("Unreachable"), "{pinged:?}");
    let pinged = web.netns.command(&["ping", "-c", "1", "-W", "5", nobody]);
    assert!(pinged.stdout.contains("Unreachable"), "{pinged:?}");
    let v6 = node.netns.command(&["ip", "-6", "route", "show", "fd6e:6c00::/112", "type", "unreachable"]);
    assert!(v6.stdout.contains("unreachable fd6e:6c00::/112"), "{v6:?}");
}
