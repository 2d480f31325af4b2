//! The store: one transactional file. It is a hint, the kernel is the truth: at start every record is checked
//! against its object.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use netloom_core::{
    model::{Attachment, Endpoint, ReapEvent},
    plan::Plan,
};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the store {} cannot be opened: {source}", path.display())]
    Open { path: PathBuf, source: Box<redb::DatabaseError> },
    #[error("the store cannot be used: {0}")]
    Use(#[from] Box<redb::Error>),
    #[error("the record {key} of {table} is not understood; was it written by a newer netloomd?")]
    Record { table: &'static str, key: String, source: serde_json::Error },
}

/// A kind of record, and the table it is kept in.
pub(crate) trait Record: Serialize + DeserializeOwned {
    const TABLE: &'static str;
}

impl Record for Endpoint {
    const TABLE: &'static str = "endpoints";
}
impl Record for Attachment {
    const TABLE: &'static str = "attachments";
}
impl Record for Plan {
    const TABLE: &'static str = "plans";
}
impl Record for ReapEvent {
    const TABLE: &'static str = "reaps";
}

/// A service and its number in the datapath.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceRecord {
    pub(crate) id: netloom_core::model::ServiceId,
    pub(crate) service: netloom_core::model::Service,
}
impl Record for ServiceRecord {
    const TABLE: &'static str = "services";
}

/// A plugin loaded at run time. Its component is a file of the state directory, by its digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PluginRecord {
    pub(crate) load: netloom_api::types::PluginLoad,
    pub(crate) digest: String,
    pub(crate) order: u64,
    /// Milliseconds since the epoch.
    #[serde(default)]
    pub(crate) loaded_ms: u64,
}
impl Record for PluginRecord {
    const TABLE: &'static str = "plugins";
}

/// A version of a plugin that can be gone back to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VersionRecord(pub(crate) PluginRecord);
impl Record for VersionRecord {
    const TABLE: &'static str = "plugin_versions";
}

/// A plugin's own value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KvRecord(pub(crate) Vec<u8>);
impl Record for KvRecord {
    const TABLE: &'static str = "kv";
}

#[derive(Serialize, Deserialize)]
struct Counter(u64);
impl Record for Counter {
    const TABLE: &'static str = "counters";
}

fn table<R: Record>() -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(R::TABLE)
}

fn trouble(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Use(Box::new(error.into()))
}

fn decode<R: Record>(key: &str, bytes: &[u8]) -> Result<R, StoreError> {
    serde_json::from_slice(bytes).map_err(|source| StoreError::Record {
        table: R::TABLE,
        key: key.into(),
        source,
    })
}

/// Every attachment, by its id.
pub(crate) type Attachments = BTreeMap<String, Attachment>;

pub(crate) struct Store {
    database: Database,
    /// What is committed of them: they are asked for with each chain, and a node may have thousands.
    attachments: RwLock<Arc<Attachments>>,
    /// Held while changes are committed, so that the attachments change in the same order.
    committing: Mutex<()>,
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path)
            .map_err(|source| StoreError::Open { path: path.to_owned(), source: Box::new(source) })?;
        let store = Self { database, attachments: RwLock::default(), committing: Mutex::default() };
        let attachments = store.all::<Attachment>()?.into_iter().collect();
        *store.attachments.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(attachments);
        Ok(store)
    }

    /// Every attachment, by its id.
    pub(crate) fn attachments(&self) -> Arc<Attachments> {
        Arc::clone(&self.attachments.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Carries out changes together: all of them, or none.
    pub(crate) fn commit<T>(
        &self,
        changes: impl FnOnce(&Changes) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _in_order = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let made = Changes {
            transaction: self.database.begin_write().map_err(trouble)?,
            attachments: RefCell::default(),
        };
        let value = changes(&made)?;
        made.transaction.commit().map_err(trouble)?;
        let changed = made.attachments.into_inner();
        if !changed.is_empty() {
            let mut attachments = self.attachments.write().unwrap_or_else(PoisonError::into_inner);
            let attachments = Arc::make_mut(&mut attachments);
            for (id, change) in changed {
                match change {
                    Some(attachment) => drop(attachments.insert(id, attachment)),
                    None => drop(attachments.remove(&id)),
                }
            }
        }
        Ok(value)
    }

    pub(crate) fn get<R: Record>(&self, key: &str) -> Result<Option<R>, StoreError> {
        let read = self.database.begin_read().map_err(trouble)?;
        let table = match read.open_table(table::<R>()) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(trouble(error)),
        };
        let found = table.get(key).map_err(trouble)?;
        found.map(|bytes| decode(key, bytes.value())).transpose()
    }

    /// Every record of a kind, by key.
    pub(crate) fn all<R: Record>(&self) -> Result<Vec<(String, R)>, StoreError> {
        let read = self.database.begin_read().map_err(trouble)?;
        let table = match read.open_table(table::<R>()) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(trouble(error)),
        };
        let mut records = Vec::new();
        for item in table.iter().map_err(trouble)? {
            let (key, value) = item.map_err(trouble)?;
            records.push((key.value().to_owned(), decode(key.value(), value.value())?));
        }
        Ok(records)
    }
}

/// Changes not yet committed.
pub(crate) struct Changes {
    transaction: redb::WriteTransaction,
    /// Of those, the attachments', one after the other; none is one that is removed.
    attachments: RefCell<Vec<(String, Option<Attachment>)>>,
}

impl Changes {
    /// A record as it is with the changes made so far.
    pub(crate) fn get<R: Record>(&self, key: &str) -> Result<Option<R>, StoreError> {
        let table = self.transaction.open_table(table::<R>()).map_err(trouble)?;
        let found = table.get(key).map_err(trouble)?;
        found.map(|bytes| decode(key, bytes.value())).transpose()
    }

    pub(crate) fn put<R: Record>(&self, key: &str, record: &R) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(record).map_err(|source| StoreError::Record {
            table: R::TABLE,
            key: key.into(),
            source,
        })?;
        let mut table = self.transaction.open_table(table::<R>()).map_err(trouble)?;
        table.insert(key, bytes.as_slice()).map_err(trouble)?;
        if R::TABLE == Attachment::TABLE {
            self.attachments.borrow_mut().push((key.to_owned(), Some(decode(key, &bytes)?)));
        }
        Ok(())
    }

    pub(crate) fn remove<R: Record>(&self, key: &str) -> Result<bool, StoreError> {
        let mut table = self.transaction.open_table(table::<R>()).map_err(trouble)?;
        let removed = table.remove(key).map_err(trouble)?.is_some();
        if R::TABLE == Attachment::TABLE {
            self.attachments.borrow_mut().push((key.to_owned(), None));
        }
        Ok(removed)
    }

    /// The next number of a counter, from 1; never given twice.
    pub(crate) fn next(&self, counter: &str) -> Result<u64, StoreError> {
        self.take(counter, 1)
    }

    /// The first of so many numbers of a counter.
    pub(crate) fn take(&self, counter: &str, count: usize) -> Result<u64, StoreError> {
        let first = {
            let table = self.transaction.open_table(table::<Counter>()).map_err(trouble)?;
            let last = table.get(counter).map_err(trouble)?;
            last.map(|bytes| decode::<Counter>(counter, bytes.value())).transpose()?.map_or(0, |Counter(n)| n)
                + 1
        };
        if let Some(more) = count.checked_sub(1) {
            self.put(counter, &Counter(first + more as u64))?;
        }
        Ok(first)
    }
}

/// The key of a numbered record, such that keys sort as the numbers do.
pub(crate) fn number_key(number: u64) -> String {
    format!("{number:020}")
}

#[cfg(test)]
mod tests {
    use netloom_core::plan::Recovery;

    use super::*;

    fn plan(what: &str) -> Plan {
        Plan { what: what.into(), ops: vec![], recovery: Recovery::Undo }
    }

    #[test]
    fn what_is_committed_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Store::open(&path).unwrap();
        assert!(store.all::<Plan>().unwrap().is_empty());
        store.commit(|changes| changes.put("a", &plan("add"))).unwrap();
        drop(store);
        assert_eq!(Store::open(&path).unwrap().get::<Plan>("a").unwrap(), Some(plan("add")));
    }

    #[test]
    fn a_failed_commit_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let failed: Result<(), _> = store.commit(|changes| {
            changes.put("a", &plan("add"))?;
            Err(trouble(redb::Error::Corrupted("on purpose".into())))
        });
        assert!(failed.is_err());
        assert_eq!(store.get::<Plan>("a").unwrap(), None);
    }

    #[test]
    fn counters_never_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let first = Store::open(&path).unwrap().commit(|changes| changes.next("x")).unwrap();
        let second = Store::open(&path).unwrap().commit(|changes| changes.next("x")).unwrap();
        assert_eq!((first, second), (1, 2));
    }

    #[test]
    fn a_file_that_is_no_store_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        std::fs::write(&path, "no store at all").unwrap();
        let error = Store::open(&path).err().unwrap().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
