//! The ways to find and to destroy, and the choice between them.

use std::{fmt, path::Path};

use netloom_core::model::SocketFilter;
use netloom_sys::diag::{DiagSocket, Transport};
use serde::{Deserialize, Serialize};

use super::{
    Exact, SocketError,
    dump::Dump,
    error::chain,
    namespaces::{Kfunc, Namespaces},
    storage::Storage,
};

/// How bound sockets are found. The first is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Finder {
    /// One pass of `iter/bpf_sk_storage_map` over a backend's bindings, in all namespaces at once; the kernel filters.
    #[serde(rename = "sk-storage-iterator")]
    SkStorage,
    /// A pass of `iter/tcp` and `iter/udp` in each namespace, which walks all its sockets; the kernel filters.
    #[serde(rename = "netns-iterator")]
    Namespaces,
    /// A sock_diag dump in each namespace, which walks all its sockets; the kernel filters by remote address.
    #[serde(rename = "sock-diag-dump")]
    SockDiag,
}

impl Finder {
    /// Every finder, in the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::SkStorage, Self::Namespaces, Self::SockDiag];

    /// The name, as in configuration, CLI and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SkStorage => "sk-storage-iterator",
            Self::Namespaces => "netns-iterator",
            Self::SockDiag => "sock-diag-dump",
        }
    }
}

impl fmt::Display for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How sockets are destroyed. The first is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Destroyer {
    /// `SOCK_DESTROY` through sock_diag, by exact addresses and cookie: a lookup, not a walk.
    #[serde(rename = "sock-diag")]
    SockDiag,
    /// `bpf_sock_destroy` in a pass of `iter/tcp` and `iter/udp`, which walks all sockets of a namespace.
    #[serde(rename = "netns-iterator")]
    Namespaces,
    /// Sockets are reported, and not destroyed.
    #[serde(rename = "none")]
    Nothing,
}

impl Destroyer {
    /// Every destroyer, in the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::SockDiag, Self::Namespaces, Self::Nothing];

    /// The name, as in configuration, CLI and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SockDiag => "sock-diag",
            Self::Namespaces => "netns-iterator",
            Self::Nothing => "none",
        }
    }
}

impl fmt::Display for Destroyer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which ways to use; none is the best that this kernel has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// How to find.
    pub finder: Option<Finder>,
    /// How to destroy.
    pub destroyer: Option<Destroyer>,
}

pub(super) enum Find {
    Storage(Box<Storage>),
    Namespaces(Box<Namespaces>),
    Dump(Dump),
}

impl Find {
    pub(super) fn open(pins: &Path, wanted: Option<Finder>) -> Result<Self, SocketError> {
        let open = |finder| {
            Ok(match finder {
                Finder::SkStorage => Self::Storage(Box::new(Storage::open(pins)?)),
                Finder::Namespaces => Self::Namespaces(Box::new(Namespaces::open(pins)?)),
                Finder::SockDiag => Self::Dump(Dump::open(pins)?),
            })
        };
        if let Some(finder) = wanted {
            return open(finder);
        }
        for finder in [Finder::SkStorage, Finder::Namespaces] {
            match open(finder) {
                // Whatever way is taken, the bindings must be there.
                Err(error @ SocketError::Bindings(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%finder, "sockets cannot be found this way: {}", chain(&error));
                }
                found => return found,
            }
        }
        open(Finder::SockDiag)
    }

    pub(super) const fn way(&self) -> Finder {
        match self {
            Self::Storage(_) => Finder::SkStorage,
            Self::Namespaces(_) => Finder::Namespaces,
            Self::Dump(_) => Finder::SockDiag,
        }
    }

    pub(super) fn find(&self, filter: &SocketFilter) -> Result<Vec<Exact>, SocketError> {
        match self {
            Self::Storage(storage) => storage.find(filter),
            Self::Namespaces(namespaces) => namespaces.find(filter),
            Self::Dump(dump) => dump.find(filter),
        }
    }
}

pub(super) enum Destroy {
    SockDiag,
    Namespaces(Box<Kfunc>),
    Nothing,
}

impl Destroy {
    pub(super) fn open(pins: &Path, wanted: Option<Destroyer>) -> Result<Self, SocketError> {
        let open = |destroyer| {
            Ok(match destroyer {
                Destroyer::SockDiag => {
                    probe_diag()?;
                    Self::SockDiag
                }
                Destroyer::Namespaces => Self::Namespaces(Box::new(Kfunc::open(pins)?)),
                Destroyer::Nothing => Self::Nothing,
            })
        };
        if let Some(destroyer) = wanted {
            return open(destroyer);
        }
        for destroyer in [Destroyer::SockDiag, Destroyer::Namespaces] {
            match open(destroyer) {
                Err(error) => {
                    tracing::warn!(%destroyer, "sockets cannot be destroyed this way: {}", chain(&error));
                }
                found => return found,
            }
        }
        Ok(Self::Nothing)
    }

    pub(super) const fn way(&self) -> Destroyer {
        match self {
            Self::SockDiag => Destroyer::SockDiag,
            Self::Namespaces(_) => Destroyer::Namespaces,
            Self::Nothing => Destroyer::Nothing,
        }
    }
}

/// "No such socket" and "no such module" are one errno: whether the kernel can look up sockets is asked first.
fn probe_diag() -> Result<(), SocketError> {
    let mut socket = DiagSocket::open().map_err(SocketError::Diag)?;
    for transport in [Transport::Tcp, Transport::Udp] {
        socket.probe(transport).map_err(SocketError::Diag)?;
    }
    Ok(())
}
