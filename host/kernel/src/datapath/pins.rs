//! The pins of the maps. A map whose shape is another version's or another configuration's is made anew: what it held
//! goes over where keys and values are the same; where they are not, whoever opened the datapath tells it again.
//!
//! The old map is set aside under another name until then, so that an interruption loses nothing. Programs that run
//! on it go on meanwhile, and see what they saw.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::maps::{HashMap, Map, MapData, MapError, MapType, PerCpuArray};
use netloom_ebpf::{bound, layout};
use netloom_sys::bpf;

use super::{DatapathError, tables::put};
use crate::maps::{
    AFFINITIES, BACKENDS, COUNTERS, ENDPOINTS, EVENT_RATE, EVENTS, EXCHANGES, FLOWS, LOCAL_FLOWS, MONITOR,
    MapSizes, NATIVE, NODE, OWN_ADDRESSES, ROUTES, SERVICE_COUNTERS, SERVICES, UNTRANSLATED,
};

/// What a map has to be.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    kind: MapType,
    /// Bytes.
    key: usize,
    /// Bytes.
    value: usize,
}

const SHAPES: [Shape; 20] = [
    shape(ENDPOINTS, MapType::Hash, layout::Address::SIZE, layout::Endpoint::SIZE),
    shape(COUNTERS, MapType::PerCpuArray, 4, layout::Counters::SIZE),
    shape(NODE, MapType::Array, 4, layout::Node::SIZE),
    shape(NATIVE, MapType::LpmTrie, layout::Prefix::SIZE, 4),
    shape(OWN_ADDRESSES, MapType::Hash, layout::Address::SIZE, 4),
    shape(ROUTES, MapType::PerCpuArray, 4, layout::Route::SIZE),
    shape(SERVICES, MapType::Hash, layout::ServiceKey::SIZE, layout::Service::SIZE),
    shape(BACKENDS, MapType::Hash, layout::BackendKey::SIZE, layout::Backend::SIZE),
    shape(SERVICE_COUNTERS, MapType::PerCpuArray, 4, layout::ServiceCounters::SIZE),
    shape(AFFINITIES, MapType::LruHash, layout::Client::SIZE, layout::Affinity::SIZE),
    shape(FLOWS, MapType::SkStorage, 4, layout::Flows::SIZE),
    shape(EXCHANGES, MapType::LruHash, layout::ExchangeKey::SIZE, layout::Exchange::SIZE),
    shape(UNTRANSLATED, MapType::Hash, 8, 4),
    shape(LOCAL_FLOWS, MapType::LruHash, layout::LocalFlowKey::SIZE, layout::LocalFlow::SIZE),
    shape(EVENTS, MapType::RingBuf, 0, 0),
    shape(MONITOR, MapType::Array, 4, layout::Monitor::SIZE),
    shape(EVENT_RATE, MapType::PerCpuArray, 4, layout::EventRate::SIZE),
    shape(bound::KIND, MapType::SkStorage, 4, layout::Binding::SIZE),
    shape(bound::STORAGES, MapType::ArrayOfMaps, 4, 4),
    shape(bound::NUMBERS, MapType::Hash, layout::BoundKey::SIZE, 4),
];

const fn shape(name: &'static str, kind: MapType, key: usize, value: usize) -> Shape {
    Shape { name, kind, key, value }
}

/// So many storages of socket bindings are moved at a time: each is a descriptor.
const STORAGES: usize = 256;

/// The folder of the pins.
pub(super) struct Pins<'a> {
    pub(super) folder: &'a Path,
    pub(super) sizes: MapSizes,
}

impl Pins<'_> {
    /// Whether every map is there.
    pub(super) fn are_complete(&self) -> bool {
        SHAPES.iter().all(|shape| self.folder.join(shape.name).exists())
    }

    /// A pinned map.
    pub(super) fn open(&self, name: &'static str) -> Result<MapData, DatapathError> {
        MapData::from_pin(self.folder.join(name)).map_err(trouble("open", name))
    }

    /// Sets aside the maps that are not what they have to be, and takes away those that no program has any more.
    pub(super) fn set_aside(&self) -> Result<(), DatapathError> {
        let entries = fs::read_dir(self.folder).map_err(|error| self.sys("readdir", error))?;
        for entry in entries {
            let name = entry.map_err(|error| self.sys("readdir", error))?.file_name();
            let known = |shape: &Shape| name == *shape.name || name == *aside(shape.name);
            if !SHAPES.iter().any(known) {
                self.remove(&self.folder.join(&name))?;
            }
        }
        for shape in SHAPES {
            let path = self.folder.join(shape.name);
            if !path.exists() || self.fits(shape, &self.open(shape.name)?, true)? {
                continue;
            }
            let aside = self.folder.join(aside(shape.name));
            if aside.exists() {
                // An earlier move was interrupted: what is set aside is whole, and this is not.
                self.remove(&path)?;
            } else {
                fs::rename(&path, &aside).map_err(|error| self.sys("rename", error))?;
            }
        }
        Ok(())
    }

    /// Moves what maps that were set aside held into the new ones. Whether bindings of sockets could not be moved.
    pub(super) fn bring_back(&self) -> Result<bool, DatapathError> {
        let mut lost = false;
        for shape in SHAPES {
            let aside = self.folder.join(aside(shape.name));
            if !aside.exists() {
                continue;
            }
            let old = MapData::from_pin(&aside).map_err(trouble("open", shape.name))?;
            let bindings = [bound::KIND, bound::STORAGES, bound::NUMBERS].contains(&shape.name);
            if self.fits(shape, &old, false)? {
                lost |= self.carry(shape.name, old)?;
            } else {
                lost |= bindings;
            }
            tracing::warn!(map = shape.name, "made anew: its shape is another version's or configuration's");
        }
        // Only now: the numbers of bindings and the storages they refer to go together.
        for shape in SHAPES {
            self.remove(&self.folder.join(aside(shape.name)))?;
        }
        Ok(lost)
    }

    fn fits(&self, shape: Shape, map: &MapData, sized: bool) -> Result<bool, DatapathError> {
        let described = trouble("describe", shape.name);
        let info = map.info().map_err(&described)?;
        let found = (info.map_type().map_err(&described)?, info.key_size(), info.value_size());
        let size = self.sizes.of(shape.name).is_none_or(|(size, _)| size == info.max_entries());
        Ok(found == (shape.kind, shape.key as u32, shape.value as u32) && (size || !sized))
    }

    /// Whether bindings of sockets were lost.
    fn carry(&self, name: &'static str, old: MapData) -> Result<bool, DatapathError> {
        match name {
            ENDPOINTS => self.copy::<{ layout::Address::SIZE }, { layout::Endpoint::SIZE }>(name, old)?,
            SERVICES => self.copy::<{ layout::ServiceKey::SIZE }, { layout::Service::SIZE }>(name, old)?,
            BACKENDS => self.copy::<{ layout::BackendKey::SIZE }, { layout::Backend::SIZE }>(name, old)?,
            bound::NUMBERS => self.copy::<{ layout::BoundKey::SIZE }, 4>(name, old)?,
            COUNTERS => self.copy_counters::<{ layout::Counters::SIZE }>(name, old)?,
            SERVICE_COUNTERS => self.copy_counters::<{ layout::ServiceCounters::SIZE }>(name, old)?,
            bound::STORAGES => return self.copy_storages(name, &old),
            _ => {}
        }
        Ok(false)
    }

    fn copy<const K: usize, const V: usize>(
        &self,
        name: &'static str,
        old: MapData,
    ) -> Result<(), DatapathError> {
        let old: HashMap<_, [u8; K], [u8; V]> = typed(name, old)?;
        let mut new: HashMap<_, [u8; K], [u8; V]> = typed(name, self.open(name)?)?;
        for entry in old.iter() {
            let (key, value) = entry.map_err(trouble("read", name))?;
            put(&mut new, name, self.sizes, key, value)?;
        }
        Ok(())
    }

    fn copy_counters<const V: usize>(&self, name: &'static str, old: MapData) -> Result<(), DatapathError> {
        let old: PerCpuArray<_, [u8; V]> = typed(name, old)?;
        let mut new: PerCpuArray<_, [u8; V]> = typed(name, self.open(name)?)?;
        for index in 0..old.len().min(new.len()) {
            let value = old.get(&index, 0).map_err(trouble("read", name))?;
            if value.iter().any(|of_cpu| of_cpu.iter().any(|byte| *byte != 0)) {
                new.set(index, value, 0).map_err(trouble("write", name))?;
            }
        }
        Ok(())
    }

    /// Whether some did not fit.
    fn copy_storages(&self, name: &'static str, old: &MapData) -> Result<bool, DatapathError> {
        let new = self.open(name)?;
        let size = new.info().map_err(trouble("describe", name))?.max_entries();
        let failed = |error| self.sys("moving the storages of socket bindings", error);
        let mut storages = Vec::new();
        let mut first = 0;
        for index in 0.. {
            // They are numbered without gaps.
            let storage = bpf::map_at(old.fd().as_fd(), index).map_err(failed)?;
            if storage.is_none() || index == size || storages.len() == STORAGES {
                bpf::set_maps(new.fd().as_fd(), first, &storages).map_err(failed)?;
                storages.clear();
                first = index;
            }
            match storage {
                None => break,
                Some(_) if index == size => return Ok(true),
                Some(id) => storages.push(bpf::map_by_id(id).map_err(failed)?),
            }
        }
        Ok(false)
    }

    fn remove(&self, path: &Path) -> Result<(), DatapathError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.sys("unlink", error)),
            _ => Ok(()),
        }
    }

    fn sys(&self, call: &'static str, error: io::Error) -> DatapathError {
        DatapathError::sys(call, self.folder.display().to_string(), error)
    }
}

/// Where a map is pinned until another has what it held. A bpf filesystem takes no names with a dot.
fn aside(name: &str) -> PathBuf {
    format!("{name}-old").into()
}

fn trouble(action: &'static str, map: &'static str) -> impl Fn(MapError) -> DatapathError {
    move |source| DatapathError::Map { action, map, source }
}

/// A map as what it is.
pub(super) fn typed<T: TryFrom<Map, Error = MapError>>(
    name: &'static str,
    map: MapData,
) -> Result<T, DatapathError> {
    Map::from_map_data(map).and_then(T::try_from).map_err(trouble("open", name))
}
