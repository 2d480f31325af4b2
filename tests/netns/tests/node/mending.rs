//! What others change of an endpoint, and netloomd makes as it was.

use std::time::{Duration, Instant};

use netloom_api::types::{Doctor, Event, EventKind};
use netloom_netns_tests::{DeviceMode, Endpoint, Node, on_modes};
use netloom_test_support::{at_this_pace, until};
use rustix::process::{Pid, Signal, kill_process};

on_modes!(everything_is_mended);

/// What is broken, and how: in the node's namespace or in the endpoint's.
struct Break {
    what: &'static str,
    inside: bool,
    /// For a shell.
    by: String,
    /// What the event says of it.
    told: String,
}

fn events(node: &Node, kind: EventKind) -> Vec<Event> {
    let mut events: Vec<Event> = node.daemon.get("/v1/events").unwrap();
    events.retain(|event| event.kind == kind);
    events
}

/// Everything that `ip` and `/proc/sys` show of what an endpoint needs, in an order of its own.
fn shown(node: &Node, endpoint: &Endpoint) -> Vec<String> {
    let device = endpoint.device();
    let mut shown = Vec::new();
    for (netns, device) in [(&node.netns, device), (&endpoint.netns, "eth0")] {
        let mut lines = Vec::new();
        for words in [
            ["route", "show", "dev", device].as_slice(),
            &["-6", "route", "show", "dev", device],
            &["neigh", "show", "nud", "permanent", "dev", device],
            &["-6", "neigh", "show", "nud", "permanent", "dev", device],
            &["-o", "-brief", "address", "show", "dev", device, "scope", "global"],
            &["-o", "link", "show", "dev", device],
        ] {
            let output = netns.command(&[&["ip"], words].concat());
            lines.extend(output.stdout.lines().filter(|line| is_wanted(line)).map(sorted));
        }
        for setting in ["ipv4/conf/DEV/forwarding", "ipv6/conf/DEV/forwarding", "ipv4/conf/DEV/rp_filter"] {
            let path = format!("/proc/sys/net/{}", setting.replace("DEV", device));
            lines.push(format!("{setting} {}", netns.command(&["cat", &path]).stdout.trim()));
        }
        lines.sort();
        shown.extend(lines);
    }
    shown
}

/// The kernel's own routes and groups are not for netloomd to make again.
fn is_wanted(line: &str) -> bool {
    !line.contains("fe80::/64") && !line.contains("ff00::/8")
}

/// The words of a line, without those that change by themselves.
fn sorted(line: &str) -> String {
    let words = line.split_whitespace().filter(|word| !word.contains("state") && *word != "linkdown");
    words.collect::<Vec<_>>().join(" ")
}

/// Waits until the node is as it was, and for the event that says so.
fn is_mended(node: &Node, endpoint: &Endpoint, before: &[String], told: &str) {
    let after = until(|| shown(node, endpoint), |now| now == before);
    assert_eq!(after, before, "{told}: {:?}\n{}", events(node, EventKind::Mended), node.daemon.log());
    let said = until(
        || events(node, EventKind::Mended),
        |events| events.iter().any(|event| event.message.contains(told) && event.message.ends_with("mended")),
    );
    let event = said.iter().find(|event| event.message.contains(told));
    assert!(event.is_some_and(|event| event.subject == "endpoint web"), "{told}: {said:?}");
}

fn breaks(web: &Endpoint) -> Vec<Break> {
    let device = web.device();
    let (v4, v6) = (web.v4(), web.v6());
    let on_node = |what, by: String, told: String| Break { what, inside: false, by, told };
    let inside =
        |what, by: &str, told: &str| Break { what, inside: true, by: by.to_owned(), told: told.to_owned() };
    let mut all = vec![
        on_node(
            "routes",
            format!("ip route flush dev {device}"),
            format!("the route to {v4} on the node was gone"),
        ),
        on_node(
            "IPv6 route",
            format!("ip -6 route del {v6} dev {device}"),
            format!("the route to {v6} on the node"),
        ),
        on_node("state", format!("ip link set {device} down"), "its device on the node was down".to_owned()),
        on_node(
            "MTU",
            format!("ip link set {device} mtu 1400"),
            "the MTU of its device on the node was 1400 instead of 1500".to_owned(),
        ),
        on_node(
            "forwarding",
            "cd /proc/sys/net/ipv4; echo 1 >ip_forward; echo 0 >ip_forward".to_owned(),
            format!("net/ipv4/conf/{device}/forwarding on the node was 0 instead of 1"),
        ),
        on_node(
            "filter of reverse paths",
            format!("echo 1 >/proc/sys/net/ipv4/conf/{device}/rp_filter"),
            format!("net/ipv4/conf/{device}/rp_filter on the node was 1 instead of 0"),
        ),
        inside("IPv4 default route", "ip route del default", "the default route of IPv4 inside was gone"),
        inside("IPv6 default route", "ip -6 route del default", "the default route of IPv6 inside was gone"),
        inside("addresses", "ip addr flush dev eth0", &format!("its address {v4} was gone")),
        inside(
            "an address",
            &format!("ip addr del {v6}/128 dev eth0"),
            &format!("its address {v6} was gone"),
        ),
        inside("state", "ip link set eth0 down", "its device inside was down"),
        inside("MTU", "ip link set eth0 mtu 1300", "the MTU of its device inside was 1300 instead of 1500"),
        inside(
            "an MTU without IPv6",
            "ip link set eth0 mtu 1000",
            "its device inside was 1000 instead of 1500",
        ),
        inside("lo", "ip link set lo down", "lo inside was down"),
    ];
    if web.view.endpoint.mac.is_some() {
        let (gateway, mac) = ("169.254.1.1", "02:00:00:00:00:77");
        all.push(on_node(
            "neighbour",
            format!("ip neigh del {v4} dev {device}"),
            format!("the neighbour entry of {v4} on the node was gone"),
        ));
        all.push(inside(
            "gateway",
            &format!("ip neigh replace {gateway} lladdr {mac} nud permanent dev eth0"),
            &format!("the neighbour entry of {gateway} inside was {mac} instead of"),
        ));
        all.push(inside(
            "hardware address",
            &format!("ip link set eth0 address {mac}"),
            &format!("the hardware address of its device inside was {mac} instead of"),
        ));
    }
    all
}

fn everything_is_mended(mode: DeviceMode) {
    let node = Node::start();
    let web = node.endpoint_on("web", mode);
    let other = node.endpoint("other");
    let before = shown(&node, &web);
    for Break { what, inside, by, told } in breaks(&web) {
        let netns = if inside { &web.netns } else { &node.netns };
        let _ = netns.command(&["sh", "-c", &by]).expect_ok();
        is_mended(&node, &web, &before, &told);
        for address in [web.v4(), web.v6()] {
            // A device that was down takes a moment to carry packets again.
            let reached = || (other.netns.can_ping(address), node.netns.can_ping(address));
            assert_eq!(until(reached, |reached| *reached == (true, true)), (true, true), "{what}: {address}");
        }
    }
    let metrics = node.daemon.netloom(&["metrics"]).expect_ok();
    assert!(metrics.contains("netloom_mended_total{what=\"route\"}"), "{metrics}");
    let shown = node.daemon.netloom(&["events", "--kind", "mended"]).expect_ok();
    assert!(shown.contains("endpoint web"), "{shown}");
}

#[test]
fn a_device_gets_its_name_back() {
    let node = Node::start();
    let web = node.endpoint("web");
    let before = shown(&node, &web);
    for (netns, name) in [(&node.netns, web.device()), (&web.netns, "eth0")] {
        // Before Linux 6.2 none is renamed that is up, and netloomd would not leave it down.
        let pid = Pid::from_raw(node.daemon.pid().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        netns.ip(&["link", "set", name, "down"]);
        netns.ip(&["link", "set", name, "name", "renamed0"]);
        netns.ip(&["link", "set", "renamed0", "up"]);
        kill_process(pid, Signal::CONT).unwrap();
        is_mended(&node, &web, &before, "was renamed0 instead of");
    }
    assert!(node.netns.can_ping(web.v4()) && node.netns.can_ping(web.v6()));
    let programs = || -> Vec<String> {
        let attachments = node.status().attachments;
        attachments.into_iter().map(|attachment| attachment.hook.device).collect()
    };
    let device = web.device().to_owned();
    let known = until(programs, |known| known.iter().all(|name| *name == device));
    assert_eq!(known, [device.clone(), device]);
    assert_eq!(node.delete("web").unwrap().warnings, Vec::<String>::new());
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[test]
fn what_was_broken_while_the_daemon_was_away_is_mended_at_its_start() {
    let mut node = Node::start();
    let web = node.endpoint("web");
    let before = shown(&node, &web);
    node.daemon.kill9();
    node.netns.ip(&["route", "flush", "dev", web.device()]);
    web.netns.ip(&["address", "flush", "dev", "eth0"]);
    node.daemon.restart();
    is_mended(&node, &web, &before, "the default route of IPv4 inside was gone");
}

#[test]
fn what_is_inside_is_left_alone_if_the_configuration_says_so() {
    let node = Node::configured("endpoints.mend = \"node\"");
    let web = node.endpoint("web");
    web.netns.ip(&["route", "del", "default"]);
    node.netns.ip(&["route", "flush", "dev", web.device()]);
    let route = || node.netns.ip(&["route", "show", "dev", web.device()]);
    let mended = until(route, |route| route.contains(&web.v4().to_string()));
    assert!(mended.contains(&web.v4().to_string()), "{mended}");
    let events = until(|| events(&node, EventKind::Mended), |events| !events.is_empty());
    assert!(events.iter().all(|event| event.message.contains("on the node")), "{events:?}");
    assert_eq!(web.netns.ip(&["route", "show", "default"]), "");
    let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
    let finding = doctor.findings.iter().find(|finding| finding.message.contains("default route of IPv4"));
    assert!(finding.is_some_and(|finding| finding.hint.contains("endpoints.mend")), "{:?}", doctor.findings);
}

#[test]
fn nothing_is_mended_if_the_configuration_says_so() {
    let node = Node::configured("endpoints.mend = \"none\"");
    let (web, other) = (node.endpoint("web"), node.endpoint("other"));
    node.netns.ip(&["route", "flush", "dev", web.device()]);
    // Time enough for a look, if there were one.
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(node.netns.ip(&["route", "show", "dev", web.device()]), "");
    let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
    let told = format!("the route to {} on the node is gone", web.v4());
    assert!(doctor.findings.iter().any(|finding| finding.message.contains(&told)), "{:?}", doctor.findings);
    assert!(events(&node, EventKind::Mended).is_empty());
    drop(other);
}

#[test]
fn somebody_elses_route_in_the_place_of_ours_is_told_of_and_not_replaced() {
    let node = Node::start();
    let web = node.endpoint("web");
    let v4 = web.v4().to_string();
    node.netns.ip(&["link", "add", "theirs", "type", "veth", "peer", "name", "theirs1"]);
    node.netns.ip(&["link", "set", "theirs", "up"]);
    node.netns.ip(&["link", "set", "theirs1", "up"]);
    node.netns.ip(&["route", "replace", &v4, "dev", "theirs"]);
    web.netns.ip(&["route", "add", "203.0.113.0/24", "dev", "eth0"]);
    let told = until(|| events(&node, EventKind::NotMended), |events| !events.is_empty());
    assert!(told[0].message.contains(&v4) && told[0].message.contains("theirs"), "{told:?}");
    let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
    let finding = doctor.findings.iter().find(|finding| finding.message.contains("through theirs"));
    assert!(finding.is_some_and(|finding| finding.subject == "endpoint web"), "{:?}", doctor.findings);
    assert!(node.netns.ip(&["route", "show", &v4]).contains("dev theirs"));
    let metrics = node.daemon.netloom(&["metrics"]).expect_ok();
    assert!(metrics.contains("netloom_unmended 1"), "{metrics}");

    // When it is gone, ours comes back; what is of others inside stays.
    node.netns.ip(&["link", "del", "theirs"]);
    let route = || node.netns.ip(&["route", "show", &v4]);
    let mended = until(route, |route| route.contains(web.device()));
    assert!(mended.contains(web.device()), "{mended}");
    assert!(web.netns.ip(&["route", "show"]).contains("203.0.113.0/24"));
}

#[test]
fn a_tool_that_breaks_the_same_thing_again_and_again_is_given_way_to() {
    let node = Node::start();
    let web = node.endpoint("web");
    let v4 = web.v4().to_string();
    let started = Instant::now();
    // As a tool does that knows better.
    while events(&node, EventKind::Fight).is_empty() {
        drop(node.netns.command(&["ip", "route", "del", &v4, "dev", web.device()]));
        assert!(started.elapsed() < at_this_pace(Duration::from_secs(60)), "{}", node.daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let of_route = |event: &Event| event.message.contains(&format!("the route to {v4} "));
    let mended = events(&node, EventKind::Mended).into_iter().filter(of_route).count();
    assert!((5..=6).contains(&mended), "{mended} times");
    let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
    let finding = doctor.findings.iter().find(|finding| finding.message.contains("again and again"));
    assert!(finding.is_some_and(|finding| finding.message.contains(&v4)), "{:?}", doctor.findings);
    // What it does not touch is mended as ever.
    web.netns.ip(&["route", "del", "default"]);
    let route = || web.netns.ip(&["route", "show", "default"]);
    assert!(until(route, |route| !route.is_empty()).contains("eth0"));
    // And this as well, in the end.
    drop(node.netns.command(&["ip", "route", "del", &v4, "dev", web.device()]));
    let route = || node.netns.ip(&["route", "show", &v4]);
    assert!(until(route, |route| !route.is_empty()).contains(web.device()));
}
