//! The bundled policy compiled natively, over owned snapshots as any plugin gets them: what is left of the cost of a
//! decision without Wasm.

use std::cell::RefCell;

use netloom_core::model::{Candidate, Chain, ChainEntry, Feature, Labels};
use netloom_plugin_attach_order::OwnerPriority;
use netloom_runtime::NodeFacts;
use netloom_sdk::{AttachOrder as _, types};

/// The policy.
#[derive(Default)]
pub(super) struct Policy(RefCell<OwnerPriority>);

impl Policy {
    pub(super) fn place(
        &self,
        node: NodeFacts<'_>,
        chain: &Chain,
        program: &Candidate,
    ) -> types::PlaceDecision {
        self.0.borrow_mut().place(&snapshot(node), &copy(chain), &candidate(program))
    }
}

fn snapshot(facts: NodeFacts<'_>) -> types::Node {
    let has = |feature| facts.capabilities.has(feature);
    types::Node {
        name: facts.name.to_owned(),
        kernel: facts.capabilities.kernel.clone(),
        netkit: has(Feature::Netkit),
        tcx: has(Feature::Tcx),
        tc: has(Feature::LegacyTc),
        netkit_scrub: has(Feature::NetkitScrub),
        netkit_headroom: has(Feature::NetkitHeadroom),
        socket_storage_iterator: has(Feature::SocketStorageIterator),
        socket_destroy: has(Feature::SocketDestroy),
        capabilities: available(facts),
    }
}

fn available(facts: NodeFacts<'_>) -> Vec<String> {
    let features = facts.capabilities.features.iter();
    features
        .filter(|(_, support)| support.available)
        .map(|(feature, _)| feature.as_str().to_owned())
        .collect()
}

fn labels(labels: &Labels) -> Vec<types::Label> {
    labels.iter().map(|(key, value)| types::Label { key: key.clone(), value: value.clone() }).collect()
}

fn entry((id, entry): (u32, &ChainEntry)) -> types::ChainEntry {
    types::ChainEntry {
        id,
        program: entry.program.0,
        link: entry.link.map(|link| link.0),
        name: entry.name.clone(),
        tag: entry.tag.clone(),
        owner: entry.owner.as_ref().map(|owner| owner.as_str().to_owned()),
        priority: entry.priority,
        labels: labels(&entry.labels),
    }
}

fn copy(chain: &Chain) -> types::Chain {
    types::Chain {
        hook: types::Hook {
            netns: types::NetnsId { device: chain.hook.netns.device, inode: chain.hook.netns.inode },
            device: chain.hook.device.clone(),
            ifindex: chain.hook.ifindex.0,
            point: types::HookPoint::TcxIngress,
        },
        revision: chain.revision.0,
        entries: (0..).zip(&chain.entries).map(entry).collect(),
    }
}

fn candidate(candidate: &Candidate) -> types::Candidate {
    types::Candidate {
        owner: candidate.owner.as_str().to_owned(),
        name: candidate.name.clone(),
        tag: candidate.tag.clone(),
        priority: candidate.priority,
        labels: labels(&candidate.labels),
        required: candidate.required,
    }
}
