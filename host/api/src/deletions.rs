//! Deletions that were asked for while netloomd was away: a folder beside its socket, which netloomd reads when it
//! starts and now and then.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process,
};

use netloom_core::model::{Labels, Name};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::Asked;

/// An endpoint to delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedDeletion {
    /// Its name.
    pub endpoint: Name,
    /// Labels that it has to have: another one may have the name by now.
    pub labels: Labels,
    /// When it was asked for, in nanoseconds since boot: an endpoint that was added later stays.
    pub asked_ns: u64,
}

/// The folder of an instance's deletions.
#[derive(Clone, Debug)]
pub struct Deletions(PathBuf);

impl Deletions {
    /// That of the daemon with this socket.
    #[must_use]
    pub fn beside(socket: &Path) -> Self {
        Self(socket.with_file_name("deletions"))
    }

    /// Adds one, whole or not at all. The folder is made if need be, not the one that it is in: where that is not there,
    /// no netloomd has run.
    ///
    /// # Errors
    /// What the file system says; `PermissionDenied` if the folder is not this user's alone.
    pub fn put(&self, deletion: &QueuedDeletion) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => self.check_owner()?,
        }
        let unfinished = self.0.join(format!(".{}.{}", deletion.endpoint, process::id()));
        let write = || {
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(&serde_json::to_vec(deletion)?)?;
            file.sync_all()?;
            fs::rename(&unfinished, self.file(&deletion.endpoint))
        };
        write().inspect_err(|_| drop(fs::remove_file(&unfinished)))
    }

    /// Takes one out; that there is none is no error.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self, endpoint: &Name) -> io::Result<()> {
        match fs::remove_file(self.file(endpoint)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All that there are; files that are something else are left out.
    ///
    /// # Errors
    /// What the file system says; `PermissionDenied` if the folder is not this user's alone.
    pub fn all(&self) -> io::Result<Vec<QueuedDeletion>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        self.check_owner()?;
        let mut all = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let deletion = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            all.extend(deletion.filter(|found: &QueuedDeletion| self.file(&found.endpoint) == path));
        }
        Ok(all)
    }

    fn file(&self, endpoint: &Name) -> PathBuf {
        self.0.join(endpoint.as_str())
    }

    fn check_owner(&self) -> io::Result<()> {
        let folder = fs::symlink_metadata(&self.0)?;
        if folder.is_dir() && folder.uid() == geteuid().as_raw() && folder.mode() & 0o022 == 0 {
            return Ok(());
        }
        let text = format!("others may write to {}: remove it", self.0.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

impl QueuedDeletion {
    /// When it was asked for.
    #[must_use]
    pub const fn asked(&self) -> Asked {
        Asked(self.asked_ns)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn deletion(name: &str, asked_ns: u64) -> QueuedDeletion {
        QueuedDeletion { endpoint: Name::new(name).unwrap(), labels: Labels::new(), asked_ns }
    }

    #[test]
    fn what_was_put_is_there_until_it_is_removed_and_the_later_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let deletions = Deletions::beside(&folder.path().join("netloomd.sock"));
        assert_eq!(deletions.all().unwrap(), []);
        for one in [deletion("web", 1), deletion("web", 2), deletion("db", 3)] {
            deletions.put(&one).unwrap();
        }
        // A write that was cut off, and somebody else's file.
        fs::write(deletions.0.join(".cut.7"), "{").unwrap();
        fs::write(deletions.0.join("other"), serde_json::to_vec(&deletion("db", 9)).unwrap()).unwrap();
        let mut all = deletions.all().unwrap();
        all.sort_by_key(|one| one.asked_ns);
        assert_eq!(all, [deletion("web", 2), deletion("db", 3)]);
        deletions.remove(&Name::new("web").unwrap()).unwrap();
        deletions.remove(&Name::new("web").unwrap()).unwrap();
        assert_eq!(deletions.all().unwrap(), [deletion("db", 3)]);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let deletions = Deletions::beside(&folder.path().join("netloomd.sock"));
        deletions.put(&deletion("web", 1)).unwrap();
        fs::set_permissions(&deletions.0, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(deletions.all().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(deletions.put(&deletion("db", 1)).is_err());
        let nowhere = Deletions::beside(&folder.path().join("nowhere/netloomd.sock"));
        assert_eq!(nowhere.put(&deletion("web", 1)).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
