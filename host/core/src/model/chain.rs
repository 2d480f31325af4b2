use serde::{Deserialize, Serialize};

use super::{Hook, Labels, LinkId, Owner, ProgramId, Revision};

/// A name for one entry of a chain snapshot: its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryId(pub u32);

/// One program in a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEntry {
    /// The kernel's program id.
    pub program: ProgramId,
    /// The kernel's link id; none without a link.
    pub link: Option<LinkId>,
    /// The program's name, at most 15 bytes.
    pub name: String,
    /// The program's tag, 16 hexadecimal digits.
    pub tag: String,
    /// Legacy tc: the filter's priority and handle.
    pub filter: Option<(u16, u32)>,
    /// Netloom's attachment, if the entry is one; none for a foreign one.
    pub attachment: Option<String>,
    /// Its owner; none for a foreign entry.
    pub owner: Option<Owner>,
    /// The priority asked for; none for a foreign entry.
    pub priority: Option<i32>,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
}

/// The programs on a hook in the order in which they run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Where.
    pub hook: Hook,
    /// The kernel's revision; 0 on legacy tc.
    pub revision: Revision,
    /// First to run first.
    pub entries: Vec<ChainEntry>,
}

impl Chain {
    /// The most programs the kernel takes on one hook.
    pub const MAX_ENTRIES: usize = 63;

    /// The entry a snapshot name stands for.
    #[must_use]
    pub fn entry(&self, id: EntryId) -> Option<&ChainEntry> {
        self.entries.get(id.0 as usize)
    }
}

/// Where a program goes in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// In front of everything.
    Head,
    /// Behind everything.
    Tail,
    /// Just in front of this entry.
    Before(EntryId),
    /// Just behind this entry.
    After(EntryId),
    /// In the place of this entry.
    Replace(EntryId),
}
