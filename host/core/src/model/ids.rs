//! Identities, each its own type so that one cannot be taken for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A device's index in its network namespace.
    IfIndex(u32)
);
number!(
    /// The kernel's id of a BPF link.
    LinkId(u32)
);
number!(
    /// The kernel's id of a BPF program.
    ProgramId(u32)
);
number!(
    /// The kernel's revision of a chain: changes with every change of it. 0 on legacy tc, which has none.
    Revision(u64)
);
number!(
    /// The kernel's cookie of a network namespace, as `SO_NETNS_COOKIE` reports it.
    NetnsCookie(u64)
);
number!(
    /// The kernel's cookie of a socket, as `SO_COOKIE` reports it.
    SocketCookie(u64)
);
number!(
    /// A service's number in the datapath's maps; unique while the service lives.
    ServiceId(u32)
);

/// A network namespace's identity: the device and inode of its nsfs file. Paths are only names for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetnsId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

/// A name that is also a file name: 1 to 63 bytes of `[a-z0-9._-]`, starting with a letter or digit.
///
/// Endpoints, services and plugins are called by one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A text is not usable as a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a name: use 1 to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or digit")]
pub struct InvalidName(pub String);

impl Name {
    /// Checks a text.
    ///
    /// # Errors
    /// [`InvalidName`] if it is empty, too long or has another character.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let ok = (1..=63).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        if ok { Ok(Self(text)) } else { Err(InvalidName(text)) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl FromStr for Name {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
