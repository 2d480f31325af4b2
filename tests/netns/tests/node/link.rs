//! What belongs to one link stays there, and nobody has the address of another: what programs alone do not show, which
//! `host/kernel/tests/datapath/table.rs` has.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use netloom_api::types::{Direction, DropEvent, MonitorEvent};
use netloom_netns_tests::{DeviceMode, Endpoint, Node, on_modes, refusal};
use netloom_test_support::{Netns, at_this_pace, until};
use serde_json::json;

on_modes!(tags_of_endpoints_are_dropped, neighbour_discovery_never_leaves_the_link);

const PORT: u16 = 7000;

/// Nothing is masqueraded towards the host outside.
const NATIVE: &str = "[datapath]\nnative = [\"198.51.100.0/24\", \"2001:db8:9::/64\"]\n";

/// Sends an IPv4 datagram in a frame made by hand: device, hardware address, tags, source, destination, text.
const FRAME: &str = "
import socket, struct, sys
device, to, tags, source, destination, text = sys.argv[1:]
def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
payload = text.encode()
addresses = socket.inet_aton(source) + socket.inet_aton(destination)
udp = struct.pack('!4H', 4242, 7000, 8 + len(payload), 0) + payload
ip = lambda sum: struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, sum) + addresses
packet = ip(checksum(ip(0))) + udp
tags = b''.join(struct.pack('!HH', int(tag, 16), 5) for tag in tags.split(',') if tag)
frame = bytes.fromhex(to.replace(':', '')) + b'\\x02\\x00\\x00\\x00\\x00\\x09' + tags + b'\\x08\\x00' + packet
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((device, 0))
try:
    raw.send(frame)
except OSError as error:
    # Some devices tell their sender that a packet was dropped, or that they are down.
    print(error)
";

/// Such a sender.
pub(crate) struct Raw<'a> {
    pub(crate) from: &'a Netns,
    pub(crate) device: &'a str,
    pub(crate) to: &'a str,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

impl Raw<'_> {
    pub(crate) fn send(&self, tags: &str, text: &str) {
        let (source, destination) = (self.source.to_string(), self.destination.to_string());
        let words = ["python3", "-c", FRAME, self.device, self.to, tags, &source, &destination, text];
        let _ = self.from.command(&words).expect_ok();
    }
}

pub(crate) fn receiver(netns: &Netns, address: IpAddr) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind((address, PORT)).unwrap());
    socket.set_read_timeout(Some(at_this_pace(Duration::from_secs(5)))).unwrap();
    socket
}

pub(crate) fn received(socket: &UdpSocket) -> String {
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).expect("a datagram comes");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn dropped(event: MonitorEvent) -> DropEvent {
    match event {
        MonitorEvent::Drop(dropped) => dropped,
        other => panic!("not a drop: {other:?}"),
    }
}

/// Joins a node to a host outside, which knows the way to the pools, and waits until packets pass the stack by.
fn outside(node: &Node, endpoint: &Endpoint) -> Netns {
    let outside = Netns::new("outside");
    node.netns.link("198.51.100.1/24").named("eth9").to(&outside, "198.51.100.2/24");
    for (netns, address) in [(&node.netns, "2001:db8:9::1/64"), (&outside, "2001:db8:9::2/64")] {
        netns.add_address("eth9", address);
    }
    for netns in [&node.netns, &outside] {
        let gateway = if std::ptr::eq(netns, &outside) { "1" } else { "2" };
        netns.ip(&["route", "add", "default", "via", &format!("198.51.100.{gateway}")]);
        netns.ip(&["-6", "route", "add", "default", "via", &format!("2001:db8:9::{gateway}")]);
    }
    until(|| node.status().outside.uplinks, |uplinks| uplinks == &["eth9"]);
    for address in [endpoint.v4(), endpoint.v6()] {
        until(|| outside.can_ping(address), |reached| *reached);
    }
    outside
}

pub(crate) fn mac(netns: &Netns, device: &str) -> String {
    let shown = netns.ip(&["-o", "link", "show", "dev", device]);
    let mac = shown.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
    // Without a link layer any will do.
    mac.unwrap_or("02:00:00:00:00:01").to_owned()
}

fn tags_of_endpoints_are_dropped(mode: DeviceMode) {
    let node = Node::start();
    let (web, db) = (node.endpoint_on("web", mode), node.endpoint_on("db", mode));
    let receiver = receiver(&db.netns, db.v4());
    let mut drops = node.daemon.listen("/v1/monitor?endpoint=web&reason=tagged").unwrap();
    // A device without a link layer takes what is for its address, which is all zero; elsewhere each frame is the node's.
    let to = if mode.has_mac() { "02:00:00:00:00:01" } else { "00:00:00:00:00:00" };
    let raw = Raw { from: &web.netns, device: "eth0", to, source: web.v4(), destination: db.v4() };
    for tags in ["8100", "88a8", "88a8,8100"] {
        raw.send(tags, "tagged");
        let event = dropped(drops.line());
        assert_eq!((event.reason.as_str(), event.direction), ("tagged", Direction::FromEndpoint), "{tags}");
    }
    raw.send("", "plain");
    assert_eq!(received(&receiver), "plain", "{mode}: nothing came before");
    let counted = node.endpoints().iter().map(|view| view.counters.dropped_other).sum::<u64>();
    assert!(counted >= 3, "{counted}");
}

/// Sends a neighbour advertisement as one on the link would: destination, hop limit, whose, which hardware address.
const ADVERTISE: &str = "
import socket, sys
to, hops, target = sys.argv[1:]
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, int(hops))
message = b'\\x88\\x00\\x00\\x00\\x60\\x00\\x00\\x00' + socket.inet_pton(socket.AF_INET6, target)
try:
    raw.sendto(message + b'\\x02\\x01\\x02\\x66\\x66\\x66\\x66\\x66', (to, 0))
except OSError as error:
    print(error)
";

fn neighbour_discovery_never_leaves_the_link(mode: DeviceMode) {
    let node = Node::configured(NATIVE);
    let web = node.endpoint_on("web", mode);
    let outside = outside(&node, &web);
    let known = || outside.ip(&["-6", "neighbour", "show", "2001:db8:9::1"]);
    let own = mac(&node.netns, "eth9");
    assert!(outside.can_ping("2001:db8:9::1".parse::<IpAddr>().unwrap()));
    assert!(known().contains(&own), "{}", known());
    let mut drops = node.daemon.listen("/v1/monitor?endpoint=web&reason=link").unwrap();
    for hops in ["255", "64"] {
        let words = ["python3", "-c", ADVERTISE, "2001:db8:9::2", hops, "2001:db8:9::1"];
        let _ = web.netns.command(&words).expect_ok();
        let event = dropped(drops.line());
        assert_eq!((event.reason.as_str(), event.protocol), ("link", Some(58)), "{hops}");
    }
    assert!(known().contains(&own), "{}", known());
}

#[test]
fn what_comes_by_the_uplink_with_a_tag_is_for_the_nodes_stack() {
    let node = Node::configured(NATIVE);
    let web = node.endpoint("web");
    let outside = outside(&node, &web);
    let receiver = receiver(&web.netns, web.v4());
    let to = mac(&node.netns, "eth9");
    let source = "198.51.100.2".parse().unwrap();
    let raw = Raw { from: &outside, device: "eth9", to: &to, source, destination: web.v4() };
    // Nobody has a device for this VLAN.
    raw.send("8100", "tagged");
    raw.send("88a8,8100", "tagged");
    raw.send("", "plain");
    assert_eq!(received(&receiver), "plain");
}

#[test]
fn nothing_comes_in_by_the_uplink_in_the_name_of_the_node_or_an_endpoint() {
    let node = Node::configured(NATIVE);
    let (web, db) = (node.endpoint("web"), node.endpoint("db"));
    let outside = outside(&node, &web);
    let mut drops = node.daemon.listen("/v1/monitor?endpoint=web&reason=spoofed").unwrap();
    for forged in [db.v4(), db.v6(), "198.51.100.1".parse().unwrap(), "2001:db8:9::1".parse().unwrap()] {
        let receiver = receiver(&web.netns, web_address(&web, forged));
        let length = if forged.is_ipv4() { "32" } else { "128" };
        outside.add_address("lo", &format!("{forged}/{length}"));
        let socket = outside.run(|| UdpSocket::bind((forged, 0)).unwrap());
        socket.send_to(b"forged", SocketAddr::new(web_address(&web, forged), PORT)).unwrap();
        let event = dropped(drops.line());
        assert_eq!((event.direction, event.source), (Direction::ToEndpoint, Some(forged)));
        outside.ip(&["address", "delete", &format!("{forged}/{length}"), "dev", "lo"]);
        let own: IpAddr = if forged.is_ipv4() { "198.51.100.2" } else { "2001:db8:9::2" }.parse().unwrap();
        let socket = outside.run(|| UdpSocket::bind((own, 0)).unwrap());
        socket.send_to(b"honest", SocketAddr::new(web_address(&web, forged), PORT)).unwrap();
        assert_eq!(received(&receiver), "honest", "{forged}");
    }
}

fn web_address(web: &Endpoint, like: IpAddr) -> IpAddr {
    if like.is_ipv4() { web.v4() } else { web.v6() }
}

#[test]
fn an_endpoint_gets_no_address_that_is_the_nodes_a_gateways_or_a_services_or_of_a_link() {
    let node = Node::start();
    let other = Netns::new("other");
    node.netns.link("198.51.100.1/24").named("eth9").to(&other, "198.51.100.2/24");
    node.netns.ip(&["route", "add", "default", "via", "198.51.100.2"]);
    node.service("shop", "10.96.40.1:80", "tcp", &[]);
    let netns = Netns::new("web");
    let add =
        |address: &str| node.add(json!({ "name": "web", "netns": netns.path(), "addresses": [address] }));
    for (address, why) in [
        ("198.51.100.1", "the node's own"),
        (Node::ADDRESS, "the node's own"),
        ("198.51.100.2", "the gateway of a route"),
        ("198.51.100.255", "broadcast"),
        ("10.96.40.1", "a service"),
        ("169.254.1.1", "the gateway of every endpoint"),
        ("169.254.9.9", "link-local"),
        ("fe80::5", "link-local"),
        ("255.255.255.255", "reserved"),
        ("224.0.0.1", "group"),
        ("::ffff:10.0.0.1", "IPv4"),
        ("127.0.0.1", "loopback"),
    ] {
        let (status, error, _) = refusal(add(address));
        assert!([400, 409].contains(&status), "{address}: {status}");
        assert!(error.contains(address) && error.contains(why), "{error}");
    }
    assert_eq!(node.endpoints().len(), 0);
    add("198.51.100.7").unwrap();
}

#[test]
fn an_address_that_the_node_gets_later_is_the_nodes_as_long_as_it_has_it() {
    let node = Node::start();
    let (web, db) = (node.endpoint("web"), node.endpoint("db"));
    let at_db = receiver(&db.netns, db.v4());
    let ask = |receiver: &UdpSocket| {
        receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let socket = web.netns.run(|| UdpSocket::bind((web.v4(), 0)).unwrap());
        socket.send_to(b"hello", SocketAddr::new(db.v4(), PORT)).unwrap();
        receiver.recv(&mut [0; 10]).is_ok()
    };
    until(|| ask(&at_db), |arrived| *arrived);
    let doctor = || node.daemon.netloom(&["doctor"]).stdout;
    assert!(!doctor().contains("cannot have its address"), "{}", doctor());

    node.netns.add_address("lo", &format!("{}/32", db.v4()));
    let at_node = receiver(&node.netns, db.v4());
    until(|| ask(&at_node), |arrived| *arrived);
    let said = doctor();
    assert!(said.contains("endpoint db") && said.contains(&db.v4().to_string()), "{said}");
    assert!(said.contains("the node's own"), "{said}");

    drop(at_node);
    node.netns.ip(&["address", "delete", &format!("{}/32", db.v4()), "dev", "lo"]);
    until(|| ask(&at_db), |arrived| *arrived);
    assert!(!doctor().contains("cannot have its address"), "{}", doctor());
}
