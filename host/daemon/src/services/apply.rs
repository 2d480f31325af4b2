//! Many services at once: all of the changes are made, or none.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use netloom_api::types::{ReapReport, ServicesApplied, ServicesApply};
use netloom_core::model::{Backend, Name, Protocol, Service, ServiceId};

use super::{OwedReap, Services, check, owe_reap, vips};
use crate::{failure::Failure, store::ServiceRecord};

/// Services that are set before other tasks get a turn.
const YIELD_EVERY: usize = 256;

/// What has to change for the services to be as they are wanted.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    added: Vec<Service>,
    /// As they are, and as they are to be.
    changed: Vec<(ServiceRecord, Service)>,
    removed: Vec<ServiceRecord>,
    unchanged: usize,
}

impl Services {
    /// Adds what is new, changes what is different and, if it is asked for, removes what is not named. One reap is due
    /// for all backends that go.
    pub(crate) async fn apply(&self, request: ServicesApply) -> Result<ServicesApplied, Failure> {
        let wanted: Vec<_> = request.services.into_iter().map(check::alone).collect::<Result<_, _>>()?;
        let addresses = self.node_addresses().await?;
        let guard = self.locks.services().await;
        let present = self.store.all::<ServiceRecord>()?.into_iter().map(|(_, record)| record).collect();
        let difference = Difference::between(present, wanted, request.prune)?;
        difference.check(&self.inventory.services()?, &addresses)?;
        let mut applied = difference.summary(request.dry_run);
        if request.dry_run {
            return Ok(applied);
        }
        let due = self.make_services(difference, &addresses).await?;
        drop(guard);
        applied.reap = match due {
            Some((event, pending)) => self.reaping.reap_due(event, pending).await?,
            None => ReapReport { finder: self.reaping.finder(), ..ReapReport::default() },
        };
        Ok(applied)
    }

    /// The reap that is then due.
    async fn make_services(
        &self,
        difference: Difference,
        addresses: &[IpAddr],
    ) -> Result<Option<OwedReap>, Failure> {
        let lost = difference.lost();
        let Difference { added, changed, removed, .. } = difference;
        // Never given twice: sockets bound through a removed service keep its number.
        let first = self.store.commit(|changes| changes.take("service", added.len()))?;
        let first = u32::try_from(first)?;
        let added =
            (first..).zip(added).map(|(id, service)| (None, ServiceRecord { id: ServiceId(id), service }));
        let changed = changed.into_iter().map(|(old, service)| {
            let new = ServiceRecord { id: old.id, service };
            (Some(old), new)
        });
        let set: Vec<(Option<ServiceRecord>, ServiceRecord)> = changed.chain(added).collect();

        let mut done = 0;
        let result = async {
            // First those that go: one that comes may have the address of one of them.
            for record in &removed {
                self.datapath.remove_service(record.id)?;
            }
            for (old, new) in &set {
                let address = |record: &ServiceRecord| (record.service.vip, record.service.protocol);
                if old.as_ref().is_some_and(|old| address(old) != address(new)) {
                    self.datapath.remove_service(new.id)?;
                }
            }
            let services: Vec<_> = set.iter().map(|(_, record)| &record.service).collect();
            self.datapath.expect_backends(&services)?;
            for (_, record) in &set {
                self.set(record, addresses)?;
                done += 1;
                if done % YIELD_EVERY == 0 {
                    tokio::task::yield_now().await;
                }
            }
            self.reaping.backends_were_added();
            let due = self.store.commit(|changes| {
                for record in &removed {
                    changes.remove::<ServiceRecord>(record.service.name.as_str())?;
                }
                for (_, record) in &set {
                    changes.put(record.service.name.as_str(), record)?;
                }
                owe_reap(changes, lost)
            })?;
            Ok::<_, Failure>(due)
        }
        .await;
        if result.is_err() {
            for (_, record) in &set {
                self.datapath.remove_service(record.id)?;
            }
            for record in removed.iter().chain(set.iter().filter_map(|(old, _)| old.as_ref())) {
                self.set(record, addresses)?;
            }
        }
        result
    }
}

impl Difference {
    fn between(present: Vec<ServiceRecord>, wanted: Vec<Service>, prune: bool) -> Result<Self, Failure> {
        let mut present: BTreeMap<Name, ServiceRecord> =
            present.into_iter().map(|record| (record.service.name.clone(), record)).collect();
        let mut difference = Self::default();
        let mut names = HashSet::new();
        for service in wanted {
            if !names.insert(service.name.clone()) {
                return Err(Failure::invalid(anyhow::anyhow!("the service {} is given twice", service.name)));
            }
            match present.remove(&service.name) {
                None => difference.added.push(service),
                Some(record) if record.service == service => difference.unchanged += 1,
                Some(record) => difference.changed.push((record, service)),
            }
        }
        if prune {
            difference.removed.extend(present.into_values());
        }
        Ok(difference)
    }

    /// What the services would be must be as if each had been added by itself.
    fn check(&self, present: &[Service], node: &[IpAddr]) -> Result<(), Failure> {
        let gone: HashSet<&Name> = self
            .removed
            .iter()
            .chain(self.changed.iter().map(|(old, _)| old))
            .map(|record| &record.service.name)
            .collect();
        let new: Vec<&Service> = self.added.iter().chain(self.changed.iter().map(|(_, new)| new)).collect();
        let all: Vec<&Service> = present
            .iter()
            .filter(|service| !gone.contains(&service.name))
            .chain(new.iter().copied())
            .collect();
        let mut owners: HashMap<(SocketAddr, Protocol), &Service> = HashMap::new();
        for service in &all {
            for vip in vips(service, node).into_iter().chain([service.vip]) {
                let other = owners.insert((vip, service.protocol), service);
                if let Some(other) = other.filter(|other| other.name != service.name) {
                    check::address(service, other, node)?;
                }
            }
        }
        for service in &all {
            for backend in &service.backends {
                if let Some(other) = owners.get(&(*backend, service.protocol)) {
                    check::chain(service, &[*backend], other)?;
                }
            }
        }
        Ok(())
    }

    /// The backends that services lose.
    fn lost(&self) -> Vec<Backend> {
        let of_removed = self.removed.iter().flat_map(|record| {
            record.service.backends.iter().map(|address| record.service.backend(*address))
        });
        let of_changed = self.changed.iter().flat_map(|(old, new)| {
            let all = new.protocol != old.service.protocol;
            let kept: HashSet<_> = new.backends.iter().collect();
            let lost = old.service.backends.iter().filter(move |address| all || !kept.contains(address));
            lost.map(|address| old.service.backend(*address)).collect::<Vec<_>>()
        });
        of_removed.chain(of_changed).collect()
    }

    fn summary(&self, dry_run: bool) -> ServicesApplied {
        let name = |service: &Service| service.name.clone();
        ServicesApplied {
            dry_run,
            added: self.added.iter().map(name).collect(),
            changed: self.changed.iter().map(|(_, new)| name(new)).collect(),
            removed: self.removed.iter().map(|record| name(&record.service)).collect(),
            unchanged: self.unchanged,
            reap: ReapReport::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, vip: &str, backends: &[&str]) -> Service {
        let mut service = Service::new(Name::new(name).unwrap(), vip.parse().unwrap(), Protocol::Tcp);
        service.backends.extend(backends.iter().map(|backend| backend.parse::<SocketAddr>().unwrap()));
        service
    }

    fn record(id: u32, service: Service) -> ServiceRecord {
        ServiceRecord { id: ServiceId(id), service }
    }

    #[test]
    fn only_what_differs_is_changed_and_only_when_asked_anything_goes() {
        let present = || {
            vec![
                record(1, service("a", "10.96.0.1:80", &["10.0.0.1:80", "10.0.0.2:80"])),
                record(2, service("b", "10.96.0.2:80", &["10.0.0.1:80"])),
                record(3, service("c", "10.96.0.3:80", &["10.0.0.3:80"])),
            ]
        };
        let wanted = || {
            vec![
                service("a", "10.96.0.1:80", &["10.0.0.2:80", "10.0.0.4:80"]),
                service("b", "10.96.0.2:80", &["10.0.0.1:80"]),
                service("d", "10.96.0.4:80", &[]),
            ]
        };
        let kept = Difference::between(present(), wanted(), false).unwrap();
        let summary = kept.summary(false);
        assert_eq!(
            (summary.added.len(), summary.changed.len(), summary.removed.len(), summary.unchanged),
            (1, 1, 0, 1)
        );
        let lost: Vec<_> = kept.lost().into_iter().map(|backend| backend.address.to_string()).collect();
        assert_eq!(lost, ["10.0.0.1:80"]);
        let pruned = Difference::between(present(), wanted(), true).unwrap();
        assert_eq!(pruned.summary(false).removed, [Name::new("c").unwrap()]);
        assert_eq!(pruned.lost().len(), 2);
    }

    #[test]
    fn what_could_not_be_added_one_by_one_cannot_be_applied() {
        let refused = |present: Vec<ServiceRecord>, wanted: Vec<Service>| {
            let services: Vec<_> = present.iter().map(|record| record.service.clone()).collect();
            let difference = Difference::between(present, wanted, false);
            difference.and_then(|difference| difference.check(&services, &[])).unwrap_err().to_string()
        };
        let a = || service("a", "10.96.0.1:80", &[]);
        assert!(refused(vec![], vec![a(), a()]).contains("given twice"));
        assert!(refused(vec![record(1, a())], vec![service("b", "10.96.0.1:80", &[])]).contains("service a"));
        let front = service("front", "10.96.0.9:80", &["10.96.0.1:80"]);
        assert!(refused(vec![record(1, a())], vec![front.clone()]).contains("10.96.0.1:80"));
        assert!(refused(vec![record(1, front)], vec![a()]).contains("10.96.0.1:80"));
    }

    #[test]
    fn two_services_may_change_their_addresses_with_each_other() {
        let present =
            vec![record(1, service("a", "10.96.0.1:80", &[])), record(2, service("b", "10.96.0.2:80", &[]))];
        let services: Vec<_> = present.iter().map(|record| record.service.clone()).collect();
        let wanted = vec![service("a", "10.96.0.2:80", &[]), service("b", "10.96.0.1:80", &[])];
        Difference::between(present, wanted, false).unwrap().check(&services, &[]).unwrap();
    }

    #[test]
    fn a_service_of_another_protocol_loses_all_its_backends() {
        let old = service("a", "10.96.0.1:80", &["10.0.0.1:80"]);
        let new = Service { protocol: Protocol::Udp, ..old.clone() };
        let difference = Difference::between(vec![record(1, old)], vec![new], false).unwrap();
        assert_eq!(difference.lost().len(), 1);
        assert!(difference.summary(true).dry_run && !difference.summary(false).dry_run);
    }
}
