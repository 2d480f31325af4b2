use std::{
    collections::{BTreeSet, HashSet},
    fs,
    io::ErrorKind,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{process::capture, workspace};

/// Where faults are noted that do not compile.
const UNBUILDABLE: &str = "unbuildable";

/// A copy of the sources for faults to be put into. What is compiled lies where it always does, in folders of its own
/// name, since it is compiled with other options.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    root: PathBuf,
    /// Whoever has it locked is the only one who puts faults in.
    _lock: fs::File,
}

impl Scratch {
    /// The copy, as the sources are now. What is as it was keeps its time, so that it is not compiled again.
    ///
    /// # Errors
    /// If it is in use, or cannot be made.
    pub(super) fn open() -> Result<Self> {
        let folder = workspace::target().join("mutants");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let lock = fs::File::create(folder.join("lock")).context("creating a lock")?;
        lock.try_lock().context("another pass is under way")?;
        let scratch = Self { root: folder.join("sources"), folder, _lock: lock };
        let mut list = Command::new("git");
        list.current_dir(workspace::root());
        let listed = capture(list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
        let files: HashSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
        for file in &files {
            scratch.restore(file)?;
        }
        scratch.remove_others(&scratch.root, &files)?;
        Ok(scratch)
    }

    /// Where it lies.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Faults that were found not to compile, by their keys: to find that out takes a while.
    pub(super) fn unbuildable(&self) -> BTreeSet<String> {
        let text = fs::read_to_string(self.folder.join(UNBUILDABLE)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Adds to these.
    pub(super) fn note_unbuildable<'a>(&self, keys: impl Iterator<Item = &'a String>) -> Result<()> {
        let mut all = self.unbuildable();
        all.extend(keys.cloned());
        let text: String = all.iter().map(|key| format!("{key}\n")).collect();
        fs::write(self.folder.join(UNBUILDABLE), text).context("noting which faults do not compile")
    }

    /// Has a file be as in the sources, or not be if it is gone from there.
    pub(super) fn restore(&self, file: &str) -> Result<()> {
        let source = workspace::root().join(file);
        if let Ok(to) = fs::read_link(&source) {
            return self.link(file, &to);
        }
        match fs::read(&source) {
            Ok(bytes) => self.write(file, &bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => self.remove(&self.root.join(file)),
            Err(error) => Err(error).with_context(|| format!("reading {}", source.display())),
        }
    }

    /// Writes a file, unless it has this content.
    pub(super) fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let copy = self.root.join(file);
        if fs::read(&copy).is_ok_and(|present| present == bytes) {
            return Ok(());
        }
        make_folder_of(&copy)?;
        fs::write(&copy, bytes).with_context(|| format!("writing {}", copy.display()))
    }

    fn link(&self, file: &str, to: &Path) -> Result<()> {
        let copy = self.root.join(file);
        if fs::read_link(&copy).is_ok_and(|present| present == to) {
            return Ok(());
        }
        make_folder_of(&copy)?;
        self.remove(&copy)?;
        symlink(to, &copy).with_context(|| format!("linking {}", copy.display()))
    }

    /// Removes what the sources have not, or no longer.
    fn remove_others(&self, folder: &Path, files: &HashSet<&str>) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
            let path = entry.with_context(|| format!("listing {}", folder.display()))?.path();
            let name = path.strip_prefix(&self.root).ok().and_then(Path::to_str).unwrap_or_default();
            if path.is_dir() && !path.is_symlink() {
                self.remove_others(&path, files)?;
            } else if !files.contains(name) {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

fn make_folder_of(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))
}
