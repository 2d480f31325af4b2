//! The order in which endpoints were asked for and asked to be deleted, where requests overtake each other on their
//! way: what was asked for first does not undo what was asked for later.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use netloom_api::Asked;
use netloom_core::model::Name;

/// Longest time that a request may be on its way.
const LONGEST_TRANSIT: Duration = Duration::from_secs(600);

/// When each endpoint was last asked for, and last asked to be deleted.
#[derive(Default)]
pub(crate) struct Order(Mutex<HashMap<Name, Last>>);

struct Last {
    added: Option<Asked>,
    deleted: Option<Asked>,
    noted: Instant,
}

impl Order {
    /// Notes an addition; false if a deletion was asked for later. The caller has the endpoint's lock.
    pub(crate) fn add(&self, name: &Name, asked: Option<Asked>) -> bool {
        let mut all = self.all();
        let last = all.entry(name.clone()).or_insert_with(Last::now);
        if asked.is_some() && last.deleted > asked {
            return false;
        }
        last.added = last.added.max(asked);
        last.noted = Instant::now();
        true
    }

    /// Notes a deletion; false if the endpoint that is there was asked for later. The caller has the endpoint's lock.
    pub(crate) fn delete(&self, name: &Name, asked: Option<Asked>) -> bool {
        let mut all = self.all();
        let last = all.entry(name.clone()).or_insert_with(Last::now);
        if asked.is_some() && last.added > asked {
            return false;
        }
        last.deleted = last.deleted.max(asked);
        last.noted = Instant::now();
        true
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Name, Last>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, last| last.noted.elapsed() < LONGEST_TRANSIT);
        all
    }
}

impl Last {
    fn now() -> Self {
        Self { added: None, deleted: None, noted: Instant::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_first_does_not_undo_what_was_asked_for_later() {
        let order = Order::default();
        let web = Name::new("web").unwrap();
        let at = |nanoseconds| Some(Asked(nanoseconds));
        assert!(order.delete(&web, at(20)));
        assert!(!order.add(&web, at(10)), "its deletion overtook it");
        assert!(order.add(&web, at(30)));
        assert!(!order.delete(&web, at(25)), "it means the one before");
        assert!(order.delete(&web, at(40)));
        assert!(order.add(&web, None) && order.delete(&web, None), "who does not say counts as last");
    }
}
