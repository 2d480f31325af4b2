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

#[cfg(test)]
mod tests {
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
}
