//! The records in memory: what is committed, what waits to be committed, and differences between the two.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

pub(super) type Value = Arc<[u8]>;
pub(super) type Table = BTreeMap<String, Value>;
type Name = Cow<'static, str>;

/// Everything that is committed, by table and key. Tables that this version does not know are among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image(BTreeMap<String, Table>);

/// What changes together: values that are put, and keys that are removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Delta(BTreeMap<Name, BTreeMap<String, Option<Value>>>);

/// What was changed and is not yet on the disk, each with the number of its change.
#[derive(Debug, Default)]
pub(super) struct Overlay(BTreeMap<Name, BTreeMap<String, (u64, Option<Value>)>>);

/// What is committed, and what is about to be.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) image: Image,
    pub(super) overlay: Overlay,
}

impl Image {
    pub(super) fn get(&self, table: &str, key: &str) -> Option<&Value> {
        self.0.get(table)?.get(key)
    }

    pub(super) fn table(&self, table: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.0.get(table).into_iter().flatten()
    }

    /// The records of a table whose keys begin so.
    pub(super) fn space(&self, table: &str, prefix: &str) -> impl Iterator<Item = (&String, &Value)> {
        let from = self.0.get(table).map(|table| table.range(prefix.to_owned()..));
        from.into_iter().flatten().take_while(move |(key, _)| key.starts_with(prefix))
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = (&String, &Table)> {
        self.0.iter()
    }

    pub(super) fn insert(&mut self, table: String, records: Table) {
        self.0.insert(table, records);
    }

    pub(super) fn apply(&mut self, delta: &Delta) {
        for (table, changes) in &delta.0 {
            let records = self.0.entry(table.as_ref().to_owned()).or_default();
            for (key, change) in changes {
                match change {
                    Some(value) => drop(records.insert(key.clone(), Arc::clone(value))),
                    None => drop(records.remove(key)),
                }
            }
        }
    }

    /// What has to change for another one to become this.
    pub(super) fn difference_from(&self, other: &Self) -> Delta {
        let mut delta = Delta::default();
        for (table, records) in &self.0 {
            let differs = records.iter().filter(|(key, value)| other.get(table, key) != Some(value));
            for (key, value) in differs {
                delta.set(Cow::Owned(table.clone()), key, Some(Arc::clone(value)));
            }
        }
        for (table, records) in &other.0 {
            for key in records.keys().filter(|key| self.get(table, key).is_none()) {
                delta.set(Cow::Owned(table.clone()), key, None);
            }
        }
        delta
    }
}

impl Delta {
    pub(super) fn set(&mut self, table: Name, key: &str, value: Option<Value>) {
        self.0.entry(table).or_default().insert(key.to_owned(), value);
    }

    /// What becomes of a record, if it is touched.
    pub(super) fn get(&self, table: &str, key: &str) -> Option<Option<&Value>> {
        Some(self.0.get(table)?.get(key)?.as_ref())
    }

    pub(super) fn table(&self, table: &str) -> impl Iterator<Item = (&String, Option<&Value>)> {
        self.0.get(table).into_iter().flatten().map(|(key, value)| (key, value.as_ref()))
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, Option<Value>>)> {
        self.0.iter().map(|(name, changes)| (name.as_ref(), changes))
    }

    /// How many records it touches.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Both, the other one coming later.
    pub(super) fn extend(&mut self, later: &Self) {
        for (table, changes) in &later.0 {
            let mine = self.0.entry(table.clone()).or_default();
            mine.extend(changes.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    }
}

impl Overlay {
    pub(super) fn lay(&mut self, number: u64, delta: &Delta) {
        for (table, changes) in &delta.0 {
            let mine = self.0.entry(table.clone()).or_default();
            mine.extend(changes.iter().map(|(key, value)| (key.clone(), (number, value.clone()))));
        }
    }

    /// Forgets what was committed: all changes up to a number.
    pub(super) fn committed(&mut self, number: u64) {
        self.0.retain(|_, changes| {
            changes.retain(|_, (of, _)| *of > number);
            !changes.is_empty()
        });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn table(&self, table: &str) -> impl Iterator<Item = (&String, Option<&Value>)> {
        self.0.get(table).into_iter().flatten().map(|(key, (_, value))| (key, value.as_ref()))
    }

    fn get(&self, table: &str, key: &str) -> Option<Option<&Value>> {
        Some(self.0.get(table)?.get(key)?.1.as_ref())
    }
}

impl View {
    /// A record as it will be when all that waits is committed.
    pub(super) fn latest(&self, table: &str, key: &str) -> Option<&Value> {
        match self.overlay.get(table, key) {
            Some(change) => change,
            None => self.image.get(table, key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(records: &[(&str, &str, &str)]) -> Image {
        let mut image = Image::default();
        let mut delta = Delta::default();
        for (table, key, value) in records {
            delta.set(Cow::Owned((*table).to_owned()), key, Some(value.as_bytes().into()));
        }
        image.apply(&delta);
        image
    }

    #[test]
    fn applying_the_difference_makes_one_the_other() {
        let old = image(&[("a", "1", "x"), ("a", "2", "y"), ("b", "1", "z")]);
        let new = image(&[("a", "1", "x"), ("a", "2", "changed"), ("c", "1", "new")]);
        let mut moved = old.clone();
        moved.apply(&new.difference_from(&old));
        let records = |image: &Image| {
            let all = image
                .tables()
                .flat_map(|(name, table)| table.keys().map(move |key| (name.clone(), key.clone())));
            all.collect::<Vec<_>>()
        };
        assert_eq!(records(&moved), records(&new));
        assert_eq!(moved.get("a", "2"), new.get("a", "2"));
        assert!(new.difference_from(&new).is_empty());
    }

    #[test]
    fn the_latest_of_a_record_is_what_waits_until_it_is_committed() {
        let mut view = View { image: image(&[("a", "1", "old")]), ..View::default() };
        let mut delta = Delta::default();
        delta.set("a".into(), "1", None);
        view.overlay.lay(7, &delta);
        assert_eq!(view.latest("a", "1"), None);
        view.overlay.committed(6);
        assert_eq!(view.latest("a", "1"), None);
        view.overlay.committed(7);
        assert_eq!(view.latest("a", "1").map(|value| &value[..]), Some(&b"old"[..]));
    }
}
