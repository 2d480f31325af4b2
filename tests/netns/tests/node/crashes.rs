//! A daemon that dies after any step of a plan: the next one undoes or finishes it, and nothing leaks.

use netloom_test_support::{DaemonOptions, Netns, emulated};
use serde_json::json;

use netloom_netns_tests::Node;

/// More than any plan has.
const STEPS: usize = 8;

/// The steps to be killed after: all, or every other one where a start takes seconds.
fn steps() -> impl Iterator<Item = usize> {
    (1..STEPS).filter(|step| !emulated() || step % 2 == 0)
}

#[test]
fn adding_an_endpoint_is_undone_whole_at_every_step() {
    for step in steps() {
        let mut node = Node::with(crashing_after(step));
        let netns = Netns::new("web");
        let added = node.add(json!({ "name": "web", "netns": netns.path() }));
        if added.is_ok() {
            assert_eq!(step, 6, "an endpoint is added in five steps");
            return;
        }
        node.daemon.forget_environment();
        node.daemon.restart_after_crash();
        let adoption = node.status().adoption;
        if step < 5 {
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
    panic!("an endpoint was never added");
}

#[test]
fn deleting_an_endpoint_is_finished_at_every_step() {
    for step in steps() {
        let mut node = Node::start();
        let netns = Netns::new("web");
        node.add(json!({ "name": "web", "netns": netns.path() })).unwrap();
        node.daemon.stop();
        node.daemon.set_environment("NETLOOM_CRASH_AFTER", &step.to_string());
        node.daemon.restart();
        if node.delete("web").is_ok() {
            assert!(step > 4, "an endpoint is deleted in four steps, not {}", step - 1);
            return;
        }
        node.daemon.forget_environment();
        node.daemon.restart_after_crash();
        assert_eq!(node.endpoints().len(), 0, "after step {step}");
        assert_eq!(node.traces(), Vec::<String>::new(), "after step {step}");
        assert_eq!(node.status().attachments.len(), 0, "after step {step}");
    }
    panic!("an endpoint was never deleted");
}

fn crashing_after(step: usize) -> DaemonOptions {
    DaemonOptions { env: vec![("NETLOOM_CRASH_AFTER".into(), step.to_string())], ..DaemonOptions::default() }
}
