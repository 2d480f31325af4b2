//! Services as programs meet them.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, UdpSocket},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use netloom_api::types::{Done, ReapReport, Service, ServicesApplied};
use netloom_netns_tests::{Endpoint, Node, applications::PEER, refusal};
use netloom_test_support::{Netns, at_this_pace, emulated, require_tool, until};
use serde_json::{Value, json};

#[test]
fn a_drained_backend_gets_no_new_connections_and_keeps_its_old_ones_until_it_goes() {
    let mut node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let [old, new] = [8080, 9090].map(|port| server.netns.tcp_echo(&format!("{}:{port}", server.v4())));
    let vip: SocketAddr = "10.96.30.1:80".parse().unwrap();
    node.service("web", &vip.to_string(), "tcp", &[old.address().to_string()]);
    let mut connection = client.netns.connect_tcp(vip);
    assert_eq!(connection.exchange("before"), "before");

    // v4-mapped, as some write it.
    let mapped = json!({ "address": format!("[::ffff:{}]:9090", server.v4()), "weight": 3 });
    let _: Service = node.daemon.post("/v1/services/web/backends", &mapped).unwrap();
    let route = format!("/v1/services/web/backends/{}", old.address());
    let service: Service = node.daemon.patch(&route, &json!({ "weight": 0 })).unwrap();
    assert_eq!(service.backends, [old.address(), new.address()]);
    assert_eq!(json!(service.weights), json!({ old.address().to_string(): 0, new.address().to_string(): 3 }));
    node.daemon.kill9();
    node.daemon.restart();
    let (before, until) = (old.accepted(), new.accepted() + 10);
    for _ in 0..10 {
        assert_eq!(client.netns.connect_tcp(vip).exchange("hello"), "hello");
    }
    assert_eq!((old.accepted(), new.accepted()), (before, until));
    assert_eq!(connection.exchange("still"), "still");
    assert_eq!(connection.peer(), vip);

    let route_of_new = format!("/v1/services/web/backends/{}", new.address());
    let _: Service = node.daemon.patch(&route_of_new, &json!({ "weight": 0 })).unwrap();
    let refused = client.netns.try_connect_tcp(vip).map(drop).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    let report: ReapReport = node.daemon.delete(&route).unwrap();
    assert_eq!(report.sockets.len(), 1, "{report:?}");
    assert!(connection.try_exchange("after").is_err());
    let (_, too_heavy, _) = refusal(node.daemon.patch::<Service>(&route_of_new, &json!({ "weight": 101 })));
    assert!(too_heavy.contains("from 0"), "{too_heavy}");
    let (_, gone, _) = refusal(node.daemon.patch::<Service>(&route, &json!({ "weight": 1 })));
    assert!(gone.contains("no backend of web"), "{gone}");
    let chained = json!({ "name": "front", "vip": "10.96.30.2:80", "protocol": "tcp", "backends": [vip] });
    let (_, chained, _) = refusal(node.daemon.post::<Service>("/v1/services", &chained));
    assert!(chained.contains("the address of service web"), "{chained}");
}

#[test]
fn an_endpoint_with_the_label_sees_the_addresses_of_services_as_they_are() {
    let mut node = Node::start();
    let server = node.endpoint("server");
    let behind = server.netns.count_datagrams(&format!("{}:53", server.v4()));
    let label = json!({ "netloom.dev/service-translation": "none" });
    let meshed = Netns::new("meshed");
    let add = |node: &Node, name: &str, labels: &Value| {
        node.add(json!({ "name": name, "netns": meshed.path(), "interface": name, "labels": labels }))
            .unwrap()
    };
    let view = add(&node, "meshed", &label);
    assert_eq!(view.untranslated.as_deref(), Some("netloom.dev/service-translation=none"));
    // What translates in the endpoint itself is at the service's address.
    let vip: SocketAddr = "10.96.40.1:53".parse().unwrap();
    meshed.add_address("lo", "10.96.40.1/32");
    let inside = meshed.count_datagrams(&vip.to_string());
    node.service("dns", &vip.to_string(), "udp", &[format!("{}:53", server.v4())]);

    let went = || {
        let (before, there) = (inside.arrived(), behind.arrived());
        let sender = meshed.send_datagrams(vip, Duration::from_millis(2));
        let went =
            until(|| (inside.arrived() - before, behind.arrived() - there), |went| went.0 + went.1 > 10);
        drop(sender);
        went
    };
    assert_eq!(went().1, 0, "it is translated");
    assert!(
        node.daemon.netloom(&["endpoint", "show", "meshed"]).expect_ok().contains("not translated (label")
    );
    let to = format!("{vip}/udp");
    let traced = node.daemon.netloom(&["endpoint", "trace", "meshed", "--to", &to]).expect_ok();
    assert!(traced.contains("dns is not translated"), "{traced}");
    node.daemon.kill9();
    node.daemon.restart();
    assert_eq!(went().1, 0, "a restart forgets it");
    node.daemon.kill9();
    std::fs::remove_file(node.daemon.paths().state.join("store.redb")).unwrap();
    node.daemon.restart();
    let rebuilt =
        node.endpoints().into_iter().find(|view| view.endpoint.spec.name.as_str() == "meshed").unwrap();
    assert_eq!(rebuilt.untranslated, view.untranslated, "it goes with the store");
    // Services are in the store alone.
    node.service("dns", &vip.to_string(), "udp", &[format!("{}:53", server.v4())]);
    assert_eq!(went().1, 0, "it goes with the store");

    let _: Done = node.delete("meshed").unwrap();
    assert!(add(&node, "plain", &json!({})).untranslated.is_none());
    assert_eq!(went().0, 0, "its successor in the namespace is not translated for");
}

/// Answers so many requests, each on a connection of its own, and ends.
fn answer(netns: &Netns, address: &str, times: usize) -> JoinHandle<()> {
    let listener = netns.run(|| TcpListener::bind(address)).unwrap();
    thread::spawn(move || {
        for _ in 0..times {
            let (mut stream, _) = listener.accept().unwrap();
            let read = stream.read(&mut [0; 1024]).unwrap();
            assert!(read > 0);
            stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n").unwrap();
        }
    })
}

/// As the shell starts them with an address and a port; `URL` has the address as URLs do. Each says where it was.
const NC: &str = r#"printf 'word\n' | timeout 5 busybox nc "$0" "$1" | grep -q hello && echo "$0 $1""#;
const CURL: &str = r#"curl -sS -g -m 5 -o /dev/null -w '%{remote_ip} %{remote_port}' "http://$URL:$1/""#;

/// Services of a server's, at addresses of both families, and who goes there: another endpoint, and the server itself.
struct Served {
    _node: Node,
    client: Endpoint,
    server: Endpoint,
    /// As one writes them: IPv4, IPv4 mapped into IPv6, IPv6.
    vips: [String; 3],
}

impl Served {
    /// The services are in a network of the test's.
    fn new(network: u8) -> Self {
        let vips = [
            format!("10.96.{network}.1"),
            format!("::ffff:10.96.{network}.1"),
            format!("fd00:96::{network}"),
        ];
        let node = Node::start();
        let (client, server) = (node.endpoint("client"), node.endpoint("server"));
        for (name, vip, address) in [
            ("v4", vips[0].clone(), server.v4().to_string()),
            ("v6", format!("[{}]", vips[2]), format!("[{}]", server.v6())),
        ] {
            for (protocol, port) in [("tcp", 80), ("udp", 80), ("tcp", 81)] {
                let backend = format!("{address}:{}", port + 8_000);
                node.service(
                    &format!("{protocol}{name}-{port}"),
                    &format!("{vip}:{port}"),
                    protocol,
                    &[backend],
                );
            }
        }
        Self { _node: node, client, server, vips }
    }

    fn address(&self, vip: &str, port: u16) -> String {
        let address = if vip == self.vips[2] { self.server.v6() } else { self.server.v4() };
        SocketAddr::new(address, port).to_string()
    }

    /// A program in the shell's words that asks for a page at each address.
    fn requested_by(&self, request: &str) {
        for (netns, vip) in self.ways() {
            let url = if vip.contains(':') { format!("[{vip}]") } else { vip.to_owned() };
            let answered = answer(&self.server.netns, &self.address(vip, 8081), 1);
            let ran = netns.command(&["env", &format!("URL={url}"), "sh", "-c", request, vip, "81"]);
            assert_eq!(ran.stdout.trim(), format!("{vip} 81"), "{request}: {}", ran.stderr);
            answered.join().unwrap();
        }
    }

    fn ways(&self) -> impl Iterator<Item = (&Netns, &str)> {
        [&self.client.netns, &self.server.netns]
            .into_iter()
            .flat_map(|netns| self.vips.iter().map(move |vip| (netns, vip.as_str())))
    }
}

#[test]
fn ordinary_programs_see_the_service_also_where_they_are_its_backend() {
    let observers = PEER.install();
    let served = Served::new(31);
    let server = &served.server.netns;
    let addresses = [0, 2].map(|of| served.address(&served.vips[of], 8080));
    let _echoes = addresses.each_ref().map(|address| (server.tcp_echo(address), server.udp_echo(address)));
    let of_python = if emulated() { 3 } else { usize::MAX };
    let in_python = served.ways().take(of_python).map(|way| (way, observers.in_python()));
    for ((netns, vip), observer) in served.ways().map(|way| (way, observers.in_c())).chain(in_python) {
        for protocol in ["tcp", "udp", "udp-unconnected"] {
            let mut words: Vec<&str> = observer.iter().map(String::as_str).collect();
            words.extend([protocol, vip, "80"]);
            let ran = netns.command(&words);
            assert_eq!(ran.stdout.trim(), format!("{vip} 80"), "{words:?}: {}", ran.stderr);
        }
    }
    served.requested_by(NC);
}

#[test]
fn curl_sees_the_service_also_where_it_is_its_backend() {
    if !require_tool(
        "curl",
        "the machines have none, as its libraries are larger than all other programs there",
    ) {
        return;
    }
    Served::new(34).requested_by(CURL);
}

#[test]
fn ten_thousand_services_are_applied_at_once_and_go_at_once() {
    let mut node = Node::start();
    let client = node.endpoint("client");
    let server = client.netns.tcp_echo(&format!("{}:8080", client.v4()));
    let (services, backends) = if emulated() { (300, 3) } else { (10_000, 10) };
    let vip = |number: usize| format!("10.97.{}.{}:80", number / 250, 1 + number % 250);
    let wanted: Vec<_> = (0..services)
        .map(|number| {
            let backend = |of: usize| match (number, of) {
                (7, 0) => server.address().to_string(),
                _ => format!("10.{}.{}.{}:{}", 98 + of, number / 250, 1 + number % 250, 8000 + of),
            };
            let count = if number == 7 { 1 } else { backends };
            let backends: Vec<_> = (0..count).map(backend).collect();
            json!({ "name": format!("s{number}"), "vip": vip(number), "protocol": "tcp", "backends": backends })
        })
        .collect();
    let started = Instant::now();
    let request = json!({ "services": wanted, "prune": true });
    let applied: ServicesApplied = node.daemon.put("/v1/services", &request).unwrap();
    assert_eq!((applied.added.len(), applied.unchanged), (services, 0));
    println!("{services} services of {backends} backends in {} ms", started.elapsed().as_millis());
    let mut connection = client.netns.connect_tcp(vip(7).parse().unwrap());
    assert_eq!(connection.exchange("hello"), "hello");
    node.daemon.kill9();
    node.daemon.restart();
    let again: ServicesApplied = node.daemon.put("/v1/services", &request).unwrap();
    assert_eq!((again.added.len(), again.changed.len(), again.unchanged), (0, 0, services));
    assert_eq!(again.reap.finder, node.daemon.status().socket_finder);

    // One of them moves to the address of one that goes.
    let mut fewer = wanted[1..].to_vec();
    fewer[0]["vip"] = json!(vip(0));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("services.json");
    std::fs::write(&file, json!(fewer).to_string()).unwrap();
    let apply = ["service", "apply", file.to_str().unwrap(), "--prune"];
    let dry = node.daemon.netloom(&[apply.as_slice(), &["--dry-run"]].concat()).expect_ok();
    assert!(dry.contains("Would change 1: s1.") && dry.contains("Would remove 1: s0."), "{dry}");
    let shown = node.daemon.netloom(&apply).expect_ok();
    assert!(shown.contains("Changed 1: s1.") && shown.contains("Removed 1: s0."), "{shown}");
    assert_eq!(connection.exchange("still"), "still");

    let none: ServicesApplied =
        node.daemon.put("/v1/services", &json!({ "services": [], "prune": true })).unwrap();
    assert_eq!(none.removed.len(), services - 1);
    assert_eq!(none.reap.sockets.len(), 1, "{:?}", none.reap);
    assert!(connection.try_exchange("after").is_err());
    let metrics = node.daemon.text("/metrics").unwrap();
    assert!(metrics.contains("netloom_map_entries{map=\"nl_backends\"} 0\n"), "{metrics}");
}

#[test]
fn services_that_do_not_fit_are_refused_as_a_whole() {
    let node = Node::configured("[datapath]\nmax_services = 3\nmax_backends = 4\n");
    node.service("old", "10.96.33.1:80", "tcp", &["10.1.0.1:80".to_owned()]);
    let before: Vec<Service> = node.daemon.get("/v1/services").unwrap();
    let service = |name: &str, vip: &str, backends: &[&str]| json!({ "name": name, "vip": vip, "protocol": "tcp", "backends": backends });
    let apply = |services: Vec<Value>| {
        let request = json!({ "services": services, "prune": true });
        node.daemon.put::<ServicesApplied>("/v1/services", &request)
    };
    let three = ["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"];
    let (_, full, _) =
        refusal(apply(vec![service("a", "10.96.33.2:80", &three), service("b", "10.96.33.3:80", &three)]));
    assert!(full.contains("datapath.max_backends"), "{full}");
    let (_, many, _) = refusal(apply(
        (0..4).map(|n| service(&format!("s{n}"), &format!("10.96.33.{}:80", n + 5), &[])).collect(),
    ));
    assert!(many.contains("datapath.max_services"), "{many}");
    let (_, twice, _) =
        refusal(apply(vec![service("a", "10.96.33.2:80", &[]), service("b", "10.96.33.2:80", &[])]));
    assert!(twice.contains("the address of service"), "{twice}");
    let (_, broken, _) = refusal(apply(vec![service("a", "10.96.33.2:80", &["10.96.33.2:80"])]));
    assert!(broken.contains("own address"), "{broken}");
    assert_eq!(node.daemon.get::<Vec<Service>>("/v1/services").unwrap(), before);
    let metrics = node.daemon.text("/metrics").unwrap();
    for line in [
        "netloom_map_entries{map=\"nl_services\"} 1",
        "netloom_map_entries{map=\"nl_backends\"} 1",
        "netloom_map_size{map=\"nl_backends\"} 4",
        "netloom_map_full_total{map=\"nl_backends\"} 1",
        "netloom_map_full_total{map=\"nl_services\"} 1",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "no {line} in {metrics}");
    }
}

#[test]
fn a_service_on_the_nodes_addresses_is_at_each_of_them_and_at_those_that_come() {
    let mut node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let echo = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    node.service("web", "0.0.0.0:30781", "tcp", &[echo.address().to_string()]);
    let at = |address: &str| -> SocketAddr { format!("{address}:30781").parse().unwrap() };
    assert_eq!(client.netns.connect_tcp(at(Node::ADDRESS)).exchange("hello"), "hello");
    assert!(client.netns.try_connect_tcp(at("127.0.0.1")).is_err(), "its own loopback is its own");
    let (_, taken, _) = refusal(node.daemon.post::<Service>(
        "/v1/services",
        &json!({ "name": "other", "vip": at(Node::ADDRESS), "protocol": "tcp" }),
    ));
    assert!(taken.contains("service web"), "{taken}");

    // A service at another port of one of these addresses, and one at an address that comes later.
    let own = server.netns.tcp_echo(&format!("{}:9090", server.v4()));
    for (name, vip) in [("beside", "192.0.2.1:30782"), ("before", "192.0.2.78:30781")] {
        node.service(name, vip, "tcp", &[own.address().to_string()]);
    }
    for address in ["192.0.2.77/32", "192.0.2.78/32"] {
        node.netns.add_address("lo", address);
    }
    let started = Instant::now();
    while client.netns.try_connect_tcp(at("192.0.2.77")).is_err() {
        assert!(started.elapsed() < at_this_pace(Duration::from_secs(30)), "the address is followed");
        thread::sleep(Duration::from_millis(50));
    }
    let accepted = own.accepted();
    assert_eq!(client.netns.connect_tcp(at("192.0.2.78")).exchange("hello"), "hello");
    assert_eq!(own.accepted(), accepted + 1, "whoever was there first keeps it");
    assert_eq!(
        client.netns.connect_tcp(at(Node::ADDRESS)).exchange("hello"),
        "hello",
        "other ports do not matter"
    );
    node.daemon.kill9();
    node.netns.ip(&["address", "delete", "192.0.2.77/32", "dev", "lo"]);
    node.daemon.restart();
    assert_eq!(client.netns.connect_tcp(at(Node::ADDRESS)).exchange("hello"), "hello");
    assert!(client.netns.try_connect_tcp(at("192.0.2.77")).is_err(), "nor are those that went");
    let shown = node.daemon.netloom(&["service", "show", "web"]).expect_ok();
    assert!(shown.contains("0.0.0.0:30781/tcp") && shown.contains("Connects  4"), "{shown}");
}

#[test]
fn each_answer_to_one_udp_socket_comes_from_the_service_that_was_asked() {
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let echoes: Vec<_> =
        (0..40).map(|at| server.netns.udp_echo(&format!("{}:{}", server.v4(), 7000 + at))).collect();
    let mut vips: Vec<SocketAddr> = Vec::new();
    for (at, echo) in echoes.iter().enumerate() {
        let vip = format!("10.96.50.{at}:53");
        node.service(&format!("dns{at}"), &vip, "udp", &[echo.address().to_string()]);
        vips.push(vip.parse().unwrap());
    }
    // Another with the first one's backend.
    node.service("other", "10.96.51.1:53", "udp", &[echoes[0].address().to_string()]);
    let socket = client.netns.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(at_this_pace(Duration::from_secs(10)))).unwrap();
    let mut buffer = [0; 64];
    for vip in &vips {
        socket.send_to(vip.to_string().as_bytes(), vip).unwrap();
    }
    for _ in &vips {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), from.to_string());
    }
    for vip in ["10.96.51.1:53", "10.96.50.0:53", "10.96.51.1:53"] {
        socket.send_to(b"again", vip).unwrap();
        assert_eq!(socket.recv_from(&mut buffer).unwrap().1.to_string(), vip);
    }
}
