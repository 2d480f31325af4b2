//! The datapath's maps: their names, and how much they hold.

use netloom_ebpf::bound;

pub(crate) const ENDPOINTS: &str = "nl_endpoints";
pub(crate) const COUNTERS: &str = "nl_counters";
pub(crate) const NODE: &str = "nl_node";
pub(crate) const NATIVE: &str = "nl_native";
pub(crate) const OWN_ADDRESSES: &str = "nl_own_addresses";
pub(crate) const ROUTES: &str = "nl_routes";
pub(crate) const SERVICES: &str = "nl_services";
pub(crate) const BACKENDS: &str = "nl_backends";
pub(crate) const SERVICE_COUNTERS: &str = "nl_service_counters";
pub(crate) const AFFINITIES: &str = "nl_affinities";
pub(crate) const FLOWS: &str = "nl_flows";
pub(crate) const EXCHANGES: &str = "nl_exchanges";
pub(crate) const UNTRANSLATED: &str = "nl_untranslated";
pub(crate) const LOCAL_FLOWS: &str = "nl_local_flows";
pub(crate) const EVENTS: &str = "nl_events";
pub(crate) const MONITOR: &str = "nl_monitor";
pub(crate) const EVENT_RATE: &str = "nl_event_rate";

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
    /// Answers awaited by UDP sockets that asked more services than each remembers: `datapath.max_udp_exchanges`.
    pub udp_exchanges: u32,
    /// Directions of flows between endpoints that are known while the node's stack translates:
    /// `datapath.max_local_flows`.
    pub local_flows: u32,
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            endpoints: 4_096,
            services: 16_384,
            backends: 131_072,
            affinities: 65_536,
            udp_exchanges: 65_536,
            local_flows: 32_768,
        }
    }
}

impl MapSizes {
    /// Addresses an endpoint has on average.
    const ADDRESSES: u32 = 4;

    /// A map's size and the configuration's key of it; none for maps whose size is fixed.
    pub(crate) fn of(self, map: &str) -> Option<(u32, &'static str)> {
        match map {
            ENDPOINTS => Some((self.endpoints.saturating_mul(Self::ADDRESSES), "datapath.max_endpoints")),
            COUNTERS | UNTRANSLATED => Some((self.endpoints, "datapath.max_endpoints")),
            SERVICES => Some((self.services, "datapath.max_services")),
            // One more, for services that are gone.
            SERVICE_COUNTERS => Some((self.services.saturating_add(1), "datapath.max_services")),
            BACKENDS | bound::STORAGES => Some((self.backends, "datapath.max_backends")),
            // Also of backends that are gone, and have sockets yet.
            bound::NUMBERS => Some((self.backends.saturating_mul(2), "datapath.max_backends")),
            AFFINITIES => Some((self.affinities, "datapath.max_affinities")),
            EXCHANGES => Some((self.udp_exchanges, "datapath.max_udp_exchanges")),
            LOCAL_FLOWS => Some((self.local_flows, "datapath.max_local_flows")),
            _ => None,
        }
    }

    /// The maps whose size is configured.
    pub(crate) fn all(self) -> impl Iterator<Item = (&'static str, u32)> {
        let sized = [
            ENDPOINTS,
            COUNTERS,
            SERVICES,
            SERVICE_COUNTERS,
            BACKENDS,
            AFFINITIES,
            EXCHANGES,
            UNTRANSLATED,
            LOCAL_FLOWS,
        ];
        sized
            .into_iter()
            .chain([bound::STORAGES, bound::NUMBERS])
            .filter_map(move |map| self.of(map).map(|(size, _)| (map, size)))
    }
}
