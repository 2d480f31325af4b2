//! Changes that are being put together, to be committed as one.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    StoreError,
    image::{Delta, Value, View},
    records::{Counter, Record},
};

/// Changes not yet committed. What was changed before them and waits for the disk is visible here.
pub(crate) struct Changes {
    view: Arc<RwLock<View>>,
    delta: RefCell<Delta>,
}

impl Changes {
    pub(super) fn over(view: &Arc<RwLock<View>>) -> Self {
        Self { view: Arc::clone(view), delta: RefCell::default() }
    }

    pub(super) fn into_delta(self) -> Delta {
        self.delta.into_inner()
    }

    /// A record as it is with the changes made so far.
    pub(crate) fn get<R: Record>(&self, key: &str) -> Result<Option<R>, StoreError> {
        let delta = self.delta.borrow();
        let view;
        let value: Option<&Value> = match delta.get(R::TABLE, key) {
            Some(change) => change,
            None => {
                view = self.view.read().unwrap_or_else(PoisonError::into_inner);
                view.latest(R::TABLE, key)
            }
        };
        value.map(|bytes| decode(key, bytes)).transpose()
    }

    /// The keys that begin so, and the sizes of their records in bytes.
    pub(crate) fn sizes<R: Record>(&self, prefix: &str) -> BTreeMap<String, usize> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let mut sizes: BTreeMap<String, usize> =
            view.image.space(R::TABLE, prefix).map(|(key, value)| (key.clone(), value.len())).collect();
        let delta = self.delta.borrow();
        let changed = view.overlay.table(R::TABLE).chain(delta.table(R::TABLE));
        for (key, value) in changed.filter(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(value) => drop(sizes.insert(key.clone(), value.len())),
                None => drop(sizes.remove(key)),
            }
        }
        sizes
    }

    pub(crate) fn put<R: Record>(&self, key: &str, record: &R) -> Result<(), StoreError> {
        let bytes = record.encode().map_err(|source| StoreError::Record {
            table: R::TABLE,
            key: key.into(),
            source,
        })?;
        self.delta.borrow_mut().set(Cow::Borrowed(R::TABLE), key, Some(bytes.into()));
        Ok(())
    }

    pub(crate) fn remove<R: Record>(&self, key: &str) -> Result<bool, StoreError> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let mut delta = self.delta.borrow_mut();
        let present = match delta.get(R::TABLE, key) {
            Some(change) => change.is_some(),
            None => view.latest(R::TABLE, key).is_some(),
        };
        if present {
            delta.set(Cow::Borrowed(R::TABLE), key, None);
        }
        Ok(present)
    }

    /// The next number of a counter, from 1; never given twice.
    pub(crate) fn next(&self, counter: &str) -> Result<u64, StoreError> {
        self.take(counter, 1)
    }

    /// The first of so many numbers of a counter.
    pub(crate) fn take(&self, counter: &str, count: usize) -> Result<u64, StoreError> {
        let first = self.get::<Counter>(counter)?.map_or(0, |Counter(last)| last) + 1;
        if let Some(more) = count.checked_sub(1) {
            self.put(counter, &Counter(first + more as u64))?;
        }
        Ok(first)
    }
}

pub(super) fn decode<R: Record>(key: &str, bytes: &[u8]) -> Result<R, StoreError> {
    R::decode(bytes).map_err(|source| StoreError::Record { table: R::TABLE, key: key.into(), source })
}
