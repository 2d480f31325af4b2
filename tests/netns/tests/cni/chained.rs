//! netloom-cni in a list with Debian's plugins behind it, called as libcni does: in order for ADD and CHECK, in turn
//! from behind for DEL.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use netloom_netns_tests::Node;
use netloom_test_support::{CniCall, Netns, until};
use serde_json::{Value, json};

use crate::runtime::{endpoints, network, with};

/// Where distributions have the plugins of the CNI project.
pub(crate) const OTHERS: &str = "/usr/lib/cni";

/// A network of netloom-cni and others behind it.
struct List<'a> {
    node: &'a Node,
    plugins: Vec<Value>,
}

impl List<'_> {
    /// Each plugin with the answer of the one in front; the last answer.
    fn add(&self, container: &str, netns: &Netns) -> Value {
        self.plugins.iter().fold(Value::Null, |before, plugin| {
            let before = if before.is_null() { json!({}) } else { json!({ "prevResult": before }) };
            self.run("ADD", container, netns, &with(plugin.clone(), before)).result()
        })
    }

    fn check(&self, container: &str, netns: &Netns, result: &Value) {
        // Of a container with both families, portmap (1.1.1) looks for the rules of the one among the other's.
        for plugin in self.plugins.iter().filter(|plugin| plugin["type"] != "portmap") {
            let config = with(plugin.clone(), json!({ "prevResult": result }));
            self.run("CHECK", container, netns, &config).silent();
        }
    }

    fn delete(&self, container: &str, netns: &Netns, result: &Value) {
        for plugin in self.plugins.iter().rev() {
            let config = with(plugin.clone(), json!({ "prevResult": result }));
            self.run("DEL", container, netns, &config).silent();
        }
    }

    fn run(
        &self,
        command: &str,
        container: &str,
        netns: &Netns,
        config: &Value,
    ) -> netloom_test_support::CniAnswer {
        let call = CniCall::new(command, &netns.path()).with("CNI_CONTAINERID", container);
        let call = call.with("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").with("CNI_PATH", OTHERS);
        let call = match config["type"].as_str().unwrap() {
            "netloom-cni" => call,
            other => call.of(Path::new(OTHERS).join(other)),
        };
        self.node.netns.run(|| call.run(config))
    }
}

/// A node that joins a host outside, and a list of plugins on it.
fn world() -> (Node, Netns) {
    let node = Node::start();
    let outside = Netns::new("outside");
    node.netns.link("198.51.100.1/24").named("eth9").to(&outside, "198.51.100.2/24");
    node.netns.ip(&["route", "add", "default", "via", "198.51.100.2"]);
    until(|| node.status().outside.uplinks, |uplinks| uplinks == &["eth9"]);
    (node, outside)
}

fn list<'a>(node: &'a Node, others: &[Value]) -> List<'a> {
    let own = network(node, "1.0.0");
    let others = others.iter().map(|other| with(own.clone(), other.clone()));
    List { node, plugins: [own.clone()].into_iter().chain(others).collect() }
}

fn nat_rules(node: &Node) -> String {
    node.netns.command(&["iptables-save", "-t", "nat"]).expect_ok()
}

#[test]
fn a_published_port_works_from_everywhere_and_is_gone_with_its_container() {
    let (node, outside) = world();
    let mappings: Vec<Value> = ["tcp", "udp"]
        .iter()
        .map(|protocol| json!({ "hostPort": 8080, "containerPort": 80, "protocol": protocol }))
        .collect();
    let portmap = json!({ "type": "portmap", "runtimeConfig": { "portMappings": mappings } });
    let firewall = json!({ "type": "firewall", "backend": "iptables" });
    let tuning = json!({ "type": "tuning", "sysctl": { "net.core.somaxconn": "500" } });
    let list = list(&node, &[portmap, firewall, tuning]);
    let (web, client) = (Netns::new("web"), node.endpoint("client"));
    let result = list.add("web", &web);
    list.check("web", &web, &result);
    assert_eq!(web.command(&["cat", "/proc/sys/net/core/somaxconn"]).expect_ok().trim(), "500");

    let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap();
    let inside: SocketAddr = format!("{address}:80").parse().unwrap();
    let (servers, datagrams) = (web.tcp_echo(&inside.to_string()), web.udp_echo(&inside.to_string()));
    let published: SocketAddr = "198.51.100.1:8080".parse().unwrap();
    let text = "x".repeat(20_000);
    let clients = [
        (&outside, published),
        (&client.netns, published),
        // Itself, by the node's port.
        (&web, published),
        (&node.netns, published),
        (&client.netns, inside),
        (&node.netns, inside),
    ];
    for (from, to) in clients {
        let exchanged = until(|| from.try_connect_tcp(to).ok(), Option::is_some);
        let mut connection = exchanged.unwrap();
        for _ in 0..3 {
            assert_eq!(connection.exchange(&text), text, "{} to {to}", from.name());
        }
        let mut query = from.connect_udp(to);
        assert_eq!(query.exchange("hello"), "hello", "{} to {to}", from.name());
    }
    drop((servers, datagrams));

    list.delete("web", &web, &result);
    assert_eq!(endpoints(&node), ["client"]);
    assert!(!nat_rules(&node).contains(address), "{}", nat_rules(&node));
    assert!(outside.try_connect_tcp(published).is_err());
}

/// Bytes a second that arrive of what is sent without a pause, when buffers and the shaper's burst are full.
fn rate(from: &Netns, to: &Netns, address: IpAddr) -> f64 {
    let address = SocketAddr::new(address, 9000);
    let listener = to.run(|| TcpListener::bind(address)).unwrap();
    let mut sender = from.run(|| TcpStream::connect(address)).unwrap();
    let (receiver, _) = listener.accept().unwrap();
    let received = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| while sender.write_all(&[7; 16 << 10]).is_ok() {});
        scope.spawn(|| {
            let mut buffer = [0; 64 << 10];
            while let Ok(length @ 1..) = (&receiver).read(&mut buffer) {
                received.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
        let look = || (Instant::now(), received.load(Ordering::Relaxed));
        thread::sleep(Duration::from_secs(1));
        let (since, before) = look();
        thread::sleep(Duration::from_secs(3));
        let (until, after) = look();
        receiver.shutdown(Shutdown::Both).unwrap();
        (after - before) as f64 / (until - since).as_secs_f64()
    })
}

#[test]
fn a_shaper_of_others_holds_on_every_way_of_a_container() {
    /// Bytes a second, and what it may be over a few seconds.
    const LIMIT: f64 = 1e6;
    let (node, outside) = world();
    let client = node.endpoint("client");
    let limits = json!({
        "type": "bandwidth",
        "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000,
    });
    let list = list(&node, &[limits]);
    let web = Netns::new("web");
    let result = list.add("web", &web);
    let at_web: IpAddr =
        result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap();
    let outside_address: IpAddr = "198.51.100.2".parse().unwrap();
    outside.ip(&["route", "add", "10.210.0.0/16", "via", "198.51.100.1"]);
    let said = |status: &netloom_api::types::Status| format!("{:?} {:?}", status.local, status.outside);
    until(|| node.status(), |status| said(status).contains("tbf"));
    for (from, to, address) in [
        (&client.netns, &web, at_web),
        (&web, &client.netns, client.v4()),
        (&outside, &web, at_web),
        (&web, &outside, outside_address),
    ] {
        let rate = rate(from, to, address);
        println!("{} to {}: {rate} bytes a second", from.name(), to.name());
        assert!(rate < LIMIT * 1.2, "{} to {}: {rate} bytes a second", from.name(), to.name());
    }
    list.delete("web", &web, &result);
}
