use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::mutant::Mutant;
use crate::workspace;

/// Where survivors are listed that no test is to catch.
pub(super) const FILE: &str = "tests/mutants.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    survivor: Vec<Excuse>,
}

/// A mutant that survives, and why that is no gap.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Excuse {
    pub(super) file: String,
    pub(super) function: String,
    /// As the pass tells it: of several alike in a function it means all.
    pub(super) mutation: String,
    /// For those who read the list.
    #[serde(rename = "reason")]
    _reason: String,
}

impl Excuse {
    /// Whether it is about a mutant.
    pub(super) fn is_of(&self, mutant: &Mutant) -> bool {
        let Mutant { file, function, mutation, .. } = mutant;
        (&self.file, &self.function, &self.mutation) == (file, function, mutation)
    }
}

/// The list in the repository.
///
/// # Errors
/// If it cannot be read.
pub(super) fn read() -> Result<Vec<Excuse>> {
    let path = workspace::root().join(FILE);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(file.survivor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_can_be_read_and_names_files_that_there_are() {
        for excuse in read().unwrap() {
            assert!(workspace::root().join(&excuse.file).is_file(), "{excuse:?}");
        }
    }
}
