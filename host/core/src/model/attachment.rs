use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Hook, Labels, LinkId, Name, ProgramId};

/// Who an attachment belongs to: 1 to 63 bytes of `[a-z0-9./_-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner(String);

/// A text is not usable as an owner.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not an owner: use 1 to 63 of a-z, 0-9, '.', '/', '_' and '-'")]
pub struct InvalidOwner(String);

impl Owner {
    /// The owner of the node's own datapath programs.
    pub const DATAPATH: &'static str = "netloom/datapath";

    /// Checks a text.
    ///
    /// # Errors
    /// [`InvalidOwner`] if it is empty, too long or has another character.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidOwner> {
        let text = text.into();
        let ok = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"./_-".contains(&b));
        if ok { Ok(Self(text)) } else { Err(InvalidOwner(text)) }
    }

    /// The owner of the node's own datapath programs.
    #[must_use]
    pub fn datapath() -> Self {
        Self(Self::DATAPATH.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Owner {
    type Error = InvalidOwner;
    fn try_from(text: String) -> Result<Self, InvalidOwner> {
        Self::new(text)
    }
}

impl FromStr for Owner {
    type Err = InvalidOwner;
    fn from_str(text: &str) -> Result<Self, InvalidOwner> {
        Self::new(text)
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How a program is attached to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachmentKind {
    /// A netkit link.
    Netkit,
    /// A tcx link.
    Tcx,
    /// A direct-action filter on a clsact qdisc.
    Tc,
}

impl fmt::Display for AttachmentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Netkit => "netkit",
            Self::Tcx => "tcx",
            Self::Tc => "tc",
        })
    }
}

/// Which kind the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachmentMode {
    /// netkit links on netkit, tcx elsewhere, legacy tc where the kernel has no tcx.
    #[default]
    Auto,
    /// Links only: an error where the kernel has none.
    Tcx,
    /// Legacy tc.
    Tc,
}

impl AttachmentMode {
    /// The name, as in CLI, API and configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tcx => "tcx",
            Self::Tc => "tc",
        }
    }
}

impl fmt::Display for AttachmentMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A program about to be attached, as policy sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Who asks for it.
    pub owner: Owner,
    /// The program's name, at most 15 bytes.
    pub name: String,
    /// The program's tag, 16 hexadecimal digits.
    pub tag: String,
    /// Lower runs earlier.
    pub priority: i32,
    /// Its labels; `role=observer` marks a program that only looks.
    pub labels: Labels,
    /// No packet may miss it while it is being moved.
    pub required: bool,
}

impl Candidate {
    /// A program of the node's datapath. Its name and tag are known once it is loaded.
    #[must_use]
    pub fn datapath(required: bool) -> Self {
        Self {
            owner: Owner::datapath(),
            name: String::new(),
            tag: String::new(),
            priority: 0,
            labels: Labels::new(),
            required,
        }
    }
}

/// Where a program comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramSource {
    /// The node's datapath, from an endpoint.
    FromEndpoint,
    /// The node's datapath, towards an endpoint.
    ToEndpoint,
    /// The node's datapath, from outside.
    FromUplink,
    /// An ELF file.
    Object {
        /// The file.
        path: PathBuf,
        /// Which of its programs; its only one if none.
        program: Option<String>,
        /// Values of its global variables, by name, in the byte order of this machine.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        globals: BTreeMap<String, Vec<u8>>,
        /// Whether maps that it wants pinned by name are shared by all its owner's objects.
        #[serde(default)]
        shared_maps: bool,
    },
}

/// One program of Netloom's on a hook: the record of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Unique on the node, a file name.
    pub id: String,
    /// Where.
    pub hook: Hook,
    /// A path of the device's namespace; the daemon's own if none.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// How.
    pub kind: AttachmentKind,
    /// How it is to be attached, if that was asked for; else as the node's configuration says.
    #[serde(default)]
    pub mode: Option<AttachmentMode>,
    /// What, and for whom.
    pub candidate: Candidate,
    /// The kernel's program id when it was attached.
    pub program: ProgramId,
    /// The kernel's link id; none on legacy tc.
    pub link: Option<LinkId>,
    /// Legacy tc: the filter's priority and handle.
    pub filter: Option<(u16, u32)>,
    /// The endpoint whose datapath it is, if it is one.
    pub endpoint: Option<Name>,
    /// Who decided its place: a plugin's name, or `configuration`.
    pub decided_by: String,
    /// Where its program came from, to attach it anew if it is lost.
    pub source: ProgramSource,
}
