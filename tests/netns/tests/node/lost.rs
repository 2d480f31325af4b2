//! A store that is lost takes nothing along: what the kernel shows to be Netloom's is recorded again, the rest goes on.

use std::time::Duration;

use netloom_api::types::{Done, OrphanView};
use netloom_core::model::Feature;
use netloom_netns_tests::{Node, ObjectFile};
use netloom_test_support::{DaemonOptions, at_this_pace, require};
use serde_json::json;

fn lose_the_store(node: &mut Node) {
    node.daemon.kill9();
    std::fs::remove_file(node.daemon.paths().state.join("store.redb")).unwrap();
    node.daemon.restart();
}

fn orphans(node: &Node) -> Vec<String> {
    let views: Vec<OrphanView> = node.daemon.get("/v1/orphans").unwrap();
    views.into_iter().map(|view| view.what).collect()
}

fn endpoints_go_on(mode: &str) {
    let config = format!("[attachments]\nmode = \"{mode}\"\n");
    let mut node = Node::with(DaemonOptions { config: Some(config), ..DaemonOptions::default() });
    let (client, server) = (node.endpoint("client"), node.endpoint("server.1"));
    let before = node.status();
    let receiver = server.netns.count_datagrams(&format!("{}:7000", server.v4()));
    let sender = client.netns.send_datagrams(receiver.address(), Duration::from_millis(1));
    lose_the_store(&mut node);
    let after = node.status();
    let arrivals = receiver.compare(sender.stop(), at_this_pace(Duration::from_secs(10)));
    assert_eq!((arrivals.lost, arrivals.duplicated), (0, 0), "of {}", arrivals.sent);

    assert_eq!(after.adoption.recovered.len(), 2, "{:?}", after.adoption);
    assert_eq!((after.adoption.endpoints, after.adoption.attachments), (2, 4), "{:?}", after.adoption);
    for (before, after) in before.endpoints.iter().zip(&after.endpoints) {
        let (before, after) = (&before.endpoint, &after.endpoint);
        assert_eq!((&before.spec.name, &before.spec.netns), (&after.spec.name, &after.spec.netns));
        assert_eq!((before.id, &before.addresses), (after.id, &after.addresses));
        assert_eq!((before.netns, before.netns_cookie), (after.netns, after.netns_cookie));
        assert_eq!((before.host_ifindex, before.peer_ifindex), (after.host_ifindex, after.peer_ifindex));
        assert_eq!((before.mac, before.host_mac), (after.mac, after.host_mac));
        assert_eq!((before.mode.device, before.mode.attachment), (after.mode.device, after.mode.attachment));
    }
    for (before, after) in before.attachments.iter().zip(&after.attachments) {
        assert_eq!((&before.id, &before.hook), (&after.id, &after.hook));
        assert_eq!((before.program, before.link, before.filter), (after.program, after.link, after.filter));
    }
    assert_eq!(orphans(&node), Vec::<String>::new());

    let third = node.endpoint("third");
    assert!(client.netns.can_ping(third.v4()) && third.netns.can_ping(server.v4()));
    for name in ["client", "server.1", "third"] {
        assert_eq!(node.delete(name).unwrap().warnings, Vec::<String>::new());
    }
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[test]
fn endpoints_go_on_and_are_recorded_again() {
    endpoints_go_on("auto");
}

#[test]
fn endpoints_on_legacy_tc_go_on_and_are_recorded_again() {
    endpoints_go_on("tc");
}

#[test]
fn what_cannot_be_recorded_again_goes_on_as_an_orphan() {
    // A filter of legacy tc has no link to be known by, and goes with its device.
    if !require(Feature::Tcx) {
        return;
    }
    let mut node = Node::start();
    let web = node.endpoint("web");
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    let request = json!({ "device": web.device(), "object": object.path(), "owner": "flows" });
    let attached = node.attach(request.clone()).unwrap();
    let _: serde_json::Value = node
        .daemon
        .post("/v1/devices", &json!({ "name": "here0", "mode": "veth", "peer": "here1" }))
        .unwrap();
    lose_the_store(&mut node);
    let pin = node.daemon.paths().bpffs.join("attachments").join(&attached.attachment.id);
    let mut found = orphans(&node);
    found.sort();
    assert_eq!(
        found,
        ["device here0".to_owned(), "device here1".to_owned(), format!("pin {}", pin.display())]
    );
    let programs = |node: &Node| {
        let chains = node.chains(web.device());
        chains
            .into_iter()
            .flat_map(|chain| chain.entries)
            .filter(|entry| entry.link == attached.attachment.link)
            .count()
    };
    assert_eq!(programs(&node), 1, "it runs on");
    // Another one does not take its place by accident.
    let second = node.attach(request).unwrap();
    assert_ne!(second.attachment.link, attached.attachment.link);
    assert_eq!(programs(&node), 1);

    let _: Done = node.daemon.delete("/v1/orphans").unwrap();
    assert_eq!((programs(&node), orphans(&node).len()), (0, 0));
    assert!(!node.netns.ip(&["-o", "link"]).contains("here0"));
    assert_eq!(node.endpoints().len(), 1);
}
