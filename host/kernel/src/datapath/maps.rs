use std::{fs, path::Path};

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use netloom_ebpf::{bound, layout};

use super::{
    DatapathError,
    loader::Loader,
    pins::{Pins, typed},
    services::Known,
};
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
    /// Clients whose backend is remembered, over all services with an affinity: `datapath.max_affinities`.
    pub affinities: u32,
}

impl Default for MapSizes {
    fn default() -> Self {
        Self { endpoints: 4_096, services: 16_384, backends: 131_072, affinities: 65_536 }
    }
}

impl MapSizes {
    /// Addresses an endpoint has on average.
    const ADDRESSES: u32 = 4;

    /// A map's size and the configuration's key of it; none for maps whose size is fixed.
    pub(crate) fn of(self, map: &str) -> Option<(u32, &'static str)> {
        match map {
            ENDPOINTS => Some((self.endpoints.saturating_mul(Self::ADDRESSES), "datapath.max_endpoints")),
            COUNTERS => Some((self.endpoints, "datapath.max_endpoints")),
            SERVICES => Some((self.services, "datapath.max_services")),
            // One more, for services that are gone.
            SERVICE_COUNTERS => Some((self.services.saturating_add(1), "datapath.max_services")),
            BACKENDS | bound::STORAGES => Some((self.backends, "datapath.max_backends")),
            // Also of backends that are gone, and have sockets yet.
            bound::NUMBERS => Some((self.backends.saturating_mul(2), "datapath.max_backends")),
            AFFINITIES => Some((self.affinities, "datapath.max_affinities")),
            _ => None,
        }
    }

    /// The maps whose size is configured.
    pub(super) fn all(self) -> impl Iterator<Item = (&'static str, u32)> {
        let sized = [ENDPOINTS, COUNTERS, SERVICES, SERVICE_COUNTERS, BACKENDS, AFFINITIES];
        sized
            .into_iter()
            .chain([bound::STORAGES, bound::NUMBERS])
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
pub(super) const ROUTES: &str = "nl_routes";
pub(super) const SERVICES: &str = "nl_services";
pub(super) const BACKENDS: &str = "nl_backends";
pub(super) const SERVICE_COUNTERS: &str = "nl_service_counters";
pub(super) const AFFINITIES: &str = "nl_affinities";
pub(super) const FLOWS: &str = "nl_flows";
pub(super) const EVENTS: &str = "nl_events";
pub(super) const MONITOR: &str = "nl_monitor";
pub(super) const EVENT_RATE: &str = "nl_event_rate";

pub(super) type Table<const K: usize, const V: usize> = HashMap<MapData, [u8; K], [u8; V]>;

/// Keys and values.
pub(super) type Entries<const K: usize, const V: usize> = Vec<([u8; K], [u8; V])>;

/// The maps that user space reads and writes, as byte arrays: see [`layout`].
pub(super) struct Maps {
    pub(super) endpoints: Table<{ layout::Address::SIZE }, { layout::Endpoint::SIZE }>,
    pub(super) counters: PerCpuArray<MapData, [u8; layout::Counters::SIZE]>,
    pub(super) node: Array<MapData, [u8; layout::Node::SIZE]>,
    pub(super) services: Table<{ layout::ServiceKey::SIZE }, { layout::Service::SIZE }>,
    pub(super) backends: Table<{ layout::BackendKey::SIZE }, { layout::Backend::SIZE }>,
    pub(super) service_counters: PerCpuArray<MapData, [u8; layout::ServiceCounters::SIZE]>,
    /// What `services` has.
    pub(super) known: Known,
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

/// Opens the maps pinned in a folder, making those that are missing. Whether bindings of sockets were lost.
pub(super) fn open(
    folder: &Path,
    sizes: MapSizes,
    loader: &Loader,
) -> Result<(Maps, Numbering, bool), DatapathError> {
    fs::create_dir_all(folder)
        .map_err(|source| DatapathError::sys("mkdir", folder.display().to_string(), source))?;
    if !mounts::is_bpffs(folder) {
        return Err(DatapathError::NotBpffs { path: folder.to_owned() });
    }
    let pins = Pins { folder, sizes };
    pins.set_aside()?;
    if !pins.are_complete() {
        // Loading makes and pins what is missing, and takes what is there as it is.
        loader.load(DATAPATH_OBJECT, netloom_ebpf::DATAPATH)?;
        loader.load(SOCKLB_OBJECT, netloom_ebpf::SOCKLB)?;
    }
    let lost = pins.bring_back()?;

    let endpoints = pins.open(ENDPOINTS)?;
    let counters = pins.open(COUNTERS)?;
    let node = pins.open(NODE)?;
    let monitor = pins.open(MONITOR)?;
    let services = typed(SERVICES, pins.open(SERVICES)?)?;
    let numbering = Numbering::open(folder)?;
    let maps = Maps {
        endpoints_id: id(ENDPOINTS, &endpoints)?,
        counters_id: id(COUNTERS, &counters)?,
        node_id: id(NODE, &node)?,
        monitor_id: id(MONITOR, &monitor)?,
        monitor: typed(MONITOR, monitor)?,
        event_rate: typed(EVENT_RATE, pins.open(EVENT_RATE)?)?,
        node: typed(NODE, node)?,
        endpoints: typed(ENDPOINTS, endpoints)?,
        counters: typed(COUNTERS, counters)?,
        known: Known::of(&services, sizes)?,
        services,
        backends: typed(BACKENDS, pins.open(BACKENDS)?)?,
        service_counters: typed(SERVICE_COUNTERS, pins.open(SERVICE_COUNTERS)?)?,
    };
    Ok((maps, numbering, lost))
}

/// The kernel's id of a map.
fn id(name: &'static str, map: &MapData) -> Result<u32, DatapathError> {
    Ok(map.info().map_err(|source| DatapathError::Map { action: "describe", map: name, source })?.id())
}
