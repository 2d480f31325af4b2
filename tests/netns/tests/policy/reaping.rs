//! Reaps that come together, and reaps whose policy fails.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use netloom_api::types::{Decision, Fate, ReapReport};
use netloom_test_support::Netns;
use serde_json::json;

use netloom_netns_tests::Node;

use crate::plugins::{Component, load};

/// Addresses that everybody has on the loopback device.
pub(crate) fn addresses(second: u8, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("127.{second}.{}.{}:7000", n / 250, n % 250 + 1)).collect()
}

/// Datagram sockets that are connected to a service, each to a backend that chance chose.
pub(crate) fn clients(netns: &Netns, vip: &str, count: usize) -> Vec<UdpSocket> {
    let connect = |_| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(vip).unwrap();
        socket
    };
    netns.run(|| (0..count).map(connect).collect())
}

pub(crate) fn was_cut(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    socket.recv(&mut [0]).unwrap_err().kind() == ErrorKind::ConnectionAborted
}

pub(crate) fn metric(node: &Node, name: &str) -> u64 {
    let text = node.daemon.netloom(&["metrics"]).expect_ok();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[test]
fn a_thousand_backends_that_die_at_once_are_one_reap() {
    let node = Node::start();
    let netns = Netns::new("client");
    let backends = addresses(95, 1_500);
    node.service("doomed", "10.96.60.1:53", "udp", &backends);
    node.service("lasting", "10.96.60.2:53", "udp", &backends[..1]);
    let doomed = clients(&netns, "10.96.60.1:53", 600);
    let lasting = clients(&netns, "10.96.60.2:53", 3);

    let report: ReapReport = node.daemon.delete("/v1/services/doomed").unwrap();

    assert_eq!(report.sockets.len(), doomed.len());
    assert!(report.sockets.iter().all(|socket| socket.fate == Fate::Destroyed), "{:?}", report.reason);
    let hit: BTreeSet<SocketAddr> = report.sockets.iter().map(|socket| socket.view.socket.backend).collect();
    assert!(hit.len() > 300, "the sockets are of many backends");
    assert!(doomed.iter().all(was_cut));
    assert!(!lasting.iter().any(was_cut));
    assert_eq!(metric(&node, "netloom_reap_changes_total"), 1);
    assert_eq!(metric(&node, "netloom_reap_seconds_count"), 1);
}

#[test]
fn backends_that_die_while_a_reap_runs_are_reaped_together() {
    // The first reap destroys its sockets in the course of seconds.
    let node = Node::configured("[sockets]\ndestroy_rate = 60\n");
    let netns = Netns::new("client");
    let backends = addresses(96, 40);
    node.service("first", "10.96.61.1:53", "udp", &addresses(97, 1));
    node.service("doomed", "10.96.61.2:53", "udp", &backends);
    node.service("other", "10.96.61.3:53", "udp", &backends[..1]);
    let mut first = clients(&netns, "10.96.61.1:53", 150);
    let witnesses = first.split_off(100);
    let doomed = clients(&netns, "10.96.61.2:53", 50);
    let spared = clients(&netns, "10.96.61.3:53", 3);

    let reports: Vec<(&String, ReapReport)> = thread::scope(|scope| {
        let slow = scope.spawn(|| node.daemon.delete::<ReapReport>("/v1/services/first").unwrap());
        // They are not asked again: a socket tells of its end once.
        while !witnesses.iter().any(was_cut) {
            thread::sleep(Duration::from_millis(1));
        }
        let remove = |backend| {
            let route = format!("/v1/services/doomed/backends/{backend}");
            (backend, node.daemon.delete::<ReapReport>(&route).unwrap())
        };
        let removing: Vec<_> = backends.iter().map(|backend| scope.spawn(move || remove(backend))).collect();
        assert_eq!(slow.join().unwrap().sockets.len(), first.len() + witnesses.len());
        removing.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    for (backend, report) in &reports {
        assert_eq!(report.decided_by.as_deref(), Some("socket-reap"));
        for socket in &report.sockets {
            assert_eq!(
                (socket.view.socket.backend.to_string(), &socket.fate),
                ((*backend).clone(), &Fate::Destroyed)
            );
        }
    }
    assert_eq!(reports.iter().map(|(_, report)| report.sockets.len()).sum::<usize>(), doomed.len());
    assert!(first.iter().chain(&doomed).all(was_cut));
    assert!(!spared.iter().any(was_cut), "the same backend serves another service");
    assert_eq!(metric(&node, "netloom_reap_changes_total"), 41);
    let reaps = metric(&node, "netloom_reap_seconds_count");
    assert!((2..41).contains(&reaps), "{reaps} reaps");
}

#[test]
fn a_judge_that_traps_or_does_not_end_or_answers_badly_reaps_nothing_and_that_is_loud() {
    let node = Node::start();
    let netns = Netns::new("client");
    for (number, (hook, what)) in
        [("judge", "trap"), ("judge-packed", "loop"), ("judge", "too-few"), ("judge-packed", "too-many")]
            .into_iter()
            .enumerate()
    {
        let name = format!("judge{number}");
        node.daemon
            .expect_error(&format!("nothing was reaped, as sockets could not be judged plugin={name}"));
        let component = Component::of("judge.wasm", netloom_test_components::MISBEHAVING);
        let body = json!({ "name": name, "path": component.path(), "config": { "in": hook, "do": what } });
        assert_eq!(load(&node, body).unwrap().state, "active");
        let vip = format!("10.96.62.{}:53", number + 1);
        node.service(&name, &vip, "udp", &addresses(98, 1));
        let clients = clients(&netns, &vip, 3);

        let start = Instant::now();
        let report: ReapReport = node.daemon.delete(&format!("/v1/services/{name}")).unwrap();

        assert_eq!(report.decided_by.as_ref(), Some(&name), "{hook} {what}");
        assert_eq!(report.sockets.len(), 3);
        assert!(report.sockets.iter().all(|socket| socket.fate == Fate::Unjudged), "{report:?}");
        let reason = report.reason.unwrap();
        assert!(reason.contains("nothing was reaped"), "{reason}");
        assert!(!clients.iter().any(was_cut), "{hook} {what}");
        assert!(start.elapsed() < Duration::from_secs(30), "whoever asked waited for the plugin");
        assert!(node.daemon.log().contains("could not be judged"), "{hook} {what}");
        let told: Vec<Decision> = node.daemon.get("/v1/decisions").unwrap();
        assert!(told.iter().any(|decision| decision.hook == "socket-reap" && decision.decided_by == name));
        let _: netloom_api::types::Done = node.daemon.delete(&format!("/v1/plugins/{name}")).unwrap();
        // An operator who sees that has the sockets destroyed all the same.
        let destroyed = node.daemon.netloom(&["sockets", "destroy", "--backend", "127.98.0.1:7000"]);
        assert!(destroyed.ok(), "{destroyed:?}");
        assert!(clients.iter().all(was_cut));
    }
    let failures = node.daemon.netloom(&["metrics"]).expect_ok();
    assert!(failures.contains("netloom_reaped_sockets_total{fate=\"unjudged\"} "), "{failures}");
}
