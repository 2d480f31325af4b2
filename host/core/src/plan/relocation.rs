//! Taking a program to another place of its chain, or to another kind of hook.

use serde::{Deserialize, Serialize};

use super::{Op, Plan, Recovery, Target};
use crate::moves::Beside;

/// An attachment's way to another place, on the same hook or another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocation {
    /// The attachment's id.
    pub id: String,
    /// Where it is.
    pub from: Target,
    /// Where it goes.
    pub to: Target,
    /// Its place there.
    pub place: Place,
}

/// A program's place on the hook it goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Where policy wants it.
    Decided,
    /// Next to another.
    Beside(Beside),
    /// On legacy tc, at this priority: between the same neighbours as before.
    Priority(u16),
}

impl Relocation {
    /// Where packets are turned to the new place: the hook that sees them first. Packets come to tcx before they
    /// come to legacy tc.
    #[must_use]
    pub fn turns_at(&self) -> &Target {
        if self.from.point.is_legacy() { &self.to } else { &self.from }
    }
}

/// The steps of a relocation. Up to [`RelocationStep::Turn`] the program runs in its old place, and a crash undoes
/// what was done; from then on it runs in the new one, and a crash finishes what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelocationStep {
    /// A gate takes the program's place, open.
    Gate,
    /// Another gate stands in the new place, closed.
    Stand,
    /// The turn goes in front: from here on the new gate is open and the old one closed.
    Turn,
    /// The old gate goes.
    Leave,
    /// The program takes the place of the new gate; the record follows.
    Settle,
    /// The turn goes, and the gates.
    Clear,
    /// Undoes [`RelocationStep::Gate`].
    Ungate,
    /// Undoes [`RelocationStep::Stand`].
    Unstand,
}

impl RelocationStep {
    /// The steps in their order.
    pub const ALL: [Self; 6] = [Self::Gate, Self::Stand, Self::Turn, Self::Leave, Self::Settle, Self::Clear];

    /// Whether packets take the new place when this step is done.
    #[must_use]
    pub fn is_behind_turn(self) -> bool {
        matches!(self, Self::Leave | Self::Settle | Self::Clear)
    }
}

impl Plan {
    /// Take one program to another place.
    #[must_use]
    pub fn relocate(way: &Relocation) -> Self {
        let op = |step| Op::Relocate { step, way: Box::new(way.clone()) };
        let what = format!("move {} from {} to {}", way.id, way.from.point, way.to.point);
        Self { what, ops: RelocationStep::ALL.map(op).into(), recovery: Recovery::AtTurn }
    }

    /// What is left to do when packets take the new place.
    #[must_use]
    pub fn behind_turn(&self) -> Vec<Op> {
        let behind = |op: &&Op| matches!(op, Op::Relocate { step, .. } if step.is_behind_turn());
        self.ops.iter().filter(behind).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HookPoint;

    fn target() -> Target {
        Target { netns: None, device: "nl7".into(), point: HookPoint::TcxIngress, endpoint: None }
    }

    #[test]
    fn a_relocation_is_undone_up_to_its_turn_and_finished_from_there() {
        let from = target();
        let to = Target { point: HookPoint::TcIngress, ..target() };
        let way = Relocation { id: "a-1".into(), from: from.clone(), to: to.clone(), place: Place::Decided };
        let plan = Plan::relocate(&way);
        assert_eq!(way.turns_at(), &from, "packets come to tcx first");
        let back = Relocation { from: to, to: from.clone(), ..way };
        assert_eq!(back.turns_at(), &from);
        let steps = |ops: &[Op]| -> Vec<RelocationStep> {
            ops.iter()
                .map(|op| match op {
                    Op::Relocate { step, .. } => *step,
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        assert_eq!(steps(&plan.undo(2)), [RelocationStep::Unstand, RelocationStep::Ungate]);
        assert_eq!(
            steps(&plan.behind_turn()),
            [RelocationStep::Leave, RelocationStep::Settle, RelocationStep::Clear]
        );
    }
}
