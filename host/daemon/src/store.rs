//! The store: one transactional file, and its records in memory. It is a hint, the kernel is the truth: at start every
//! record is checked against its object.
//!
//! Reads never touch the disk, so they go on when it fails. Writes that fail are loud: changes are refused from then
//! on, before the kernel is touched, until the disk takes them again.
//!
//! - [`records`]: what is kept
//! - [`changes`]: putting a change together
//! - [`commit`]: writing it, with others that wait; healing
//! - [`image`]: the records in memory
//! - [`file`]: the file as a whole
//! - [`backup`]: copies of it, and putting one back
//! - [`schema`]: its layout, by version
//! - [`health`]: what is told of it
//! - [`instance`]: one daemon at a time

mod backup;
mod changes;
mod commit;
mod file;
mod health;
mod image;
mod instance;
mod records;
mod schema;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use netloom_api::types::{Finding, StoreView};
use netloom_core::model::Attachment;
use redb::Database;

pub(crate) use self::{
    backup::restore,
    changes::Changes,
    file::sync_folder,
    health::{Health, Notice},
    instance::{InstanceLock, listen},
    records::{
        KvRecord, LastAddress, PairRecord, PluginRecord, Record, ServiceRecord, SysctlRecord, VersionRecord,
        number_key,
    },
};
use self::{
    changes::decode,
    commit::{Need, Shared},
    file::{Opener, Trouble},
    health::Broken,
    image::{Image, View},
};

/// The store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the store {} cannot be opened: {reason}; {way_out}", path.display())]
    Open { path: PathBuf, reason: String, way_out: String },
    #[error(
        "the store {} was written by netloomd {written_by} and has layout {layout}; netloomd {} knows layouts up to {}: \
         start that version again, or put back a backup that this one made with `netloom store restore FILE`",
        path.display(),
        schema::VERSION,
        schema::LAYOUT
    )]
    Newer { path: PathBuf, layout: u32, written_by: String },
    #[error("{} is no backup of a store: {reason}", path.display())]
    NoBackup { path: PathBuf, reason: String },
    #[error("the store cannot be copied: {reason}")]
    Backup { reason: String },
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("the record {key} of {table} is not understood; was it written by a newer netloomd?")]
    Record { table: &'static str, key: String, source: serde_json::Error },
}

/// Every attachment, by its id.
pub(crate) type Attachments = BTreeMap<String, Attachment>;

pub(crate) struct Store(Arc<Shared>);

impl Store {
    /// Opens the store at a path, which is made if nothing is there.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, Box::new(file::open_checked))
    }

    fn open_with(path: &Path, opener: Box<Opener>) -> Result<Self, StoreError> {
        let (database, image, made) = start(path, &opener)?;
        if made {
            tracing::info!(store = %path.display(), "a new store was made");
        }
        let view = View { image, ..View::default() };
        let store = Self(Arc::new(Shared::new(path.to_owned(), opener, database, view)));
        let attachments = store.all::<Attachment>()?.into_iter().collect();
        *store.0.attachments.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(attachments);
        Ok(store)
    }

    /// Every attachment, by its id.
    pub(crate) fn attachments(&self) -> Arc<Attachments> {
        Arc::clone(&self.0.attachments.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Carries out changes together: all of them, or none. When this returns they are on the disk.
    pub(crate) fn commit<T>(
        &self,
        changes: impl FnOnce(&Changes) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.0.commit(Need::Refusable, changes)
    }

    /// Writes down what the kernel is like already, and what therefore cannot be refused. Where the disk fails, it
    /// counts as long as the daemon lives, and is written when the disk takes it.
    pub(crate) fn settle<T>(
        &self,
        changes: impl FnOnce(&Changes) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.0.commit(Need::Fact, changes)
    }

    /// Whether changes are taken: to be asked before the kernel is touched. A broken store is tried again first.
    pub(crate) fn ready(&self) -> Result<(), StoreError> {
        Ok(self.0.ready()?)
    }

    pub(crate) fn get<R: Record>(&self, key: &str) -> Result<Option<R>, StoreError> {
        let view = self.0.view.read().unwrap_or_else(PoisonError::into_inner);
        view.image.get(R::TABLE, key).map(|bytes| decode(key, bytes)).transpose()
    }

    /// Every record of a kind, by key.
    pub(crate) fn all<R: Record>(&self) -> Result<Vec<(String, R)>, StoreError> {
        let view = self.0.view.read().unwrap_or_else(PoisonError::into_inner);
        view.image.table(R::TABLE).map(|(key, bytes)| Ok((key.clone(), decode(key, bytes)?))).collect()
    }

    /// The keys that begin so.
    pub(crate) fn keys<R: Record>(&self, prefix: &str, most: usize) -> Vec<String> {
        let view = self.0.view.read().unwrap_or_else(PoisonError::into_inner);
        view.image.space(R::TABLE, prefix).map(|(key, _)| key.clone()).take(most).collect()
    }

    /// What was counted, and whether changes are taken.
    pub(crate) fn health(&self) -> Health {
        self.0.health().0
    }

    /// Has somebody told when the store breaks, and when it heals.
    pub(crate) fn on_notice(&self, told: impl Fn(Notice) + Send + Sync + 'static) {
        *self.0.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(told));
    }

    /// As `netloom doctor` says it.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let (health, owed) = self.0.health();
        health.findings(&self.0.path, owed, file::free_bytes(&self.0.path))
    }

    /// As `netloom status` says it.
    pub(crate) fn status(&self) -> StoreView {
        let (health, owed) = self.0.health();
        StoreView {
            path: self.0.path.clone(),
            layout: schema::LAYOUT,
            bytes: std::fs::metadata(&self.0.path).map_or(0, |file| file.len()),
            free_bytes: file::free_bytes(&self.0.path),
            trouble: health.trouble(owed),
        }
    }
}

/// Opens the file of a start, which is made if there is none; whether it was made.
fn start(path: &Path, opener: &Opener) -> Result<(Database, Image, bool), StoreError> {
    let failed = |trouble| file::at_start(path, trouble);
    let made = match std::fs::symlink_metadata(path) {
        Ok(_) => false,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            file::make(path, &schema::fresh()).map_err(failed)?;
            true
        }
        Err(error) => return Err(failed(Trouble::io("it cannot be looked at", &error))),
    };
    let database = file::guarded(|| Ok(opener(path)?)).map_err(failed)?;
    schema::bring_up_to_date(path, &database)?;
    let image = file::guarded(|| file::read(&database)).map_err(failed)?;
    Ok((database, image, made))
}

#[cfg(test)]
mod tests;
