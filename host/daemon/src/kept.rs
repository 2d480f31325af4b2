//! The last of something, numbered: decisions, operations of plugins.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

const KEPT: usize = 1_000;

/// A bounded record, oldest first.
pub(crate) struct Kept<T>(Mutex<(u64, VecDeque<T>)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    /// Adds what is made of its number and the time in milliseconds since the epoch.
    pub(crate) fn add(&self, make: impl FnOnce(u64, u64) -> T) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        // A panic between two changes of a log leaves a log: what is there is still true.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (sequence, items) = &mut *kept;
        *sequence += 1;
        let item = make(*sequence, time_ms);
        if items.len() == KEPT {
            items.pop_front();
        }
        items.push_back(item);
    }

    /// All that are kept, newest last.
    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_thousand_are_kept() {
        let kept = Kept::default();
        for _ in 0..=KEPT {
            kept.add(|number, _| number);
        }
        let all = kept.all();
        assert_eq!(all.len(), KEPT);
        assert_eq!((all.first(), all.last()), (Some(&2), Some(&(KEPT as u64 + 1))));
    }
}
