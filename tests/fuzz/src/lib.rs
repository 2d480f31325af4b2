//! What takes bytes from plugins, under random ones: no input may bring the host down, or come through unchecked.
//!
//! `cargo xtask fuzz TARGET` looks for such an input. The tests here go through the corpus, which has an input for
//! each way through the code that was found, and one for each defect that there ever was.

mod component;
mod decision;
mod packed_batch;
mod snapshot;

use std::str::FromStr;

/// What is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The loader: bytes that may be a component.
    Component,
    /// The validator: answers of plugins about snapshots.
    Decision,
    /// Packed sockets as a plugin reads them, and packed judgements as the host does.
    PackedBatch,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 3] = [Self::Component, Self::Decision, Self::PackedBatch];

    /// The name, also of its folder in the corpus.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Decision => "decision",
            Self::PackedBatch => "packed-batch",
        }
    }

    /// Feeds one input.
    ///
    /// # Panics
    /// If it does something that no input may do.
    pub fn feed(self, input: &[u8]) {
        match self {
            Self::Component => component::feed(input),
            Self::Decision => decision::feed(input),
            Self::PackedBatch => packed_batch::feed(input),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|target| target.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("{text:?} is no target: there are {known}")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn feed_all(target: Target) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.as_str());
        let mut fed = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            eprintln!("{}", path.display());
            target.feed(&fs::read(path).unwrap());
            fed += 1;
        }
        assert!(fed > 0, "{} is empty", folder.display());
    }

    #[test]
    fn the_loader_takes_or_refuses_every_component_of_the_corpus() {
        feed_all(Target::Component);
    }

    #[test]
    fn the_validator_takes_or_refuses_every_answer_of_the_corpus() {
        feed_all(Target::Decision);
    }

    #[test]
    fn every_batch_of_the_corpus_is_read_as_it_was_written() {
        feed_all(Target::PackedBatch);
    }

    #[test]
    fn targets_are_known_by_name() {
        assert!(Target::ALL.iter().all(|target| target.as_str().parse() == Ok(*target)));
        assert!("packed".parse::<Target>().unwrap_err().contains("packed-batch"));
    }
}
