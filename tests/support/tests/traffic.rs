//! The words of this crate, on real namespaces. Needs root.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::ErrorKind,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use netloom_core::model::Feature;
use netloom_test_support::{Netns, command, require};

const SOON: Duration = Duration::from_secs(5);

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

/// Two namespaces with a link between them.
fn pair() -> (Netns, Netns) {
    let client = Netns::new("client");
    let server = Netns::new("server");
    client.link("10.1.0.1/24").to(&server, "10.1.0.2/24");
    (client, server)
}

#[test]
fn linked_namespaces_reach_each_other_and_nobody_else() {
    let (client, server) = pair();
    let stranger = Netns::new("stranger");
    assert!(client.can_ping(ip("10.1.0.2")));
    assert!(server.can_ping(ip("10.1.0.1")));
    assert!(!stranger.can_ping(ip("10.1.0.2")));
}

#[test]
fn a_link_carries_ipv6_at_once() {
    let client = Netns::new("client");
    let server = Netns::new("server");
    client.link("fd00:1::1/64").named("wire").to(&server, "fd00:1::2/64");
    assert!(client.can_ping(ip("fd00:1::2")));
    let echo = server.udp_echo("[fd00:1::2]:7000");
    assert_eq!(client.connect_udp(echo.address()).exchange("six"), "six");
}

#[test]
fn a_namespace_is_gone_with_its_value() {
    let netns = Netns::new("short-lived");
    let (name, path) = (netns.name().to_owned(), netns.path());
    assert!(path.exists());
    drop(netns);
    assert!(!path.exists());
    assert!(!command(&["ip", "netns", "list"]).expect_ok().contains(&name));
}

#[test]
fn echoes_come_back_over_tcp() {
    let (client, server) = pair();
    let echo = server.tcp_echo("10.1.0.2:0");
    let mut connection = client.connect_tcp(echo.address());
    assert_eq!(connection.exchange("hello"), "hello");
    assert_eq!(connection.peer(), echo.address());
    assert_eq!(connection.local().ip(), ip("10.1.0.1"));
    assert_eq!(echo.accepted(), 1);
}

#[test]
fn nobody_listening_is_an_error_not_a_wait() {
    let (client, _server) = pair();
    let error = client.try_connect_tcp("10.1.0.2:1".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_blocked_reader_tells_how_it_ended() {
    let (client, server) = pair();
    let echo = server.tcp_echo("10.1.0.2:0");
    let reader = client.blocked_reader(echo.address());
    assert!(reader.end_within(Duration::from_millis(50)).is_none(), "nothing has ended it yet");
    drop(echo);
    assert!(matches!(reader.end_within(SOON), Some(Ok(()))), "the server closed in order");
}

#[test]
fn a_destroyed_socket_aborts_its_blocked_reader() {
    if !require(Feature::SocketDestroy) {
        return;
    }
    let (client, server) = pair();
    let echo = server.tcp_echo("10.1.0.2:7000");
    let reader = client.blocked_reader(echo.address());
    let killed = client.command(&["ss", "-nK", "dst", "10.1.0.2", "dport", "=", "7000"]).expect_ok();
    assert!(killed.contains("10.1.0.2:7000"), "{killed}");
    assert_eq!(reader.error_within(SOON).kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn every_datagram_is_counted() {
    let (client, server) = pair();
    let receiver = server.count_datagrams("10.1.0.2:0");
    let sender = client.send_datagrams(receiver.address(), Duration::from_millis(1));
    while sender.sent() < 100 {
        thread::sleep(Duration::from_millis(1));
    }
    let arrivals = receiver.compare(sender.stop(), SOON);
    assert!(arrivals.sent >= 100);
    assert_eq!((arrivals.lost, arrivals.duplicated), (0, 0), "{arrivals:?}");
}

#[test]
fn lost_datagrams_are_noticed() {
    let (client, server) = pair();
    let receiver = server.count_datagrams("10.1.0.2:0");
    let sender = client.send_datagrams(receiver.address(), Duration::from_millis(1));
    let started = Instant::now();
    while receiver.arrived() == 0 && started.elapsed() < SOON {
        thread::sleep(Duration::from_millis(1));
    }
    server.ip(&["link", "set", "eth0", "down"]);
    let before = sender.sent();
    while sender.sent() < before + 20 {
        thread::sleep(Duration::from_millis(1));
    }
    let arrivals = receiver.compare(sender.stop(), Duration::from_millis(100));
    assert!(arrivals.lost >= 19, "{arrivals:?}");
}
