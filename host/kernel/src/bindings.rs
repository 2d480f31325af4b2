//! Where the service translation keeps its bindings: a socket storage for each backend.
//!
//! A backend has a number, and at that number in an array of maps is its storage: every socket bound to the backend
//! has an element there, whatever its namespace. So a walk over a backend's sockets costs as much as it finds.
//! [`Bindings`] reads, [`Numbering`] gives numbers to backends before anything can be bound to them.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::maps::{HashMap as BpfHashMap, Map, MapData, MapError};
use netloom_core::model::{Protocol, canonical};
use netloom_ebpf::{bound, layout::BoundKey};
use netloom_sys::bpf::{self, command};
use rustix::process::{Resource, getrlimit};

/// Storages are made so many at a time, at least: one that is there costs nothing but a little memory, and putting
/// any number into the array takes the kernel the same milliseconds.
const POOL: u32 = 256;

/// The maps of bindings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindingsError {
    /// A map is not pinned where it should be.
    #[error(
        "cannot open the socket bindings {}: they are pinned there while socket load balancing is attached",
        path.display()
    )]
    Open {
        /// Its pin.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The table of numbers cannot be read or written.
    #[error("cannot {action} the numbers of backends with socket bindings")]
    Numbers {
        /// What was attempted.
        action: &'static str,
        /// What the kernel said.
        source: MapError,
    },
    /// A storage cannot be made or opened.
    #[error("{command} of a backend's socket bindings failed")]
    Storage {
        /// The bpf(2) command.
        command: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A backend, as bindings know it.
pub type BoundBackend = (SocketAddr, Protocol);

type Numbers = BpfHashMap<MapData, [u8; BoundKey::SIZE], u32>;

/// The pinned maps of bindings.
pub struct Bindings {
    storages: OwnedFd,
    /// Backends that can have a storage of their own; what is more shares.
    slots: u32,
    numbers: Numbers,
}

impl Bindings {
    /// Opens the maps pinned in a folder of a bpf filesystem.
    ///
    /// # Errors
    /// [`BindingsError::Open`] if they are not pinned there, [`BindingsError::Numbers`] if they are other maps.
    pub fn open(pins: &Path) -> Result<Self, BindingsError> {
        let storages = open(&pins.join(bound::STORAGES))?;
        let numbers = open(&pins.join(bound::NUMBERS))?;
        let unusable = |source| BindingsError::Numbers { action: "open", source };
        let numbers = MapData::from_fd(numbers)
            .and_then(Map::from_map_data)
            .and_then(Numbers::try_from)
            .map_err(unusable)?;
        let slots = storages.try_clone().map_err(MapError::from).and_then(MapData::from_fd);
        let slots = slots.and_then(|map| Ok(map.info()?.max_entries())).map_err(unusable)?;
        Ok(Self { storages, slots, numbers })
    }

    /// The storage of a backend's sockets; none if it has no number.
    ///
    /// # Errors
    /// [`BindingsError`].
    pub fn storage(&self, backend: BoundBackend) -> Result<Option<(u32, OwnedFd)>, BindingsError> {
        let number = match self.numbers.get(&key(backend), 0) {
            Ok(number) => number,
            Err(MapError::KeyNotFound) => return Ok(None),
            Err(source) => return Err(BindingsError::Numbers { action: "read", source }),
        };
        Ok(self.at(number)?.map(|storage| (number, storage)))
    }

    /// The storage at a number; none beyond those that were made.
    ///
    /// # Errors
    /// [`BindingsError::Storage`].
    pub fn at(&self, number: u32) -> Result<Option<OwnedFd>, BindingsError> {
        let failed = |command| move |source| BindingsError::Storage { command, source };
        let id = bpf::map_at(self.storages.as_fd(), number).map_err(failed(command::MAP_LOOKUP_ELEM))?;
        id.map(bpf::map_by_id).transpose().map_err(failed(command::MAP_GET_FD_BY_ID))
    }

    /// Every backend with its number.
    ///
    /// # Errors
    /// [`BindingsError::Numbers`].
    pub fn backends(&self) -> Result<Vec<(BoundBackend, u32)>, BindingsError> {
        let mut backends = Vec::new();
        for entry in self.numbers.iter() {
            let (bytes, number) =
                entry.map_err(|source| BindingsError::Numbers { action: "read", source })?;
            let key = BoundKey::from_bytes(bytes);
            if let Some(protocol) = Protocol::from_number(key.protocol) {
                backends.push(((key.socket_address(), protocol), number));
            }
        }
        Ok(backends)
    }
}

/// Gives backends their numbers. One for each set of pinned maps: it remembers what it gave.
pub struct Numbering {
    bindings: Bindings,
    kind: OwnedFd,
    /// How many storages there are, from number 0 on.
    made: u32,
    /// How many backends have each number that is in use.
    users: HashMap<u32, u32>,
    free: BTreeSet<u32>,
    /// The next number that is given to more than one, when all are in use.
    shared: u32,
}

impl Numbering {
    /// Takes up the numbers of the maps pinned in a folder.
    ///
    /// # Errors
    /// [`BindingsError`].
    pub fn open(pins: &Path) -> Result<Self, BindingsError> {
        let bindings = Bindings::open(pins)?;
        let kind = open(&pins.join(bound::KIND))?;
        let mut made = 0;
        while made < bindings.slots && bindings.is_made(made)? {
            made += 1;
        }
        let mut users = HashMap::new();
        for (_, number) in bindings.backends()? {
            *users.entry(number).or_default() += 1;
        }
        let free = (0..made).filter(|number| !users.contains_key(number)).collect();
        Ok(Self { bindings, kind, made, users, free, shared: 0 })
    }

    /// Sees to it that each backend has a number and a storage at it. Sockets that connect afterwards are bound.
    ///
    /// # Errors
    /// [`BindingsError`]; some of the backends may have their number.
    pub fn number(&mut self, backends: &[BoundBackend]) -> Result<(), BindingsError> {
        let numbers = &self.bindings.numbers;
        let missing: Vec<_> =
            backends.iter().map(|backend| key(*backend)).filter(|key| numbers.get(key, 0).is_err()).collect();
        self.make(u32::try_from(missing.len()).unwrap_or(u32::MAX))?;
        for key in missing {
            let number = self.choose();
            let numbers = &mut self.bindings.numbers;
            if let Err(source) = numbers.insert(key, number, 0) {
                return Err(BindingsError::Numbers { action: "write", source });
            }
            self.free.remove(&number);
            *self.users.entry(number).or_default() += 1;
        }
        Ok(())
    }

    /// Takes the numbers of backends back, which nothing is bound to any more.
    ///
    /// # Errors
    /// [`BindingsError::Numbers`].
    pub fn retire(&mut self, backends: &[BoundBackend]) -> Result<(), BindingsError> {
        for backend in backends {
            let key = key(*backend);
            let Ok(number) = self.bindings.numbers.get(&key, 0) else { continue };
            self.bindings
                .numbers
                .remove(&key)
                .map_err(|source| BindingsError::Numbers { action: "remove from", source })?;
            let users = self.users.entry(number).or_default();
            *users = users.saturating_sub(1);
            if *users == 0 {
                self.users.remove(&number);
                self.free.insert(number);
            }
        }
        Ok(())
    }

    /// How many backends have a number.
    #[must_use]
    pub fn numbered(&self) -> u32 {
        self.users.values().sum()
    }

    /// The maps, for reading.
    #[must_use]
    pub const fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// Makes storages until so many are free, or there are as many as there can be.
    fn make(&mut self, wanted: u32) -> Result<(), BindingsError> {
        let free = u32::try_from(self.free.len()).unwrap_or(u32::MAX);
        let room = self.bindings.slots - self.made;
        if free >= wanted || room == 0 {
            return Ok(());
        }
        // Twice as many each time, so that a node of any size waits a few times only.
        let count = (wanted - free).max(POOL).max(self.made).min(room);
        let failed = |command| move |source| BindingsError::Storage { command, source };
        let descriptors =
            getrlimit(Resource::Nofile).current.map_or(u32::MAX, |limit| limit.min(65_536) as u32);
        let mut rest = count;
        while rest > 0 {
            // A descriptor each, until they are in the array.
            let chunk = rest.min(descriptors / 2).max(1);
            let new = bpf::maps_like(self.kind.as_fd(), chunk).map_err(failed(command::MAP_CREATE))?;
            bpf::set_maps(self.bindings.storages.as_fd(), self.made, &new)
                .map_err(failed(command::MAP_UPDATE_BATCH))?;
            self.free.extend(self.made..self.made + chunk);
            self.made += chunk;
            rest -= chunk;
        }
        Ok(())
    }

    /// A number nobody has, or else each in turn.
    fn choose(&mut self) -> u32 {
        self.free.first().copied().unwrap_or_else(|| {
            self.shared = (self.shared + 1) % self.made.max(1);
            self.shared
        })
    }
}

impl Bindings {
    fn is_made(&self, number: u32) -> Result<bool, BindingsError> {
        let id = bpf::map_at(self.storages.as_fd(), number);
        let id = id.map_err(|source| BindingsError::Storage { command: command::MAP_LOOKUP_ELEM, source })?;
        Ok(id.is_some())
    }
}

fn key((address, protocol): BoundBackend) -> [u8; BoundKey::SIZE] {
    BoundKey::new(canonical(address), protocol.number()).to_bytes()
}

fn open(path: &Path) -> Result<OwnedFd, BindingsError> {
    bpf::obj_get(path).map_err(|source| BindingsError::Open { path: path.to_owned(), source })
}
