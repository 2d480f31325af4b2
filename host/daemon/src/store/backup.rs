//! Checking the store, copying it while it is in use, and putting a copy in its place.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _},
    path::{Path, PathBuf},
};

use netloom_api::types::StoreCheck;
use netloom_core::{
    model::{Attachment, Endpoint, ReapEvent},
    plan::Plan,
};
use redb::{Builder, backends::FileBackend};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::de::IgnoredAny;

use super::{
    KvRecord, PluginRecord, Record, ServiceRecord, Store, StoreError, VersionRecord,
    file::{self, Trouble},
    image::{Image, Value},
    schema::{self, LAYOUT, Layout},
};

/// A copy that was put in the place of the store.
pub(crate) struct Restored {
    pub(crate) records: usize,
    /// The version that wrote it.
    pub(crate) written_by: String,
    /// The store before, if there was one.
    pub(crate) before: Option<PathBuf>,
}

impl Store {
    /// Compares every page of the file with its checksum, and every record with the one in use. A file that is wrong is
    /// made anew.
    pub(crate) fn check(&self) -> StoreCheck {
        let mut problems = Vec::new();
        let checked = self.0.with_database(|database, image| {
            if !database.check_integrity()? {
                return Err(Trouble::damaged("it is damaged"));
            }
            let found = file::read(database)?;
            let different = image.difference_from(&found).len();
            if different > 0 {
                return Err(Trouble::damaged(format!("{different} records of it are not what was written")));
            }
            Ok(())
        });
        if let Err(broken) = checked {
            problems.push(format!("{broken}; it is made anew from what is in memory"));
        }
        // Whoever commits has the queue and waits for the view: the state is asked for before the view is taken.
        let status = self.status();
        let view = self.0.view.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        problems.extend(unreadable(&view.image));
        problems.extend(dangling(&view.image));
        StoreCheck {
            path: status.path,
            layout: LAYOUT,
            written_by: schema::VERSION.to_owned(),
            bytes: status.bytes,
            free_bytes: status.free_bytes,
            records: counts(&view.image),
            problems,
        }
    }

    /// A copy of everything that is committed, as the contents of a file.
    pub(crate) fn backup(&self) -> Result<Vec<u8>, StoreError> {
        let image = self.0.view.read().unwrap_or_else(std::sync::PoisonError::into_inner).image.clone();
        let failed = |trouble: Trouble| StoreError::Backup { reason: trouble.message };
        // In memory: the disk may be full.
        copy_of(&image).map_err(failed)
    }
}

fn copy_of(image: &Image) -> Result<Vec<u8>, Trouble> {
    let memory = |error: io::Error| Trouble::io("there is no memory for it", &error);
    let mut contents = File::from(
        memfd_create("netloom-backup", MemfdFlags::CLOEXEC).map_err(|error| memory(error.into()))?,
    );
    let backend = FileBackend::new(contents.try_clone().map_err(memory)?)?;
    file::guarded(|| {
        let mut database = Builder::new().create_with_backend(backend)?;
        file::write(&database, &image.difference_from(&Image::default()))?;
        while database.compact()? {}
        Ok(database.close()?)
    })?;
    let mut bytes = Vec::new();
    contents.rewind().and_then(|()| contents.read_to_end(&mut bytes)).map_err(memory)?;
    Ok(bytes)
}

/// Puts a backup in the place of a store that nobody uses. The store before is kept beside it.
pub(crate) fn restore(store: &Path, backup: &Path) -> Result<Restored, StoreError> {
    let named = |trouble: Trouble| StoreError::NoBackup { path: backup.to_owned(), reason: trouble.message };
    let copy = file::beside(store, "restored");
    let put = |copy: &Path| {
        fs::copy(backup, copy).map_err(|error| named(Trouble::io("it cannot be copied", &error)))?;
        let (layout, image) = look(copy).map_err(named)?;
        let layout = layout.unwrap_or(Layout { layout: 0, written_by: "a netloomd before layout 1".into() });
        if layout.layout > LAYOUT {
            let Layout { layout, written_by } = layout;
            return Err(StoreError::Newer { path: backup.to_owned(), layout, written_by });
        }
        if let Some(problem) = unreadable(&image).first().filter(|_| layout.layout == LAYOUT) {
            return Err(named(Trouble::damaged(problem.clone())));
        }
        let before = file::beside(store, "before-restore");
        let kept = match fs::rename(store, &before) {
            Ok(()) => Some(before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(file::at_start(store, Trouble::io("it cannot be kept", &error)));
            }
        };
        File::open(copy)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(copy, store))
            .and_then(|()| file::sync_folder(store))
            .map_err(|error| file::at_start(store, Trouble::io("it cannot be put in its place", &error)))?;
        let records = counts(&image).values().sum();
        Ok(Restored { records, written_by: layout.written_by, before: kept })
    };
    let restored = put(&copy);
    if restored.is_err() {
        drop(fs::remove_file(&copy));
    }
    restored
}

fn look(path: &Path) -> Result<(Option<Layout>, Image), Trouble> {
    file::guarded(|| {
        let database = file::open_checked(path)?;
        let layout = Layout::of(&database)?;
        // Tables of a newer layout may be of another kind.
        let readable = layout.as_ref().is_none_or(|layout| layout.layout <= LAYOUT);
        let image = if readable { file::read(&database)? } else { Image::default() };
        database.close()?;
        Ok((layout, image))
    })
}

fn counts(image: &Image) -> BTreeMap<String, usize> {
    let kept = image.tables().filter(|(name, table)| name.as_str() != Layout::TABLE && !table.is_empty());
    kept.map(|(name, table)| (name.clone(), table.len())).collect()
}

/// Records that are not understood.
fn unreadable(image: &Image) -> Vec<String> {
    fn as_record<R: Record>(value: &[u8]) -> serde_json::Result<()> {
        R::decode(value).map(drop)
    }
    let check = |table: &str, value: &Value| match table {
        Endpoint::TABLE => as_record::<Endpoint>(value),
        Attachment::TABLE => as_record::<Attachment>(value),
        Plan::TABLE => as_record::<Plan>(value),
        ReapEvent::TABLE => as_record::<ReapEvent>(value),
        ServiceRecord::TABLE => as_record::<ServiceRecord>(value),
        PluginRecord::TABLE => as_record::<PluginRecord>(value),
        VersionRecord::TABLE => as_record::<VersionRecord>(value),
        KvRecord::TABLE => Ok(()),
        _ => serde_json::from_slice::<IgnoredAny>(value).map(drop),
    };
    let records =
        image.tables().flat_map(|(name, table)| table.iter().map(move |(key, value)| (name, key, value)));
    records
        .filter_map(|(table, key, value)| {
            let error = check(table, value).err()?;
            Some(format!("the record {key} of {table} is not understood: {error}"))
        })
        .collect()
}

/// Records that refer to others which are not there.
fn dangling(image: &Image) -> Vec<String> {
    let attachments = image.table(Attachment::TABLE);
    attachments
        .filter_map(|(id, value)| {
            let endpoint = Attachment::decode(value).ok()?.endpoint?;
            let there = image.get(Endpoint::TABLE, endpoint.as_str()).is_some();
            (!there).then(|| format!("the attachment {id} is of endpoint {endpoint}, which is not there"))
        })
        .collect()
}

#[cfg(test)]
mod tests {

    use super::*;

    fn store(folder: &Path) -> Store {
        let store = Store::open(&folder.join("store")).unwrap();
        for (key, what) in [("1", "one"), ("2", "two")] {
            let plan = Plan::make(what.into(), vec![]);
            store.commit(|changes| changes.put(key, &plan)).unwrap();
        }
        store
    }

    fn whats(store: &Store) -> Vec<String> {
        store.all::<Plan>().unwrap().into_iter().map(|(_, plan)| plan.what).collect()
    }

    #[test]
    fn a_backup_put_back_has_what_was_there_when_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let kept = store(folder.path());
        let backup = folder.path().join("backup");
        fs::write(&backup, kept.backup().unwrap()).unwrap();
        kept.commit(|changes| changes.remove::<Plan>("1")).unwrap();
        drop(kept);
        let path = folder.path().join("store");
        let restored = restore(&path, &backup).unwrap();
        assert_eq!((restored.records, restored.written_by.as_str()), (2, schema::VERSION));
        assert_eq!(whats(&Store::open(&path).unwrap()), ["one", "two"]);
        assert_eq!(whats(&Store::open(&restored.before.unwrap()).unwrap()), ["two"]);
    }

    #[test]
    fn what_is_no_backup_is_refused_and_the_store_stays() {
        let folder = tempfile::tempdir().unwrap();
        let kept = store(folder.path());
        let whole = kept.backup().unwrap();
        drop(kept);
        let (path, backup) = (folder.path().join("store"), folder.path().join("backup"));
        let halves =
            [&whole[..0], &whole[..100], &whole[..whole.len() / 2], &whole[..whole.len() - 1], b"no backup"];
        for contents in halves {
            fs::write(&backup, contents).unwrap();
            let error = restore(&path, &backup).err().unwrap().to_string();
            assert!(error.contains(backup.to_str().unwrap()), "{} bytes: {error}", contents.len());
        }
        let mut changed = whole.clone();
        let at = whole.windows(8).position(|bytes| bytes == b"\"one\",\"b").unwrap();
        changed[at + 1] = b'O';
        fs::write(&backup, changed).unwrap();
        assert!(restore(&path, &backup).is_err(), "a changed byte is seen");
        fs::remove_file(&backup).unwrap();
        assert!(restore(&path, &backup).is_err());
        assert_eq!(whats(&Store::open(&path).unwrap()), ["one", "two"]);
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["store"], "nothing is left beside it");
    }

    #[test]
    fn a_check_finds_a_byte_that_somebody_changed_and_has_it_made_anew() {
        use std::os::unix::fs::FileExt as _;
        let folder = tempfile::tempdir().unwrap();
        let kept = store(folder.path());
        let check = kept.check();
        assert!(check.problems.is_empty(), "{:?}", check.problems);
        assert_eq!(check.records.get("plans"), Some(&2));
        let path = folder.path().join("store");
        let bytes = fs::read(&path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        for at in 0..bytes.len().saturating_sub(8) {
            if &bytes[at..at + 8] == b"\"one\",\"b" {
                file.write_at(b"O", at as u64 + 1).unwrap();
            }
        }
        let problems = kept.check().problems;
        assert!(
            problems.first().is_some_and(|problem| problem.contains(path.to_str().unwrap())),
            "{problems:?}"
        );
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !kept.health().is_writable() {
            assert!(std::time::Instant::now() < patience);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(kept.check().problems.is_empty());
        drop(kept);
        assert_eq!(whats(&Store::open(&path).unwrap()), ["one", "two"]);
    }

    #[test]
    fn checks_and_backups_go_on_beside_changes() {
        use std::sync::{Arc, mpsc};
        let folder = tempfile::tempdir().unwrap();
        let kept = Arc::new(store(folder.path()));
        let (done, ends) = mpsc::channel();
        for thread in 0..4 {
            let (kept, done) = (Arc::clone(&kept), done.clone());
            std::thread::spawn(move || {
                for number in 0..100 {
                    let plan = Plan::make("more".into(), vec![]);
                    kept.commit(|changes| changes.put(&format!("{thread}/{number}"), &plan)).unwrap();
                }
                done.send(()).unwrap();
            });
        }
        std::thread::spawn(move || {
            for _ in 0..100 {
                assert!(kept.check().problems.is_empty());
                assert!(!kept.backup().unwrap().is_empty());
            }
            done.send(()).unwrap();
        });
        for _ in 0..5 {
            ends.recv_timeout(std::time::Duration::from_secs(60))
                .expect("they do not wait for each other for ever");
        }
    }

    #[test]
    fn a_record_that_is_not_understood_or_refers_to_nothing_is_a_problem() {
        let mut image = Image::default();
        let mut delta = super::super::image::Delta::default();
        delta.set("services".into(), "shop", Some(b"{}".as_slice().into()));
        image.apply(&delta);
        assert!(unreadable(&image)[0].contains("shop"), "{:?}", unreadable(&image));
    }
}
