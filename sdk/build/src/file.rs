//! Files that several builds may write, and others read meanwhile.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process,
};

/// Writes a file, unless it is there already and the same: what depends on it is then not built again.
///
/// It is renamed into place, so that another build, or a daemon that loads it, never sees half of it.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let partial = path.with_added_extension(format!("{}.partial", process::id()));
    fs::write(&partial, bytes)?;
    fs::rename(&partial, path)
}

/// Waits until no other build uses this directory, which is created if need be. Holds until dropped.
pub(crate) fn lock(dir: &Path) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    let lock = File::create(dir.join(".netloom-plugin-build-lock"))?;
    lock.lock()?;
    Ok(lock)
}
