//! Dropped packets and connects to services, as those who listen to them are told.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Array, Map, MapData};
use netloom_api::types::{ConnectEvent, ConnectOutcome, Direction, DropEvent, MonitorEvent};
use netloom_netns_tests::{Endpoint, Node, refusal};
use netloom_test_support::{at_this_pace, emulated};

/// What the node's programs report: bits of kinds of events.
fn reported(node: &Node) -> u32 {
    let path = node.daemon.paths().bpffs.join("maps/nl_monitor");
    let map = Map::from_map_data(MapData::from_pin(path).unwrap()).unwrap();
    let map: Array<_, [u8; 8]> = map.try_into().unwrap();
    let value = map.get(&0, 0).unwrap();
    u32::from_ne_bytes(value[..4].try_into().unwrap())
}

fn soon_reported(node: &Node, wanted: u32) {
    let started = Instant::now();
    while reported(node) != wanted {
        assert!(started.elapsed() < at_this_pace(Duration::from_secs(5)), "still {}", reported(node));
        thread::sleep(Duration::from_millis(5));
    }
}

fn spoof(client: &Endpoint, server: &Endpoint) {
    let to = server.v4().to_string();
    assert!(!client.netns.command(&["ping", "-c", "1", "-W", "1", "-I", "10.99.99.99", &to]).ok());
}

fn dropped(event: MonitorEvent) -> DropEvent {
    match event {
        MonitorEvent::Drop(dropped) => dropped,
        other => panic!("not a drop: {other:?}"),
    }
}

fn connected(event: MonitorEvent) -> ConnectEvent {
    match event {
        MonitorEvent::Connect(connected) => connected,
        other => panic!("not a connect: {other:?}"),
    }
}

#[test]
fn a_dropped_packet_is_told_in_full_to_those_who_want_it_and_to_no_other() {
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    client.netns.add_address("lo", "10.99.99.99/32");
    assert_eq!(reported(&node), 0, "the programs report to nobody");
    let mut all = node.daemon.listen("/v1/monitor?endpoint=client&reason=spoofed").unwrap();
    let mut other = node.daemon.listen("/v1/monitor?endpoint=server&reason=spoofed").unwrap();
    assert_eq!(reported(&node), 1, "connects are not asked for");
    spoof(&client, &server);
    let event = dropped(all.line());
    assert_eq!(event.endpoint.as_ref().map(|name| name.as_str()), Some("client"));
    assert_eq!(event.endpoint_id, client.view.endpoint.id);
    assert_eq!(event.netns, Some(client.netns.path()));
    assert_eq!((event.reason.as_str(), event.direction), ("spoofed", Direction::FromEndpoint));
    assert_eq!(event.device.as_deref(), Some(client.device()));
    assert_eq!((event.ethertype, event.protocol), (0x0800, Some(1)));
    assert_eq!((event.source, event.destination), ("10.99.99.99".parse().ok(), Some(server.v4())));
    assert_eq!((event.source_port, event.destination_port), (None, None));
    // Ethernet, IPv4, ICMP, and the 56 bytes of a ping.
    assert_eq!(event.length, 14 + 20 + 8 + 56);

    let from: SocketAddr = "10.99.99.99:4242".parse().unwrap();
    let socket = client.netns.run(|| std::net::UdpSocket::bind(from).unwrap());
    socket.send_to(b"spoofed", SocketAddr::new(server.v4(), 53)).unwrap();
    // Where the sender is told that its packet was dropped, ping tries again.
    let event = loop {
        let event = dropped(all.line());
        if event.protocol != Some(1) {
            break event;
        }
    };
    assert_eq!((event.protocol, event.source_port, event.destination_port), (Some(17), Some(4242), Some(53)));
    assert!(client.netns.can_ping(server.v4()), "its own address is cut off too");

    drop(all);
    // The first that the other is told is the server's own: none of the client's came before it.
    server.netns.add_address("lo", "10.99.99.99/32");
    spoof(&server, &client);
    let event = dropped(other.line());
    assert_eq!(event.endpoint.as_ref().map(|name| name.as_str()), Some("server"));
    drop(other);
    soon_reported(&node, 0);
}

/// Sends frames that no socket of a protocol would: too short, and of no protocol known.
const FRAMES: &str = "
import errno, socket
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(('eth0', 0))
for kind in (b'\\x08\\x00', b'\\x86\\xdd', b'\\x88\\xb5'):
    try:
        raw.send(b'\\xff' * 6 + b'\\x02' + b'\\x00' * 5 + kind + b'1234')
    except OSError as error:
        # A netkit device tells its sender that a packet was dropped.
        assert error.errno == errno.ENOBUFS, error
";

#[test]
fn each_reason_has_its_events() {
    let node = Node::start();
    let client = node.endpoint("client");
    let mut drops = node.daemon.listen("/v1/monitor?kind=drop").unwrap();
    let before = node.endpoints()[0].counters.dropped_other;
    let _ = client.netns.command(&["python3", "-c", FRAMES]).expect_ok();
    let mut reasons = Vec::new();
    while reasons.len() < 3 {
        let event = dropped(drops.line());
        // The device's own attempts at neighbour discovery are none of ours.
        if event.length == 14 + 4 {
            assert_eq!(event.source, None);
            reasons.push((event.reason, event.ethertype));
        }
    }
    let expected = [("malformed", 0x0800), ("malformed", 0x86dd), ("unsupported", 0x88b5)];
    assert_eq!(reasons, expected.map(|(reason, kind)| (reason.to_owned(), kind)));
    assert!(node.endpoints()[0].counters.dropped_other >= before + 3);
}

#[test]
fn connects_are_told_with_who_asked_and_what_was_chosen_or_refused() {
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let echo = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    let (vip, empty): (SocketAddr, SocketAddr) =
        ("10.96.42.1:80".parse().unwrap(), "10.96.42.2:53".parse().unwrap());
    node.service("shop", &vip.to_string(), "tcp", &[echo.address().to_string()]);
    node.service("names", &empty.to_string(), "udp", &[]);
    let mut shop = node.daemon.listen("/v1/monitor?service=shop").unwrap();
    let mut refused = node.daemon.listen("/v1/monitor?endpoint=client&kind=connect").unwrap();
    assert_eq!(reported(&node), 2, "drops are not asked for");

    assert_eq!(client.netns.connect_tcp(vip).exchange("hello"), "hello");
    for event in [shop.line(), refused.line()] {
        let event = connected(event);
        assert_eq!(event.endpoint.as_ref().map(|name| name.as_str()), Some("client"));
        assert_eq!(event.netns_cookie, client.view.endpoint.netns_cookie);
        assert_eq!(event.process, std::process::id());
        assert!(!event.command.is_empty() && event.cookie != 0, "{event:?}");
        assert_eq!((event.service.as_ref().map(|name| name.as_str()), event.vip), (Some("shop"), vip));
        assert_eq!((event.backend, event.outcome), (Some(echo.address()), ConnectOutcome::Chosen));
    }
    let socket = client.netns.run(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
    assert!(socket.send_to(b"?", empty).is_err(), "a message to nobody");
    assert!(socket.connect(empty).is_err(), "a connection to nobody");
    for event in [refused.line(), refused.line()] {
        let event = connected(event);
        assert_eq!((event.service.as_ref().map(|name| name.as_str()), event.vip), (Some("names"), empty));
        assert_eq!((event.backend, event.outcome), (None, ConnectOutcome::Refused));
    }
    // Of the other service it is told nothing: the next event is of its own again.
    assert_eq!(client.netns.connect_tcp(vip).exchange("again"), "again");
    assert_eq!(connected(shop.line()).service.as_ref().map(|name| name.as_str()), Some("shop"));
}

#[test]
fn what_is_too_much_is_counted_and_nobody_is_held_up_by_who_does_not_read() {
    let mut node = Node::configured("[datapath]\nevents_per_second = 5\n");
    let client = node.endpoint("client");
    let vip: SocketAddr = "10.96.42.3:80".parse().unwrap();
    node.service("shop", &vip.to_string(), "udp", &[]);
    // One that never reads, and one that does.
    let mut deaf = UnixStream::connect(node.daemon.paths().socket).unwrap();
    deaf.write_all(b"GET /v1/monitor HTTP/1.1\r\nhost: netloomd\r\n\r\n").unwrap();
    soon_reported(&node, 3);
    let mut listener = node.daemon.listen("/v1/monitor?kind=connect").unwrap();
    let many = if emulated() { 100 } else { 1_000 };
    let socket = client.netns.run(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
    for _ in 0..many {
        assert!(socket.send_to(b"?", vip).is_err());
    }
    let (mut told, mut lost) = (0, 0);
    while told + lost < many {
        match listener.line() {
            MonitorEvent::Connect(_) => told += 1,
            MonitorEvent::Lost(missing) => lost += missing.events,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told + lost, many);
    assert!(told >= 5 && lost > 0, "{told} told, {lost} lost");
    let metrics = node.daemon.netloom(&["metrics"]).expect_ok();
    assert!(metrics.contains(&format!("netloom_monitor_lost_events_total {lost}")), "{metrics}");
    assert!(metrics.contains("netloom_monitor_listeners 2"), "{metrics}");
    drop(listener);
    drop(deaf);
    soon_reported(&node, 0);

    // One that listens does not keep the daemon from ending, and a killed one's wish does not outlive its successor.
    let (mut first, _) = monitor(&node, &["--drops"]);
    soon_reported(&node, 1);
    node.daemon.stop();
    assert!(!first.wait().unwrap().success(), "the stream ended by itself");
    node.daemon.restart();
    let (mut second, _) = monitor(&node, &["--connects"]);
    soon_reported(&node, 2);
    node.daemon.kill9();
    assert!(!second.wait().unwrap().success());
    assert_eq!(reported(&node), 2, "nobody was left to say otherwise");
    node.daemon.restart();
    assert_eq!(reported(&node), 0);
}

/// The command, listening.
fn monitor(node: &Node, arguments: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = node
        .daemon
        .netloom_command(&[&["monitor", "--output", "json"], arguments].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

#[test]
fn the_command_shows_as_many_as_it_was_asked_for() {
    let node = Node::start();
    let client = node.endpoint("client");
    let vip: SocketAddr = "10.96.42.4:80".parse().unwrap();
    node.service("shop", &vip.to_string(), "tcp", &[]);
    let (mut child, mut lines) = monitor(&node, &["--service", "shop", "--count", "2"]);
    soon_reported(&node, 2);
    for _ in 0..2 {
        assert!(client.netns.try_connect_tcp(vip).is_err());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let event = connected(serde_json::from_str(&line).unwrap());
        assert_eq!(event.outcome, ConnectOutcome::Refused);
    }
    assert!(child.wait().unwrap().success());
    soon_reported(&node, 0);
}

#[test]
fn what_cannot_happen_is_not_listened_to() {
    let node = Node::start();
    for (query, word) in [
        ("endpoint=nobody", "nobody"),
        ("service=nothing", "nothing"),
        ("reason=boredom", "boredom"),
        ("reason=spoofed&kind=connect", "both"),
    ] {
        let (_, error, _) = refusal(node.daemon.listen(&format!("/v1/monitor?{query}")).map(drop));
        assert!(error.contains(word), "{query}: {error}");
    }
    assert_eq!(reported(&node), 0);
}
