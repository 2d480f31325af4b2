//! Sockets in every namespace: finding the bound ones, destroying them.
//!
//! The service translation leaves a binding with each socket it connects to a backend, in the
//! backend's own socket storage. [`Sockets::find`] walks the storages of the backends asked for, once, and sees their
//! sockets in all namespaces. [`Sockets::destroy`] goes to each socket's namespace and destroys it by its exact
//! addresses and cookie, which the kernel compares.
//!
//! - `ways`: the ways to find and to destroy, and the choice between them
//! - `storage`: finding by an iterator over the storages
//! - `namespaces`: finding and destroying by iterators, a namespace at a time
//! - `iterator`: what both share
//! - `dump` and `descriptors`: finding by sock_diag, a namespace at a time
//! - `destroy`: destroying and verifying
//! - `backfill`: binding the sockets that were connected before there were bindings

mod backfill;
mod descriptors;
mod destroy;
mod dump;
mod error;
mod everywhere;
mod iterator;
mod namespaces;
mod storage;
mod ways;

use std::{
    collections::HashSet,
    fmt,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use netloom_core::model::{BoundSocket, DestroyOutcome, Protocol, SocketFilter, SocketState, canonical};

use self::ways::{Destroy, Find};
pub use self::{
    backfill::BackFill,
    error::SocketError,
    ways::{Destroyer, Finder, Ways},
};

/// The node's bound sockets. Calls block; any number of threads may make them.
pub struct Sockets {
    find: Find,
    destroy: Destroy,
}

/// A bound socket, and what it takes to name it exactly to the kernel.
#[derive(Clone, Debug)]
struct Exact {
    socket: BoundSocket,
    /// The index of the device it is bound to, or 0.
    device: u32,
}

impl Sockets {
    /// Opens the bindings that the service translation pinned in a directory of a bpf filesystem, with the best ways
    /// to find and to destroy that this kernel has.
    ///
    /// # Errors
    /// [`SocketError::Bindings`] if a map is not pinned there. A missing way is none: the next one is taken.
    pub fn open(pins: &Path) -> Result<Self, SocketError> {
        Self::open_with(pins, Ways::default())
    }

    /// As [`Self::open`], with ways that are chosen already.
    ///
    /// # Errors
    /// [`SocketError`] if a map is not pinned there, or this kernel lacks a way that was asked for.
    pub fn open_with(pins: &Path, ways: Ways) -> Result<Self, SocketError> {
        Ok(Self { find: Find::open(pins, ways.finder)?, destroy: Destroy::open(pins, ways.destroyer)? })
    }

    /// How sockets are found.
    #[must_use]
    pub const fn finder(&self) -> Finder {
        self.find.way()
    }

    /// How sockets are destroyed.
    #[must_use]
    pub const fn destroyer(&self) -> Destroyer {
        self.destroy.way()
    }

    /// The bound sockets of all namespaces that a filter lets through, in no order, each once.
    ///
    /// Without backends in the filter, all bindings are walked. A socket whose peer is not the backend it was
    /// bound to (its connect failed, or another program sent it elsewhere) is not found.
    ///
    /// # Errors
    /// [`SocketError`] if the kernel stops the walk half-way: then nothing is known.
    pub fn find(&self, filter: &SocketFilter) -> Result<Vec<BoundSocket>, SocketError> {
        Ok(self.find_exact(filter)?.into_iter().map(|exact| exact.socket).collect())
    }

    /// Destroys sockets that [`Self::find`] found, and verifies that they are gone. The answers are in the order
    /// of the sockets.
    ///
    /// Namespaces are gone through side by side. A socket that went away meanwhile, and whose addresses another
    /// one has now, is [`DestroyOutcome::Gone`]; the other one is not touched.
    ///
    /// # Errors
    /// [`SocketError::ReportOnly`] if there is no way to destroy sockets. What goes wrong with one socket or one
    /// namespace is in that socket's outcome.
    pub fn destroy(&self, sockets: &[BoundSocket]) -> Result<Vec<DestroyOutcome>, SocketError> {
        if sockets.is_empty() {
            return Ok(Vec::new());
        }
        destroy::destroy(&self.destroy, sockets, |filter| self.find_exact(filter))
    }

    fn find_exact(&self, filter: &SocketFilter) -> Result<Vec<Exact>, SocketError> {
        let started = Instant::now();
        let found = self.find.find(filter)?;
        tracing::debug!(
            finder = %self.finder(),
            backends = filter.backends.len(),
            found = found.len(),
            elapsed_us = started.elapsed().as_micros(),
            "looked for bound sockets",
        );
        Ok(found)
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets")
            .field("finder", &self.finder())
            .field("destroyer", &self.destroyer())
            .finish_non_exhaustive()
    }
}

/// The protocols that services have.
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// The states a filter lets through, as a mask: bit n for the kernel's state n.
fn state_mask(filter: &SocketFilter) -> u32 {
    SocketState::ALL
        .into_iter()
        .filter(|state| filter.states.is_empty() || filter.states.contains(state))
        .filter(|state| !filter.connected_only || state.is_connected())
        .fold(0, |mask, state| mask | 1 << state.number())
}

/// The conditions that are cheaper to check here, or that not every finder's kernel part checks.
struct Conditions<'a> {
    filter: &'a SocketFilter,
    backends: HashSet<(SocketAddr, u8)>,
}

impl<'a> Conditions<'a> {
    fn new(filter: &'a SocketFilter) -> Self {
        let backends = filter
            .backends
            .iter()
            .map(|(address, protocol)| (canonical(*address), protocol.number()))
            .collect();
        Self { filter, backends }
    }

    fn hold(&self, socket: &BoundSocket) -> bool {
        let filter = self.filter;
        (filter.protocols.is_empty() || filter.protocols.contains(&socket.protocol))
            && (self.backends.is_empty()
                || self.backends.contains(&(socket.backend, socket.protocol.number())))
            && (filter.netns_cookies.is_empty() || filter.netns_cookies.contains(&socket.netns_cookie))
            && socket.age >= filter.min_age
    }
}

/// `CLOCK_MONOTONIC`, the clock of the bindings.
fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// Since a time of [`monotonic`]'s clock, in nanoseconds.
fn age(now: Duration, bound_at: u64) -> Duration {
    now.saturating_sub(Duration::from_nanos(bound_at))
}

/// The payload part of what a peer acknowledged: connecting itself counted one, the SYN.
fn payload(bytes_acked: u64) -> u64 {
    bytes_acked.saturating_sub(1)
}
