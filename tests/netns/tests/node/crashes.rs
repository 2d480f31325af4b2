//! A daemon that dies after any step of a plan: the next one undoes or finishes it, and nothing leaks.

use netloom_test_support::{Kills, Netns};
use serde_json::json;

use netloom_netns_tests::Node;

#[test]
fn adding_an_endpoint_is_undone_whole_at_every_step() {
    const STEPS: usize = 5;
    let mut kills = Kills::of("adding an endpoint", STEPS).emulated_only([2, 4]);
    while let Some(step) = kills.next_step() {
        let mut node = Node::start();
        node.daemon.crash_after(step);
        let netns = Netns::new("web");
        let added = node.add(json!({ "name": "web", "netns": netns.path() }));
        if !kills.killed(&mut node.daemon, added) {
            break;
        }
        let adoption = node.status().adoption;
        if step < STEPS {
            assert_eq!(node.traces(), Vec::<String>::new(), "after step {step}");
            assert_eq!(node.endpoints().len(), 0, "after step {step}");
        }
        assert!(
            adoption.recovered.iter().any(|what| what.contains("web")),
            "after step {step}: {adoption:?}"
        );
        assert!(!netns.ip(&["-o", "link"]).contains("eth0"), "after step {step}");
        let again = node.add(json!({ "name": "web", "netns": netns.path() }));
        assert!(again.is_ok(), "after step {step}: {again:?}");
    }
    kills.check();
}

#[test]
fn deleting_an_endpoint_is_finished_at_every_step() {
    let mut kills = Kills::of("deleting an endpoint", 4).emulated_only([2, 4]);
    while let Some(step) = kills.next_step() {
        let mut node = Node::start();
        let netns = Netns::new("web");
        node.add(json!({ "name": "web", "netns": netns.path() })).unwrap();
        node.daemon.crash_after(step);
        let deleted = node.delete("web");
        if !kills.killed(&mut node.daemon, deleted) {
            break;
        }
        assert_eq!(node.endpoints().len(), 0, "after step {step}");
        assert_eq!(node.traces(), Vec::<String>::new(), "after step {step}");
        assert_eq!(node.status().attachments.len(), 0, "after step {step}");
    }
    kills.check();
}
