mod kube_proxy;
mod masquerading;
mod netfilter;
mod stack;
mod uplinks;

use netloom_api::types::Outside;
use netloom_netns_tests::{Endpoint, Node};
use netloom_test_support::{Netns, until};

/// Hosts outside know the way to endpoints, which keep their addresses there.
const NATIVE: &str = "[datapath]\nnative = [\"198.51.100.0/24\", \"192.0.2.0/24\", \"2001:db8::/32\"]\n";

/// Joins a node to a host outside, which knows the way to the pools.
fn join(node: &Node, outside: &Netns) {
    node.netns.link("198.51.100.1/24").named("eth9").to(outside, "198.51.100.2/24");
    node.netns.ip(&["route", "add", "default", "via", "198.51.100.2"]);
    outside.ip(&["route", "replace", "10.210.0.0/16", "via", "198.51.100.1"]);
}

fn await_outside(node: &Node, what: impl Fn(&Outside) -> bool) -> Outside {
    until(|| node.status().outside, what)
}

fn by_eth9(outside: &Outside) -> bool {
    outside.uplinks == ["eth9"]
}

fn forwarded(node: &Node) -> String {
    let text = node.netns.command(&["cat", "/proc/net/snmp"]).stdout;
    let values = text.lines().filter(|line| line.starts_with("Ip:")).nth(1).unwrap();
    values.split(' ').nth(6).unwrap().to_owned()
}

fn reach(node: &Node, endpoint: &Endpoint, outside: &Netns) -> bool {
    let before = forwarded(node);
    let address = "198.51.100.2".parse::<std::net::IpAddr>().unwrap();
    assert!(endpoint.netns.can_ping(address), "{}", node.daemon.log());
    assert!(outside.can_ping(endpoint.v4()), "{}", node.daemon.log());
    forwarded(node) != before
}

#[test]
fn packets_to_and_from_outside_pass_the_nodes_stack_by_and_follow_the_uplink() {
    let node = Node::configured(NATIVE);
    let outside = Netns::new("outside");
    let web = node.endpoint("web");
    let before = await_outside(&node, |outside| outside.uplinks.is_empty());
    assert!(before.through_stack.unwrap().contains("no default route"));

    join(&node, &outside);
    await_outside(&node, by_eth9);
    // What asked for the next hop's address went through the stack, which is what is remembered for a moment.
    until(|| reach(&node, &web, &outside), |forwarded| !forwarded);
    let chains = node.chains("eth9");
    assert!(
        chains.iter().any(|chain| chain.entries.iter().any(|entry| entry.name.starts_with("nl_from_uplink")))
    );

    node.netns.ip(&["link", "delete", "eth9"]);
    await_outside(&node, |outside| outside.through_stack.is_some());
    assert!(!node.status().attachments.iter().any(|attachment| attachment.hook.device == "eth9"));
    join(&node, &outside);
    await_outside(&node, by_eth9);
    until(|| reach(&node, &web, &outside), |forwarded| !forwarded);
}

#[test]
fn a_node_whose_stack_is_to_see_everything_keeps_its_uplinks_alone() {
    let mut node = Node::configured(&format!("{NATIVE}outside = \"stack\"\n"));
    let outside = Netns::new("outside");
    join(&node, &outside);
    let web = node.endpoint("web");
    for family in ["ipv4/conf/eth9/forwarding", "ipv4/conf/all/forwarding"] {
        assert!(node.netns.command(&["sh", "-c", &format!("echo 1 >/proc/sys/net/{family}")]).ok());
    }
    assert!(reach(&node, &web, &outside), "the node's stack forwards");
    assert!(node.status().outside.through_stack.unwrap().contains("datapath.outside"));
    assert!(node.chains("eth9").is_empty());
    node.daemon.stop();
    assert!(reach(&node, &web, &outside), "also without a daemon");
}

#[test]
fn a_restart_takes_the_uplink_up_again() {
    let mut node = Node::configured(NATIVE);
    let outside = Netns::new("outside");
    join(&node, &outside);
    await_outside(&node, by_eth9);
    let link = |node: &Node| {
        let attachments = node.status().attachments;
        attachments.iter().find(|attachment| attachment.hook.device == "eth9").unwrap().link
    };
    let before = link(&node);
    node.daemon.kill9();
    node.daemon.restart();
    assert_eq!(node.status().outside.uplinks, ["eth9"]);
    assert_eq!(link(&node), before);
}
