//! Device pairs of the node's own, a look at any device, and what the node's kernel can do.

use netloom_api::{
    ClientError,
    types::{DeviceView, Done, NodeView},
};
use netloom_core::model::{DeviceMode, Feature, NetkitPolicy, NetkitScrub};
use netloom_test_support::{Netns, require, require_without};
use serde_json::{Value, json};

use netloom_netns_tests::{Node, ObjectFile, refusal};

fn create(node: &Node, request: Value) -> Result<DeviceView, ClientError> {
    node.daemon.post("/v1/devices", &request)
}

fn show(node: &Node, name: &str, netns: Option<&Netns>) -> Result<DeviceView, ClientError> {
    let query = netns.map_or_else(String::new, |netns| format!("?netns={}", netns.path().display()));
    node.daemon.get(&format!("/v1/devices/{name}{query}"))
}

fn delete(node: &Node, name: &str) -> Result<Done, ClientError> {
    node.daemon.delete(&format!("/v1/devices/{name}"))
}

fn pair(netns: &Netns) -> Value {
    json!({
        "name": "up0", "mode": "veth", "peer": "eth7", "peer_netns": netns.path(), "addresses": ["10.7.0.2/24"],
        "mtu": 4_000, "gso_max_size": 50_000, "gro_max_size": 40_000, "tx_queues": 2, "rx_queues": 2,
        "mac": "02:00:00:00:07:01", "peer_mac": "02:00:00:00:07:02", "alias": "to the left",
    })
}

fn links(netns: &Netns) -> String {
    netns.ip(&["-d", "link", "show"])
}

/// The devices' names: whether they have a carrier shows a while after they were made.
fn names(netns: &Netns) -> Vec<String> {
    let shown = netns.ip(&["-brief", "link", "show"]);
    shown.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn a_pair_is_created_shown_changed_and_deleted() {
    let mut node = Node::start();
    let left = Netns::new("left");
    let made = create(&node, pair(&left)).unwrap();
    assert_eq!(made.owner.as_deref(), Some("device up0"));
    let inside = links(&left);
    for word in
        ["eth7", "02:00:00:00:07:02", "mtu 4000", "gso_max_size 50000", "numtxqueues 2", "to the left"]
    {
        assert!(inside.contains(word), "no {word} in {inside}");
    }
    let peer = made.peer.unwrap();
    assert_eq!((peer.device.name.as_str(), peer.device.mtu), ("eth7", 4_000));
    assert_eq!(peer.netns_paths.first(), Some(&left.path()));
    assert!(peer.addresses.contains(&"10.7.0.2/24".parse().unwrap()), "{:?}", peer.addresses);

    // Both ends count the same packets, the other way round.
    node.netns.add_address("up0", "10.7.0.1/24");
    assert!(left.can_ping("10.7.0.1".parse::<std::net::IpAddr>().unwrap()));
    let seen = show(&node, "eth7", Some(&left)).unwrap();
    assert_eq!(seen.owner.as_deref(), Some("device up0"));
    let back = seen.peer.unwrap();
    assert_eq!(back.device.name, "up0");
    assert!(seen.device.stats.tx_packets > 0 && back.device.stats.rx_packets > 0);

    let changed: DeviceView =
        node.daemon.patch("/v1/devices/up0", &json!({ "mtu": 9_000, "up": false })).unwrap();
    assert_eq!((changed.device.mtu, changed.device.up), (9_000, false));
    assert_eq!(changed.peer.unwrap().device.mtu, 9_000);
    node.daemon.kill9();
    node.daemon.restart();
    assert_eq!(show(&node, "up0", None).unwrap().device.mtu, 9_000);

    let text = node.daemon.netloom(&["device", "list"]).expect_ok();
    assert!(text.contains("up0") && text.contains("device up0"), "{text}");
    assert!(node.daemon.netloom(&["device", "set", "up0", "--up"]).ok());
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    node.attach(json!({ "device": "up0", "object": object.path(), "owner": "flows" })).unwrap();
    assert_eq!(delete(&node, "up0").unwrap().warnings, Vec::<String>::new());
    assert!(!links(&node.netns).contains("up0") && !links(&left).contains("eth7"));
    // The watcher, which saw the device go, may be at what was attached to it as well.
    let left = || (node.traces(), node.status().attachments.len());
    let soon = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        left() == (Vec::new(), 0)
    });
    assert!(soon, "{:?}", left());
    assert!(!node.daemon.log().contains("attached anew"), "the watcher waits for the end of it");
}

fn netkit(name: &str, netns: &Netns, more: Value) -> Value {
    let mut request = json!({ "name": name, "mode": "netkit", "peer": "eth7", "peer_netns": netns.path() });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

#[test]
fn a_netkit_pair_has_what_was_asked_for() {
    if !require(Feature::Netkit) {
        return;
    }
    let node = Node::start();
    let left = Netns::new("left");
    let asked = json!({
        "mtu": 8_000, "primary_policy": "forward", "peer_policy": "blackhole", "gso_max_size": 150_000,
        "gro_max_size": 150_000,
    });
    let made = create(&node, netkit("nk0", &left, asked)).unwrap();
    assert_eq!(made.device.mode, Some(DeviceMode::Netkit));
    assert_eq!(made.device.peer_policy, Some(NetkitPolicy::Blackhole));
    let peer = made.peer.unwrap().device;
    assert_eq!((peer.policy, peer.mtu, peer.gso_max_size), (Some(NetkitPolicy::Blackhole), 8_000, 150_000));
    let changed: DeviceView =
        node.daemon.patch("/v1/devices/nk0", &json!({ "peer_policy": "forward", "mtu": 1_500 })).unwrap();
    assert_eq!((changed.device.peer_policy, changed.device.mtu), (Some(NetkitPolicy::Forward), 1_500));
}

#[test]
fn a_netkit_pair_scrubs_as_it_was_asked_to() {
    if !require(Feature::NetkitScrub) {
        return;
    }
    let node = Node::start();
    let left = Netns::new("left");
    let made = create(&node, netkit("nk0", &left, json!({ "scrub": "none" }))).unwrap();
    assert_eq!(made.device.scrub, Some(NetkitScrub::None));
}

#[test]
fn a_netkit_pair_has_headroom() {
    if !require(Feature::NetkitHeadroom) {
        return;
    }
    let node = Node::start();
    let left = Netns::new("left");
    let made = create(&node, netkit("nk0", &left, json!({ "headroom": 64 }))).unwrap();
    assert_eq!(made.device.headroom, Some(64));
}

#[test]
fn headroom_that_a_kernel_ignores_is_refused() {
    if !require(Feature::Netkit) || !require_without(Feature::NetkitHeadroom) {
        return;
    }
    let node = Node::start();
    let left = Netns::new("left");
    let (status, error, _) = refusal(create(&node, netkit("nk0", &left, json!({ "headroom": 64 }))));
    assert!(status == 422 && error.contains("Linux 6.14"), "{status} {error}");
    assert!(!links(&node.netns).contains("nk0"), "half a pair was left behind");
}

#[test]
fn a_kernel_without_netkit_names_the_way_out() {
    if !require_without(Feature::Netkit) {
        return;
    }
    let node = Node::start();
    let request = json!({ "name": "nk0", "mode": "netkit", "peer": "eth7" });
    let (status, error, _) = refusal(create(&node, request));
    assert!(status == 422 && error.contains("CONFIG_NETKIT") && error.contains("veth"), "{status} {error}");
}

#[test]
fn what_cannot_be_made_is_refused_and_nothing_is_left() {
    let node = Node::start();
    let (left, other) = (Netns::new("left"), Netns::new("other"));
    create(&node, pair(&left)).unwrap();
    let before = (names(&node.netns), names(&left));
    let with = |key: &str, value: Value| {
        let mut request = json!({ "name": "up1", "mode": "veth", "peer": "eth8", "peer_netns": left.path() });
        request[key] = value;
        request
    };
    let address = json!(["fd00::7/64"]);
    let mut small = with("mtu", json!(1_000));
    small["addresses"] = address;
    let mut l3 = with("mode", json!("netkit"));
    l3["peer_mac"] = json!("02:00:00:00:00:07");
    for (request, status, word) in [
        (pair(&other), 409, "up0"),
        (with("peer", json!("eth7")), 409, "eth7"),
        (with("peer", json!("lo")), 409, "lo"),
        (with("name", json!("a/b")), 400, "a/b"),
        (with("name", json!("sixteen-bytes-xx")), 400, "sixteen-bytes-xx"),
        (with("peer_netns", json!("/run/netns/nobody")), 400, "nobody"),
        (with("peer_netns", json!("/etc/hostname")), 400, "hostname"),
        (with("mtu", json!(67)), 400, "68"),
        (with("mtu", json!(65_536)), 400, "65535"),
        (small, 400, "IPv6"),
        (with("gso_max_size", json!(1)), 400, "gso-max-size"),
        (with("headroom", json!(64)), 400, "headroom"),
        (with("scrub", json!("none")), 400, "scrub"),
        (with("peer_policy", json!("blackhole")), 400, "polic"),
        (with("peer_mac", json!("01:00:00:00:00:07")), 400, "group"),
        (with("alias", json!("x".repeat(300))), 400, "160"),
        (with("tx_queues", json!(100_000)), 500, "queues"),
        (with("nonsense", json!(1)), 400, "nonsense"),
        (l3, 400, "netkit-l2"),
    ] {
        let (found, error, _) = refusal(create(&node, request.clone()));
        assert!(found == status && error.contains(word), "{request}: {found} {error}");
    }
    assert_eq!(before, (names(&node.netns), names(&left)), "something was left behind");
}

#[test]
fn devices_of_others_are_shown_and_never_touched() {
    let node = Node::start();
    let web = node.endpoint("web");
    node.netns.ip(&["link", "add", "theirs0", "type", "veth", "peer", "name", "theirs1"]);
    let theirs = show(&node, "theirs0", None).unwrap();
    assert_eq!((theirs.owner, theirs.peer.unwrap().device.name), (None, "theirs1".to_owned()));
    let (status, error, hint) = refusal(delete(&node, "theirs0"));
    assert!(status == 409 && error.contains("theirs0") && hint.contains("ip link"), "{error}; {hint}");

    let ours = show(&node, web.device(), None).unwrap();
    assert_eq!(ours.owner.as_deref(), Some("endpoint web"));
    assert_eq!(ours.peer.unwrap().netns_paths.first(), Some(&web.netns.path()));
    let (status, error, hint) = refusal(delete(&node, web.device()));
    assert!(
        status == 409 && error.contains("endpoint web") && hint.contains("endpoint delete web"),
        "{error}"
    );
    let (status, _, hint) = refusal(show(&node, "nothing", None));
    assert!(status == 404 && hint.contains("device list"), "{status} {hint}");
    assert!(links(&node.netns).contains("theirs0"));
}

#[test]
fn a_pair_that_somebody_deleted_is_told_and_forgotten() {
    let mut node = Node::start();
    let left = Netns::new("left");
    create(&node, pair(&left)).unwrap();
    left.ip(&["link", "delete", "eth7"]);
    let (status, _, hint) = refusal(show(&node, "up0", None));
    assert!(status == 404 && hint.contains("device delete up0"), "{status} {hint}");
    let change = node.daemon.patch::<DeviceView>("/v1/devices/up0", &json!({ "mtu": 1_500 }));
    let (status, error, hint) = refusal(change);
    assert!(status == 404 && hint.contains("device delete up0"), "{status} {error} {hint}");
    delete(&node, "up0").unwrap();
    assert_eq!(refusal(delete(&node, "up0")).0, 404);

    create(&node, pair(&left)).unwrap();
    node.daemon.kill9();
    left.ip(&["link", "delete", "eth7"]);
    node.daemon.restart();
    let dropped = node.status().adoption.dropped;
    assert!(dropped.iter().any(|what| what.contains("device up0")), "{dropped:?}");
    create(&node, pair(&left)).unwrap();
}

#[test]
fn a_crash_leaves_no_half_pair_and_a_cleanup_none_at_all() {
    let mut node = Node::start();
    node.daemon.crash_after(1);
    let left = Netns::new("left");
    assert!(create(&node, pair(&left)).is_err());
    node.daemon.restart_after_crash();
    assert!(!links(&node.netns).contains("up0"));
    create(&node, pair(&left)).unwrap();
    // Both ends here: neither is an orphan.
    create(&node, json!({ "name": "here0", "mode": "veth", "peer": "here1" })).unwrap();
    node.daemon.kill9();
    node.daemon.restart();
    let all = links(&node.netns);
    assert!(all.contains("up0") && all.contains("here0") && all.contains("here1"), "{all}");
    let Node { daemon, netns } = node;
    drop(daemon);
    let all = links(&netns);
    assert!(!all.contains("up0") && !all.contains("here0"), "{all}");
}

fn node_view(node: &Node) -> NodeView {
    node.daemon.get("/v1/node").unwrap()
}

#[test]
fn the_node_says_what_its_kernel_can_do_and_what_for() {
    let node = Node::start();
    let view = node_view(&node);
    assert_eq!(view.capabilities.len(), Feature::ALL.len());
    for capability in &view.capabilities {
        let texts = [&capability.detail, &capability.purpose, &capability.brought_by];
        assert!(texts.iter().all(|text| !text.is_empty()), "{capability:?}");
    }
    let text = node.daemon.netloom(&["doctor"]).stdout;
    for capability in &view.capabilities {
        assert!(
            text.contains(capability.feature.as_str()) && text.contains(&capability.brought_by),
            "{text}"
        );
    }
}
