//! Hooks without room for one more.

use std::os::fd::{AsFd as _, OwnedFd};

use netloom_api::types::{AttachAnswer, Done, Rebalanced};
use netloom_core::model::Feature;
use netloom_netns_tests::{Node, ObjectFile, refusal};
use netloom_sys::bpf::{self, AttachType, Position};
use netloom_test_support::{Netns, require};
use serde_json::{Value, json};

/// As many programs as the kernel takes on a hook.
const FULL: usize = 63;

fn attach(node: &Node, owner: &str, more: &Value) -> Result<AttachAnswer, netloom_api::ClientError> {
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    let mut request = json!({ "device": "d0", "object": object.path(), "owner": owner });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    node.attach(request)
}

/// A node with a device `d0`.
fn node(config: &str) -> (Node, Netns) {
    let node = Node::configured(config);
    let peer = Netns::new("peer");
    node.netns.link("10.9.0.1/24").named("d0").to(&peer, "10.9.0.2/24");
    (node, peer)
}

/// Another tool's programs at the ingress of `d0`.
struct Foreign {
    ifindex: u32,
    programs: Vec<OwnedFd>,
}

impl Foreign {
    fn fill(node: &Node, count: usize) -> Self {
        let shown = node.netns.ip(&["-o", "link", "show", "d0"]);
        let ifindex = shown.split(':').next().unwrap().trim().parse().unwrap();
        let programs: Vec<OwnedFd> =
            (0..count).map(|number| bpf::load_next(&format!("foreign{number}")).unwrap()).collect();
        node.netns.run(|| {
            for program in &programs {
                bpf::prog_attach(
                    program.as_fd(),
                    ifindex,
                    AttachType::TCX_INGRESS,
                    Position::Tail,
                    None,
                    None,
                )
                .unwrap();
            }
        });
        Self { ifindex, programs }
    }

    fn detach_one(&mut self, node: &Node) {
        let program = self.programs.pop().unwrap();
        node.netns
            .run(|| bpf::prog_detach(program.as_fd(), self.ifindex, AttachType::TCX_INGRESS, None))
            .unwrap();
    }
}

#[test]
fn a_program_that_has_no_room_on_its_hook_is_refused_and_leaves_nothing() {
    if !require(Feature::Tcx) {
        return;
    }
    let (node, _peer) = node("");
    let mut foreign = Foreign::fill(&node, FULL);
    let before = node.chains("d0");
    let (status, error, _) = refusal(attach(&node, "late", &json!({})));
    assert!(status == 422 && error.contains("63") && error.contains("d0"), "{status}: {error}");
    assert_eq!(node.chains("d0")[0].revision, before[0].revision);
    assert_eq!(node.status().attachments.len(), 0);
    assert_eq!(node.traces(), Vec::<String>::new());
    foreign.detach_one(&node);
    let answer = attach(&node, "late", &json!({})).unwrap();
    assert_eq!(answer.chain.entries.len(), FULL);
}

#[test]
fn a_move_without_two_free_places_is_refused_and_changes_nothing() {
    if !require(Feature::Tcx) {
        return;
    }
    let (mut node, _peer) = node("[plugins]\nbundled = false\n[attachments]\nwatch_ms = 0\n");
    let mut ids: Vec<String> = Vec::new();
    for (owner, priority) in [("late", 20), ("early", 10)] {
        ids.push(attach(&node, owner, &json!({ "priority": priority })).unwrap().attachment.id);
    }
    let mut foreign = Foreign::fill(&node, FULL - ids.len() - 1);
    node.daemon.stop();
    node.daemon.set_config("[attachments]\nwatch_ms = 0\n");
    node.daemon.restart();
    let entries = |node: &Node| -> Vec<_> {
        node.chains("d0")[0].entries.iter().map(|entry| (entry.program, entry.link)).collect()
    };
    let rebalance = |node: &Node| -> Result<Vec<Rebalanced>, _> {
        node.daemon.post("/v1/chains/rebalance", &json!({ "device": "d0" }))
    };
    let before = entries(&node);
    let (status, error, _) = refusal(rebalance(&node));
    assert!(status == 409 && error.contains("2 free places of the kernel's 63"), "{status}: {error}");
    assert_eq!(entries(&node), before);
    foreign.detach_one(&node);
    let moved: Vec<String> = rebalance(&node).unwrap().into_iter().flat_map(|chain| chain.moved).collect();
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert_ne!(entries(&node), before);
    for id in ids {
        let _: Done = node.daemon.delete(&format!("/v1/attachments/{id}")).unwrap();
    }
}

#[test]
fn in_front_of_a_filter_of_another_kind_at_priority_1_there_is_no_place_and_that_is_said() {
    if !require(Feature::LegacyTc) {
        return;
    }
    let (node, _peer) = node("");
    node.netns.tc(&["qdisc", "add", "dev", "d0", "clsact"]);
    let filters = |node: &Node| node.netns.tc(&["filter", "show", "dev", "d0", "ingress"]);
    let classic = ["prio", "1", "protocol", "ip", "bpf", "bytecode", "1,6 0 0 0"];
    node.netns.tc(&[["filter", "add", "dev", "d0", "ingress"].as_slice(), &classic].concat());
    let before = filters(&node);
    let more = json!({ "mode": "tc", "labels": { "role": "observer" } });
    let (status, error, hint) = refusal(attach(&node, "first", &more));
    assert!(status == 422 && error.contains("no filter priority is free"), "{status}: {error} {hint}");
    assert_eq!(filters(&node), before);
    assert_eq!(node.status().attachments.len(), 0);
    assert_eq!(node.traces(), Vec::<String>::new());
}
