//! What the datapath leaves to the node's stack.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    time::Duration,
};

use netloom_netns_tests::{Endpoint, Node};
use netloom_test_support::{Netns, at_this_pace};

/// Packets that the node's stack has forwarded, of IPv4.
fn forwarded(node: &Node) -> u64 {
    let text = node.netns.command(&["cat", "/proc/net/snmp"]).stdout;
    let values = text.lines().filter(|line| line.starts_with("Ip:")).nth(1).unwrap();
    values.split(' ').nth(6).unwrap().parse().unwrap()
}

#[test]
fn between_endpoints_packets_with_ipv4_options_meet_no_router() {
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let (from, to) = (client.v4().to_string(), server.v4().to_string());
    let before = forwarded(&node);
    // Each router on the way would write its address into the packet.
    let recorded = client.netns.command(&["ping", "-R", "-c", "1", "-W", "20", &to]).expect_ok();
    let way: Vec<&str> = recorded.lines().skip_while(|line| !line.starts_with("RR:")).collect();
    let way: Vec<&str> = way.iter().take_while(|line| !line.is_empty()).map(|line| line.trim()).collect();
    let way: Vec<&str> = way.iter().map(|line| line.trim_start_matches("RR:").trim()).collect();
    assert_eq!(way, [&from, &to, &to, &from]);
    assert_eq!(forwarded(&node), before);
}

/// A socket that gets what is sent to a group, by a device.
fn member(netns: &Netns, device: &str, group: IpAddr, port: u16) -> UdpSocket {
    let shown = netns.ip(&["-o", "link", "show", device]);
    let index: u32 = shown.split(':').next().unwrap().trim().parse().unwrap();
    netns.run(|| {
        let any: IpAddr =
            if group.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, port)).unwrap();
        match group {
            IpAddr::V4(group) => rustix::net::sockopt::set_ip_add_membership_with_ifindex(
                socket.as_fd(),
                &group,
                &Ipv4Addr::UNSPECIFIED,
                index,
            )
            .unwrap(),
            IpAddr::V6(group) => socket.join_multicast_v6(&group, index).unwrap(),
        }
        socket.set_read_timeout(Some(at_this_pace(Duration::from_secs(5)))).unwrap();
        socket
    })
}

/// Sends a text to a group.
fn send(endpoint: &Endpoint, to: SocketAddr) {
    let from = if to.is_ipv4() { endpoint.v4() } else { endpoint.v6() };
    let socket = endpoint.netns.run(|| UdpSocket::bind(SocketAddr::new(from, 0)).unwrap());
    socket.send_to(b"hello", to).unwrap();
}

#[test]
fn what_an_endpoint_sends_to_a_group_reaches_the_node_and_no_other_endpoint() {
    let node = Node::start();
    let (client, other) = (node.endpoint("client"), node.endpoint("other"));
    client.netns.ip(&["-6", "route", "add", "multicast", "ff05::/16", "dev", "eth0", "table", "local"]);
    for group in ["239.1.1.1:7000", "[ff05::1234]:7000"] {
        let group: SocketAddr = group.parse().unwrap();
        let at_node = member(&node.netns, client.device(), group.ip(), group.port());
        let at_other = member(&other.netns, "eth0", group.ip(), group.port());
        let sent =
            node.endpoints().into_iter().find(|view| view.endpoint.spec.name.as_str() == "client").unwrap();
        send(&client, group);
        let mut buffer = [0; 16];
        let (length, from) =
            at_node.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{group}: {error}"));
        let own = if group.is_ipv4() { client.v4() } else { client.v6() };
        assert_eq!((&buffer[..length], from.ip()), (&b"hello"[..], own));
        at_other.set_nonblocking(true).unwrap();
        assert_eq!(at_other.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock, "{group}");
        let now =
            node.endpoints().into_iter().find(|view| view.endpoint.spec.name.as_str() == "client").unwrap();
        assert_eq!(now.counters.dropped_other, sent.counters.dropped_other, "{group}");
        assert!(now.counters.sent_packets > sent.counters.sent_packets, "{group}: it is counted");
    }
}
