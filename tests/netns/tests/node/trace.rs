//! The way of a packet as it is told, beside the way that one takes.

use netloom_api::types::{Trace, TraceOutcome};
use netloom_netns_tests::{Node, ObjectFile, refusal};
use serde_json::{Value, json};

fn trace(node: &Node, query: Value) -> Trace {
    node.daemon.post("/v1/endpoints/client/trace", &query).unwrap()
}

#[test]
fn a_way_is_told_as_it_is_taken() {
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    for device in [client.device(), server.device()] {
        let request = json!({ "device": device, "object": object.path(), "owner": "flows" });
        node.attach(request).unwrap();
    }
    let to = |address: String| json!({ "to": address, "protocol": "udp" });
    for address in [server.v4(), server.v6()] {
        let trace = trace(&node, to(std::net::SocketAddr::new(address, 7).to_string()));
        let way = &trace.ways[0];
        assert_eq!((trace.ways.len(), way.outcome), (1, TraceOutcome::Endpoint), "{trace:?}");
        let programs: Vec<_> = way.steps.iter().filter_map(|step| step.program.as_ref()).collect();
        assert_eq!(programs[0].owner.as_deref(), Some("flows"), "{trace:?}");
        assert!(way.steps.iter().any(|step| step.does.contains("to the endpoint server, past")), "{trace:?}");
        assert!(client.netns.can_ping(address));
    }
    let at_node = trace(&node, to(format!("{}:7", Node::ADDRESS)));
    assert_eq!(at_node.ways[0].outcome, TraceOutcome::Node, "{at_node:?}");
    let itself = trace(&node, to(format!("{}:7", client.v4())));
    assert_eq!(itself.ways[0].outcome, TraceOutcome::Endpoint, "{itself:?}");
    let nowhere = trace(&node, to("203.0.113.9:7".to_owned()));
    assert_eq!(nowhere.ways[0].outcome, TraceOutcome::Unreachable, "{nowhere:?}");
    assert!(!client.netns.can_ping([203, 0, 113, 9]));

    let mut spoofed = to(format!("{}:7", server.v4()));
    spoofed["from"] = json!("10.9.9.9");
    let spoofed = trace(&node, spoofed);
    assert_eq!(spoofed.ways[0].outcome, TraceOutcome::Dropped, "{spoofed:?}");
    let mut mixed = to(format!("{}:7", server.v4()));
    mixed["from"] = json!("fd00::9");
    let (_, mixed, _) = refusal(node.daemon.post::<Trace>("/v1/endpoints/client/trace", &mixed));
    assert!(mixed.contains("no address to reach"), "{mixed}");
}

#[test]
fn each_backend_of_a_service_has_its_way() {
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let vip = "10.96.41.1:80";
    node.service("web", vip, "tcp", &[format!("{}:80", server.v4()), format!("{}:80", client.v4())]);
    let query = json!({ "to": vip, "protocol": "tcp" });
    let trace = |query: &Value| trace(&node, query.clone());
    let both = trace(&query);
    assert_eq!(both.service.as_ref().map(|name| name.as_str()), Some("web"));
    assert_eq!(both.ways.len(), 2);
    assert!(both.ways.iter().all(|way| way.outcome == TraceOutcome::Endpoint), "{both:?}");
    let udp = trace(&json!({ "to": vip, "protocol": "udp" }));
    assert_eq!((udp.service, udp.ways[0].outcome), (None, TraceOutcome::Unreachable));

    for backend in [server.v4(), client.v4()] {
        let route = format!("/v1/services/web/backends/{backend}:80");
        let _: Value = node.daemon.patch(&route, &json!({ "weight": 0 })).unwrap();
    }
    let refused = trace(&query);
    assert_eq!(refused.ways[0].outcome, TraceOutcome::Refused, "{refused:?}");
    let shown =
        node.daemon.netloom(&["endpoint", "trace", "client", "--to", "10.96.41.1:80/tcp"]).expect_ok();
    assert!(shown.contains("web has no backend") && shown.contains("It is refused."), "{shown}");
}
