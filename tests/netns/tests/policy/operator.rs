//! `examples/node-operator`, with the grants that come with it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use netloom_netns_tests::{Endpoint, Node};
use netloom_test_support::at_this_pace;

use crate::plugins::Component;

fn mtus(node: &Node, of: &Endpoint) -> (String, String) {
    let mtu = |line: String| line.split("mtu ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let shown =
        |netns: &netloom_test_support::Netns, device: &str| mtu(netns.ip(&["-o", "link", "show", device]));
    (shown(&node.netns, of.device()), shown(&of.netns, "eth0"))
}

#[test]
fn it_keeps_the_mtu_of_endpoints_and_touches_nothing_else() {
    let node = Node::configured("[plugins]\ndeadline_ms = 60000\nhealth_seconds = 1\n");
    let web = node.endpoint("web");
    let component = Component::of("node-operator.wasm", netloom_test_components::NODE_OPERATOR);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/node-operator/grants.toml");
    let grants = example.to_str().unwrap().to_owned();
    let load = |config: &str| {
        let path = component.path();
        let words = [
            "plugin",
            "load",
            &path,
            "--config",
            config,
            "--grant",
            &grants,
            "--limit",
            "init_deadline_ms=60000",
        ];
        node.daemon.netloom(&words)
    };
    let refused = load("mtu=9");
    assert!(
        !refused.ok() && refused.stderr.contains("9 is less than the minimum of 1280"),
        "{}",
        refused.stderr
    );
    let refused = load("mtu=small");
    assert!(!refused.ok() && refused.stderr.contains("at `mtu`"), "{}", refused.stderr);
    let loaded = load("mtu=1400").expect_ok();
    assert!(loaded.contains("devices: mutate nl* in node"), "{loaded}");

    // What came before, and what comes later.
    let db = node.endpoint("db");
    let wanted = ("1400".to_owned(), "1400".to_owned());
    let started = Instant::now();
    while mtus(&node, &web) != wanted || mtus(&node, &db) != wanted {
        let log = node.daemon.log();
        assert!(started.elapsed() < at_this_pace(Duration::from_secs(60)), "{:?}\n{log}", mtus(&node, &db));
        std::thread::sleep(Duration::from_millis(100));
    }
    let audit = node.daemon.netloom(&["plugin", "audit", "node-operator"]).expect_ok();
    assert!(audit.contains("devices.set-mtu") && !audit.contains("denied"), "{audit}");
    let metrics = node.daemon.netloom(&["metrics"]).expect_ok();
    assert!(metrics.contains("netloom_plugin_mtu_set"), "{metrics}");
}
