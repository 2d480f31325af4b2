//! What ordinary programs see of a reap: in Python and in C, blocked in a read or a poll, sending, and connecting again.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

use netloom_api::types::{Fate, ReapReport, Service};
use netloom_core::model::Feature;
use netloom_netns_tests::{Node, applications::CLIENT};
use netloom_test_support::{Netns, emulated, require};

/// A client in another language, which says "connected", and later what ended its connection.
struct Application {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Application {
    fn start(netns: &Netns, program: &[String], arguments: &[&str]) -> Self {
        let mut child = Command::new("ip")
            .args(["netns", "exec", netns.name()])
            .args(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut application = Self { child, lines };
        assert_eq!(application.line(), "connected", "{program:?} {arguments:?}");
        application
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it writes one more line").unwrap()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_client_in_any_language_learns_at_once_that_its_backend_is_gone() {
    let clients = CLIENT.install();
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let (v4, v6) = (format!("{}:8080", server.v4()), format!("[{}]:8080", server.v6()));
    let _tcp = (server.netns.tcp_echo(&v4), server.netns.tcp_echo(&v6));
    let _udp = (server.netns.udp_echo(&v4), server.netns.udp_echo(&v6));
    let services = [
        ("tcp4", "10.96.20.1:80", "tcp", &v4),
        ("udp4", "10.96.20.1:80", "udp", &v4),
        ("tcp6", "[fd00:96::20]:80", "tcp", &v6),
        ("udp6", "[fd00:96::20]:80", "udp", &v6),
    ];
    for (name, vip, protocol, backend) in services {
        node.service(name, vip, protocol, std::slice::from_ref(backend));
    }
    let mut applications = Vec::new();
    let addresses = ["10.96.20.1", "::ffff:10.96.20.1", "fd00:96::20"];
    let of_python = if emulated() { &addresses[..1] } else { &addresses };
    for (program, addresses) in [(&clients.in_c(), &addresses[..]), (&clients.in_python(), of_python)] {
        for address in addresses {
            for protocol in ["tcp", "udp"] {
                for mode in ["read", "poll", "send"] {
                    let arguments = [protocol, *address, "80", mode];
                    let what = format!("{program:?} {arguments:?}");
                    applications.push((what, Application::start(&client.netns, program, &arguments)));
                }
            }
        }
    }

    let mut destroyed = 0;
    for (name, ..) in services {
        let report: ReapReport = node.daemon.delete(&format!("/v1/services/{name}")).unwrap();
        destroyed += report.sockets.iter().filter(|socket| socket.fate == Fate::Destroyed).count();
    }

    assert_eq!(destroyed, applications.len());
    for (what, application) in &mut applications {
        let end = application.line();
        // A datagram that is on its way out when the socket loses its peer has nowhere to go.
        let is_right =
            end == "ECONNABORTED" || (what.contains("send") && matches!(&*end, "EDESTADDRREQ" | "EPIPE"));
        assert!(is_right, "{what}: {end}");
    }
}

/// Clients that connect and close at full speed, in each language and protocol, and what they do when they are told
/// to end: they say the cookies of all their sockets, if every connection was served to its end.
#[test]
fn who_connects_to_a_living_backend_at_full_speed_is_left_alone_while_others_are_reaped() {
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let clients = CLIENT.install();
    // One emulated CPU is for all of them.
    let programs = if emulated() { vec![clients.in_c()] } else { clients.commands().into() };
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let (living, dead) = (format!("{}:8080", server.v4()), format!("{}:9090", server.v4()));
    let _living = (server.netns.tcp_echo(&living), server.netns.udp_echo(&living));
    let _dead = (server.netns.tcp_echo(&dead), server.netns.udp_echo(&dead));
    let start = |address: &str, mode: &str| -> Vec<Application> {
        let each = programs.iter().flat_map(|program| ["tcp", "udp"].map(|protocol| (program, protocol)));
        each.map(|(program, protocol)| {
            Application::start(&client.netns, program, &[protocol, address, "80", mode])
        })
        .collect()
    };
    for protocol in ["tcp", "udp"] {
        node.service(&format!("living-{protocol}"), "10.96.22.1:80", protocol, std::slice::from_ref(&living));
        node.service(&format!("dead-{protocol}"), "10.96.22.2:80", protocol, &[]);
    }
    let churning = start("10.96.22.1", "churn");
    let mut destroyed = HashSet::new();
    for _ in 0..if emulated() { 1 } else { 10 } {
        for protocol in ["tcp", "udp"] {
            let path = format!("/v1/services/dead-{protocol}/backends");
            node.daemon.post::<Service>(&path, &serde_json::json!({ "address": dead })).unwrap();
        }
        let mut stale = start("10.96.22.2", "read");
        let mut reaped = 0;
        for protocol in ["tcp", "udp"] {
            let path = format!("/v1/services/dead-{protocol}/backends/{dead}");
            let report: ReapReport = node.daemon.delete(&path).unwrap();
            reaped += report.sockets.iter().filter(|socket| socket.fate == Fate::Destroyed).count();
            destroyed.extend(report.sockets.iter().map(|socket| socket.view.socket.cookie.0));
        }
        assert_eq!(reaped, stale.len());
        for application in &mut stale {
            assert_eq!(application.line(), "ECONNABORTED");
        }
    }
    for mut application in churning {
        application.terminate();
        let line = application.line();
        let cookies: Vec<u64> = line.split_whitespace().map(|cookie| cookie.parse().expect(&line)).collect();
        assert!(cookies.len() > 10, "it hardly connected: {line}");
        assert!(cookies.iter().all(|cookie| !destroyed.contains(cookie)), "a living one's socket was reaped");
    }
}

#[test]
fn a_client_that_connects_again_gets_a_living_backend() {
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let clients = CLIENT.install();
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let (dead, living) = (format!("{}:8080", server.v4()), format!("{}:9090", server.v4()));
    let _servers = (server.netns.tcp_echo(&dead), server.netns.tcp_echo(&living));
    for program in clients.commands() {
        node.service("web", "10.96.21.1:80", "tcp", std::slice::from_ref(&dead));
        let arguments = ["tcp", "10.96.21.1", "80", "reconnect"];
        let mut application = Application::start(&client.netns, &program, &arguments);
        let body = serde_json::json!({ "address": living });
        node.daemon.post::<Service>("/v1/services/web/backends", &body).unwrap();
        let report: ReapReport = node.daemon.delete(&format!("/v1/services/web/backends/{dead}")).unwrap();
        assert_eq!(report.sockets.len(), 1, "{report:?}");
        assert_eq!(application.line(), "ECONNABORTED");
        assert_eq!(application.line(), "answered", "{program:?}");
        drop(application);
        let _: ReapReport = node.daemon.delete("/v1/services/web").unwrap();
    }
}

#[test]
fn a_process_that_connected_before_the_agent_was_started_is_reaped() {
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let clients = CLIENT.install();
    // Addresses that no other test has: marks are of the whole machine.
    let netns = Netns::new("before");
    let (dead, living) = ("127.91.0.1:8080", "127.91.0.2:8080");
    let _servers =
        (netns.tcp_echo(dead), netns.udp_echo(dead), netns.tcp_echo(living), netns.udp_echo(living));
    let start = |address: &str| -> Vec<Application> {
        let programs = clients.commands();
        let protocols =
            programs.iter().flat_map(|program| ["tcp", "udp"].map(|protocol| (program, protocol)));
        protocols
            .map(|(program, protocol)| {
                Application::start(&netns, program, &[protocol, address, "8080", "read"])
            })
            .collect()
    };
    let mut stale = start("127.91.0.1");
    let mut spared = start("127.91.0.2");

    let node = Node::configured("[sockets]\nback_fill = true\n");
    node.service("tcp", "10.96.22.1:80", "tcp", &[dead.to_owned(), living.to_owned()]);
    node.service("udp", "10.96.22.1:80", "udp", &[dead.to_owned(), living.to_owned()]);
    for service in ["tcp", "udp"] {
        let report: ReapReport =
            node.daemon.delete(&format!("/v1/services/{service}/backends/{dead}")).unwrap();
        assert_eq!(report.sockets.len(), stale.len() / 2, "{report:?}");
    }

    for application in &mut stale {
        assert_eq!(application.line(), "ECONNABORTED");
    }
    for application in &mut spared {
        assert!(application.child.try_wait().unwrap().is_none(), "the living backend's client goes on");
    }
}
