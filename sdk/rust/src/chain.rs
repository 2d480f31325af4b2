//! What one asks of a chain's snapshot.

use crate::types::{
    Candidate, Chain, ChainEntry, Endpoint, EntryId, Label, PlaceDecision, Placement, RebalanceDecision,
};

impl Chain {
    /// Netloom's own entries, first to run first.
    pub fn ours(&self) -> impl DoubleEndedIterator<Item = &ChainEntry> {
        self.entries.iter().filter(|entry| entry.is_ours())
    }

    /// An entry by its name in this snapshot.
    #[must_use]
    pub fn entry(&self, id: EntryId) -> Option<&ChainEntry> {
        self.entries.iter().find(|entry| entry.id == id)
    }
}

impl ChainEntry {
    /// Whether it is one of Netloom's. Foreign entries are never moved, replaced or removed.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.owner.is_some()
    }

    /// The value of one of its labels.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        find(&self.labels, key)
    }
}

impl Candidate {
    /// The value of one of its owner's labels.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        find(&self.labels, key)
    }
}

impl Endpoint {
    /// The value of one of its labels.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        find(&self.labels, key)
    }
}

fn find<'a>(labels: &'a [Label], key: &str) -> Option<&'a str> {
    labels.iter().find(|label| label.key == key).map(|label| label.value.as_str())
}

impl From<Placement> for PlaceDecision {
    fn from(placement: Placement) -> Self {
        Self::Place(placement)
    }
}

impl FromIterator<EntryId> for RebalanceDecision {
    fn from_iter<I: IntoIterator<Item = EntryId>>(order: I) -> Self {
        Self::Reorder(order.into_iter().collect())
    }
}
