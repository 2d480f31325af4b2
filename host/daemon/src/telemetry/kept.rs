//! The last of something, numbered: decisions, operations of plugins.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// A bounded record, oldest first.
pub(crate) struct Kept<T, const MOST: usize = 1_000>(Mutex<(u64, VecDeque<T>)>);

impl<T, const MOST: usize> Default for Kept<T, MOST> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone, const MOST: usize> Kept<T, MOST> {
    /// Adds what is made of its number and the time in milliseconds since the epoch.
    pub(crate) fn add(&self, make: impl FnOnce(u64, u64) -> T) {
        let time_ms = now_ms();
        // A panic between two changes of a log leaves a log: what is there is still true.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (sequence, items) = &mut *kept;
        *sequence += 1;
        let item = make(*sequence, time_ms);
        if items.len() == MOST {
            items.pop_front();
        }
        items.push_back(item);
    }

    /// All that are kept, newest last.
    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.iter().cloned().collect()
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_are_kept() {
        let kept = Kept::<_, 10>::default();
        for _ in 0..=10 {
            kept.add(|number, _| number);
        }
        let all = kept.all();
        assert_eq!(all.len(), 10);
        assert_eq!((all.first(), all.last()), (Some(&2), Some(&11)));
    }
}
