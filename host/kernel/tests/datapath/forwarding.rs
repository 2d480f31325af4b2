//! Packets between endpoints, the node and impostors.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket},
    time::Duration,
};

use netloom_core::model::{AttachmentKind, DeviceMode, Feature};
use netloom_kernel::datapath::{DatapathError, EndpointConfig};
use netloom_test_support::{at_this_pace, each_way};

use crate::{
    node::{Endpoint, Kind, Node, SIZES, arrivals, of_kinds, send, send_sized, v4, v6},
    ping::{is_silent, ping},
};

of_kinds!(
    veth netkit netkit_l2:
    endpoints_and_the_node_reach_each_other,
    a_forged_source_address_is_dropped_and_counted,
    what_does_not_fit_is_left_to_the_nodes_stack,
    an_endpoint_whose_programs_are_gone_is_cut_off,
);
of_kinds!(veth netkit_l2: neighbours_are_discovered_where_there_is_a_link_layer);
each_way!(async endpoints_reach_each_other_past_the_nodes_stack; {
    veth_tc_to_veth_tc: [Feature::LegacyTc] => (Kind::VETH_TC, Kind::VETH_TC),
    veth_tc_to_veth_tcx: [Feature::Tcx] => (Kind::VETH_TC, Kind::VETH_TCX),
    veth_tc_to_netkit: [Feature::NetkitLinks] => (Kind::VETH_TC, Kind::NETKIT),
    veth_tc_to_netkit_l2: [Feature::NetkitLinks] => (Kind::VETH_TC, Kind::NETKIT_L2),
    veth_tcx_to_veth_tc: [Feature::Tcx] => (Kind::VETH_TCX, Kind::VETH_TC),
    veth_tcx_to_veth_tcx: [Feature::Tcx] => (Kind::VETH_TCX, Kind::VETH_TCX),
    veth_tcx_to_netkit: [Feature::Tcx, Feature::NetkitLinks] => (Kind::VETH_TCX, Kind::NETKIT),
    veth_tcx_to_netkit_l2: [Feature::Tcx, Feature::NetkitLinks] => (Kind::VETH_TCX, Kind::NETKIT_L2),
    netkit_to_veth_tc: [Feature::NetkitLinks] => (Kind::NETKIT, Kind::VETH_TC),
    netkit_to_veth_tcx: [Feature::NetkitLinks, Feature::Tcx] => (Kind::NETKIT, Kind::VETH_TCX),
    netkit_to_netkit: [Feature::NetkitLinks] => (Kind::NETKIT, Kind::NETKIT),
    netkit_to_netkit_l2: [Feature::NetkitLinks] => (Kind::NETKIT, Kind::NETKIT_L2),
    netkit_l2_to_veth_tc: [Feature::NetkitLinks] => (Kind::NETKIT_L2, Kind::VETH_TC),
    netkit_l2_to_veth_tcx: [Feature::NetkitLinks, Feature::Tcx] => (Kind::NETKIT_L2, Kind::VETH_TCX),
    netkit_l2_to_netkit: [Feature::NetkitLinks] => (Kind::NETKIT_L2, Kind::NETKIT),
    netkit_l2_to_netkit_l2: [Feature::NetkitLinks] => (Kind::NETKIT_L2, Kind::NETKIT_L2),
});

const COUNT: usize = 200;

async fn endpoints_reach_each_other_past_the_nodes_stack((from, to): (Kind, Kind)) {
    let node = Node::new();
    let blue = node.endpoint(from, 1).await;
    let red = node.endpoint(to, 2).await;
    assert!(ping(&blue.netns, v4(2)), "v4, {from:?} to {to:?}");
    assert!(ping(&blue.netns, v6(2)), "v6, {from:?} to {to:?}");
    assert!(ping(&red.netns, v4(1)), "v4, {to:?} to {from:?}");
    assert!(ping(&red.netns, v6(1)), "v6, {to:?} to {from:?}");
    each_packet_is_counted_once(&node, &blue, v4(1), &red, v4(2));
    each_packet_is_counted_once(&node, &blue, v6(1), &red, v6(2));
    stream(&blue, &red, v4(2));
    stream(&red, &blue, v6(1));
}

fn each_packet_is_counted_once(node: &Node, from: &Endpoint, source: IpAddr, to: &Endpoint, address: IpAddr) {
    let receiver = to.receiver(address);
    let (sent, received) = (node.settled_counters(from), node.settled_counters(to));
    send(&from.netns, source, address, COUNT);
    assert_eq!(arrivals(&receiver), COUNT);
    let frame = if address.is_ipv4() { 14 + 20 } else { 14 + 40 } + 8 + 100;
    let (after_sent, after_received) = (node.counters(from), node.counters(to));
    assert_eq!(after_sent.sent_packets - sent.sent_packets, COUNT as u64);
    assert_eq!(after_received.received_packets - received.received_packets, COUNT as u64);
    assert_eq!(after_sent.sent_bytes - sent.sent_bytes, frame * COUNT as u64);
    assert_eq!(after_received.received_bytes - received.received_bytes, frame * COUNT as u64);
}

/// Segmentation and checksum offload survive the redirect.
fn stream(from: &Endpoint, to: &Endpoint, address: IpAddr) {
    use std::io::{Read, Write};
    let listener = to.netns.run(|| std::net::TcpListener::bind((address, 7001)).unwrap()).unwrap();
    let data: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    std::thread::scope(|scope| {
        let received = scope.spawn(|| {
            let mut bytes = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let mut client = from.netns.run(|| std::net::TcpStream::connect((address, 7001)).unwrap()).unwrap();
        client.write_all(&data).unwrap();
        drop(client);
        assert!(received.join().unwrap() == data, "a stream arrives as it was sent");
    });
}

async fn endpoints_and_the_node_reach_each_other(kind: Kind) {
    let node = Node::new();
    let blue = node.endpoint(kind, 1).await;
    for (own, of_node) in [v4(1), v6(1)].into_iter().zip(node.addresses()) {
        assert!(ping(&blue.netns, of_node), "{kind:?} to the node at {of_node}");
        let receiver = blue.receiver(own);
        let before = node.settled_counters(&blue);
        send(&node.netns, of_node, own, COUNT);
        assert_eq!(arrivals(&receiver), COUNT, "{kind:?}");
        let after = node.counters(&blue);
        assert_eq!(after.received_packets - before.received_packets, COUNT as u64);
        assert_eq!(after.sent_packets, before.sent_packets);
    }
    assert_eq!(node.counters(&blue).dropped_spoofed, 0);
}

async fn neighbours_are_discovered_where_there_is_a_link_layer(kind: Kind) {
    let node = Node::new();
    let blue = node.endpoint(kind, 1).await;
    node.ip("link set lo up");
    node.ip("address add 10.1.0.254/32 dev lo");
    node.ip("address add 169.254.1.1/32 dev lxc1");
    node.ip("address add fe80::99/64 dev lxc1 nodad");
    blue.ip("neighbour flush dev eth0 nud permanent");
    assert!(ping(&blue.netns, v4(254)), "{kind:?}: by ARP");

    let receiver = node.netns.run(|| UdpSocket::bind("[::]:7000").unwrap()).unwrap();
    receiver.set_read_timeout(Some(at_this_pace(Duration::from_secs(5)))).unwrap();
    let scope = blue.netns.run(|| if_index("eth0")).unwrap();
    let to = SocketAddr::V6(SocketAddrV6::new("fe80::99".parse().unwrap(), 7000, 0, scope));
    blue.netns.run(|| UdpSocket::bind("[::]:0").unwrap().send_to(b"hello", to)).unwrap().unwrap();
    assert_eq!(receiver.recv(&mut [0; 10]).unwrap(), 5, "{kind:?}: by neighbour discovery");
    assert_eq!(node.counters(&blue).dropped_spoofed, 0);
}

fn if_index(device: &str) -> u32 {
    // `address index prefix scope flags device`, hexadecimal
    let table = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
    let line = table.lines().find(|line| line.ends_with(device)).unwrap();
    u32::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

async fn a_forged_source_address_is_dropped_and_counted(kind: Kind) {
    let node = Node::new();
    let blue = node.endpoint(kind, 1).await;
    let red = node.endpoint(kind, 2).await;
    blue.ip("address add 10.1.0.66/32 dev eth0");
    blue.ip("address add fd00::66/128 dev eth0 nodad");
    for (forged, own, to) in
        [(v4(66), v4(1), v4(2)), (IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0x66]), v6(1), v6(2))]
    {
        let receiver = red.receiver(to);
        let before = node.counters(&blue);
        send(&blue.netns, forged, to, 10);
        assert_eq!(arrivals(&receiver), 0, "{kind:?} from {forged}");
        assert_eq!(node.counters(&blue).dropped_spoofed - before.dropped_spoofed, 10);
        send(&blue.netns, own, to, 10);
        assert_eq!(arrivals(&receiver), 10, "{kind:?} from {own}");
    }
}

#[tokio::test]
async fn another_endpoints_address_is_a_forged_one_too() {
    let node = Node::new();
    let kind = Kind(DeviceMode::Veth, AttachmentKind::Tc);
    let blue = node.endpoint(kind, 1).await;
    let red = node.endpoint(kind, 2).await;
    let green = node.endpoint(kind, 3).await;
    blue.ip("address add 10.1.0.3/32 dev eth0");
    let receiver = red.receiver(v4(2));
    send(&blue.netns, v4(3), v4(2), 10);
    assert_eq!(arrivals(&receiver), 0);
    assert_eq!(node.counters(&blue).dropped_spoofed, 10);
    assert_eq!(node.counters(&green).dropped_spoofed, 0);
}

async fn what_does_not_fit_is_left_to_the_nodes_stack(kind: Kind) {
    let node = Node::new();
    let wide = node.endpoint_with_mtu(kind, 1, 1500).await;
    let narrow = node.endpoint_with_mtu(kind, 2, 1300).await;
    let receiver = narrow.receiver(v4(2));
    send(&wide.netns, v4(1), v4(2), 1);
    assert_eq!(arrivals(&receiver), 1, "{kind:?}: what fits goes directly");
    // On the link with the header of IPv4, and that of UDP.
    send_sized(&wide.netns, v4(1), v4(2), 1300 - 28, 1);
    assert_eq!(arrivals(&receiver), 1, "{kind:?}: what just fits as well");
    send_sized(&wide.netns, v4(1), v4(2), 1300 - 27, 1);
    assert_eq!(arrivals(&receiver), 0, "{kind:?}: the node does not forward, and so it does not arrive");
    node.forward(true);
    send_sized(&wide.netns, v4(1), v4(2), 1300 - 27, 1);
    send_sized(&wide.netns, v4(1), v4(2), 1300 - 27, 1);
    assert_eq!(
        arrivals(&receiver),
        1,
        "{kind:?}: of the first its sender is told, the second is in fragments"
    );
    node.forward(false);
    assert!(ping_one_way(&narrow, v4(2), &wide, v4(1)), "{kind:?}: to the wider link it goes directly");
}

fn ping_one_way(from: &Endpoint, source: IpAddr, to: &Endpoint, address: IpAddr) -> bool {
    let receiver = to.receiver(address);
    send(&from.netns, source, address, 1);
    arrivals(&receiver) == 1
}

async fn an_endpoint_whose_programs_are_gone_is_cut_off(kind: Kind) {
    let node = Node::new();
    let blue = node.endpoint(kind, 1).await;
    let red = node.endpoint(kind, 2).await;
    let of_node = node.addresses();
    node.forward(true);
    let ways = [(v4(1), v4(2)), (v6(1), v6(2)), (v4(1), of_node[0]), (v6(1), of_node[1])];
    let arrive = |(source, to): (IpAddr, IpAddr)| {
        let netns = if to == v4(2) || to == v6(2) { &red.netns } else { &node.netns };
        let receiver = netns.run(|| UdpSocket::bind((to, 7000)).unwrap()).unwrap();
        send(&blue.netns, source, to, 10);
        arrivals(&receiver)
    };
    for way in ways {
        assert_eq!(arrive(way), 10, "{kind:?} {way:?}");
    }
    node.take_programs_off(&blue);
    for way in ways {
        assert_eq!(arrive(way), 0, "{kind:?} {way:?}: by the node's stack, past every check");
    }
}

#[tokio::test]
async fn a_removed_endpoint_is_no_longer_reached() {
    let node = Node::new();
    let kind = Kind(DeviceMode::Veth, AttachmentKind::Tc);
    let blue = node.endpoint(kind, 1).await;
    let red = node.endpoint(kind, 2).await;
    assert!(ping(&blue.netns, v4(2)));
    node.datapath.remove_endpoint(7, &red.config.addresses).unwrap();
    assert!(ping(&blue.netns, v4(2)), "removing another endpoint under these addresses changes nothing");
    node.datapath.remove_endpoint(2, &red.config.addresses).unwrap();
    assert!(is_silent(&blue.netns, v4(2)));
    assert_eq!(node.datapath.addresses().unwrap().len(), 2);
}

#[tokio::test]
async fn a_new_endpoint_counts_from_zero_and_a_known_one_goes_on() {
    let node = Node::new();
    let kind = Kind(DeviceMode::Veth, AttachmentKind::Tc);
    let blue = node.endpoint(kind, 1).await;
    let red = node.endpoint(kind, 2).await;
    assert!(ping(&blue.netns, v4(2)));
    let before = node.counters(&red);
    assert!(before.received_packets > 0);
    node.datapath.set_endpoint(&red.config).unwrap();
    assert!(node.counters(&red).received_packets >= before.received_packets);
    node.datapath.remove_endpoint(2, &red.config.addresses).unwrap();
    node.datapath.set_endpoint(&red.config).unwrap();
    assert!(node.counters(&red).received_packets < before.received_packets.max(2));
}

#[test]
fn what_does_not_fit_is_refused() {
    let pins = crate::node::Pins::new();
    let datapath = pins.datapath();
    let endpoint = |id: u32, addresses: Vec<IpAddr>| EndpointConfig {
        id,
        mode: DeviceMode::Veth,
        attachment: AttachmentKind::Tc,
        mtu: 1500,
        host_ifindex: netloom_core::model::IfIndex(1),
        mac: None,
        gateway_mac: None,
        addresses,
    };
    let error = datapath.set_endpoint(&endpoint(SIZES.endpoints, vec![])).unwrap_err();
    assert!(matches!(error, DatapathError::EndpointId { .. }), "{error}");
    let error = datapath.endpoint_programs(&endpoint(1, (1..=9).map(v4).collect())).unwrap_err();
    assert!(matches!(error, DatapathError::Addresses { count: 9, limit: 8, .. }), "{error}");

    datapath.set_endpoint(&endpoint(1, vec![v4(1), v6(1)])).unwrap();
    let error = datapath.set_endpoint(&endpoint(2, vec![v4(2), v6(1)])).unwrap_err();
    assert!(matches!(error, DatapathError::AddressTaken { owner: 1, .. }), "{error}");
    assert_eq!(datapath.addresses().unwrap().len(), 2, "nothing of the refused endpoint is there");

    let error = datapath.set_endpoint(&endpoint(3, (100..=200).map(v4).collect())).unwrap_err();
    assert!(error.to_string().contains("datapath.max_endpoints"), "{error}");
    assert_eq!(datapath.addresses().unwrap().len(), 2, "nothing of the refused endpoint is there");
}
