use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use aya::{maps::PerCpuValues, util::nr_cpus};
use netloom_core::model::{Choice, Protocol, Service, ServiceId, canonical};
use netloom_ebpf::layout;

use super::{
    Datapath, DatapathError,
    known::{Entry, Key},
    maps::Maps,
    tables::{all, delete, full, get, put},
};
use crate::maps::{BACKENDS, MapSizes, SERVICE_COUNTERS, SERVICES};

/// A service as the datapath has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its number.
    pub id: ServiceId,
    /// Its addresses, in order.
    pub vips: Vec<SocketAddr>,
    /// Over what.
    pub protocol: Protocol,
    /// Where its new connections go, slot by slot.
    pub backends: Vec<SocketAddr>,
}

/// What the socket-LB counted of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounters {
    /// Connects, and exchanges begun by unconnected UDP sockets, sent to a backend.
    pub connected: u64,
    /// Connects and messages refused because the service has no backend.
    pub refused: u64,
    /// Connects whose binding could not be stored, for want of memory: no reap will find them.
    pub unbound: u64,
}

impl ServiceCounters {
    fn add(self, of_cpu: layout::ServiceCounters) -> Self {
        Self {
            connected: self.connected + of_cpu.connected,
            refused: self.refused + of_cpu.refused,
            unbound: self.unbound + of_cpu.unbound,
        }
    }
}

impl Datapath {
    /// Prepares for services with these backends, which costs less for many at once.
    ///
    /// # Errors
    /// [`DatapathError::Bindings`].
    pub fn expect_backends(&self, services: &[&Service]) -> Result<(), DatapathError> {
        let backends = services.iter().flat_map(|service| {
            service.backends.iter().map(|backend| (canonical(*backend), service.protocol))
        });
        let backends: HashSet<_> = backends.collect();
        Ok(self.numbering().number(&backends.into_iter().collect::<Vec<_>>())?)
    }

    /// Makes a service at its virtual address, or changes the one with this number. See [`Self::set_service_at`].
    ///
    /// # Errors
    /// As there.
    pub fn set_service(&self, id: ServiceId, service: &Service) -> Result<(), DatapathError> {
        self.set_service_at(id, service, &[service.vip])
    }

    /// Makes a service at these addresses, or changes the addresses, backends and weights of the one with this number.
    /// Connects meanwhile see backends of before or after, never anything else; a backend that stays, stays in its
    /// slot as far as possible, and with it the exchanges of unconnected UDP sockets.
    ///
    /// To change the protocol, remove the service first.
    ///
    /// # Errors
    /// [`DatapathError::VipTaken`], [`DatapathError::Family`], [`DatapathError::Full`]. After an error the service is
    /// as before, but that some of the new backends may be in the place of some that were to go.
    pub fn set_service_at(
        &self,
        id: ServiceId,
        service: &Service,
        vips: &[SocketAddr],
    ) -> Result<(), DatapathError> {
        let service = service.clone().canonical();
        let vip = service.vip;
        if let Some(&backend) = service.backends.iter().find(|backend| backend.is_ipv4() != vip.is_ipv4()) {
            return Err(DatapathError::Family { vip, backend });
        }
        let mut maps = self.maps();
        // Those that get no new connections as well: their clients of before go on seeing the service.
        let bound: Vec<_> = service.backends.iter().map(|backend| (*backend, service.protocol)).collect();
        self.numbering().number(&bound)?;
        let mut keys = Vec::new();
        for vip in vips.iter().copied().map(canonical) {
            let key = layout::ServiceKey::new(vip, service.protocol.number()).to_bytes();
            if let Some(owner) = maps.service(&key)?.map(|present| present.id).filter(|owner| *owner != id.0)
            {
                return Err(DatapathError::VipTaken { vip, protocol: service.protocol, owner });
            }
            keys.push(key);
        }
        let old = maps.known.services.get(&id.0).cloned();
        let counters = match &old {
            Some(old) => old.counters,
            None => maps.take_counters(self.sizes)?,
        };
        let result =
            maps.set_service(self.sizes, id, &service, old.as_ref(), Entry { keys, count: 0, counters });
        if result.is_err() && old.is_none() {
            maps.known.free.push(counters);
        }
        result
    }

    /// Removes a service. Connects to its addresses go to the addresses themselves from now on.
    ///
    /// # Errors
    /// [`DatapathError::Map`]. It is none if there is no such service.
    pub fn remove_service(&self, id: ServiceId) -> Result<(), DatapathError> {
        let mut maps = self.maps();
        let Some(entry) = maps.known.services.get(&id.0).cloned() else { return Ok(()) };
        for key in &entry.keys {
            delete(&mut maps.services, SERVICES, key)?;
        }
        for slot in 0..entry.count {
            maps.delete_backend(id, slot)?;
        }
        maps.known.services.remove(&id.0);
        maps.give_counters_back(entry.counters)
    }

    /// Every service, in the order of their numbers: what an earlier daemon left behind can be told from it.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn services(&self) -> Result<Vec<ServiceEntry>, DatapathError> {
        let maps = self.maps();
        let mut services = Vec::new();
        for (id, entry) in &maps.known.services {
            let Some(protocol) = entry.protocol() else { continue };
            let (id, vips) = (ServiceId(*id), entry.vips());
            let slots = (0..entry.count).map(|slot| maps.backend(id, slot));
            let backends = slots.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
            services.push(ServiceEntry { id, vips, protocol, backends });
        }
        Ok(services)
    }

    /// The addresses of a service, in order; none if there is no such service.
    #[must_use]
    pub fn vips(&self, id: ServiceId) -> Vec<SocketAddr> {
        self.maps().known.services.get(&id.0).map(Entry::vips).unwrap_or_default()
    }

    /// What was counted of a service since it was made; none if there is no such service.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn service_counters(&self, id: ServiceId) -> Result<Option<ServiceCounters>, DatapathError> {
        let maps = self.maps();
        maps.known.services.get(&id.0).map(|entry| maps.counted(entry.counters)).transpose()
    }

    /// What was counted of services that are gone.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn gone_service_counters(&self) -> Result<ServiceCounters, DatapathError> {
        self.maps().counted(0)
    }

    /// What was counted of all services, those that are gone included.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn socket_lb_counters(&self) -> Result<ServiceCounters, DatapathError> {
        let maps = self.maps();
        let indexes = maps.known.services.values().map(|entry| entry.counters);
        indexes.chain([0]).try_fold(ServiceCounters::default(), |sum, index| {
            let counted = maps.counted(index)?;
            Ok(ServiceCounters {
                connected: sum.connected + counted.connected,
                refused: sum.refused + counted.refused,
                unbound: sum.unbound + counted.unbound,
            })
        })
    }
}

/// Removes backends that no service can choose: an interrupted change leaves them.
pub(super) fn sweep(maps: &mut Maps) -> Result<(), DatapathError> {
    for (bytes, _) in all(&maps.backends, BACKENDS)? {
        let key = layout::BackendKey::from_bytes(bytes);
        if maps.known.services.get(&key.service).is_none_or(|service| key.slot >= service.count) {
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
    fn set_service(
        &mut self,
        sizes: MapSizes,
        id: ServiceId,
        service: &Service,
        old: Option<&Entry>,
        mut new: Entry,
    ) -> Result<(), DatapathError> {
        let old_count = old.map_or(0, |old| old.count);
        let old_keys = old.map_or(&[][..], |old| &old.keys);
        let present: Vec<_> =
            (0..old_count).map(|slot| self.backend(id, slot)).collect::<Result<_, DatapathError>>()?;
        let wanted = service.choices();
        let slots = match service.choice {
            Choice::Random => arrange(&present, &wanted),
            // Which slot has whom is the point of it.
            Choice::Maglev => wanted,
        };
        new.count = slots.len() as u32;
        let value = layout::Service {
            id: id.0,
            count: new.count,
            counters: new.counters,
            choice: match service.choice {
                Choice::Random => layout::choice::RANDOM,
                Choice::Maglev => layout::choice::HASH,
            },
            affinity: service.affinity_seconds,
        };

        // First the backends, then the count that makes them visible, then what it has made invisible.
        let mut result = Ok(());
        for (slot, backend) in (0..).zip(&slots) {
            if present.get(slot as usize) != Some(&Some(*backend)) {
                result = result.and_then(|()| self.put_backend(sizes, id, slot, *backend));
            }
        }
        let before = match old_keys.first() {
            Some(key) => get(&self.services, SERVICES, key)?,
            None => None,
        };
        for key in &new.keys {
            result = result.and_then(|()| put(&mut self.services, SERVICES, sizes, *key, value.to_bytes()));
        }
        if result.is_err() {
            for key in &new.keys {
                match before.filter(|_| old_keys.contains(key)) {
                    Some(before) => put(&mut self.services, SERVICES, sizes, *key, before)?,
                    None => delete(&mut self.services, SERVICES, key)?,
                }
            }
        } else {
            for key in old_keys.iter().filter(|key| !new.keys.contains(key)) {
                delete(&mut self.services, SERVICES, key)?;
            }
        }
        let visible = if result.is_ok() { new.count } else { old_count };
        for slot in visible..old_count.max(new.count) {
            self.delete_backend(id, slot)?;
        }
        if result.is_ok() {
            self.known.services.insert(id.0, new);
        }
        result
    }

    fn service(&self, key: &Key) -> Result<Option<layout::Service>, DatapathError> {
        Ok(get(&self.services, SERVICES, key)?.map(layout::Service::from_bytes))
    }

    fn backend(&self, id: ServiceId, slot: u32) -> Result<Option<SocketAddr>, DatapathError> {
        let backend = get(&self.backends, BACKENDS, &slot_key(id, slot))?;
        Ok(backend.map(|bytes| layout::Backend::from_bytes(bytes).socket_address()))
    }

    /// The entries of the tables of services and of backends.
    pub(super) fn service_entries(&self) -> (u32, u32) {
        let services = self.known.services.values();
        services.fold((0, 0), |(keys, slots), entry| (keys + entry.keys.len() as u32, slots + entry.count))
    }

    /// An element of the counters for a new service, at zero.
    fn take_counters(&mut self, sizes: MapSizes) -> Result<u32, DatapathError> {
        let index = self.known.free.pop().ok_or_else(|| full(SERVICES, sizes))?;
        self.set_counted(index, layout::ServiceCounters { connected: 0, refused: 0, unbound: 0 })?;
        Ok(index)
    }

    /// What it counted goes to the services that are gone.
    fn give_counters_back(&mut self, index: u32) -> Result<(), DatapathError> {
        let of_service = self.counted(index)?;
        let gone = self.counted(0)?;
        self.set_counted(
            0,
            layout::ServiceCounters {
                connected: gone.connected + of_service.connected,
                refused: gone.refused + of_service.refused,
                unbound: gone.unbound + of_service.unbound,
            },
        )?;
        self.known.free.push(index);
        Ok(())
    }

    fn counted(&self, index: u32) -> Result<ServiceCounters, DatapathError> {
        let of_cpus = self.service_counters.get(&index, 0).map_err(|source| DatapathError::Map {
            action: "read",
            map: SERVICE_COUNTERS,
            source,
        })?;
        let of_cpus = of_cpus.iter().map(|bytes| layout::ServiceCounters::from_bytes(*bytes));
        Ok(of_cpus.fold(ServiceCounters::default(), ServiceCounters::add))
    }

    /// Writes an element that no service has.
    fn set_counted(&mut self, index: u32, counted: layout::ServiceCounters) -> Result<(), DatapathError> {
        let cpus = nr_cpus().map_err(|(path, source)| DatapathError::sys("read", path, source))?;
        let mut of_cpus = vec![[0; layout::ServiceCounters::SIZE]; cpus];
        if let Some(first) = of_cpus.first_mut() {
            *first = counted.to_bytes();
        }
        let of_cpus = PerCpuValues::try_from(of_cpus)
            .map_err(|source| DatapathError::sys("sizing", SERVICE_COUNTERS, source))?;
        self.service_counters.set(index, of_cpus, 0).map_err(|source| DatapathError::Map {
            action: "write",
            map: SERVICE_COUNTERS,
            source,
        })
    }

    /// The backends of all services.
    pub(super) fn all_backends(&self) -> Result<HashSet<(SocketAddr, Protocol)>, DatapathError> {
        let mut backends = HashSet::new();
        for (id, entry) in &self.known.services {
            let Some(protocol) = entry.protocol() else { continue };
            for slot in 0..entry.count {
                backends.extend(self.backend(ServiceId(*id), slot)?.map(|address| (address, protocol)));
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
