//! Finding by `iter/bpf_sk_storage_map`: one pass over a backend's storage sees its sockets in all namespaces, and
//! no others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Mutex, PoisonError},
};

use netloom_core::model::{SocketCookie, SocketFilter};
use netloom_sys::bpf;

use super::{
    Conditions, Exact, SocketError,
    iterator::{FilterMaps, MAX_KEYS, Object, passes},
};
use crate::bindings::Bindings;

/// The iterator's program. It is attached to a storage for one search: that takes microseconds, while links to every
/// storage would keep the storages of backends that are long gone.
pub(super) struct Storage {
    bindings: Bindings,
    program: OwnedFd,
    /// One search at a time: the filter is in maps.
    filter: Mutex<FilterMaps>,
}

impl Storage {
    pub(super) fn open(pins: &Path) -> Result<Self, SocketError> {
        let bindings = Bindings::open(pins)?;
        let mut object = Object::load(netloom_ebpf::SOCKETS, pins)?;
        let program = object.program("nl_find_bound", "bpf_sk_storage_map")?;
        Ok(Self { bindings, program, filter: Mutex::new(object.filter()?) })
    }

    pub(super) fn find(&self, filter: &SocketFilter) -> Result<Vec<Exact>, SocketError> {
        // A search that panicked left keys of its own at worst, and the maps are emptied first.
        let mut maps = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
        let conditions = Conditions::new(filter);
        let mut found = HashMap::new();
        if filter.backends.is_empty() {
            maps.fill(filter, &[])?;
            let numbers: BTreeSet<u32> =
                self.bindings.backends()?.into_iter().map(|(_, number)| number).collect();
            for number in numbers {
                if let Some(storage) = self.bindings.at(number)? {
                    self.walk(&storage, &conditions, &mut found)?;
                }
            }
        }
        for chunk in filter.backends.chunks(MAX_KEYS) {
            maps.fill(filter, chunk)?;
            let mut storages = BTreeMap::new();
            for backend in chunk {
                storages.extend(self.bindings.storage(*backend)?);
            }
            for storage in storages.values() {
                self.walk(storage, &conditions, &mut found)?;
            }
        }
        Ok(found.into_values().collect())
    }

    fn walk(
        &self,
        storage: &OwnedFd,
        conditions: &Conditions<'_>,
        found: &mut HashMap<SocketCookie, Exact>,
    ) -> Result<(), SocketError> {
        let link = bpf::iter_link(self.program.as_fd(), Some(storage.as_fd()))
            .map_err(|source| SocketError::Iterator { command: bpf::command::LINK_CREATE, source })?;
        passes(&link, conditions, found)
    }
}
