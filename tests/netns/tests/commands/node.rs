//! What `netloom` shows of the node as a whole.

use std::time::{Duration, Instant};

use netloom_api::types::{Decision, Doctor, Event, EventKind, MonitorEvent, Status};
use netloom_netns_tests::{Endpoint, Node, ObjectFile};
use netloom_test_support::command;
use serde_json::json;

use crate::{
    SOON,
    session::{Covered, Session, both, text},
    spoofing::{SPOOFED, while_spoofing},
};

pub(crate) const COVERS: &[Covered] = &[
    text("completions"),
    both("doctor"),
    both("events"),
    both("explain"),
    text("metrics"),
    both("monitor"),
    both("status"),
];

#[test]
fn the_node_is_shown_as_it_is() {
    let node = Node::configured("[attachments]\nwatch_ms = 50\n");
    let web = node.endpoint("web");
    let netloom = Session::on(&node, COVERS);

    let status: Status = netloom.json("status", "");
    assert_eq!(Some(status.pid), node.daemon.pid());
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!((status.kernel.as_str(), status.endpoints.len()), (release.trim(), 1));
    let said = netloom.table("status", "");
    assert!(said.contains(web.device()) && said.contains(&web.v4().to_string()), "{said}");

    let decisions: Vec<Decision> = netloom.json("explain", "--hook datapath-mode --last 1");
    assert_eq!(decisions.iter().map(|it| it.decided_by.as_str()).collect::<Vec<_>>(), ["datapath-mode"]);
    assert!(netloom.table("explain", "").contains(&decisions[0].subject));
    assert!(netloom.table("metrics", "").contains("netloom_objects{what=\"endpoints\"} 1"));
    netloom.write("completions", netloom.table("completions", "bash"));
    let file = netloom.path("completions").display().to_string();
    let loaded = command(&["bash", "-c", &format!("source {file} && complete -p netloom")]).expect_ok();
    assert!(loaded.contains("netloom"), "{loaded}");

    drops_are_seen(&node, &web, &netloom);
    something_happens(&node, &netloom);

    let doctor: Doctor = netloom.json("doctor", "");
    assert!(doctor.findings.iter().all(|finding| finding.severity != "error"), "{:?}", doctor.findings);
    assert!(!netloom.run("doctor", "").stdout.contains("endpoint web"));
    drop(web);
    // Whether that is an error is what its exit code says.
    let said = netloom.run("doctor", "");
    netloom.note("doctor", false);
    assert!(said.stdout.contains("endpoint web"), "its namespace is gone: {said:?}");
}

fn drops_are_seen(node: &Node, web: &Endpoint, netloom: &Session) {
    let watched = |arguments: &str| while_spoofing(web, || netloom.run("monitor", arguments)).expect_ok();
    netloom.note("monitor", false);
    let said = watched("--drops --count 1");
    assert!(said.contains("spoofed") && said.contains(SPOOFED), "{said}");
    netloom.note("monitor", true);
    let said = watched("--endpoint web --reason spoofed --count 2 --output json");
    for line in said.lines() {
        let event: MonitorEvent = serde_json::from_str(line).unwrap();
        let MonitorEvent::Drop(dropped) = event else { panic!("not a drop: {line}") };
        assert_eq!(dropped.device.as_deref(), Some(web.device()));
    }
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(node.endpoints()[0].counters.dropped_spoofed >= 3);
}

fn something_happens(node: &Node, netloom: &Session) {
    node.netns.ip(&["link", "add", "passing", "type", "veth", "peer", "name", "passing1"]);
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    node.attach(json!({ "device": "passing", "object": object.path(), "owner": "acme/flows" })).unwrap();
    node.netns.ip(&["link", "delete", "passing"]);
    let started = Instant::now();
    loop {
        let events: Vec<Event> = netloom.json("events", "--kind device-gone");
        if events.iter().any(|event| event.kind == EventKind::DeviceGone && event.subject.contains("passing"))
        {
            break;
        }
        assert!(started.elapsed() < SOON, "nothing is told: {events:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = netloom.table("events", "--last 10");
    assert!(said.contains("device-gone") && said.contains("passing"), "{said}");
}
