//! Services as programs meet them.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    thread::{self, JoinHandle},
};

use netloom_api::types::{ReapReport, Service};
use netloom_netns_tests::{Node, refusal};
use netloom_test_support::{Netns, command};
use serde_json::json;

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

/// Python's and C's view of a peer.
fn observers(folder: &Path) -> Vec<Vec<String>> {
    let (script, source, compiled) = (folder.join("peer.py"), folder.join("peer.c"), folder.join("peer"));
    std::fs::write(&script, include_str!("applications/peer.py")).unwrap();
    std::fs::write(&source, include_str!("applications/peer.c")).unwrap();
    let mut observers = Vec::new();
    let [script, source, compiled] = [script, source, compiled].map(|path| path.display().to_string());
    if command(&["sh", "-c", "command -v python3"]).ok() {
        observers.push(vec!["python3".to_owned(), script]);
    } else {
        eprintln!("a part of this test is left out: there is no python3");
    }
    let compile = format!("cc -static -O1 -o {compiled} {source}");
    if command(&["sh", "-c", &compile]).ok() {
        observers.push(vec![compiled]);
    } else {
        eprintln!("a part of this test is left out: there is no C compiler");
    }
    observers
}

/// curl, and nc of whatever kind, as the shell starts them with an address and a port.
fn requests() -> Vec<&'static str> {
    let all = [
        ("curl", r#"curl -sS -g -m 5 -o /dev/null -w '%{remote_ip} %{remote_port}' "http://$URL:$1/""#),
        ("nc", r#"printf 'word\n' | timeout 5 nc "$0" "$1" | grep -q hello && echo "$0 $1""#),
        ("busybox", r#"printf 'word\n' | timeout 5 busybox nc "$0" "$1" | grep -q hello && echo "$0 $1""#),
    ];
    let is_there = |program: &str| {
        let found = command(&["sh", "-c", &format!("command -v {program}")]).ok();
        if !found {
            eprintln!("a part of this test is left out: there is no {program}");
        }
        found
    };
    all.into_iter().filter(|(program, _)| is_there(program)).map(|(_, request)| request).collect()
}

#[test]
fn ordinary_programs_see_the_service_also_where_they_are_its_backend() {
    let folder = tempfile::tempdir().unwrap();
    let (observers, requests) = (observers(folder.path()), requests());
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let (v4, v6) = (server.v4(), format!("[{}]", server.v6()));
    let mut echoes = Vec::new();
    let mut datagrams = Vec::new();
    for (address, name, vip) in [(v4.to_string(), "v4", "10.96.31.1"), (v6, "v6", "[fd00:96::31]")] {
        echoes.push(server.netns.tcp_echo(&format!("{address}:8080")));
        datagrams.push(server.netns.udp_echo(&format!("{address}:8080")));
        for protocol in ["tcp", "udp"] {
            let service = format!("{protocol}{name}");
            node.service(&service, &format!("{vip}:80"), protocol, &[format!("{address}:8080")]);
        }
        node.service(&format!("http{name}"), &format!("{vip}:81"), "tcp", &[format!("{address}:8081")]);
    }
    // From elsewhere on the node, and from the backend itself.
    for netns in [&client.netns, &server.netns] {
        for vip in ["10.96.31.1", "::ffff:10.96.31.1", "fd00:96::31"] {
            for observer in &observers {
                for protocol in ["tcp", "udp", "udp-unconnected"] {
                    let mut words: Vec<&str> = observer.iter().map(String::as_str).collect();
                    words.extend([protocol, vip, "80"]);
                    let ran = netns.command(&words);
                    assert_eq!(ran.stdout.trim(), format!("{vip} 80"), "{words:?}: {}", ran.stderr);
                }
            }
            let is_v6 = vip == "fd00:96::31";
            let listen =
                if is_v6 { format!("[{}]:8081", server.v6()) } else { format!("{}:8081", server.v4()) };
            let url = if vip.contains(':') { format!("[{vip}]") } else { vip.to_owned() };
            for request in &requests {
                let answered = answer(&server.netns, &listen, 1);
                let ran = netns.command(&["env", &format!("URL={url}"), "sh", "-c", request, vip, "81"]);
                assert_eq!(ran.stdout.trim(), format!("{vip} 81"), "{request}: {}", ran.stderr);
                answered.join().unwrap();
            }
        }
    }
}
