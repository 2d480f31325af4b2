//! What the watcher saw of the chains so far, and which changes it has to expect as they are ours.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use netloom_core::model::{Hook, Revision};

/// What was seen of the chains so far.
#[derive(Default)]
pub(crate) struct SeenChains(Mutex<HashMap<Hook, Seen>>);

/// Of one chain.
#[derive(Default)]
pub(crate) struct Seen {
    /// None after a change of our own: the next look begins anew.
    pub(crate) revision: Option<Revision>,
    /// The programs of others: their ids, and the links'.
    pub(crate) foreign: BTreeMap<(u32, Option<u32>), String>,
    /// Our own, in their order.
    pub(crate) ours: Vec<String>,
    /// When others changed it, and how often.
    pub(crate) changes: VecDeque<(Instant, u64)>,
    pub(crate) churning: bool,
    pub(crate) shadows: BTreeSet<String>,
}

impl SeenChains {
    pub(crate) fn all(&self) -> MutexGuard<'_, HashMap<Hook, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that we change the chains of a device ourselves.
    pub(crate) fn expect(&self, device: &str) {
        for (_, seen) in self.all().iter_mut().filter(|(hook, _)| hook.device == device) {
            seen.revision = None;
        }
    }

    /// The chains that two tools fight over.
    pub(crate) fn churning(&self) -> Vec<Hook> {
        self.all().iter().filter(|(_, seen)| seen.churning).map(|(hook, _)| hook.clone()).collect()
    }

    pub(crate) fn shadowed(&self) -> usize {
        self.all().values().map(|seen| seen.shadows.len()).sum()
    }
}
