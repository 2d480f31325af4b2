//! From the order that policy wants of our own entries to the fewest moves that reach it.
//!
//! What is not moved stays where it is, foreign entries included. The entries that stay are a longest increasing
//! subsequence of the wanted order. Among several such, the one with the most `required` programs is taken, then
//! the one whose entries come first in the chain: the same chain and the same wish always give the same moves.

use serde::{Deserialize, Serialize};

use crate::model::{Chain, EntryId};

/// Where one of our entries goes: next to another of ours, which has its final place by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Beside {
    /// Just in front of this attachment.
    Before(String),
    /// Just behind this attachment.
    After(String),
}

/// One entry and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub entry: EntryId,
    /// Next to which of ours.
    pub to: Neighbour,
}

/// A neighbour by its place in the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Just in front of it.
    Before(EntryId),
    /// Just behind it.
    After(EntryId),
}

/// The fewest moves that bring our own entries into the wanted order, to be made one after the other.
///
/// `wanted` names each of our entries of the chain once; `required` says which of them no packet may miss.
#[must_use]
pub fn moves(wanted: &[EntryId], required: impl Fn(EntryId) -> bool) -> Vec<Move> {
    let stays = staying(wanted, required);
    let mut moves = Vec::new();
    for (at, entry) in wanted.iter().copied().enumerate() {
        if stays.contains(&entry) {
            continue;
        }
        let in_front = at.checked_sub(1).and_then(|at| wanted.get(at)).copied();
        // All in front are placed by now; behind the first there is one that stays, unless there is none.
        let to = match in_front {
            Some(neighbour) => Neighbour::After(neighbour),
            None => match wanted.iter().copied().find(|entry| stays.contains(entry)) {
                Some(neighbour) => Neighbour::Before(neighbour),
                None => continue,
            },
        };
        moves.push(Move { entry, to });
    }
    moves
}

/// What a run of entries that stay is worth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Run {
    entries: Vec<EntryId>,
    required: usize,
}

impl Run {
    fn better_than(&self, other: &Self) -> bool {
        let worth = |run: &Self| (run.entries.len(), run.required);
        worth(self) > worth(other) || (worth(self) == worth(other) && self.entries < other.entries)
    }
}

/// The longest run of entries that are in the chain as they are in the wanted order.
fn staying(wanted: &[EntryId], required: impl Fn(EntryId) -> bool) -> Vec<EntryId> {
    // At most 63 entries: the plain way is fast enough.
    let mut runs: Vec<Run> = Vec::with_capacity(wanted.len());
    for entry in wanted.iter().copied() {
        let mut best = Run::default();
        for run in &runs {
            if run.entries.last().is_some_and(|last| *last < entry) && run.better_than(&best) {
                best = run.clone();
            }
        }
        best.entries.push(entry);
        best.required += usize::from(required(entry));
        runs.push(best);
    }
    let mut longest = Run::default();
    for run in runs {
        if run.better_than(&longest) {
            longest = run;
        }
    }
    longest.entries
}

/// Whether our own entries of a chain are in the wanted order already.
#[must_use]
pub fn in_order(wanted: &[EntryId]) -> bool {
    wanted.is_sorted()
}

/// Our own entries of a chain, in the order in which they run.
#[must_use]
pub fn ours(chain: &Chain) -> Vec<EntryId> {
    (0_u32..)
        .zip(&chain.entries)
        .filter(|(_, entry)| entry.attachment.is_some())
        .map(|(id, _)| EntryId(id))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(wanted: &[u32]) -> Vec<EntryId> {
        wanted.iter().copied().map(EntryId).collect()
    }

    /// What the chain is after the moves. Entries that are not in `wanted` are foreign.
    fn carried_out(len: u32, moves: &[Move]) -> Vec<EntryId> {
        let mut chain: Vec<EntryId> = (0..len).map(EntryId).collect();
        for Move { entry, to } in moves {
            chain.retain(|other| other != entry);
            let at = |id: &EntryId| chain.iter().position(|other| other == id).unwrap();
            let at = match to {
                Neighbour::Before(id) => at(id),
                Neighbour::After(id) => at(id) + 1,
            };
            chain.insert(at, *entry);
        }
        chain
    }

    #[test]
    fn what_is_in_order_is_not_moved() {
        assert_eq!(moves(&ids(&[0, 2, 5]), |_| true), []);
        assert_eq!(moves(&[], |_| true), []);
    }

    #[test]
    fn ours_are_in_order_if_each_is_behind_the_one_before() {
        assert!(in_order(&[]) && in_order(&ids(&[0, 2, 5])));
        assert!(!in_order(&ids(&[0, 5, 2])));
    }

    #[test]
    fn one_that_is_out_of_place_is_moved_alone() {
        let last_to_front = moves(&ids(&[4, 0, 1, 3]), |_| false);
        assert_eq!(last_to_front, [Move { entry: EntryId(4), to: Neighbour::Before(EntryId(0)) }]);
        let first_to_back = moves(&ids(&[1, 3, 4, 0]), |_| false);
        assert_eq!(first_to_back, [Move { entry: EntryId(0), to: Neighbour::After(EntryId(4)) }]);
    }

    #[test]
    fn of_two_that_could_be_moved_the_required_one_stays() {
        let moved = |required: u32| moves(&ids(&[1, 0]), |entry| entry.0 == required)[0].entry.0;
        assert_eq!(moved(0), 1);
        assert_eq!(moved(1), 0);
        // Without a difference the first in the chain stays.
        assert_eq!(moves(&ids(&[1, 0]), |_| false)[0].entry.0, 1);
    }

    proptest! {
        #[test]
        fn the_order_is_reached_foreign_ones_stay_and_no_move_is_wasted(
            (len, wanted) in (1_u32..12).prop_flat_map(|len| {
                let all: Vec<u32> = (0..len).collect();
                (Just(len), proptest::sample::subsequence(all, 0..=len as usize).prop_shuffle())
            }),
            required: u16,
        ) {
            let wanted = ids(&wanted);
            let moves = moves(&wanted, |entry| required >> entry.0 & 1 == 1);
            let chain = carried_out(len, &moves);
            let ours: Vec<_> = chain.iter().copied().filter(|id| wanted.contains(id)).collect();
            prop_assert_eq!(&ours, &wanted);
            let foreign: Vec<_> = chain.iter().copied().filter(|id| !wanted.contains(id)).collect();
            prop_assert!(foreign.is_sorted());
            // No subset of our entries that is larger than the staying one is in order.
            let most = (0..1_u32 << wanted.len())
                .map(|set| {
                    let kept: Vec<_> = (0..wanted.len()).filter(|at| set >> at & 1 == 1).map(|at| wanted[at]).collect();
                    if kept.is_sorted() { kept.len() } else { 0 }
                })
                .max()
                .unwrap();
            prop_assert_eq!(moves.len(), wanted.len() - most);
        }
    }
}
