use std::{io::ErrorKind, time::Duration};

use netloom_api::types::{Doctor, Fate, Feature, ReapReport, Service, SocketView};
use netloom_test_support::{at_this_pace, each_way};
use serde_json::json;

use netloom_netns_tests::{Node, refusal};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn sockets_of_a_dead_backend_are_cut_in_every_endpoint_and_others_live() {
    let node = Node::start();
    let server = node.endpoint("server");
    let clients: Vec<_> = ["one", "two", "three"].map(|name| node.endpoint(name)).into();
    let doomed = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    let lasting = server.netns.tcp_echo(&format!("{}:9090", server.v4()));
    let backend = doomed.address();
    node.service("web", "10.96.1.1:80", "tcp", &[backend.to_string()]);
    let stale: Vec<_> =
        clients.iter().map(|client| client.netns.blocked_reader("10.96.1.1:80".parse().unwrap())).collect();
    let mut direct = clients[0].netns.connect_tcp(backend);
    let mut other = clients[1].netns.connect_tcp(lasting.address());

    let dry: ReapReport =
        node.daemon.post("/v1/reap", &json!({ "backend": backend, "dry_run": true })).unwrap();
    assert!(dry.dry_run);
    assert_eq!(dry.sockets.len(), 3);
    assert!(dry.sockets.iter().all(|socket| socket.fate == Fate::WouldDestroy), "{dry:?}");

    let report: ReapReport = node.daemon.delete(&format!("/v1/services/web/backends/{backend}")).unwrap();
    assert_eq!(report.decided_by.as_deref(), Some("socket-reap"));
    assert!(report.sockets.iter().all(|socket| socket.fate == Fate::Destroyed), "{report:?}");
    let mut endpoints: Vec<_> = report
        .sockets
        .iter()
        .filter_map(|socket| socket.view.endpoint.as_ref().map(ToString::to_string))
        .collect();
    endpoints.sort();
    assert_eq!(endpoints, ["one", "three", "two"]);
    for reader in &stale {
        assert_eq!(reader.error_within(SOON).kind(), ErrorKind::ConnectionAborted);
    }
    assert_eq!(direct.exchange("direct"), "direct", "a connection that no service made was cut");
    assert_eq!(other.exchange("other"), "other");
    let left: Vec<SocketView> = node.daemon.get("/v1/sockets").unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn connected_udp_is_cut_and_v6_as_well() {
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let echo = server.netns.udp_echo(&format!("[{}]:5353", server.v6()));
    node.service("dns", "[fd00:96::2]:53", "udp", &[echo.address().to_string()]);
    let mut query = client.netns.connect_udp("[fd00:96::2]:53".parse().unwrap());
    assert_eq!(query.exchange("query"), "query");
    let report: ReapReport = node.daemon.delete("/v1/services/dns").unwrap();
    assert_eq!(report.sockets.len(), 1, "{report:?}");
    assert_eq!(report.sockets[0].fate, Fate::Destroyed);
    assert!(query.try_exchange("more").is_err());
}

#[test]
fn a_backend_shared_by_two_services_loses_only_the_sockets_of_one() {
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let echo = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    let backend = echo.address().to_string();
    node.service("blue", "10.96.3.1:80", "tcp", std::slice::from_ref(&backend));
    node.service("green", "10.96.3.2:80", "tcp", std::slice::from_ref(&backend));
    let blue = client.netns.blocked_reader("10.96.3.1:80".parse().unwrap());
    let mut green = client.netns.connect_tcp("10.96.3.2:80".parse().unwrap());
    let report: ReapReport = node.daemon.delete(&format!("/v1/services/blue/backends/{backend}")).unwrap();
    assert_eq!(report.sockets.len(), 1, "{report:?}");
    assert_eq!(blue.error_within(SOON).kind(), ErrorKind::ConnectionAborted);
    assert_eq!(green.exchange("green"), "green");
}

#[test]
fn without_a_deciding_plugin_nothing_is_reaped_and_the_report_says_so() {
    let node = Node::configured("[plugins]\nbundled = false\n");
    node.daemon.expect_error("nothing was reaped reason=no plugin decides");
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let echo = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    node.service("web", "10.96.4.1:80", "tcp", &[echo.address().to_string()]);
    let mut connection = client.netns.connect_tcp("10.96.4.1:80".parse().unwrap());
    let report: ReapReport = node.daemon.delete("/v1/services/web").unwrap();
    assert_eq!(report.decided_by, None);
    assert!(report.reason.unwrap().contains("no plugin"));
    assert_eq!(connection.exchange("alive"), "alive");
}

each_way!(where_the_kernel_lacks_the_best_way_the_next_one_reaps_and_is_shown; {
    netns_iterator: [Feature::SocketDestroy] => ("netns-iterator", "sock-diag", "10.96.7.1:80"),
    sock_diag_dump: [Feature::SocketDestroy] => ("sock-diag-dump", "sock-diag", "10.96.7.2:80"),
    destroyed_by_the_iterator: [Feature::SocketDestroyKfunc] => ("netns-iterator", "netns-iterator", "10.96.7.3:80"),
});

/// Each way has a virtual address of its own: they run at once, and each daemon translates for the whole machine.
fn where_the_kernel_lacks_the_best_way_the_next_one_reaps_and_is_shown(
    (finder, destroyer, vip): (&str, &str, &str),
) {
    let node = Node::configured(&format!("[sockets]\nfinder = \"{finder}\"\ndestroyer = \"{destroyer}\"\n"));
    let status = node.status();
    assert_eq!((status.socket_finder.as_str(), status.socket_destroyer.as_str()), (finder, destroyer));
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let echo = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    node.service("web", vip, "tcp", &[echo.address().to_string()]);
    let stale = client.netns.blocked_reader(vip.parse().unwrap());
    let mut direct = client.netns.connect_tcp(echo.address());
    let report: ReapReport = node.daemon.delete("/v1/services/web").unwrap();
    assert_eq!(report.finder, finder);
    assert_eq!(report.sockets.len(), 1, "{report:?}");
    assert_eq!(report.sockets[0].fate, Fate::Destroyed, "{report:?}");
    assert_eq!(stale.error_within(SOON).kind(), ErrorKind::ConnectionAborted);
    assert_eq!(direct.exchange("direct"), "direct");
}

#[test]
fn without_a_way_to_destroy_stale_sockets_are_reported_and_doctor_says_so() {
    let node = Node::configured("[sockets]\ndestroyer = \"none\"\n");
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let echo = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    node.service("web", "10.96.8.1:80", "tcp", &[echo.address().to_string()]);
    let mut connection = client.netns.connect_tcp("10.96.8.1:80".parse().unwrap());
    let report: ReapReport = node.daemon.delete("/v1/services/web").unwrap();
    assert_eq!(report.sockets.len(), 1, "{report:?}");
    assert_eq!(report.sockets[0].fate, Fate::Observed);
    assert!(report.reason.unwrap().contains("cannot be destroyed"));
    assert_eq!(connection.exchange("alive"), "alive");
    let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
    let mut findings = doctor.findings.iter().filter(|finding| finding.subject == "sockets");
    assert!(findings.any(|finding| finding.severity == "error"), "{:?}", doctor.findings);
}

#[test]
fn sockets_are_listed_and_destroyed_by_filters_and_never_all_by_accident() {
    let node = Node::start();
    let (one, two, server) = (node.endpoint("one"), node.endpoint("two"), node.endpoint("server"));
    let echo = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    let backend = echo.address().to_string();
    node.service("blue", "10.96.9.1:80", "tcp", std::slice::from_ref(&backend));
    node.service("green", "10.96.9.2:80", "tcp", std::slice::from_ref(&backend));
    let stale = one.netns.blocked_reader("10.96.9.1:80".parse().unwrap());
    let mut green = one.netns.connect_tcp("10.96.9.2:80".parse().unwrap());
    let mut other = two.netns.connect_tcp("10.96.9.1:80".parse().unwrap());
    let list = |query: &str| -> Vec<SocketView> { node.daemon.get(&format!("/v1/sockets{query}")).unwrap() };
    assert_eq!(list("").len(), 3);
    for (query, count) in [
        ("?service=blue", 2),
        ("?service=blue&endpoint=one", 1),
        ("?endpoint=two", 1),
        ("?protocol=udp", 0),
        ("?state=established", 3),
        ("?state=fin-wait-1", 0),
        ("?min_age_ms=3600000", 0),
    ] {
        assert_eq!(list(query).len(), count, "{query}");
    }
    assert_eq!(list(&format!("?backend={backend}")).len(), 3);
    let cookie = list("?endpoint=two")[0].socket.netns_cookie;
    assert_eq!(list(&format!("?netns={cookie}")).len(), 1);
    assert_eq!(refusal(node.daemon.get::<Vec<SocketView>>("/v1/sockets?service=nosuch")).0, 404);

    let all = json!({ "filter": {} });
    let (_, error, hint) = refusal(node.daemon.post::<ReapReport>("/v1/sockets/destroy", &all));
    assert!(error.contains("every bound socket") && hint.contains("--yes"), "{error} {hint}");
    let mut request = json!({ "filter": { "service": "blue", "endpoint": "one" }, "dry_run": true });
    let dry: ReapReport = node.daemon.post("/v1/sockets/destroy", &request).unwrap();
    assert_eq!((dry.sockets.len(), &dry.sockets[0].fate), (1, &Fate::WouldDestroy));
    request["dry_run"] = json!(false);
    let report: ReapReport = node.daemon.post("/v1/sockets/destroy", &request).unwrap();
    assert_eq!((report.sockets.len(), &report.sockets[0].fate), (1, &Fate::Destroyed), "{report:?}");
    assert_eq!(stale.error_within(SOON).kind(), ErrorKind::ConnectionAborted);
    assert_eq!(green.exchange("green"), "green");
    assert_eq!(other.exchange("other"), "other");

    let everything = node.daemon.netloom(&["sockets", "destroy", "--yes"]);
    assert!(everything.ok(), "{everything:?}");
    assert!(list("").is_empty());
}

#[test]
fn services_that_cannot_be_are_refused() {
    let node = Node::start();
    node.service("web", "10.96.5.1:80", "tcp", &["10.0.0.1:8080".into()]);
    for (body, word) in [
        (json!({ "name": "web", "vip": "10.96.5.2:80", "protocol": "tcp" }), "web"),
        (json!({ "name": "two", "vip": "10.96.5.1:80", "protocol": "tcp" }), "service web"),
        (json!({ "name": "two", "vip": "10.96.5.2:0", "protocol": "tcp" }), "10.96.5.2:0"),
        (json!({ "name": "two", "vip": "10.96.5.2:80", "protocol": "sctp" }), "sctp"),
        (
            json!({ "name": "two", "vip": "10.96.5.2:80", "protocol": "tcp", "backends": ["10.96.5.2:80"] }),
            "own address",
        ),
        (
            json!({ "name": "two", "vip": "10.96.5.2:80", "protocol": "tcp", "backends": ["[fd00::1]:80"] }),
            "family",
        ),
    ] {
        let (_, error, _) = refusal(node.daemon.post::<Service>("/v1/services", &body));
        assert!(error.contains(word), "{body}: {error}");
    }
    let (status, error, _) = refusal(node.daemon.delete::<ReapReport>("/v1/services/nosuch"));
    assert!(status == 404 && error.contains("nosuch"), "{error}");
    let missing = node.daemon.delete::<ReapReport>("/v1/services/web/backends/10.9.9.9:1");
    assert!(refusal(missing).1.contains("10.9.9.9:1"));
    assert_eq!(node.status().services.len(), 1);
}

#[test]
fn a_service_without_backends_refuses_fast() {
    let node = Node::start();
    let client = node.endpoint("client");
    node.service("empty", "10.96.6.1:80", "tcp", &[]);
    let start = std::time::Instant::now();
    assert!(client.netns.try_connect_tcp("10.96.6.1:80".parse().unwrap()).is_err());
    assert!(start.elapsed() < at_this_pace(Duration::from_secs(2)), "the client hung");
}
