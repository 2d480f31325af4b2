//! Taking an endpoint from one pair of devices to another.

use serde::{Deserialize, Serialize};

use super::{Op, Pivot, Plan};
use crate::model::{Attachment, Endpoint, PairSpec, ProgramId};

/// An endpoint's way from one pair to another. Each pair is found by the name of the node's end; the endpoint's end
/// has the interface's name in the pair that is used, and the name of the node's end in the one that is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// As it is; the indexes are those of its pair.
    pub before: Endpoint,
    /// As it will be; the indexes are not known before the pair is made.
    pub after: Endpoint,
    /// The alias of both pairs.
    pub alias: String,
    /// Routes in the endpoint's namespace through its device that somebody set, as the kernel's messages.
    pub endpoint_routes: Vec<Vec<u8>>,
    /// The same on the node.
    pub node_routes: Vec<Vec<u8>>,
}

/// An attachment that goes along, with the program that it runs.
#[derive(Clone, Debug)]
pub struct Along {
    /// The program in the kernel.
    pub program: ProgramId,
    /// The step that attaches it to the new pair.
    pub attach: Op,
}

impl Plan {
    /// Take an endpoint to another pair: the new one is made and its programs attached while the old one is in use. The
    /// old one goes afterwards, with what was `left` attached to it.
    #[must_use]
    pub fn switch(
        way: Switch,
        pair: PairSpec,
        programs: Vec<Op>,
        along: Vec<Along>,
        left: &[Attachment],
    ) -> Self {
        let what = format!("take endpoint {} to {}", way.after.spec.name, way.after.mode.device);
        let mut after: Vec<Op> = left.iter().map(Op::detach).collect();
        after.push(Op::delete_pair(&way.before, way.alias.clone()));
        let mut before = vec![
            Op::CreatePair {
                netns: way.after.spec.netns.clone(),
                netns_id: Some(way.after.netns),
                pair: Box::new(pair),
            },
            Op::Prepare { endpoint: Box::new(way.after.clone()) },
        ];
        before.extend(programs);
        for Along { program, attach } in along {
            before.extend([Op::Reuse { program }, attach]);
        }
        before.push(Op::Switch { way: Box::new(way), back: false });
        Self { what, before, pivot: Pivot::Commit, after }
    }
}
