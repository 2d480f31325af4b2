//! netfilter rules for forwarded packets, which the way past the node's stack must not pass by.

use std::time::{Duration, Instant};

use netloom_netns_tests::{Endpoint, Node};
use netloom_test_support::{Netns, at_this_pace};

use super::{NATIVE, await_outside, by_eth9, join, reach};

fn nft(node: &Node, rules: &str) {
    let _ = node.netns.command(&["nft", rules]).expect_ok();
}

/// A node between an endpoint and a host outside.
struct Between {
    node: Node,
    web: Endpoint,
    outside: Netns,
}

impl Between {
    fn with(config: &str) -> Self {
        let node = Node::configured(&format!("{NATIVE}{config}"));
        let outside = Netns::new("outside");
        join(&node, &outside);
        let web = node.endpoint("web");
        // Where the stack is to forward, it may.
        for device in ["all", "eth9"] {
            let switch = format!("echo 1 >/proc/sys/net/ipv4/conf/{device}/forwarding");
            assert!(node.netns.command(&["sh", "-c", &switch]).ok());
        }
        Self { node, web, outside }
    }

    /// Waits until packets go by the node's stack, or past it. Ways are remembered for a quarter of a second, and what
    /// asks for a neighbour's address goes through the stack.
    fn await_way(&self, by_the_stack: bool) {
        let started = Instant::now();
        while reach(&self.node, &self.web, &self.outside) != by_the_stack {
            let way = self.node.status().outside;
            assert!(started.elapsed() < at_this_pace(Duration::from_secs(10)), "by the other way: {way:?}");
        }
    }

    fn reaches_outside(&self) -> bool {
        self.web.netns.can_ping([198, 51, 100, 2])
    }
}

#[test]
fn a_chain_that_sees_forwarded_packets_is_respected_and_its_removal_brings_the_direct_way_back() {
    let it = Between::with("");
    await_outside(&it.node, by_eth9);
    // What sees nothing that is forwarded is no reason.
    nft(&it.node, "add table inet fw; add chain inet fw local { type filter hook input priority 0; }");
    it.await_way(false);

    nft(&it.node, "add chain inet fw gate { type filter hook forward priority 0; policy accept; }");
    let told = await_outside(&it.node, |outside| outside.through_stack.is_some());
    let why = "the nftables chain inet fw gate has a say in what is forwarded";
    assert_eq!((told.uplinks.len(), told.through_stack.as_deref()), (0, Some(why)));
    let shown = it.node.daemon.netloom(&["status"]).expect_ok();
    assert!(shown.contains(&format!("through the node's stack: {why}")), "{shown}");
    assert!(it.node.chains("eth9").is_empty(), "nothing is left at the uplink");
    it.await_way(true);
    nft(&it.node, "add rule inet fw gate ip daddr 198.51.100.2 drop");
    assert!(!it.reaches_outside(), "a rule that drops is passed by");

    nft(&it.node, "delete table inet fw");
    await_outside(&it.node, by_eth9);
    it.await_way(false);
}

#[test]
fn a_node_that_is_told_to_be_direct_passes_netfilter_by() {
    let it = Between::with("outside = \"direct\"\n");
    nft(
        &it.node,
        "add table ip fw; add chain ip fw gate { type filter hook forward priority 0; policy drop; }",
    );
    let told = await_outside(&it.node, by_eth9);
    assert_eq!(told.through_stack, None);
    // A first packet to a neighbour that is not known goes by the stack, where it is dropped.
    assert!(it.node.netns.can_ping([198, 51, 100, 2]));
    assert!(it.reaches_outside());
    it.await_way(false);
}
