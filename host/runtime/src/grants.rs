use std::{collections::BTreeSet, fmt, str::FromStr};

/// A kernel operation a plugin may be allowed to import, named after its interface in `netloom:kernel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// Network devices.
    Devices,
    /// Attached programs.
    Links,
    /// Sockets in every network namespace.
    Sockets,
    /// The datapath's tables.
    Datapath,
}

impl Grant {
    /// Every grant.
    pub const ALL: [Self; 4] = [Self::Devices, Self::Links, Self::Sockets, Self::Datapath];

    /// The name, as in configuration, CLI and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Links => "links",
            Self::Sockets => "sockets",
            Self::Datapath => "datapath",
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text is not a grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a grant: use devices, links, sockets or datapath")]
pub struct InvalidGrant(String);

impl FromStr for Grant {
    type Err = InvalidGrant;
    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        Self::ALL
            .into_iter()
            .find(|grant| grant.as_str() == text)
            .ok_or_else(|| InvalidGrant(text.to_owned()))
    }
}

/// What a plugin is allowed to import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeSet<Grant>);

impl Grants {
    /// Nothing beyond what every plugin has.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the names of grants.
    ///
    /// # Errors
    /// [`InvalidGrant`] with the first that is none.
    pub fn parse<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Result<Self, InvalidGrant> {
        names.into_iter().map(|name| name.as_ref().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn has(&self, grant: Grant) -> bool {
        self.0.contains(&grant)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Grant> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}
