use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Name;

/// A transport protocol that services and socket policies know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The protocol of an IP protocol number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A text is not a protocol.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a protocol: use tcp or udp")]
pub struct InvalidProtocol(String);

impl FromStr for Protocol {
    type Err = InvalidProtocol;
    fn from_str(text: &str) -> Result<Self, InvalidProtocol> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(InvalidProtocol(text.to_owned())),
        }
    }
}

/// A backend: the address a service's VIP is translated to, and over what. Its identity is all of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Backend {
    /// Where.
    pub address: SocketAddr,
    /// Over what.
    pub protocol: Protocol,
    /// For which service.
    pub service: Name,
}

/// A service: a virtual address translated to one of its backends at connect time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Unique on the node.
    pub name: Name,
    /// The virtual address.
    pub vip: SocketAddr,
    /// Over what.
    pub protocol: Protocol,
    /// Where its connections go; the same address family as the VIP.
    #[serde(default)]
    pub backends: Vec<SocketAddr>,
}

impl Service {
    /// One of its backends, in full.
    #[must_use]
    pub fn backend(&self, address: SocketAddr) -> Backend {
        Backend { address, protocol: self.protocol, service: self.name.clone() }
    }
}
