//! Devices that go and come back under their name.

use std::time::{Duration, Instant};

use netloom_api::types::{Event, EventKind};
use netloom_core::model::Feature;
use netloom_netns_tests::{Node, ObjectFile};
use netloom_test_support::{Netns, at_this_pace, require};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// A node with a program at a device `d0`.
fn node(mode: &str) -> (Node, Netns) {
    let node = Node::configured("[attachments]\nwatch_ms = 50\n");
    let peer = Netns::new("peer");
    link(&node, &peer);
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    let request = json!({ "device": "d0", "object": object.path(), "owner": "flows", "mode": mode });
    node.attach(request).unwrap();
    (node, peer)
}

fn link(node: &Node, peer: &Netns) {
    node.netns.link("10.9.0.1/24").named("d0").to(peer, "10.9.0.2/24");
}

fn owners(node: &Node) -> Vec<String> {
    let entries = node.chains("d0").into_iter().flat_map(|chain| chain.entries);
    entries.filter_map(|entry| entry.owner).map(|owner| owner.to_string()).collect()
}

fn comes_back_while_the_daemon_is_down(mode: &str) {
    let (mut node, peer) = node(mode);
    let before = node.status().attachments.remove(0);
    node.daemon.kill9();
    node.netns.ip(&["link", "delete", "d0"]);
    link(&node, &peer);
    node.daemon.restart();
    let status = node.status();
    assert_eq!((status.adoption.reattached, status.adoption.dropped.len()), (1, 0), "{:?}", status.adoption);
    let after = &status.attachments[0];
    assert_eq!((&after.id, &after.hook.point), (&before.id, &before.hook.point));
    assert_ne!(after.hook.ifindex, before.hook.ifindex);
    assert_eq!(owners(&node), ["flows"]);
}

#[test]
fn a_program_on_tcx_is_attached_to_the_device_that_came_back_while_the_daemon_was_down() {
    if require(Feature::Tcx) {
        comes_back_while_the_daemon_is_down("tcx");
    }
}

#[test]
fn a_program_on_legacy_tc_is_attached_to_the_device_that_came_back_while_the_daemon_was_down() {
    if require(Feature::LegacyTc) {
        comes_back_while_the_daemon_is_down("tc");
    }
}

fn comes_back_at_once(mode: &str) {
    let (node, peer) = node(mode);
    let before = node.status().attachments.remove(0);
    // Between two looks of the daemon's.
    let pid = Pid::from_raw(node.daemon.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    node.netns.ip(&["link", "delete", "d0"]);
    link(&node, &peer);
    kill_process(pid, Signal::CONT).unwrap();
    let started = Instant::now();
    while node.status().attachments.first().map(|now| now.hook.ifindex) == Some(before.hook.ifindex) {
        assert!(started.elapsed() < at_this_pace(Duration::from_secs(30)), "{}", node.daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let after = node.status().attachments;
    assert_eq!(after.iter().map(|now| &now.id).collect::<Vec<_>>(), [&before.id]);
    assert_eq!(owners(&node), ["flows"]);
    let events: Vec<Event> = node.daemon.get("/v1/events").unwrap();
    let told = events.iter().find(|event| event.kind == EventKind::DeviceGone);
    assert!(told.is_some_and(|event| event.message.contains(&before.id)), "{events:?}");
}

#[test]
fn a_program_on_tcx_is_attached_to_the_device_of_the_name_of_one_that_went() {
    if require(Feature::Tcx) {
        comes_back_at_once("tcx");
    }
}

#[test]
fn a_program_on_legacy_tc_is_attached_to_the_device_of_the_name_of_one_that_went() {
    if require(Feature::LegacyTc) {
        comes_back_at_once("tc");
    }
}
