//! Granted directories: a plugin reaches what is below them, and nothing else, by links neither.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions},
};
use netloom_core::grants::{Access, FileGrant};

/// Bytes of a file read or written, at most.
pub(crate) const FILE_BYTES: u64 = 1 << 20;
/// Names in one listing, at most.
const LISTED: usize = 4_096;

/// The directories of one plugin, open.
#[derive(Debug, Default)]
pub(crate) struct Directories(BTreeMap<String, (Dir, Access)>);

/// Why a file operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("no directory {0:?} is granted")]
    NoDirectory(String),
    #[error("the directory {0:?} is granted for reading: it needs access = \"mutate\"")]
    ReadOnly(String),
    #[error("{} has more than {FILE_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Directories {
    /// Opens what a grant names.
    pub(crate) fn open(grant: Option<&FileGrant>) -> Result<Self, FileError> {
        let mut directories = BTreeMap::new();
        for (name, directory) in grant.iter().flat_map(|grant| &grant.directories) {
            let opened = Dir::open_ambient_dir(&directory.path, ambient_authority())
                .map_err(|source| FileError::Io { path: directory.path.clone(), source })?;
            directories.insert(name.clone(), (opened, directory.access));
        }
        Ok(Self(directories))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub(crate) fn entries(&self, directory: &str, path: &str) -> Result<Vec<String>, FileError> {
        let path = if path.is_empty() { Path::new(".") } else { Path::new(path) };
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let mut names = Vec::new();
        for entry in self.readable(directory)?.read_dir(path).map_err(io)?.take(LISTED) {
            names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn read(&self, directory: &str, path: &str) -> Result<Vec<u8>, FileError> {
        let io = |source| FileError::Io { path: path.into(), source };
        // A FIFO nobody writes to would hold this thread for good.
        let metadata = self.readable(directory)?.metadata(path).map_err(io)?;
        if !metadata.is_file() {
            return Err(io(io::Error::other("it is no regular file")));
        }
        let file = self.readable(directory)?.open(path).map_err(io)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > FILE_BYTES { Err(FileError::TooLarge(path.into())) } else { Ok(bytes) }
    }

    pub(crate) fn write(&self, directory: &str, path: &str, contents: &[u8]) -> Result<(), FileError> {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let io = |source| FileError::Io { path: path.into(), source };
        let dir = self.writable(directory)?;
        if contents.len() as u64 > FILE_BYTES {
            return Err(FileError::TooLarge(path.into()));
        }
        let temporary = format!("{path}.{}.partial", WRITES.fetch_add(1, Ordering::Relaxed));
        let options = OpenOptions::new().write(true).create_new(true).clone();
        let written = dir.open_with(&temporary, &options).and_then(|mut file| file.write_all(contents));
        let replaced = written.and_then(|()| dir.rename(&temporary, dir, path));
        if replaced.is_err() {
            // Either it is not there, or it is of no use.
            drop(dir.remove_file(&temporary));
        }
        replaced.map_err(io)
    }

    pub(crate) fn remove(&self, directory: &str, path: &str) -> Result<bool, FileError> {
        match self.writable(directory)?.remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(FileError::Io { path: path.into(), source }),
        }
    }

    fn readable(&self, name: &str) -> Result<&Dir, FileError> {
        self.0.get(name).map(|(dir, _)| dir).ok_or_else(|| FileError::NoDirectory(name.to_owned()))
    }

    fn writable(&self, name: &str) -> Result<&Dir, FileError> {
        match self.0.get(name) {
            Some((dir, Access::Mutate)) => Ok(dir),
            Some((_, Access::Read)) => Err(FileError::ReadOnly(name.to_owned())),
            None => Err(FileError::NoDirectory(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use netloom_core::grants::DirectoryGrant;

    use super::*;

    fn directories(path: &Path, access: Access) -> Directories {
        let directory = DirectoryGrant { path: path.to_owned(), access };
        let grant = FileGrant { directories: BTreeMap::from([("data".to_owned(), directory)]) };
        Directories::open(Some(&grant)).unwrap()
    }

    #[test]
    fn what_is_written_can_be_read_listed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let data = directories(folder.path(), Access::Mutate);
        data.write("data", "a", b"1").unwrap();
        data.write("data", "a", b"2").unwrap();
        assert_eq!(data.read("data", "a").unwrap(), b"2");
        assert_eq!(data.entries("data", "").unwrap(), ["a"]);
        assert!(data.remove("data", "a").unwrap());
        assert!(!data.remove("data", "a").unwrap());
        assert_eq!(data.names(), ["data"]);
    }

    #[test]
    fn nothing_outside_is_reached() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), b"s").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
        let data = directories(folder.path(), Access::Mutate);
        for path in ["../secret", "link/secret", "/etc/passwd", ".."] {
            assert!(data.read("data", path).is_err(), "{path}");
        }
        assert!(data.write("data", "link/new", b"").is_err());
        assert!(!outside.path().join("new").exists());
        assert!(data.entries("other", "").is_err());
    }

    #[test]
    fn a_directory_for_reading_is_not_written_and_a_fifo_holds_nobody() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"1").unwrap();
        let data = directories(folder.path(), Access::Read);
        assert!(data.write("data", "b", b"").unwrap_err().to_string().contains("mutate"));
        assert!(data.remove("data", "a").unwrap_err().to_string().contains("mutate"));
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("fifo"), rustix::fs::Mode::RWXU).unwrap();
        assert!(data.read("data", "fifo").unwrap_err().to_string().contains("regular"));
    }

    #[test]
    fn large_files_are_neither_read_nor_written() {
        let folder = tempfile::tempdir().unwrap();
        let large = vec![0; FILE_BYTES as usize + 1];
        std::fs::write(folder.path().join("large"), &large).unwrap();
        let data = directories(folder.path(), Access::Mutate);
        assert!(matches!(data.read("data", "large"), Err(FileError::TooLarge(_))));
        assert!(matches!(data.write("data", "more", &large), Err(FileError::TooLarge(_))));
    }
}
