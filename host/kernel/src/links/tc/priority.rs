/// What is on both sides of the place a filter shall have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neighbours {
    /// The priority of the filter in front.
    pub(super) before: Option<u16>,
    /// The filter behind.
    pub(super) after: Option<Behind>,
}

/// A filter to go in front of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind {
    /// Its priority.
    pub(super) priority: u16,
    /// Whether a filter of ours can have the same priority.
    pub(super) shareable: bool,
}

/// The first filter's: room on both sides, and in front of those the kernel numbers itself (from 49152 down).
const FIRST: u16 = 1024;
/// Room left for others at both ends.
const GAP: u16 = 64;

/// A priority between two filters. None if there is none.
pub(super) fn between(Neighbours { before, after }: Neighbours) -> Option<u16> {
    let free = match (before, after.map(|after| after.priority)) {
        (None, None) => Some(FIRST),
        (None, Some(after)) => after.checked_sub(GAP).filter(|free| *free > 0).or(Some(after / 2)),
        (Some(before), None) => {
            before.checked_add(GAP).or_else(|| before.checked_add((u16::MAX - before).div_ceil(2)))
        }
        (Some(before), Some(after)) => Some(before + after.saturating_sub(before) / 2),
    };
    let above = |free: &u16| before.map_or(*free > 0, |before| *free > before);
    let below = |free: &u16| after.is_none_or(|after| *free < after.priority);
    // Of several filters with one priority the newest runs first (`cls_bpf_change`, `net/sched/cls_bpf.c`, adds at
    // the head of the list), so sharing the priority of the first of them is to go just in front of it.
    let shared = || {
        let after =
            after.filter(|after| after.shareable && before.is_none_or(|before| before < after.priority))?;
        Some(after.priority)
    };
    free.filter(above).filter(below).or_else(shared)
}

/// A filter in the way of room for another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Its priority.
    pub(super) priority: u16,
    /// Whether it is ours to give another one.
    pub(super) movable: bool,
}

/// So many priorities apart, filters that are spread take some insertions until it has to be done again.
const SPACING: u32 = 32;
/// Above all priorities.
const END: u32 = 1 << 16;

/// New priorities for filters of ours around a place, between them a free one for a filter there: which filter gets
/// which, in the order in which they are to be moved, such that none ever passes another. As few as give all of them
/// some room, else all up to the next filter of somebody else's. None if there are too few priorities for that.
pub(super) fn spread(filters: &[Standing], place: usize) -> Option<Vec<(usize, u16)>> {
    let movable = |at: usize| filters.get(at).is_some_and(|filter| filter.movable);
    let priority = |at: usize| filters.get(at).map(|filter| u32::from(filter.priority));
    let (mut first, mut behind) = (place, place);
    let (floor, room) = loop {
        let floor = first.checked_sub(1).and_then(priority).unwrap_or(0);
        let room = priority(behind).unwrap_or(END).saturating_sub(floor);
        let places = u32::try_from(behind - first).ok()? + 2;
        if room >= places * SPACING {
            break (floor, room);
        }
        let grown =
            (first - usize::from(first > 0 && movable(first - 1)), behind + usize::from(movable(behind)));
        if grown == (first, behind) {
            // Nobody is left to move: a priority for each is enough.
            if room < places {
                return None;
            }
            break (floor, room);
        }
        (first, behind) = grown;
    };
    let parts = u32::try_from(behind - first).ok()? + 2;
    let mut moves = Vec::new();
    for at in first..behind {
        // One part is left free at the place.
        let part = u32::try_from(at - first + usize::from(at >= place)).ok()? + 1;
        let wanted = u16::try_from(floor + part * room / parts).ok()?;
        let present = filters.get(at)?.priority;
        if wanted != present {
            moves.push((at, present, wanted));
        }
    }
    // Who goes down does so behind those in front of it, who goes up does so in front of those behind it.
    let down = moves.iter().filter(|(_, present, wanted)| wanted < present);
    let up = moves.iter().rev().filter(|(_, present, wanted)| wanted > present);
    Some(down.chain(up).map(|(at, _, wanted)| (*at, *wanted)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(before: Option<u16>, after: Option<u16>) -> Option<u16> {
        between(Neighbours { before, after: after.map(|priority| Behind { priority, shareable: false }) })
    }

    #[test]
    fn a_free_priority_is_found_between_neighbours() {
        assert_eq!(at(None, None), Some(1024));
        assert_eq!(at(None, Some(1024)), Some(960));
        assert_eq!(at(None, Some(50)), Some(25));
        assert_eq!(at(Some(1024), None), Some(1088));
        assert_eq!(at(Some(65530), None), Some(65533));
        assert_eq!(at(Some(10), Some(20)), Some(15));
        assert_eq!(at(Some(10), Some(12)), Some(11));
    }

    #[test]
    fn none_is_found_where_there_is_none() {
        assert_eq!(at(None, Some(1)), None);
        assert_eq!(at(Some(u16::MAX), None), None);
        assert_eq!(at(Some(10), Some(11)), None);
        assert_eq!(at(Some(10), Some(10)), None);
    }

    #[test]
    fn the_priority_of_the_first_filter_behind_can_be_shared() {
        let sharing = |before, priority| {
            between(Neighbours { before, after: Some(Behind { priority, shareable: true }) })
        };
        assert_eq!(sharing(None, 1), Some(1));
        assert_eq!(sharing(Some(10), 11), Some(11));
        assert_eq!(sharing(Some(10), 10), None);
    }

    fn standing(filters: &[(u16, bool)]) -> Vec<Standing> {
        filters
            .iter()
            .map(|(priority, movable)| Standing { priority: *priority, movable: *movable })
            .collect()
    }

    #[test]
    fn the_nearest_of_ours_make_room() {
        // Both at one priority, and room on either side.
        let moves = spread(&standing(&[(10, false), (700, true), (700, true), (2_000, false)]), 2);
        assert_eq!(moves, Some(vec![(1, 507), (2, 1_502)]));
    }

    #[test]
    fn between_filters_of_others_there_may_be_no_room() {
        assert_eq!(spread(&standing(&[(10, false), (11, false)]), 1), None);
        assert_eq!(spread(&standing(&[(10, false), (11, true), (12, false)]), 1), None);
        assert_eq!(spread(&standing(&[(10, false), (12, true), (13, false)]), 2), Some(vec![(1, 11)]));
        assert_eq!(spread(&standing(&[(1, false)]), 0), None);
    }

    proptest! {
        #[test]
        fn room_is_made_and_nobody_passes_anybody(
            mut filters in proptest::collection::vec((1_u16.., any::<bool>()), 0..40),
            near: bool,
            place: proptest::sample::Index,
        ) {
            for (priority, _) in &mut filters {
                if near {
                    *priority = 1_000 + *priority % 30;
                }
            }
            filters.sort_by_key(|(priority, _)| *priority);
            let mut filters = standing(&filters);
            let place = place.index(filters.len() + 1);
            let Some(moves) = spread(&filters, place) else { return Ok(()) };
            for (which, wanted) in moves {
                prop_assert!(filters[which].movable);
                let present = filters[which].priority;
                let (low, high) = (present.min(wanted), present.max(wanted));
                for (other, filter) in filters.iter().enumerate().filter(|(other, _)| *other != which) {
                    // What shared its priority keeps its side.
                    let before = other < which;
                    let aside = if before { filter.priority <= low } else { filter.priority >= high };
                    prop_assert!(aside);
                    prop_assert!(filter.priority != wanted);
                }
                filters[which].priority = wanted;
            }
            let before = place.checked_sub(1).map(|at| filters[at].priority);
            let after = filters.get(place).map(|filter| filter.priority);
            prop_assert!(at(before, after).is_some(), "{before:?} {after:?}");
        }
    }
}
