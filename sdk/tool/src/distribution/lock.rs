//! `netloom.lock`: which digest each reference was, so that it is the same the next time.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use netloom_signing::Digest;
use serde::{Deserialize, Serialize};

use super::{cache, reference::Name};

/// What it is called, in the folder where one works.
pub(crate) const FILE: &str = "netloom.lock";

const HEADER: &str = "# Written by `netloom plugin pull --lock`; keep it with your sources.\n";

/// The lock file, as it is or is to be.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    entries: Entries,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    #[serde(default)]
    plugins: BTreeMap<String, Digest>,
}

impl Lock {
    /// The lock file; none where there is none and none is to be made.
    pub(crate) fn open(path: &Path, make: bool) -> anyhow::Result<Option<Self>> {
        let entries = match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).with_context(|| {
                format!("{} is not understood: repair it, or remove it and pull with --lock", path.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && make => Entries::default(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        Ok(Some(Self { path: path.to_owned(), entries }))
    }

    /// What a reference is locked to.
    pub(crate) fn locked(&self, name: &Name) -> Option<&Digest> {
        self.entries.plugins.get(&name.to_string())
    }

    /// Compares what a reference is with what it was.
    pub(crate) fn check(&self, name: &Name, digest: &Digest) -> anyhow::Result<()> {
        match self.locked(name) {
            Some(locked) if locked != digest => bail!(
                "{name} is {digest} now, but {} has {locked}: somebody moved the tag. To take what it is now, pull it \
                 with --update; to stay, pull {}",
                self.path.display(),
                name.at(locked),
            ),
            _ => Ok(()),
        }
    }

    /// Writes down what a reference is.
    pub(crate) fn note(&mut self, name: &Name, digest: &Digest) -> anyhow::Result<()> {
        if self.locked(name) == Some(digest) {
            return Ok(());
        }
        self.entries.plugins.insert(name.to_string(), digest.clone());
        let text = format!("{HEADER}\n{}", toml::to_string(&self.entries)?);
        cache::write(&self.path, text.as_bytes())
    }
}
