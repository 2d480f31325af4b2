//! The maps that are open.

use std::{fs, path::Path};

use aya::maps::{Array, LpmTrie, MapData, PerCpuArray};
use netloom_ebpf::layout;

use super::{
    DatapathError,
    known::Known,
    loader::Loader,
    pins::{Pins, typed},
    tables::Table,
};
use crate::{
    bindings::Numbering,
    maps::{
        BACKENDS, COUNTERS, ENDPOINTS, EVENT_RATE, MONITOR, MapSizes, NATIVE, NODE, OWN_ADDRESSES,
        SERVICE_COUNTERS, SERVICES, UNTRANSLATED,
    },
    mounts,
};

/// The objects, as errors call them.
pub(super) const DATAPATH_OBJECT: &str = "datapath.bpf.o";
pub(super) const UPLINK_OBJECT: &str = "uplink.bpf.o";
pub(super) const SOCKLB_OBJECT: &str = "socklb.bpf.o";

/// The maps that user space reads and writes, as byte arrays: see [`layout`].
pub(super) struct Maps {
    pub(super) endpoints: Table<{ layout::Address::SIZE }, { layout::Endpoint::SIZE }>,
    pub(super) counters: PerCpuArray<MapData, [u8; layout::Counters::SIZE]>,
    pub(super) node: Array<MapData, [u8; layout::Node::SIZE]>,
    /// Keys are the addresses of [`layout::Prefix`].
    pub(super) native: LpmTrie<MapData, [u8; layout::Address::SIZE], u32>,
    pub(super) own_addresses: Table<{ layout::Address::SIZE }, 4>,
    pub(super) services: Table<{ layout::ServiceKey::SIZE }, { layout::Service::SIZE }>,
    pub(super) backends: Table<{ layout::BackendKey::SIZE }, { layout::Backend::SIZE }>,
    pub(super) service_counters: PerCpuArray<MapData, [u8; layout::ServiceCounters::SIZE]>,
    /// Keys are namespaces' cookies.
    pub(super) untranslated: Table<8, 4>,
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
        native: typed(NATIVE, pins.open(NATIVE)?)?,
        own_addresses: typed(OWN_ADDRESSES, pins.open(OWN_ADDRESSES)?)?,
        endpoints: typed(ENDPOINTS, endpoints)?,
        counters: typed(COUNTERS, counters)?,
        untranslated: typed(UNTRANSLATED, pins.open(UNTRANSLATED)?)?,
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
