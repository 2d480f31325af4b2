//! What is known to be wrong and allowed for now. The list only shrinks: an entry that nothing needs is an error.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Where it is listed.
pub(super) const FILE: &str = "tests/structure.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exceptions {
    #[serde(default, rename = "cycle")]
    pub(super) cycles: Vec<AllowedCycle>,
    #[serde(default)]
    pub(super) impls: Vec<AllowedImpls>,
    #[serde(default, rename = "size")]
    pub(super) sizes: Vec<AllowedSize>,
}

/// Siblings that import each other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowedCycle {
    /// The crate's folder in `host/`.
    #[serde(rename = "crate")]
    pub(super) krate: String,
    /// Their paths in the crate.
    pub(super) modules: BTreeSet<String>,
    /// For those who read the list.
    #[serde(rename = "why")]
    pub(super) _why: String,
}

/// A type with methods elsewhere.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowedImpls {
    /// The crate's folder in `host/`.
    #[serde(rename = "crate")]
    pub(super) krate: String,
    /// The type's path in the crate.
    #[serde(rename = "type")]
    pub(super) of: String,
    /// The top-level modules that have methods of it.
    pub(super) modules: BTreeSet<String>,
    /// For those who read the list.
    #[serde(rename = "why")]
    pub(super) _why: String,
}

/// A file past its limit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowedSize {
    pub(super) file: String,
    /// What it may have at most, for now.
    pub(super) lines: usize,
    /// For those who read the list.
    #[serde(rename = "why")]
    pub(super) _why: String,
}

impl Exceptions {
    /// The list in the repository.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn read(workspace: &Path) -> Result<Self> {
        let text = fs::read_to_string(workspace.join(FILE)).with_context(|| format!("reading {FILE}"))?;
        toml::from_str(&text).context(FILE)
    }

    /// Crates that it names.
    pub(super) fn crates(&self) -> impl Iterator<Item = &str> {
        let cycles = self.cycles.iter().map(|allowed| allowed.krate.as_str());
        cycles.chain(self.impls.iter().map(|allowed| allowed.krate.as_str()))
    }
}

/// An entry, or a part of it, that nothing needs any more.
pub(super) fn stale(what: &str) -> String {
    format!("{FILE}: {what}: delete that from the list")
}
