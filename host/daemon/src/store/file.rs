//! The store's file: made, opened, read and written as a whole. What it holds is in [`super::image`].

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    StorageError, TableDefinition, TableHandle as _,
};
use rustix::io::Errno;

use super::{
    StoreError,
    image::{Delta, Image, Table},
};

/// Pages that the database keeps in memory, in bytes: the records are there already.
const CACHE_BYTES: usize = 4 << 20;
/// So much has to fit onto the disk beside the store before a store that failed is written again, in bytes.
const PROBE_BYTES: usize = 256 << 10;

/// How the database at a path is opened; it has to be there.
pub(super) type Opener = dyn Fn(&Path) -> Result<Database, DatabaseError> + Send + Sync;

/// Why the file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) kind: TroubleKind,
    pub(super) message: String,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TroubleKind {
    /// The file system has no room, or the quota is used up.
    NoSpace,
    /// What is read is not what was written.
    Damaged,
    /// There is no file.
    Missing,
    /// The disk or the file system refuses.
    Disk,
}

impl Trouble {
    pub(super) fn io(attempt: &str, error: &io::Error) -> Self {
        let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => TroubleKind::NoSpace,
            Some(Errno::NOENT) => TroubleKind::Missing,
            Some(_) => TroubleKind::Disk,
            // It ends early, or holds what no database holds.
            None => TroubleKind::Damaged,
        };
        Self { kind, message: format!("{attempt}: {error}") }
    }

    pub(super) fn damaged(message: impl Into<String>) -> Self {
        Self { kind: TroubleKind::Damaged, message: message.into() }
    }
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Io(error) => Self::io("the disk refuses", &error),
            redb::Error::Corrupted(message) => Self::damaged(format!("it is damaged: {message}")),
            error @ (redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) => {
                Self { kind: TroubleKind::Disk, message: format!("another process has it open: {error}") }
            }
            redb::Error::PreviousIo => {
                Self { kind: TroubleKind::Disk, message: "the disk refused before".into() }
            }
            error => Self::damaged(error.to_string()),
        }
    }
}

/// Runs what the database does, of which a file that was changed by others may make it panic.
pub(super) fn guarded<T>(action: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    // Nothing of it is used afterwards: whoever sees an error opens the file anew.
    catch_unwind(AssertUnwindSafe(action))
        .unwrap_or_else(|_| Err(Trouble::damaged("its contents make no sense")))
}

/// Opens a file that is there, and compares every page with its checksum.
pub(super) fn open_checked(path: &Path) -> Result<Database, DatabaseError> {
    // An empty file is no new store: whatever it held is lost.
    if fs::metadata(path)?.len() == 0 {
        return Err(StorageError::Corrupted("the file is empty".into()).into());
    }
    Builder::new().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).open(path)
}

/// The store's file, or the error with the way out.
pub(super) fn open(path: &Path, opener: &Opener) -> Result<(Database, Image), Trouble> {
    guarded(|| {
        let database = opener(path)?;
        let image = read(&database)?;
        Ok((database, image))
    })
}

/// Reads everything.
pub(super) fn read(database: &Database) -> Result<Image, Trouble> {
    let transaction = database.begin_read()?;
    let mut image = Image::default();
    for table in transaction.list_tables()? {
        let name = table.name().to_owned();
        let records = read_table(&transaction, &name)?;
        image.insert(name, records);
    }
    Ok(image)
}

fn read_table(transaction: &ReadTransaction, name: &str) -> Result<Table, Trouble> {
    let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(name);
    let mut records = Table::new();
    for item in transaction.open_table(definition)?.iter()? {
        let (key, value) = item?;
        records.insert(key.value().to_owned(), value.value().into());
    }
    Ok(records)
}

/// Writes changes, all or none. When this returns they are on the disk.
pub(super) fn write(database: &Database, delta: &Delta) -> Result<(), Trouble> {
    guarded(|| {
        let transaction = database.begin_write()?;
        for (table, changes) in delta.tables() {
            let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(table);
            let mut table = transaction.open_table(definition)?;
            for (key, change) in changes {
                match change {
                    Some(value) => drop(table.insert(key.as_str(), value.as_ref())?),
                    None => drop(table.remove(key.as_str())?),
                }
            }
        }
        Ok(transaction.commit()?)
    })
}

/// Closes a database, whatever state it is in.
pub(super) fn close(database: Option<Database>) {
    drop(guarded(|| {
        drop(database);
        Ok(())
    }));
}

/// Makes a file with these records at a path, or nothing: it is whole before it has its name.
pub(super) fn make(path: &Path, image: &Image) -> Result<(), Trouble> {
    let partial = beside(path, "new");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Trouble::io("what is left of an earlier try cannot be removed", &error));
        }
        _ => {}
    }
    let made = guarded(|| {
        // Only root reads what plugins keep.
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .map_err(|error| Trouble::io("the file cannot be made", &error))?;
        let database = Builder::new().set_cache_size(CACHE_BYTES).create(&partial)?;
        write(&database, &image.difference_from(&Image::default()))?;
        Ok(database.close()?)
    });
    let made = made.and_then(|()| {
        File::open(&partial)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&partial, path))
            .and_then(|()| sync_folder(path))
            .map_err(|error| Trouble::io("the file cannot be put in its place", &error))
    });
    if made.is_err() {
        drop(fs::remove_file(&partial));
    }
    made
}

/// Puts a file that is no good out of the way, so that somebody can look at it.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, Trouble> {
    let aside = beside(path, "damaged");
    fs::rename(path, &aside)
        .map(|()| aside)
        .map_err(|error| Trouble::io("the damaged file cannot be put aside", &error))
}

/// Another file of the same folder.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{ending}"));
    path.with_file_name(name)
}

/// Makes sure that a file has its name after power was lost.
pub(crate) fn sync_folder(file: &Path) -> io::Result<()> {
    File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Whether the file system beside the store takes what the next changes need.
pub(super) fn probe(path: &Path) -> Result<(), Trouble> {
    let probe = beside(path, "probe");
    let written = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&probe)
        .and_then(|mut file| file.write_all(&vec![0; PROBE_BYTES]).and_then(|()| file.sync_all()));
    let removed = fs::remove_file(&probe);
    written.and(removed).map_err(|error| Trouble::io("the disk refuses", &error))
}

/// Bytes that are left on the store's file system.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path.parent()?).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// An error of a start, with the way out.
pub(super) fn at_start(path: &Path, trouble: Trouble) -> StoreError {
    let way_out = match trouble.kind {
        TroubleKind::NoSpace => "make room on its file system, and start netloomd again".to_owned(),
        TroubleKind::Damaged => format!(
            "put a backup in its place with `netloom store restore FILE`; without one, move {} away: netloomd \
             begins with an empty one, and with what the kernel shows of the endpoints",
            path.display()
        ),
        TroubleKind::Missing | TroubleKind::Disk => {
            "netloomd has to read and write there: look at the kernel's log, mount the file system read-write, and \
             start netloomd again"
                .to_owned()
        }
    };
    StoreError::Open { path: path.to_owned(), reason: trouble.message, way_out }
}
