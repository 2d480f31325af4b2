//! Taking a program to another place of its chain, or to another kind of hook.

use serde::{Deserialize, Serialize};

use super::{Op, Pivot, Plan, Target};
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

impl Plan {
    /// Take one program to another place.
    #[must_use]
    pub fn relocate(way: &Relocation) -> Self {
        use RelocationStep::{Clear, Gate, Leave, Settle, Stand, Turn};
        let step = |step| Op::Relocate { step, way: Box::new(way.clone()) };
        Self {
            what: format!("move {} from {} to {}", way.id, way.from.point, way.to.point),
            before: [Gate, Stand].map(step).into(),
            pivot: Pivot::Step(Box::new(step(Turn))),
            after: [Leave, Settle, Clear].map(step).into(),
        }
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
            steps(&plan.after),
            [RelocationStep::Leave, RelocationStep::Settle, RelocationStep::Clear]
        );
    }
}
