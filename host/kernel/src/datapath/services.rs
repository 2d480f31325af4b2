use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use netloom_core::model::{Protocol, Service, ServiceId, canonical};
use netloom_ebpf::layout;

use super::{
    Datapath, DatapathError, MapSizes,
    maps::{BACKENDS, Maps, SERVICES, all, delete, get, put},
};

/// A service as the datapath has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its number.
    pub id: ServiceId,
    /// The virtual address.
    pub vip: SocketAddr,
    /// Over what.
    pub protocol: Protocol,
    /// Where its new connections go, in no particular order; one with a larger weight several times.
    pub backends: Vec<SocketAddr>,
}

impl Datapath {
    /// Makes a service, or changes the backends and weights of the one with this number. Connects meanwhile see
    /// backends of before or after, never anything else; a backend that stays, stays in its slot as far as possible,
    /// and with it the exchanges of unconnected UDP sockets.
    ///
    /// To change the virtual address or the protocol, remove the service first.
    ///
    /// # Errors
    /// [`DatapathError::VipTaken`], [`DatapathError::Family`], [`DatapathError::Full`]. After an error the service is
    /// as before, but that some of the new backends may be in the place of some that were to go.
    pub fn set_service(&self, id: ServiceId, service: &Service) -> Result<(), DatapathError> {
        let service = service.clone().canonical();
        let vip = service.vip;
        if let Some(&backend) = service.backends.iter().find(|backend| backend.is_ipv4() != vip.is_ipv4()) {
            return Err(DatapathError::Family { vip, backend });
        }
        let wanted = service.choices();
        let mut maps = self.maps();
        // Those that get no new connections as well: their clients of before go on seeing the service.
        let bound: Vec<_> = service.backends.iter().map(|backend| (*backend, service.protocol)).collect();
        self.numbering().number(&bound)?;
        let key = layout::ServiceKey::new(vip, service.protocol.number()).to_bytes();
        let present = maps.service(&key)?;
        if let Some(owner) = present.map(|present| present.id).filter(|owner| *owner != id.0) {
            return Err(DatapathError::VipTaken { vip, protocol: service.protocol, owner });
        }
        let old_count = present.map_or(0, |present| present.count);
        let old: Vec<_> =
            (0..old_count).map(|slot| maps.backend(id, slot)).collect::<Result<_, DatapathError>>()?;
        let slots = arrange(&old, &wanted);

        // First the backends, then the count that makes them visible, then what it has made invisible.
        let mut result = Ok(());
        for (slot, backend) in (0..).zip(&slots) {
            if old.get(slot as usize) != Some(&Some(*backend)) {
                result = result.and_then(|()| maps.put_backend(self.sizes, id, slot, *backend));
            }
        }
        let count = slots.len() as u32;
        let result = result.and_then(|()| {
            let value = layout::Service { id: id.0, count }.to_bytes();
            put(&mut maps.services, SERVICES, self.sizes, key, value)
        });
        let visible = if result.is_ok() { count } else { old_count };
        for slot in visible..old_count.max(count) {
            maps.delete_backend(id, slot)?;
        }
        result
    }

    /// Removes a service. Connects to its address go to the address itself from now on.
    ///
    /// # Errors
    /// [`DatapathError::Map`]. It is none if there is no such service.
    pub fn remove_service(
        &self,
        id: ServiceId,
        vip: SocketAddr,
        protocol: Protocol,
    ) -> Result<(), DatapathError> {
        let mut maps = self.maps();
        let key = layout::ServiceKey::new(canonical(vip), protocol.number()).to_bytes();
        let Some(present) = maps.service(&key)?.filter(|present| present.id == id.0) else {
            return Ok(());
        };
        delete(&mut maps.services, SERVICES, &key)?;
        for slot in 0..present.count {
            maps.delete_backend(id, slot)?;
        }
        Ok(())
    }

    /// Every service, in the order of their numbers: what an earlier daemon left behind can be told from it.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn services(&self) -> Result<Vec<ServiceEntry>, DatapathError> {
        let maps = self.maps();
        let mut entries = Vec::new();
        for (key, value) in all(&maps.services, SERVICES)? {
            let (key, service) = (layout::ServiceKey::from_bytes(key), layout::Service::from_bytes(value));
            let id = ServiceId(service.id);
            let Some(protocol) = Protocol::from_number(key.protocol) else { continue };
            let slots = (0..service.count).map(|slot| maps.backend(id, slot));
            let backends = slots.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
            entries.push(ServiceEntry { id, vip: key.vip_address(), protocol, backends });
        }
        entries.sort_unstable_by_key(|entry| entry.id);
        Ok(entries)
    }
}

/// Removes backends that no service can choose: an interrupted change leaves them.
pub(super) fn sweep(maps: &mut Maps) -> Result<(), DatapathError> {
    let counts: HashMap<u32, u32> = all(&maps.services, SERVICES)?
        .into_iter()
        .map(|(_, value)| layout::Service::from_bytes(value))
        .map(|service| (service.id, service.count))
        .collect();
    for (bytes, _) in all(&maps.backends, BACKENDS)? {
        let key = layout::BackendKey::from_bytes(bytes);
        if counts.get(&key.service).is_none_or(|count| key.slot >= *count) {
            delete(&mut maps.backends, BACKENDS, &bytes)?;
        }
    }
    Ok(())
}

/// The wanted backends in slots, each as often as it is wanted: those that are there already in their own, if there are
/// still such slots.
fn arrange(old: &[Option<SocketAddr>], wanted: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut left: HashMap<SocketAddr, usize> = HashMap::new();
    for backend in wanted {
        *left.entry(*backend).or_default() += 1;
    }
    let mut take = |backend: &SocketAddr| match left.get_mut(backend) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    };
    let kept = old.iter().take(wanted.len()).map(|backend| backend.filter(&mut take));
    let mut slots: Vec<_> = kept.collect();
    slots.resize(wanted.len(), None);
    let mut rest = wanted.iter().copied().filter(take);
    slots.into_iter().filter_map(|slot| slot.or_else(|| rest.next())).collect()
}

impl Maps {
    fn service(
        &self,
        key: &[u8; layout::ServiceKey::SIZE],
    ) -> Result<Option<layout::Service>, DatapathError> {
        Ok(get(&self.services, SERVICES, key)?.map(layout::Service::from_bytes))
    }

    fn backend(&self, id: ServiceId, slot: u32) -> Result<Option<SocketAddr>, DatapathError> {
        let backend = get(&self.backends, BACKENDS, &slot_key(id, slot))?;
        Ok(backend.map(|bytes| layout::Backend::from_bytes(bytes).socket_address()))
    }

    /// The backends of all services.
    pub(super) fn all_backends(&self) -> Result<HashSet<(SocketAddr, Protocol)>, DatapathError> {
        let mut backends = HashSet::new();
        for (key, value) in all(&self.services, SERVICES)? {
            let service = layout::Service::from_bytes(value);
            let protocol = layout::ServiceKey::from_bytes(key).protocol;
            let Some(protocol) = Protocol::from_number(protocol) else { continue };
            for slot in 0..service.count {
                backends
                    .extend(self.backend(ServiceId(service.id), slot)?.map(|address| (address, protocol)));
            }
        }
        Ok(backends)
    }

    fn put_backend(
        &mut self,
        sizes: MapSizes,
        id: ServiceId,
        slot: u32,
        backend: SocketAddr,
    ) -> Result<(), DatapathError> {
        let value = layout::Backend::new(backend, id.0).to_bytes();
        put(&mut self.backends, BACKENDS, sizes, slot_key(id, slot), value)
    }

    fn delete_backend(&mut self, id: ServiceId, slot: u32) -> Result<(), DatapathError> {
        delete(&mut self.backends, BACKENDS, &slot_key(id, slot))
    }
}

fn slot_key(id: ServiceId, slot: u32) -> [u8; layout::BackendKey::SIZE] {
    layout::BackendKey { service: id.0, slot }.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|&port| SocketAddr::from(([10, 0, 0, 1], port))).collect()
    }

    fn ports(old: &[u16], wanted: &[u16]) -> Vec<u16> {
        let old: Vec<_> = backends(old).into_iter().map(Some).collect();
        arrange(&old, &backends(wanted)).into_iter().map(|backend| backend.port()).collect()
    }

    #[test]
    fn backends_that_stay_keep_their_slots() {
        assert_eq!(ports(&[1, 2, 3], &[3, 2, 1]), [1, 2, 3]);
        assert_eq!(ports(&[1, 2, 3], &[1, 3]), [1, 3]);
        assert_eq!(ports(&[1, 2, 3, 4], &[2, 3, 4]), [4, 2, 3]);
        assert_eq!(ports(&[1, 2, 3], &[1, 9, 3]), [1, 9, 3]);
        assert_eq!(ports(&[1, 2], &[5, 2, 1, 6]), [1, 2, 5, 6]);
        assert_eq!(ports(&[1, 2], &[]), [0u16; 0]);
        assert_eq!(ports(&[], &[1]), [1]);
    }

    #[test]
    fn a_backend_has_as_many_slots_as_it_is_wanted() {
        assert_eq!(ports(&[1, 2], &[1, 1, 1, 2]), [1, 2, 1, 1]);
        assert_eq!(ports(&[1, 2, 1, 1], &[1, 2]), [1, 2]);
        assert_eq!(ports(&[1, 1, 1, 2], &[1, 2, 2]), [1, 2, 2]);
        assert_eq!(ports(&[1, 1, 2], &[2]), [2]);
    }

    #[test]
    fn an_empty_slot_is_filled() {
        let old = [None, Some(SocketAddr::from(([10, 0, 0, 1], 2)))];
        assert_eq!(arrange(&old, &backends(&[1, 2])), backends(&[1, 2]));
    }
}
