use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::model::{Name, NetnsCookie, NetnsId};

/// A text does not name objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {problem}")]
pub struct InvalidScope {
    text: String,
    problem: &'static str,
}

/// Names: one, or with a `*` all that begin and end alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

impl Pattern {
    /// Every name.
    #[must_use]
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether a name is one of them.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.0.split_once('*') {
            None => self.0 == name,
            Some((head, tail)) => {
                name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = InvalidScope;
    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        let bad = |problem| Err(InvalidScope { text: text.to_owned(), problem });
        match text {
            "" => bad("names nothing: write a name, or a pattern such as eth*"),
            _ if text.matches('*').count() > 1 => bad("has more than one `*`"),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// Network namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NamespaceScope {
    /// `*`: all that Netloom knows.
    Any,
    /// `node`: the node's own.
    Node,
    /// `endpoint:NAME`: those of endpoints.
    Endpoint(Pattern),
    /// A path, such as `/run/netns/blue`.
    Path(PathBuf),
}

impl NamespaceScope {
    /// Whether a namespace is among them.
    #[must_use]
    pub fn covers(&self, namespace: &Namespace) -> bool {
        match (self, &namespace.place) {
            (Self::Any, _) | (Self::Node, NamespacePlace::Node) => true,
            (Self::Endpoint(pattern), NamespacePlace::Endpoint { name, .. }) => {
                pattern.matches(name.as_str())
            }
            (Self::Path(path), NamespacePlace::Named { path: other }) => path == other,
            _ => false,
        }
    }
}

impl FromStr for NamespaceScope {
    type Err = InvalidScope;
    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        Ok(match text {
            "*" => Self::Any,
            "node" => Self::Node,
            _ if text.starts_with('/') => Self::Path(PathBuf::from(text)),
            _ => match text.strip_prefix("endpoint:") {
                Some(name) => Self::Endpoint(name.parse()?),
                None => {
                    let problem =
                        "is no namespace: use node, endpoint:NAME, a path such as /run/netns/blue, or *";
                    return Err(InvalidScope { text: text.to_owned(), problem });
                }
            },
        })
    }
}

/// Ports: one, or from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    #[must_use]
    pub const fn any() -> Self {
        Self { first: 0, last: u16::MAX }
    }

    /// Whether a port is one of them.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl FromStr for PortRange {
    type Err = InvalidScope;
    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        let bad = || InvalidScope {
            text: text.to_owned(),
            problem: "is no port or range: write 443, 8000-8999 or *",
        };
        if text == "*" {
            return Ok(Self::any());
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: first.parse().map_err(|_| bad())?, last: last.parse().map_err(|_| bad())? };
        if range.first <= range.last { Ok(range) } else { Err(bad()) }
    }
}

/// Texts to and from each kind of scope.
macro_rules! texts {
    ($($kind:ty),+) => {$(
        impl TryFrom<String> for $kind {
            type Error = InvalidScope;
            fn try_from(text: String) -> Result<Self, InvalidScope> {
                text.parse()
            }
        }
        impl From<$kind> for String {
            fn from(scope: $kind) -> Self {
                scope.to_string()
            }
        }
    )+};
}

texts!(Pattern, NamespaceScope, PortRange);

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for NamespaceScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.pad("*"),
            Self::Node => f.pad("node"),
            Self::Endpoint(pattern) => write!(f, "endpoint:{pattern}"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { first: 0, last: u16::MAX } => f.pad("*"),
            Self { first, last } if first == last => write!(f, "{first}"),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

/// A network namespace that the node knows, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its identity.
    pub id: NetnsId,
    /// Its cookie, which sockets carry.
    pub cookie: NetnsCookie,
    /// What it is to the node.
    pub place: NamespacePlace,
}

/// What a namespace is to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespacePlace {
    /// The node's own.
    Node,
    /// An endpoint's.
    Endpoint {
        /// The endpoint.
        name: Name,
        /// A path of its namespace.
        path: PathBuf,
    },
    /// One that a grant names.
    Named {
        /// Its path.
        path: PathBuf,
    },
}

impl Namespace {
    /// A path to reach it by; none for the node's own.
    #[must_use]
    pub fn path(&self) -> Option<&PathBuf> {
        match &self.place {
            NamespacePlace::Node => None,
            NamespacePlace::Endpoint { path, .. } | NamespacePlace::Named { path } => Some(path),
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            NamespacePlace::Node => f.pad("the node's namespace"),
            NamespacePlace::Endpoint { name, .. } => write!(f, "endpoint {name}'s namespace"),
            NamespacePlace::Named { path } => write!(f, "{}", path.display()),
        }
    }
}
