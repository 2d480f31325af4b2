//! A node whose services are kube-proxy's, as it writes them for nftables: a map from addresses and ports to chains, one
//! of which is chosen by chance, and a mark for what has to come back by the node.

use std::net::SocketAddr;

use netloom_netns_tests::Node;
use netloom_test_support::{Netns, until};

use super::{NATIVE, await_outside, by_eth9, join};

const CLUSTER_IP: &str = "10.96.0.10";
const NODE_PORT: &str = "198.51.100.1:30080";

/// Two backends of one service, at port 80 of its address and at a port of the node.
fn rules(backends: [&str; 2]) -> String {
    let [one, other] = backends;
    let backend = |name: &str, address: &str| {
        format!(
            "chain endpoint-{name} {{
                ip saddr {address} jump mark-for-masquerade
                meta l4proto tcp dnat to {address}:7000
                meta l4proto udp dnat to {address}:7000
            }}"
        )
    };
    format!(
        "table ip kube-proxy {{
            map service-ips {{
                type ipv4_addr . inet_proto . inet_service : verdict
                elements = {{ {CLUSTER_IP} . tcp . 80 : goto service-web, {CLUSTER_IP} . udp . 80 : goto service-web }}
            }}
            map service-nodeports {{
                type inet_proto . inet_service : verdict
                elements = {{ tcp . 30080 : goto external-web, udp . 30080 : goto external-web }}
            }}
            chain nat-prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                jump services
            }}
            chain nat-output {{
                type nat hook output priority -100; policy accept;
                jump services
            }}
            chain nat-postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                meta mark and 0x4000 == 0x4000 jump masquerading
            }}
            chain services {{
                ip daddr . meta l4proto . th dport vmap @service-ips
                fib daddr type local meta l4proto . th dport vmap @service-nodeports
            }}
            chain service-web {{
                ip saddr != 10.210.0.0/16 jump mark-for-masquerade
                numgen random mod 2 vmap {{ 0 : goto endpoint-one, 1 : goto endpoint-other }}
            }}
            chain external-web {{
                jump mark-for-masquerade
                goto service-web
            }}
            {}
            {}
            chain mark-for-masquerade {{
                meta mark set meta mark or 0x4000
            }}
            chain masquerading {{
                meta mark set meta mark xor 0x4000
                masquerade fully-random
            }}
        }}",
        backend("one", one),
        backend("other", other)
    )
}

#[test]
fn services_of_kube_proxy_are_reached_from_endpoints_from_the_node_and_from_outside() {
    let node = Node::configured(NATIVE);
    let outside = Netns::new("outside");
    join(&node, &outside);
    await_outside(&node, by_eth9);
    let _ = node.netns.command(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]).expect_ok();
    let (client, one, other) = (node.endpoint("client"), node.endpoint("one"), node.endpoint("other"));
    let _ =
        node.netns.command(&["nft", &rules([&one.v4().to_string(), &other.v4().to_string()])]).expect_ok();
    let told = until(|| node.status().local, |local| local.translated_by.is_some());
    assert!(told.translated_by.unwrap().contains("kube-proxy"));

    let at = |address: std::net::IpAddr| format!("{address}:7000");
    let servers = [&one, &other].map(|backend| backend.netns.tcp_echo(&at(backend.v4())));
    let datagrams = [&one, &other].map(|backend| backend.netns.udp_echo(&at(backend.v4())));
    let cluster_ip: SocketAddr = format!("{CLUSTER_IP}:80").parse().unwrap();
    let text = "x".repeat(20_000);
    let clients = [
        (&client.netns, cluster_ip),
        // Which is one of its own backends.
        (&one.netns, cluster_ip),
        (&node.netns, cluster_ip),
        (&outside, NODE_PORT.parse().unwrap()),
        (&client.netns, NODE_PORT.parse().unwrap()),
    ];
    for (from, to) in clients {
        let before = servers.each_ref().map(|server| server.accepted());
        let reached_both = || {
            let mut connection = from.connect_tcp(to);
            assert_eq!(connection.exchange(&text), text, "{} to {to}", from.name());
            assert_eq!(connection.exchange("again"), "again", "{} to {to}", from.name());
            servers.iter().zip(before).all(|(server, before)| server.accepted() > before)
        };
        until(reached_both, |reached_both| *reached_both);
        let mut query = from.connect_udp(to);
        for _ in 0..3 {
            assert_eq!(query.exchange("hello"), "hello", "{} to {to}", from.name());
        }
    }
    drop(datagrams);
}
