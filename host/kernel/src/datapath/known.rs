//! What the table of services has, as it is remembered.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
};

use netloom_core::model::Protocol;
use netloom_ebpf::layout;

use super::{
    DatapathError,
    tables::{Table, all},
};
use crate::maps::{MapSizes, SERVICES};

pub(super) type Key = [u8; layout::ServiceKey::SIZE];

/// What the table of services has, by the services' numbers.
#[derive(Default)]
pub(super) struct Known {
    pub(super) services: BTreeMap<u32, Entry>,
    /// Elements of the counters that no service has.
    pub(super) free: Vec<u32>,
}

#[derive(Clone, Default)]
pub(super) struct Entry {
    pub(super) keys: Vec<Key>,
    /// Slots.
    pub(super) count: u32,
    /// Its element of the counters.
    pub(super) counters: u32,
}

impl Entry {
    pub(super) fn keys(&self) -> impl Iterator<Item = layout::ServiceKey> {
        self.keys.iter().map(|key| layout::ServiceKey::from_bytes(*key))
    }

    pub(super) fn vips(&self) -> Vec<SocketAddr> {
        let mut vips: Vec<_> = self.keys().map(|key| key.vip_address()).collect();
        vips.sort_unstable();
        vips
    }

    pub(super) fn protocol(&self) -> Option<Protocol> {
        self.keys().next().and_then(|key| Protocol::from_number(key.protocol))
    }
}

impl Known {
    pub(super) fn of(
        table: &Table<{ layout::ServiceKey::SIZE }, { layout::Service::SIZE }>,
        sizes: MapSizes,
    ) -> Result<Self, DatapathError> {
        let mut services: BTreeMap<u32, Entry> = BTreeMap::new();
        for (key, value) in all(table, SERVICES)? {
            let service = layout::Service::from_bytes(value);
            let entry = services.entry(service.id).or_default();
            entry.keys.push(key);
            entry.count = entry.count.max(service.count);
            entry.counters = service.counters;
        }
        let used: HashSet<u32> = services.values().map(|entry| entry.counters).collect();
        let free = (1..=sizes.services).rev().filter(|index| !used.contains(index)).collect();
        Ok(Self { services, free })
    }
}
