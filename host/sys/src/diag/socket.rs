//! What tells a socket from all others of its namespace.

use std::{fmt, net::SocketAddr};

/// A transport that sock_diag knows and this crate asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The family a socket was created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`.
    V6,
}

impl Family {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }
}

/// A socket's exact identity in its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId {
    /// Its transport.
    pub transport: Transport,
    /// Its own address; v4-mapped or IPv4 alike.
    pub local: SocketAddr,
    /// Its peer's, unspecified if it has none.
    pub remote: SocketAddr,
    /// The index of the device it is bound to, or 0. The kernel finds such a socket only if told.
    pub device: u32,
    /// As `SO_COOKIE` reports it.
    pub cookie: u64,
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, local, remote, cookie, .. } = self;
        write!(f, "{transport} {local} -> {remote} (cookie {cookie})")
    }
}
