//! Changing an endpoint that runs: both ends or none, and no packet lost, whatever becomes of the daemon.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use netloom_api::{
    ClientError,
    types::{Doctor, EndpointView},
};
use netloom_core::model::{DeviceMode, Feature};
use netloom_test_support::{Kills, UdpReceiver, UdpSender, emulated, require};
use serde_json::{Value, json};

use netloom_netns_tests::{Endpoint, Node, on_modes, refusal};

on_modes!(a_change_up_or_down_is_undone_whole_at_every_step);

/// Larger than a small MTU, so that it goes in fragments, and smaller than a large one.
const DATAGRAM: usize = 4_000;
const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

fn change(node: &Node, name: &str, change: Value) -> Result<EndpointView, ClientError> {
    node.daemon.patch(&format!("/v1/endpoints/{name}"), &change)
}

/// What both ends show.
fn mtus(node: &Node, endpoint: &Endpoint) -> [String; 2] {
    [node.netns.ip(&["link", "show", endpoint.device()]), endpoint.netns.ip(&["link", "show", "eth0"])]
        .map(|shown| shown.split(" mtu ").nth(1).unwrap().split(' ').next().unwrap().to_owned())
}

/// Routes that have an MTU of their own, on either side.
fn held(node: &Node, endpoint: &Endpoint) -> Vec<String> {
    let mut held = Vec::new();
    for family in ["-4", "-6"] {
        for shown in
            [node.netns.ip(&[family, "route", "show"]), endpoint.netns.ip(&[family, "route", "show"])]
        {
            held.extend(shown.lines().filter(|line| line.contains(" mtu ")).map(str::to_owned));
        }
    }
    held
}

/// Large datagrams between the node and an endpoint, in both directions and families.
struct Traffic(Vec<(UdpReceiver, UdpSender)>);

impl Traffic {
    fn start(node: &Node, endpoint: &Endpoint) -> Self {
        let interval = Duration::from_millis(1);
        let mut streams = Vec::new();
        for (inside, outside) in [endpoint.v4(), endpoint.v6()].into_iter().zip(NODE) {
            let outside: IpAddr = outside.parse().unwrap();
            for (from, to, address) in
                [(&node.netns, &endpoint.netns, inside), (&endpoint.netns, &node.netns, outside)]
            {
                let receiver = to.count_datagrams(&SocketAddr::new(address, 7_000).to_string());
                let sender = from.send_large_datagrams(receiver.address(), interval, DATAGRAM);
                streams.push((receiver, sender));
            }
        }
        Self(streams)
    }

    #[track_caller]
    fn check(self) {
        for (receiver, sender) in self.0 {
            let to = receiver.address();
            let arrivals = receiver.compare(sender.stop(), Duration::from_secs(10));
            assert!(arrivals.sent > 10, "hardly anything was sent to {to}");
            assert_eq!((arrivals.lost, arrivals.duplicated), (0, 0), "of {} to {to}", arrivals.sent);
        }
    }
}

#[test]
fn both_ends_change_under_traffic_and_nothing_is_lost() {
    let node = Node::start();
    let (web, other) = (node.endpoint("web"), node.endpoint("other"));
    drop(node.netns.command(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]));
    let echo = web.netns.tcp_echo(&format!("{}:8080", web.v4()));
    let mut connections = [node.netns.connect_tcp(echo.address()), other.netns.connect_tcp(echo.address())];
    let traffic = Traffic::start(&node, &web);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for connection in &mut connections {
            scope.spawn(|| {
                let text: String = (0..60_000_u32).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
                while !stop.load(Ordering::Relaxed) {
                    assert!(connection.exchange(&text) == text, "the transfer was garbled");
                    if emulated() {
                        // One CPU does both ends and the daemon.
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            });
        }
        for (mtu, gso) in
            [(9_000, 120_000), (1_500, 65_536), (1_280, 30_000), (65_535, 190_000), (1_500, 65_536)]
        {
            let asked = json!({ "mtu": mtu, "gso_max_size": gso, "gro_max_size": gso });
            let view = change(&node, "web", asked).unwrap();
            assert_eq!(view.endpoint.mode.mtu, mtu);
            assert_eq!(mtus(&node, &web), [mtu.to_string(), mtu.to_string()]);
            let device = view.device.unwrap();
            assert_eq!((device.gso_max_size, device.gro_max_size), (gso, gso));
            assert_eq!(held(&node, &web), Vec::<String>::new());
            let inside = web.netns.ip(&["-d", "link", "show", "eth0"]);
            assert!(inside.contains(&format!("gso_max_size {gso}")), "{inside}");
            thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
    });
    traffic.check();
    // The others hear of it: what fits goes on past the node's stack, what does not through it.
    change(&node, "web", json!({ "mtu": 4_500 })).unwrap();
    let big = other.netns.command(&["ping", "-c", "1", "-W", "20", "-s", "6000", &web.v4().to_string()]);
    assert!(big.ok(), "{}", big.stdout);
    let status = node.status();
    assert!(status.attachments.iter().all(|attachment| attachment.program.0 > 0));
    assert!(node.daemon.netloom(&["doctor"]).ok(), "{}", node.daemon.netloom(&["doctor"]).stdout);
}

#[test]
fn policies_change_and_are_recorded() {
    if !require(Feature::NetkitLinks) {
        return;
    }
    let mut node = Node::start();
    let web = node.endpoint("web");
    let view = change(&node, "web", json!({ "primary_policy": "blackhole" })).unwrap();
    assert_eq!(serde_json::to_value(&view).unwrap()["device"]["policy"], "blackhole");
    // Programs decide before the policy does.
    assert!(web.netns.can_ping(NODE[0].parse::<IpAddr>().unwrap()));
    node.daemon.kill9();
    node.daemon.restart();
    let mode = serde_json::to_value(&node.endpoints()[0].endpoint.mode).unwrap();
    assert_eq!((&mode["primary_policy"], &mode["peer_policy"]), (&json!("blackhole"), &json!("blackhole")));
}

fn a_change_up_or_down_is_undone_whole_at_every_step(mode: DeviceMode) {
    let mut node = Node::start();
    let web = node.endpoint_on("web", mode);
    for (from, to) in [(1_500, 9_000), (9_000, 1_400)] {
        let before = [from.to_string(), from.to_string()];
        if from != 1_500 {
            change(&node, "web", json!({ "mtu": from })).unwrap();
        }
        // Where a start takes seconds: every step, up or down on one of netkit's modes, and the other way on the other.
        let emulated: &[usize] = match (mode, to > from) {
            (DeviceMode::Netkit, true) | (DeviceMode::NetkitL2, false) => &[1, 3, 5],
            (DeviceMode::Netkit, false) | (DeviceMode::NetkitL2, true) => &[2, 4],
            (DeviceMode::Veth, up) => &[if up { 2 } else { 3 }],
        };
        let what = format!("a change of the MTU on {mode} from {from} to {to}");
        let mut kills = Kills::of(what, 5).emulated_only(emulated.iter().copied());
        while let Some(step) = kills.next_step() {
            node.daemon.crash_after(step);
            let traffic = Traffic::start(&node, &web);
            let changed = change(&node, "web", json!({ "mtu": to, "gso_max_size": 120_000 }));
            let killed = kills.killed(&mut node.daemon, changed);
            assert_eq!(held(&node, &web), Vec::<String>::new(), "after step {step} from {from} to {to}");
            traffic.check();
            if !killed {
                assert_eq!(mtus(&node, &web), [to.to_string(), to.to_string()]);
                break;
            }
            assert_eq!(mtus(&node, &web), before, "after step {step} from {from} to {to}");
            assert_eq!(node.endpoints()[0].endpoint.mode.mtu, from, "after step {step}");
            let recovered = node.status().adoption.recovered;
            assert!(recovered.iter().any(|what| what.contains("change endpoint web")), "{recovered:?}");
        }
        kills.check();
    }
}

#[test]
fn an_end_that_somebody_else_changed_is_found_and_brought_back() {
    let node = Node::configured("endpoints.mend = \"none\"");
    let web = node.endpoint("web");
    let drift = || -> Vec<String> {
        let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
        let found = doctor.findings.into_iter().filter(|finding| finding.message.contains("MTU"));
        found.map(|finding| format!("{}; {}", finding.message, finding.hint)).collect()
    };
    assert_eq!(drift(), Vec::<String>::new());
    web.netns.ip(&["link", "set", "eth0", "mtu", "1400"]);
    let found = drift();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("the MTU of its device inside is 1400 instead of 1500"), "{found:?}");
    let hint = found[0].split("; netloom ").nth(1).unwrap();
    assert!(node.daemon.netloom(&hint.split(' ').collect::<Vec<_>>()).ok());
    assert_eq!(mtus(&node, &web), ["1500", "1500"]);
    assert_eq!(drift(), Vec::<String>::new());
}

#[test]
fn on_legacy_tc_both_ends_change_and_the_datapath_follows() {
    if !require(Feature::LegacyTc) {
        return;
    }
    let node = Node::configured("attachments.mode = \"tc\"");
    let (web, other) = (node.endpoint("web"), node.endpoint("other"));
    let programs = |node: &Node| -> Vec<_> {
        let attachments = node.status().attachments.into_iter();
        attachments.map(|own| (own.id, own.hook.point, own.filter, own.program)).collect()
    };
    let before = programs(&node);
    let traffic = Traffic::start(&node, &web);
    change(&node, "web", json!({ "mtu": 9_000 })).unwrap();
    assert_eq!(mtus(&node, &web), ["9000", "9000"]);
    traffic.check();
    let after = programs(&node);
    let places =
        |all: &[(String, _, _, _)]| all.iter().map(|own| (own.0.clone(), own.1, own.2)).collect::<Vec<_>>();
    assert_eq!(places(&after), places(&before), "each is where it was");
    let replaced = |at: usize| before[at].3 != after[at].3;
    for at in 0..before.len() {
        assert_eq!(replaced(at), before[at].0.starts_with("web"), "{:?}", after[at]);
    }
    change(&node, "other", json!({ "mtu": 9_000 })).unwrap();
    let address = web.v4().to_string();
    let big = other.netns.command(&["ping", "-c", "1", "-W", "20", "-M", "do", "-s", "8000", &address]);
    assert!(big.ok(), "{}", big.stdout);
}

#[test]
fn a_route_with_an_mtu_of_its_own_keeps_it() {
    let node = Node::start();
    let web = node.endpoint("web");
    web.netns.ip(&["route", "add", "203.0.113.0/24", "dev", "eth0", "mtu", "1300"]);
    web.netns.ip(&["-6", "route", "add", "2001:db8:1::/64", "dev", "eth0", "mtu", "1300"]);
    let before = held(&node, &web);
    assert_eq!(before.len(), 2, "{before:?}");
    change(&node, "web", json!({ "mtu": 9_000 })).unwrap();
    assert_eq!(held(&node, &web), before);
}

#[test]
fn what_cannot_be_is_refused_and_nothing_changes() {
    let node = Node::start();
    let web = node.endpoint("web");
    let netkit = web.view.endpoint.mode.device.is_netkit();
    for (asked, word) in [
        (json!({}), "nothing is to be changed"),
        (json!({ "mtu": 1_279 }), "IPv6"),
        (json!({ "mtu": 65_536 }), "65535"),
        (json!({ "gso_max_size": 100 }), "gso-max-size"),
        (json!({ "gro_ipv4_max_size": 1_000_000 }), "gro-ipv4-max-size"),
        (json!({ "mtv": 1_500 }), "mtv"),
    ] {
        let (status, error, _) = refusal(change(&node, "web", asked.clone()));
        assert!(status == 400 && error.contains(word), "{asked}: {status} {error}");
    }
    if !netkit {
        let (status, error, hint) = refusal(change(&node, "web", json!({ "peer_policy": "forward" })));
        assert!(status == 400 && error.contains("veth") && hint.contains("netkit"), "{error}; {hint}");
    }
    let (status, _, hint) = refusal(change(&node, "nobody", json!({ "mtu": 1_500 })));
    assert!(status == 404 && hint.contains("endpoint list"), "{status} {hint}");
    assert_eq!(mtus(&node, &web), ["1500", "1500"]);
}

#[test]
fn an_end_that_is_gone_or_moved_is_named() {
    let node = Node::start();
    let (web, gone) = (node.endpoint("web"), node.endpoint("gone"));
    let away = netloom_test_support::Netns::new("away");
    web.netns.ip(&["link", "set", "eth0", "netns", away.name()]);
    let (status, error, hint) = refusal(change(&node, "web", json!({ "mtu": 9_000 })));
    assert!(status == 404 && error.contains("other end") && hint.contains("moved"), "{error}; {hint}");
    assert!(node.netns.ip(&["link", "show", web.device()]).contains(" mtu 1500 "));
    node.netns.ip(&["link", "delete", gone.device()]);
    let (status, error, _) = refusal(change(&node, "gone", json!({ "mtu": 9_000 })));
    assert!(status == 404 && error.contains("gone"), "{error}");
}

#[test]
fn the_command_line_changes_and_shows() {
    let node = Node::start();
    let web = node.endpoint("web");
    let shown = node.daemon.netloom(&["endpoint", "set", "web", "--mtu", "4000"]).expect_ok();
    assert!(shown.contains("4000"), "{shown}");
    assert_eq!(mtus(&node, &web), ["4000", "4000"]);
    let usage = node.daemon.netloom(&["endpoint", "set", "web"]);
    assert!(!usage.ok() && usage.stderr.contains("--mtu"), "{}", usage.stderr);
}
