use std::{fs, path::Path};

use aya::maps::{Array, HashMap, Map, MapData, MapError, MapType, PerCpuArray};
use netloom_ebpf::{bound, layout};

use super::{DatapathError, loader::Loader};
use crate::{bindings::Numbering, mounts};

/// How much the maps hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Endpoints: `datapath.max_endpoints`. Their numbers are smaller than this.
    pub endpoints: u32,
    /// Services: `datapath.max_services`.
    pub services: u32,
    /// Backends of all services together: `datapath.max_backends`.
    pub backends: u32,
}

impl Default for MapSizes {
    fn default() -> Self {
        Self { endpoints: 4_096, services: 16_384, backends: 131_072 }
    }
}

impl MapSizes {
    /// Addresses an endpoint has on average.
    const ADDRESSES: u32 = 4;

    /// A map's size and the configuration's key of it; none for maps whose size is fixed.
    fn of(self, map: &str) -> Option<(u32, &'static str)> {
        match map {
            ENDPOINTS => Some((self.endpoints.saturating_mul(Self::ADDRESSES), "datapath.max_endpoints")),
            COUNTERS => Some((self.endpoints, "datapath.max_endpoints")),
            SERVICES => Some((self.services, "datapath.max_services")),
            BACKENDS => Some((self.backends, "datapath.max_backends")),
            _ => None,
        }
    }

    /// The maps whose size is configured.
    pub(super) fn all(self) -> impl Iterator<Item = (&'static str, u32)> {
        [ENDPOINTS, COUNTERS, SERVICES, BACKENDS]
            .into_iter()
            .filter_map(move |map| self.of(map).map(|(size, _)| (map, size)))
    }

    pub(super) fn full(self, map: &'static str) -> DatapathError {
        let (size, key) = self.of(map).unwrap_or((0, "datapath"));
        DatapathError::Full { map, size, key }
    }
}

/// The objects, as errors call them.
pub(super) const DATAPATH_OBJECT: &str = "datapath.bpf.o";
pub(super) const UPLINK_OBJECT: &str = "uplink.bpf.o";
pub(super) const SOCKLB_OBJECT: &str = "socklb.bpf.o";

pub(super) const ENDPOINTS: &str = "nl_endpoints";
pub(super) const COUNTERS: &str = "nl_counters";
pub(super) const NODE: &str = "nl_node";
const ROUTES: &str = "nl_routes";
pub(super) const SERVICES: &str = "nl_services";
pub(super) const BACKENDS: &str = "nl_backends";
pub(super) const LB_COUNTERS: &str = "nl_lb_counters";
const FLOWS: &str = "nl_flows";
pub(super) const EVENTS: &str = "nl_events";
pub(super) const MONITOR: &str = "nl_monitor";
pub(super) const EVENT_RATE: &str = "nl_event_rate";

type Table<const K: usize, const V: usize> = HashMap<MapData, [u8; K], [u8; V]>;

/// Keys and values.
pub(super) type Entries<const K: usize, const V: usize> = Vec<([u8; K], [u8; V])>;

/// The maps that user space reads and writes, as byte arrays: see [`layout`].
pub(super) struct Maps {
    pub(super) endpoints: Table<{ layout::Address::SIZE }, { layout::Endpoint::SIZE }>,
    pub(super) counters: PerCpuArray<MapData, [u8; layout::Counters::SIZE]>,
    pub(super) node: Array<MapData, [u8; layout::Node::SIZE]>,
    pub(super) services: Table<{ layout::ServiceKey::SIZE }, { layout::Service::SIZE }>,
    pub(super) backends: Table<{ layout::BackendKey::SIZE }, { layout::Backend::SIZE }>,
    pub(super) lb_counters: PerCpuArray<MapData, [u8; layout::LbCounters::SIZE]>,
    pub(super) monitor: Array<MapData, [u8; layout::Monitor::SIZE]>,
    pub(super) event_rate: PerCpuArray<MapData, [u8; layout::EventRate::SIZE]>,
    /// The kernel's id of `endpoints`.
    pub(super) endpoints_id: u32,
    /// The kernel's id of `counters`.
    pub(super) counters_id: u32,
    /// The kernel's id of `node`.
    pub(super) node_id: u32,
    /// The kernel's id of `monitor`.
    pub(super) monitor_id: u32,
}

/// Reads one element, none if there is none.
pub(super) fn get<const K: usize, const V: usize>(
    table: &Table<K, V>,
    name: &'static str,
    key: &[u8; K],
) -> Result<Option<[u8; V]>, DatapathError> {
    match table.get(key, 0) {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(source) => Err(DatapathError::Map { action: "read", map: name, source }),
    }
}

/// Writes one element.
pub(super) fn put<const K: usize, const V: usize>(
    table: &mut Table<K, V>,
    name: &'static str,
    sizes: MapSizes,
    key: [u8; K],
    value: [u8; V],
) -> Result<(), DatapathError> {
    table.insert(key, value, 0).map_err(|source| match source {
        MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
            sizes.full(name)
        }
        source => DatapathError::Map { action: "write", map: name, source },
    })
}

/// Removes one element, if it is there.
pub(super) fn delete<const K: usize, const V: usize>(
    table: &mut Table<K, V>,
    name: &'static str,
    key: &[u8; K],
) -> Result<(), DatapathError> {
    match table.remove(key) {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(source) => Err(DatapathError::Map { action: "remove from", map: name, source }),
    }
}

/// Everything in a table.
pub(super) fn all<const K: usize, const V: usize>(
    table: &Table<K, V>,
    name: &'static str,
) -> Result<Entries<K, V>, DatapathError> {
    let entries = table.iter().collect::<Result<_, _>>();
    entries.map_err(|source| DatapathError::Map { action: "read", map: name, source })
}

/// Opens the maps pinned in a folder, making those that are missing.
pub(super) fn open(
    folder: &Path,
    sizes: MapSizes,
    loader: &Loader,
) -> Result<(Maps, Numbering), DatapathError> {
    fs::create_dir_all(folder)
        .map_err(|source| DatapathError::sys("mkdir", folder.display().to_string(), source))?;
    if !mounts::is_bpffs(folder) {
        return Err(DatapathError::NotBpffs { path: folder.to_owned() });
    }
    // Loading makes and pins what is missing; what is there already is taken as it is, hence the checks below.
    loader.load(DATAPATH_OBJECT, netloom_ebpf::DATAPATH)?;
    loader.load(SOCKLB_OBJECT, netloom_ebpf::SOCKLB)?;

    let pins = Pins { folder, sizes };
    let endpoints = pins.open(ENDPOINTS, MapType::Hash, layout::Address::SIZE, layout::Endpoint::SIZE)?;
    let counters = pins.open(COUNTERS, MapType::PerCpuArray, 4, layout::Counters::SIZE)?;
    let node = pins.open(NODE, MapType::Array, 4, layout::Node::SIZE)?;
    pins.open(ROUTES, MapType::PerCpuArray, 4, layout::Route::SIZE)?;
    let services = pins.open(SERVICES, MapType::Hash, layout::ServiceKey::SIZE, layout::Service::SIZE)?;
    let backends = pins.open(BACKENDS, MapType::Hash, layout::BackendKey::SIZE, layout::Backend::SIZE)?;
    let lb_counters = pins.open(LB_COUNTERS, MapType::PerCpuArray, 4, layout::LbCounters::SIZE)?;
    pins.open(EVENTS, MapType::RingBuf, 0, 0)?;
    let monitor = pins.open(MONITOR, MapType::Array, 4, layout::Monitor::SIZE)?;
    let event_rate = pins.open(EVENT_RATE, MapType::PerCpuArray, 4, layout::EventRate::SIZE)?;
    pins.open(FLOWS, MapType::SkStorage, 4, layout::Flows::SIZE)?;
    pins.open(bound::KIND, MapType::SkStorage, 4, layout::Binding::SIZE)?;
    pins.open(bound::STORAGES, MapType::ArrayOfMaps, 4, 4)?;
    pins.open(bound::NUMBERS, MapType::Hash, layout::BoundKey::SIZE, 4)?;
    let numbering = Numbering::open(folder)?;
    let maps = Maps {
        endpoints_id: id(ENDPOINTS, &endpoints)?,
        counters_id: id(COUNTERS, &counters)?,
        node_id: id(NODE, &node)?,
        monitor_id: id(MONITOR, &monitor)?,
        monitor: typed(MONITOR, monitor)?,
        event_rate: typed(EVENT_RATE, event_rate)?,
        node: typed(NODE, node)?,
        endpoints: typed(ENDPOINTS, endpoints)?,
        counters: typed(COUNTERS, counters)?,
        services: typed(SERVICES, services)?,
        backends: typed(BACKENDS, backends)?,
        lb_counters: typed(LB_COUNTERS, lb_counters)?,
    };
    Ok((maps, numbering))
}

/// The kernel's id of a map.
fn id(name: &'static str, map: &MapData) -> Result<u32, DatapathError> {
    Ok(map.info().map_err(|source| DatapathError::Map { action: "describe", map: name, source })?.id())
}

fn typed<T: TryFrom<Map, Error = MapError>>(name: &'static str, map: MapData) -> Result<T, DatapathError> {
    Map::from_map_data(map).and_then(T::try_from).map_err(|source| DatapathError::Map {
        action: "open",
        map: name,
        source,
    })
}

struct Pins<'a> {
    folder: &'a Path,
    sizes: MapSizes,
}

impl Pins<'_> {
    /// Opens a pinned map and compares it with what this version makes.
    fn open(
        &self,
        name: &'static str,
        kind: MapType,
        key: usize,
        value: usize,
    ) -> Result<MapData, DatapathError> {
        let path = self.folder.join(name);
        let failed = |action| move |source| DatapathError::Map { action, map: name, source };
        let map = MapData::from_pin(&path).map_err(failed("open"))?;
        let info = map.info().map_err(failed("describe"))?;
        let found = (
            info.map_type().map_err(failed("describe"))?,
            info.key_size() as usize,
            info.value_size() as usize,
        );
        if found != (kind, key, value) {
            let describe =
                |(kind, key, value)| format!("type {kind:?}, keys of {key} bytes and values of {value}");
            return Err(DatapathError::Layout {
                path,
                found: describe(found),
                wanted: describe((kind, key, value)),
            });
        }
        match self.sizes.of(name) {
            Some((wanted, key)) if wanted != info.max_entries() => {
                Err(DatapathError::Size { path, found: info.max_entries(), wanted, key })
            }
            _ => Ok(map),
        }
    }
}
