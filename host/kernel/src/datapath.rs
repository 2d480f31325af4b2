//! The BPF datapath: its maps, its endpoint programs, socket-LB.
//!
//! - [`loader`]: bringing objects into the kernel
//! - [`maps`]: creating and adopting the maps
//! - [`endpoints`]: an endpoint's programs, its addresses, its counters
//! - [`uplinks`]: what comes from outside, and goes there
//! - [`services`]: services and their backends
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
mod loader;
mod maps;
mod services;
mod socket_lb;
mod uplinks;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use netloom_core::model::Protocol;
pub use netloom_ebpf::layout::drop_reason::NAMES as DROP_REASONS;
use rustix::thread::{MembarrierCommand, membarrier};

pub use self::{
    endpoints::{AddressEntry, EndpointConfig, EndpointCounters, EndpointPrograms},
    error::DatapathError,
    events::{Connected, DatapathEvent, Dropped, EventKinds, EventReader, Happened},
    maps::MapSizes,
    services::ServiceEntry,
    socket_lb::{SocketLbCounters, SocketLbHook},
};
use self::{loader::Loader, maps::Maps};
use crate::bindings::Numbering;

/// The datapath's state in the kernel. Shared freely: each operation takes the lock it needs.
pub struct Datapath {
    folder: PathBuf,
    sizes: MapSizes,
    loader: Loader,
    maps: Mutex<Maps>,
    numbering: Mutex<Numbering>,
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
    /// without effect is removed.
    ///
    /// # Errors
    /// [`DatapathError::NotBpffs`], [`DatapathError::Layout`] and [`DatapathError::Size`] if the pinned maps are
    /// another version's or configuration's, [`DatapathError::Load`].
    pub fn open(bpffs_dir: &Path, sizes: MapSizes) -> Result<Self, DatapathError> {
        let folder = bpffs_dir.join("maps");
        let loader = Loader::new(&folder, sizes);
        let (mut maps, numbering) = maps::open(&folder, sizes, &loader)?;
        services::sweep(&mut maps)?;
        Ok(Self {
            folder: bpffs_dir.to_owned(),
            sizes,
            loader,
            maps: Mutex::new(maps),
            numbering: Mutex::new(numbering),
        })
    }

    /// The folder of the pinned maps, each under its own name.
    #[must_use]
    pub fn maps_dir(&self) -> PathBuf {
        self.folder.join("maps")
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
