//! `netloom attach`, `detach`, `attachment …` and `chain …`

use std::collections::BTreeMap;

use netloom_api::types::{AttachAnswer, Attachment, Chain, Done, Rebalanced};
use netloom_netns_tests::{Listed, Node, bpftool_chains};
use netloom_test_support::Netns;

use crate::session::{Covered, Session, both};

pub(crate) const COVERS: &[Covered] = &[
    both("attach"),
    both("attachment"),
    both("attachment list"),
    both("attachment migrate"),
    both("attachment update"),
    both("chain rebalance"),
    both("chain show"),
    both("detach"),
];

/// The programs that the kernel has on the node's devices, in all chains.
fn programs(node: &Node) -> Vec<u32> {
    let chains: BTreeMap<_, Listed> = bpftool_chains(node);
    chains.into_values().flatten().map(|(program, _)| program).collect()
}

fn owners(chain: &Chain) -> Vec<&str> {
    chain.entries.iter().filter_map(|entry| entry.owner.as_ref()).map(|owner| owner.as_str()).collect()
}

#[test]
fn programs_are_attached_shown_updated_moved_and_detached() {
    let mut node = Node::start();
    let peer = Netns::new("peer");
    node.netns.link("10.9.0.1/24").named("d0").to(&peer, "10.9.0.2/24");
    let netloom = Session::on(&node, COVERS);
    netloom.write("count.o", netloom_test_programs::OBSERVER);
    netloom.write("count-v2.o", netloom_test_programs::ONCE);

    let said = netloom.table("attach", "count.o --device d0 --owner first --priority 10 --label tier=1");
    assert!(said.contains("first"), "{said}");
    let answer: AttachAnswer = netloom.json("attach", "count.o --device d0 --owner second --priority 20");
    let second = answer.attachment;
    assert_eq!(owners(&answer.chain), ["first", "second"]);
    let in_kernel = programs(&node);
    assert_eq!(in_kernel.last(), Some(&second.program.0), "{in_kernel:?}");
    let ids: Vec<String> =
        netloom.json::<Vec<Attachment>>("attachment list", "").into_iter().map(|it| it.id).collect();
    assert_eq!(netloom.json::<Vec<Attachment>>("attachment", "").len(), 2);
    for said in [netloom.table("attachment list", ""), netloom.table("attachment", "")] {
        assert!(ids.len() == 2 && ids.iter().all(|id| said.contains(id)), "{ids:?}: {said}");
    }
    let chains: Vec<Chain> = netloom.json("chain show", "d0");
    let shown: Vec<u32> =
        chains.iter().flat_map(|chain| &chain.entries).map(|entry| entry.program.0).collect();
    assert_eq!(shown, in_kernel);
    let said = netloom.table("chain show", "d0");
    assert!(said.find("first") < said.find("second"), "{said}");

    // Another program in the same place.
    let updated: AttachAnswer = netloom.json("attachment update", &format!("{} count-v2.o", second.id));
    assert_ne!(updated.attachment.program, second.program);
    assert_eq!(programs(&node), [in_kernel[0], updated.attachment.program.0]);
    netloom.table("attachment update", &format!("{} count.o", second.id));
    assert!(!programs(&node).contains(&updated.attachment.program.0));

    // To the kind of chain that every kernel has, and back to the best.
    let clsact = || node.netns.tc(&["filter", "show", "dev", "d0", "ingress"]);
    assert_eq!(clsact().contains("observer"), second.filter.is_some());
    let moved: Vec<Attachment> = netloom.json("attachment migrate", &format!("{} --to tc", second.id));
    assert_eq!(moved.iter().map(|it| it.filter.is_some()).collect::<Vec<_>>(), [true]);
    assert!(clsact().contains("observer"), "{}", clsact());
    netloom.table("attachment migrate", &format!("{} --to auto", second.id));
    assert_eq!(clsact().contains("observer"), second.filter.is_some());

    // The policy wants another order.
    node.daemon.stop();
    node.daemon.set_config("[plugins.config.attach-order.priorities]\nfirst = 30\n");
    node.daemon.restart();
    let before = programs(&node);
    let planned: Vec<Rebalanced> = netloom.json("chain rebalance", "d0 --dry-run");
    assert_eq!(planned.iter().map(|chain| chain.moved.len()).sum::<usize>(), 1, "{planned:?}");
    assert_eq!(programs(&node), before, "a dry run moved something");
    netloom.table("chain rebalance", "d0");
    assert_eq!(programs(&node), [before[1], before[0]]);

    netloom.table("detach", &second.id);
    assert_eq!(programs(&node), [before[0]]);
    let first = ids.iter().find(|id| **id != second.id).unwrap();
    let done: Done = netloom.json("detach", first);
    assert_eq!((done.warnings, programs(&node)), (vec![], vec![]));
}
