//! Taking an endpoint from one device mode to another while it lives, beside one that stays what it was.

use std::{fs, net::SocketAddr};

use netloom_api::{
    ClientError,
    types::{EndpointMigrated, EndpointView},
};
use netloom_core::model::DeviceMode;
use netloom_test_support::Kills;
use serde_json::{Value, json};

use netloom_netns_tests::{Endpoint, Node, ObjectFile, on_modes, refusal};

on_modes!(a_migration_that_dies_is_undone_or_finished_at_every_step);

const SYSCTL: &str = "/proc/sys/net/ipv4/conf/eth0/arp_announce";

fn migrate(node: &Node, request: &Value) -> Result<EndpointMigrated, ClientError> {
    node.daemon.post("/v1/endpoints/web/migrate", request)
}

fn shown(node: &Node) -> EndpointView {
    node.endpoints().into_iter().find(|view| view.endpoint.spec.name.as_str() == "web").unwrap()
}

/// To another pair and back; without netkit there is only another hardware address to ask for.
fn ways(web: &Endpoint) -> Vec<Value> {
    if web.view.endpoint.mode.device.is_netkit() {
        ["veth", "netkit-l2", "netkit"].map(|mode| json!({ "mode": mode })).into()
    } else {
        [7, 8].map(|last| json!({ "mode": "veth", "mac": format!("02:00:00:00:00:0{last}") })).into()
    }
}

/// Everybody reaches it, it reaches everybody, and there is nothing else of it.
fn check(node: &Node, web: &Endpoint, other: &Endpoint, context: &str) {
    for (from, to) in [(&web.netns, other), (&other.netns, web), (&node.netns, web)] {
        for address in [to.v4(), to.v6()] {
            assert!(from.can_ping(address), "{context}: {} does not reach {address}", from.name());
        }
    }
    assert!(web.netns.can_ping([192, 0, 2, 1]), "{context}: the node is not reached");
    assert_eq!(web.netns.ip(&["-o", "link"]).lines().count(), 2, "{context}: lo and eth0");
    let traces = node.traces();
    assert_eq!(traces.iter().filter(|trace| trace.contains("nlweb")).count(), 1, "{context}: {traces:?}");
    let pins = fs::read_dir(node.daemon.paths().bpffs.join("endpoints/web")).unwrap().count();
    assert_eq!(pins, 2, "{context}: pins");
}

#[test]
fn an_endpoint_goes_from_mode_to_mode_and_keeps_all_but_its_pair() {
    let node = Node::start();
    let (web, other) = (node.endpoint("web"), node.endpoint("other"));
    // Both: packets that may not fit the other's link are the node's stack's, which need not forward IPv6.
    for name in ["web", "other"] {
        let route = format!("/v1/endpoints/{name}");
        let changed: Value = node.daemon.patch(&route, &json!({ "mtu": 1_400 })).unwrap();
        assert_eq!(changed["mode"]["mtu"], 1_400);
    }
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    let request = json!({ "device": web.device(), "object": object.path(), "owner": "acme/watch" });
    let mut attachment = node.attach(request).unwrap().attachment.id;
    web.netns.ip(&["route", "add", "203.0.113.0/24", "dev", "eth0", "metric", "77"]);
    web.netns.run(|| fs::write(SYSCTL, "2")).unwrap();
    let echo = web.netns.tcp_echo("[::]:0");
    let port = echo.address().port();
    let mut streams = [web.v4(), web.v6()].map(|ip| other.netns.connect_tcp(SocketAddr::new(ip, port)));

    for way in ways(&web) {
        let context = way.to_string();
        for stream in &mut streams {
            stream.exchange("before");
        }
        let before = shown(&node);
        let migrated = migrate(&node, &way).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        println!("{context}: {} us without a path", migrated.gap_us);
        let after = &migrated.endpoint;
        assert!(migrated.gap_us > 0 && migrated.warnings.is_empty(), "{context}: {:?}", migrated.warnings);
        assert_eq!(migrated.from, before.endpoint.mode.device);
        assert_eq!(after.endpoint.mode.device.as_str(), way["mode"]);
        assert_eq!((after.endpoint.id, after.endpoint.mode.mtu), (before.endpoint.id, 1_400));
        assert!(after.counters.sent_packets >= before.counters.sent_packets, "{context}: counts anew");
        check(&node, &web, &other, &context);
        for stream in &mut streams {
            assert_eq!(stream.exchange("after"), "after", "{context}");
        }

        let link = web.netns.ip(&["link", "show", "eth0"]);
        assert!(link.contains("mtu 1400"), "{context}: {link}");
        let routes = web.netns.ip(&["route"]);
        let kept = routes.lines().find(|line| line.contains("203.0.113.0/24"));
        assert!(kept.is_some_and(|line| line.contains("metric 77")), "{context}: {routes}");
        assert_eq!(web.netns.run(|| fs::read_to_string(SYSCTL)).unwrap().trim(), "2", "{context}");
        // The other's program went along, and has another id.
        let [moved] = &migrated.attachments[..] else { panic!("{context}: {:?}", migrated.attachments) };
        assert_eq!(moved.was, attachment);
        attachment.clone_from(&moved.id);
        let chains = node.chains(&after.endpoint.host_interface);
        let mut on_device = chains.iter().flat_map(|chain| &chain.entries).map(|entry| &entry.attachment);
        assert!(on_device.any(|id| id.as_deref() == Some(&attachment)), "{context}: {chains:?}");
    }
    assert!(!node.daemon.log().contains("a clean-up step failed"));
    node.delete("web").unwrap();
    assert!(!node.traces().iter().any(|trace| trace.contains("web")), "{:?}", node.traces());
}

#[test]
fn a_mode_that_it_has_and_one_that_cannot_be_are_refused() {
    let node = Node::start();
    let web = node.endpoint("web");
    let mode = web.view.endpoint.mode.device;
    let (status, error, _) = refusal(migrate(&node, &json!({ "mode": mode.as_str() })));
    assert!(status == 409 && error.contains(&format!("is on {mode} already")), "{status} {error}");
    let (_, error, hint) = refusal(migrate(&node, &json!({ "mode": "netkit", "mac": "02:00:00:00:00:07" })));
    assert!(error.contains("02:00:00:00:00:07") && hint.contains("netkit-l2"), "{error} {hint}");
    if mode == DeviceMode::Veth {
        let (_, error, hint) = refusal(migrate(&node, &json!({ "mode": "netkit-l2" })));
        assert!(error.contains("no netkit") && hint.contains("6.7"), "{error} {hint}");
    }
    // One of many stations.
    let (_, error, _) = refusal(migrate(&node, &json!({ "mode": "veth", "mac": "03:00:00:00:00:07" })));
    assert!(error.contains("03:00:00:00:00:07") && error.contains(&format!("stays on {mode}")), "{error}");
    assert!(node.netns.can_ping(web.v4()));
    assert_eq!(node.endpoints()[0].endpoint, web.view.endpoint);
}

fn a_migration_that_dies_is_undone_or_finished_at_every_step(from: DeviceMode) {
    // The sixth ends the switch; what comes after it is the old pair's removal.
    const SWITCHED: usize = 6;
    const STEPS: usize = 9;
    // Where a start takes seconds: every step of netkit, and of the others one on each side.
    let emulated = match from {
        DeviceMode::Netkit => (1..=STEPS).collect(),
        DeviceMode::Veth | DeviceMode::NetkitL2 => vec![SWITCHED - 1, SWITCHED + 1],
    };
    let mut kills =
        Kills::of(format!("taking an endpoint from {from} to another pair"), STEPS).emulated_only(emulated);
    let mut node = Node::start();
    let (web, other) = (node.endpoint_on("web", from), node.endpoint("other"));
    let netkit = other.view.endpoint.mode.device.is_netkit();
    while let Some(step) = kills.next_step() {
        let before = shown(&node);
        let way = other_mode(&before, netkit, step);
        node.daemon.crash_after(step);
        let migrated = migrate(&node, &way);
        if !kills.killed(&mut node.daemon, migrated) {
            break;
        }
        let recovered = node.status().adoption.recovered;
        assert!(recovered.iter().any(|what| what.contains("web")), "step {step}: {recovered:?}");
        let after = shown(&node);
        if step <= SWITCHED {
            assert_eq!(before.endpoint, after.endpoint, "step {step} of {way}");
        } else {
            assert_eq!(after.endpoint.mode.device.as_str(), way["mode"], "step {step}");
            assert_ne!(after.endpoint.host_ifindex, before.endpoint.host_ifindex, "step {step} of {way}");
        }
        check(&node, &web, &other, &format!("step {step} of {way}"));
    }
    kills.check();
}

/// Another mode than it has, in turn; without netkit another hardware address is all that there is.
fn other_mode(view: &EndpointView, netkit: bool, turn: usize) -> Value {
    let present = view.endpoint.mode.device;
    if !netkit {
        return json!({ "mode": present, "mac": format!("02:00:00:00:01:{turn:02}") });
    }
    let modes = [DeviceMode::Veth, DeviceMode::Netkit, DeviceMode::NetkitL2];
    let others: Vec<DeviceMode> = modes.into_iter().filter(|mode| *mode != present).collect();
    json!({ "mode": others[turn % others.len()] })
}
