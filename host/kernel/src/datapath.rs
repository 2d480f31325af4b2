//! The BPF datapath: its maps, its endpoint programs, socket-LB.
//!
//! - [`loader`]: bringing objects into the kernel
//! - [`maps`]: the maps that user space reads and writes
//! - [`tables`]: their elements
//! - [`pins`]: creating and adopting the maps, and moving what is in them to others
//! - [`endpoints`]: an endpoint's programs, its addresses, its counters
//! - [`uplinks`]: what comes from outside, and goes there
//! - [`services`]: services and their backends
//! - [`known`]: what is remembered of them
//! - [`socket_lb`]: the cgroup links
//! - [`events`]: what programs report while somebody listens
//! - [`error`]: what can go wrong, and the way out
//!
//! Maps and links are pinned: a daemon that starts again takes up where the last one was, and the programs never
//! notice. Below a folder in a bpf filesystem:
//!
//! | path | what |
//! |---|---|
//! | `maps/<name>` | each map |
//! | `socklb/<hook>` | the link of each socket-LB hook |

mod endpoints;
mod error;
mod events;
mod known;
mod loader;
mod maps;
mod pins;
mod services;
mod socket_lb;
mod tables;
mod uplinks;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use netloom_core::model::Protocol;
use netloom_ebpf::bound;
pub use netloom_ebpf::layout::drop_reason::NAMES as DROP_REASONS;
use rustix::thread::{MembarrierCommand, membarrier};

pub use self::{
    endpoints::{AddressEntry, EndpointConfig, EndpointCounters, EndpointPrograms},
    error::DatapathError,
    events::{Connected, DatapathEvent, Dropped, EventKinds, EventReader, Happened},
    services::{ServiceCounters, ServiceEntry},
    socket_lb::SocketLbHook,
    uplinks::{ByStack, OwnAddresses},
};
use self::{loader::Loader, maps::Maps, tables::all};
pub use crate::maps::MapSizes;
use crate::{
    bindings::Numbering,
    maps::{BACKENDS, ENDPOINTS, SERVICES},
};

/// The datapath's state in the kernel. Shared freely: each operation takes the lock it needs.
pub struct Datapath {
    folder: PathBuf,
    sizes: MapSizes,
    loader: Loader,
    maps: Mutex<Maps>,
    numbering: Mutex<Numbering>,
    bindings_lost: bool,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// Which.
    pub map: &'static str,
    /// What is in it.
    pub entries: u32,
    /// How much there can be.
    pub size: u32,
}

impl fmt::Debug for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datapath")
            .field("folder", &self.folder)
            .field("sizes", &self.sizes)
            .finish_non_exhaustive()
    }
}

impl Datapath {
    /// Creates the maps, or takes up the ones pinned below `bpffs_dir`. What an interrupted operation left in them
    /// without effect is removed. Maps of another version or configuration are made anew, with what they held as far
    /// as it means the same: set endpoints and services again, then replace the programs that do not
    /// [run on these maps](Self::runs_on_these_maps).
    ///
    /// # Errors
    /// [`DatapathError::NotBpffs`], [`DatapathError::Load`]; [`DatapathError::Full`] if a map that was made smaller
    /// cannot hold what it held.
    pub fn open(bpffs_dir: &Path, sizes: MapSizes) -> Result<Self, DatapathError> {
        let folder = bpffs_dir.join("maps");
        let loader = Loader::new(&folder, sizes);
        let (mut maps, numbering, bindings_lost) = maps::open(&folder, sizes, &loader)?;
        services::sweep(&mut maps)?;
        Ok(Self {
            folder: bpffs_dir.to_owned(),
            sizes,
            loader,
            maps: Mutex::new(maps),
            numbering: Mutex::new(numbering),
            bindings_lost,
        })
    }

    /// The folder of the pinned maps, each under its own name.
    #[must_use]
    pub fn maps_dir(&self) -> PathBuf {
        self.folder.join("maps")
    }

    /// Whether the maps of an earlier version or configuration had bindings of sockets that could not be kept.
    #[must_use]
    pub const fn bindings_lost(&self) -> bool {
        self.bindings_lost
    }

    /// How full the maps are whose size is configured, and which refuse what does not fit.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn fill(&self) -> Result<Vec<MapFill>, DatapathError> {
        let maps = self.maps();
        let addresses = all(&maps.endpoints, ENDPOINTS)?.len() as u32;
        let (services, backends) = maps.service_entries();
        let numbered = self.numbering().numbered();
        let filled =
            [(ENDPOINTS, addresses), (SERVICES, services), (BACKENDS, backends), (bound::NUMBERS, numbered)];
        let of =
            |(map, entries)| MapFill { map, entries, size: self.sizes.of(map).map_or(0, |(size, _)| size) };
        Ok(filled.map(of).to_vec())
    }

    /// Takes back the storages of backends that no service has, and that no socket is bound to any more.
    ///
    /// # Errors
    /// [`DatapathError::Bindings`].
    pub fn retire_backends(&self, backends: &[(SocketAddr, Protocol)]) -> Result<(), DatapathError> {
        // Whoever adds a backend numbers it with this lock held, so that none is taken away from a service.
        let maps = self.maps();
        let in_use = maps.all_backends()?;
        let unused: Vec<_> = backends.iter().copied().filter(|backend| !in_use.contains(backend)).collect();
        Ok(self.numbering().retire(&unused)?)
    }

    fn numbering(&self) -> MutexGuard<'_, Numbering> {
        // Numbers that were given are in the kernel's map; what is remembered of them errs on the side of not
        // giving one again.
        self.numbering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every `connect` and `sendmsg` that chose its backend before this call is through the translation,
    /// and so has left its binding. What is bound to a removed backend afterwards was so before. Takes milliseconds.
    ///
    /// # Errors
    /// [`DatapathError::Sys`] on a kernel without membarrier(2).
    pub fn wait_for_translations(&self) -> Result<(), DatapathError> {
        // BPF programs run as RCU readers, and this command waits for one RCU grace period.
        membarrier(MembarrierCommand::Global)
            .map_err(|errno| DatapathError::sys("membarrier", "all CPUs", errno.into()))
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        // Each change of a map is one system call, so that a panic elsewhere leaves nothing half done in here.
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
