use std::time::Duration;

use netloom_api::types::ReapReport;
use netloom_netns_tests::{Node, ObjectFile};
use netloom_test_support::{Netns, binary, command};
use serde_json::json;

#[test]
fn a_killed_daemon_loses_no_datagram_and_the_next_adopts_everything() {
    let mut node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    let request = json!({ "device": client.device(), "object": object.path(), "owner": "flows" });
    node.attach(request).unwrap();
    let before = node.status();

    let receiver = server.netns.count_datagrams(&format!("{}:7000", server.v4()));
    let sender = client.netns.send_datagrams(receiver.address(), Duration::from_millis(1));
    for _ in 0..3 {
        node.daemon.kill9();
        node.daemon.restart();
    }
    let arrivals = receiver.compare(sender.stop(), Duration::from_secs(10));
    assert_eq!((arrivals.lost, arrivals.duplicated), (0, 0), "of {}", arrivals.sent);

    let after = node.status();
    assert_eq!(after.attachments, before.attachments);
    assert_eq!(after.socket_lb_links, before.socket_lb_links);
    assert_eq!((after.adoption.endpoints, after.adoption.attachments), (2, 5));
    assert_eq!((after.adoption.reattached, after.adoption.dropped.len()), (0, 0), "{:?}", after.adoption);
}

#[test]
fn a_daemon_with_larger_maps_takes_over_what_the_smaller_ones_held_without_losing_a_datagram() {
    let mut node = Node::configured("[datapath]\nmax_endpoints = 8\nmax_services = 4\nmax_backends = 8\n");
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let echo = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    let vip = "10.96.32.1:80";
    node.service("web", vip, "tcp", &[echo.address().to_string()]);
    let mut connection = client.netns.connect_tcp(vip.parse().unwrap());
    assert_eq!(connection.exchange("before"), "before");
    let links = |node: &Node| -> Vec<_> {
        let all = node.status().attachments.into_iter().map(|attachment| (attachment.id, attachment.link));
        all.filter(|(id, _)| !id.starts_with("late")).collect()
    };
    let before = links(&node);
    let receiver = server.netns.count_datagrams(&format!("{}:7000", server.v4()));
    let sender = client.netns.send_datagrams(receiver.address(), Duration::from_millis(1));
    let mut late = Vec::new();
    for sizes in ["max_endpoints = 64\nmax_services = 64\nmax_backends = 64", "max_endpoints = 16"] {
        node.daemon.kill9();
        node.daemon.set_config(&format!("[datapath]\n{sizes}\n"));
        node.daemon.restart();
        assert_eq!(links(&node), before, "each link runs its program on the new maps");
        assert!(node.status().adoption.dropped.is_empty(), "{:?}", node.status().adoption);
        // Also of endpoints that came since, which only the new maps know.
        late.push(node.endpoint(if late.is_empty() { "late" } else { "later" }));
        assert!(late.iter().all(|endpoint| client.netns.can_ping(endpoint.v4())));
        assert_eq!(client.netns.connect_tcp(vip.parse().unwrap()).exchange("new"), "new");
    }
    let arrivals = receiver.compare(sender.stop(), Duration::from_secs(10));
    assert_eq!((arrivals.lost, arrivals.duplicated), (0, 0), "of {}", arrivals.sent);
    assert_eq!(connection.exchange("still"), "still");

    let route = format!("/v1/services/web/backends/{}", echo.address());
    let report: ReapReport = node.daemon.delete(&route).unwrap();
    assert!(!report.sockets.is_empty(), "sockets bound before are found in the new maps: {report:?}");
    assert!(connection.try_exchange("after").is_err());
}

#[test]
fn an_endpoint_that_went_while_the_daemon_was_down_is_dropped_with_all_it_had() {
    let mut node = Node::start();
    let (web, other) = (node.endpoint("web"), node.endpoint("other"));
    let device = web.device().to_owned();
    node.daemon.kill9();
    node.netns.ip(&["link", "delete", &device]);
    node.daemon.restart();
    let status = node.status();
    assert_eq!(status.endpoints.len(), 1);
    assert!(status.adoption.dropped[0].contains("web"), "{:?}", status.adoption);
    assert!(status.attachments.iter().all(|attachment| attachment.hook.device == other.device()));
    assert_eq!(node.traces().iter().filter(|trace| trace.contains("web")).count(), 0);
}

#[test]
fn a_link_that_was_unpinned_is_attached_anew() {
    let mut node = Node::start();
    let (web, other) = (node.endpoint("web"), node.endpoint("other"));
    node.daemon.kill9();
    std::fs::remove_file(node.daemon.paths().bpffs.join("endpoints/web/from")).unwrap();
    node.daemon.restart();
    let status = node.status();
    assert_eq!(status.adoption.reattached, 1, "{:?}", status.adoption);
    assert!(web.netns.can_ping(other.v4()));
    assert_eq!(node.chains(web.device()).len(), 2);
}

#[test]
fn services_survive_and_a_stopped_daemon_leaves_them_working() {
    let mut node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let echo = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    node.service("web", "10.96.7.9:80", "tcp", &[echo.address().to_string()]);
    node.daemon.stop();
    let vip = "10.96.7.9:80".parse().unwrap();
    assert_eq!(client.netns.connect_tcp(vip).exchange("while down"), "while down");
    node.daemon.restart();
    assert_eq!(client.netns.connect_tcp(vip).exchange("after"), "after");
    assert_eq!(node.status().services.len(), 1);
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let node = Node::start();
    let paths = node.daemon.paths();
    let second =
        command(&[binary("netloomd").to_str().unwrap(), "--instance", node.daemon.instance().as_str()]);
    assert!(!second.ok());
    let pid = node.daemon.pid().unwrap().to_string();
    assert!(
        second.stderr.contains(&pid) && second.stderr.contains(paths.socket.to_str().unwrap()),
        "{}",
        second.stderr
    );
    assert_eq!(node.status().pid.to_string(), pid);
}

#[test]
fn cleanup_leaves_nothing_though_the_daemon_was_killed() {
    let mut node = Node::start();
    let web = node.endpoint("web");
    node.daemon.kill9();
    let paths = node.daemon.paths();
    let Node { daemon, netns } = node;
    drop(daemon);
    assert!(!paths.bpffs.exists() && !paths.state.exists() && !paths.run.exists());
    assert!(!netns.ip(&["-o", "link"]).contains(web.device()));
    drop(Netns::new("after"));
}
