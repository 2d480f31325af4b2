//! Services and their backends: the datapath's tables follow the store, and a backend that goes makes a reap due.
//!
//! - [`apply`]: many services at once
//! - [`check`]: what is refused

mod apply;
mod check;

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use netloom_api::types::{Adoption, ReapReport, ServiceView};
use netloom_core::model::{Backend, Name, ReapEvent, ReapReason, Service, ServiceId, Weight, canonical};
use netloom_kernel::{
    datapath::{Datapath, ServiceCounters},
    devices::Devices,
};

use crate::{
    failure::Failure,
    inventory::Inventory,
    locks::Locks,
    opened::Opened,
    reaping::Reaping,
    store::{Changes, ServiceRecord, Store, StoreError, number_key},
    telemetry::metrics::Metrics,
};

/// Services and their backends.
pub(crate) struct Services {
    devices: Devices,
    store: Arc<Store>,
    datapath: Arc<Datapath>,
    locks: Arc<Locks>,
    metrics: Arc<Metrics>,
    inventory: Arc<Inventory>,
    reaping: Arc<Reaping>,
}

impl Services {
    pub(crate) fn new(opened: &Opened, inventory: &Arc<Inventory>, reaping: &Arc<Reaping>) -> Self {
        Self {
            devices: opened.devices.clone(),
            store: Arc::clone(&opened.store),
            datapath: Arc::clone(&opened.datapath),
            locks: Arc::clone(&opened.locks),
            metrics: Arc::clone(&opened.metrics),
            inventory: Arc::clone(inventory),
            reaping: Arc::clone(reaping),
        }
    }

    /// Has the datapath know the services of the records, and no others.
    pub(crate) async fn adopt(&self, adoption: &mut Adoption) -> Result<(), Failure> {
        let records = self.store.all::<ServiceRecord>()?;
        let known: HashSet<_> = records.iter().map(|(_, record)| record.id).collect();
        for entry in self.datapath.services()? {
            if !known.contains(&entry.id) {
                self.datapath.remove_service(entry.id)?;
                let vips: Vec<String> = entry.vips.iter().map(ToString::to_string).collect();
                let (vips, protocol) = (vips.join(", "), entry.protocol);
                adoption.recovered.push(format!("service {vips}/{protocol} had no record: removed"));
            }
        }
        let addresses = self.node_addresses().await?;
        for (name, record) in records {
            if let Err(error) = self.set(&record, &addresses) {
                tracing::error!(service = name, %error, "the datapath does not know it");
                adoption.dropped.push(format!("service {name} is not in the datapath: {error}"));
            }
        }
        Ok(())
    }

    /// A service, and what was counted of it.
    pub(crate) fn show(&self, name: &Name) -> Result<ServiceView, Failure> {
        let ServiceRecord { id, service } = self.inventory.service_record(name)?;
        let ServiceCounters { connected, refused, unbound } =
            self.datapath.service_counters(id)?.unwrap_or_default();
        Ok(ServiceView { service, connected, refused, unbound })
    }

    /// Adds a service with its backends.
    pub(crate) async fn add(&self, service: Service) -> Result<Service, Failure> {
        let service = check::alone(service)?;
        let addresses = self.node_addresses().await?;
        let _guard = self.locks.services().await;
        for (_, ServiceRecord { service: other, .. }) in &self.store.all::<ServiceRecord>()? {
            if other.name == service.name {
                return Err(Failure::conflict(format!("there is a service {} already", service.name))
                    .hint("remove it first, or choose another name"));
            }
            check::address(&service, other, &addresses)?;
            check::chain(&service, &service.backends, other)?;
            check::chain(other, &other.backends, &service)?;
        }
        // Never given twice: sockets bound through a removed service keep its number.
        let id = self.store.commit(|changes| changes.next("service"))?;
        let id = ServiceId(u32::try_from(id)?);
        let record = ServiceRecord { id, service };
        self.set(&record, &addresses)?;
        self.reaping.backends_were_added();
        if let Err(error) = self.store.commit(|changes| changes.put(record.service.name.as_str(), &record)) {
            self.datapath.remove_service(record.id)?;
            return Err(error.into());
        }
        Ok(record.service)
    }

    /// Adds a backend to a service.
    pub(crate) async fn add_backend(
        &self,
        name: &Name,
        backend: SocketAddr,
        weight: Weight,
    ) -> Result<Service, Failure> {
        let _guard = self.locks.services().await;
        let record = self.inventory.service_record(name)?;
        let backend = canonical(backend);
        check::backend(&record.service, backend)?;
        if record.service.backends.contains(&backend) {
            return Err(Failure::conflict(format!("{backend} is a backend of {name} already"))
                .hint("change its weight with `netloom backend weight`"));
        }
        for (_, ServiceRecord { service: other, .. }) in &self.store.all::<ServiceRecord>()? {
            check::chain(&record.service, &[backend], other)?;
        }
        let mut changed = record.clone();
        changed.service.backends.push(backend);
        changed.service.set_weight(backend, weight);
        self.replace(&record, &changed, &[]).await?;
        Ok(changed.service)
    }

    /// Changes how many new connections a backend gets. Those it has live on.
    pub(crate) async fn weigh_backend(
        &self,
        name: &Name,
        backend: SocketAddr,
        weight: Weight,
    ) -> Result<Service, Failure> {
        let _guard = self.locks.services().await;
        let record = self.inventory.service_record(name)?;
        let backend = canonical(backend);
        if !record.service.backends.contains(&backend) {
            return Err(no_backend(name, backend));
        }
        let mut changed = record.clone();
        changed.service.set_weight(backend, weight);
        self.replace(&record, &changed, &[]).await?;
        Ok(changed.service)
    }

    /// Removes a backend, and has the sockets bound to it reaped as policy says.
    pub(crate) async fn remove_backend(
        &self,
        name: &Name,
        backend: SocketAddr,
    ) -> Result<ReapReport, Failure> {
        let (event, pending) = self.withdraw_backend(name, backend).await?;
        self.reaping.reap_due(event, pending).await
    }

    /// Removes a backend: the reap that is then due.
    pub(crate) async fn withdraw_backend(
        &self,
        name: &Name,
        backend: SocketAddr,
    ) -> Result<OwedReap, Failure> {
        let _guard = self.locks.services().await;
        let record = self.inventory.service_record(name)?;
        let backend = canonical(backend);
        let mut changed = record.clone();
        changed.service.backends.retain(|other| *other != backend);
        changed.service.weights.remove(&backend);
        if changed.service.backends.len() == record.service.backends.len() {
            return Err(no_backend(name, backend));
        }
        let due = self.replace(&record, &changed, &[backend]).await?;
        due.ok_or_else(|| anyhow::anyhow!("the reap of {backend} was not written down").into())
    }

    /// Removes a service, and has the sockets bound to its backends reaped as policy says.
    pub(crate) async fn remove(&self, name: &Name) -> Result<ReapReport, Failure> {
        let due = {
            let _guard = self.locks.services().await;
            let record = self.inventory.service_record(name)?;
            self.store.ready()?;
            let addresses = self.node_addresses().await?;
            self.datapath.remove_service(record.id)?;
            let committed = self.store.commit(|changes| {
                changes.remove::<ServiceRecord>(name.as_str())?;
                owe_reap(changes, backends_of(&record.service, &record.service.backends))
            });
            match committed {
                Ok(due) => due,
                Err(error) => {
                    self.set(&record, &addresses)?;
                    return Err(error.into());
                }
            }
        };
        match due {
            Some((event, pending)) => self.reaping.reap_due(event, pending).await,
            None => Ok(ReapReport { finder: self.reaping.finder(), ..ReapReport::default() }),
        }
    }

    /// Changes the datapath, then the store; takes the change back if it cannot be kept. The reap of backends that it
    /// takes away is written down with it.
    async fn replace(
        &self,
        old: &ServiceRecord,
        new: &ServiceRecord,
        lost: &[SocketAddr],
    ) -> Result<Option<OwedReap>, Failure> {
        check::size(&new.service)?;
        self.store.ready()?;
        let addresses = self.node_addresses().await?;
        self.set(new, &addresses)?;
        self.reaping.backends_were_added();
        let committed = self.store.commit(|changes| {
            changes.put(new.service.name.as_str(), new)?;
            owe_reap(changes, backends_of(&old.service, lost))
        });
        match committed {
            Ok(due) => Ok(due),
            Err(error) => {
                self.set(old, &addresses)?;
                Err(error.into())
            }
        }
    }

    /// Has the datapath know a service as its record says.
    pub(crate) fn set(
        &self,
        ServiceRecord { id, service }: &ServiceRecord,
        addresses: &[IpAddr],
    ) -> Result<(), Failure> {
        let vips = self.free_vips(service, addresses)?;
        self.metrics.refused(self.datapath.set_service_at(*id, service, &vips))?;
        Ok(())
    }

    /// The addresses under which clients reach a service, but for those of the node that came later, and that another
    /// service had already.
    fn free_vips(&self, service: &Service, addresses: &[IpAddr]) -> Result<Vec<SocketAddr>, Failure> {
        let mut vips = vips(service, addresses);
        if service.is_on_node() {
            let others = self.inventory.services()?;
            let taken = |vip: &SocketAddr| {
                others.iter().any(|other| (other.vip, other.protocol) == (*vip, service.protocol))
            };
            vips.retain(|vip| !taken(vip));
            vips.sort_unstable();
            // A device may have an address more than once.
            vips.dedup();
        }
        Ok(vips)
    }

    /// The node's addresses, but for those that mean something else in another namespace: each has a loopback device.
    pub(crate) async fn node_addresses(&self) -> Result<Vec<IpAddr>, Failure> {
        let addresses = self.devices.all_addresses().await?.into_iter().map(|network| network.addr());
        let local = |address: &IpAddr| match address {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
        };
        Ok(addresses.filter(|address| !local(address)).collect())
    }

    /// Has the services on the node's addresses follow these.
    pub(crate) async fn follow_node_addresses(&self) -> Result<(), Failure> {
        let _guard = self.locks.services().await;
        let records = self.store.all::<ServiceRecord>()?;
        let on_node: Vec<_> = records.iter().filter(|(_, record)| record.service.is_on_node()).collect();
        if on_node.is_empty() {
            return Ok(());
        }
        let addresses = self.node_addresses().await?;
        for (_, record) in on_node {
            if self.datapath.vips(record.id) != self.free_vips(&record.service, &addresses)? {
                self.set(record, &addresses)?;
            }
        }
        Ok(())
    }
}

/// A reap that is due, and the key under which it is written down.
pub(crate) type OwedReap = (ReapEvent, String);

/// Writes down that a reap is due with the change that makes it so: a crash before it is done does not forget it.
fn owe_reap(changes: &Changes, backends: Vec<Backend>) -> Result<Option<OwedReap>, StoreError> {
    if backends.is_empty() {
        return Ok(None);
    }
    let event = ReapEvent { reason: ReapReason::Removed, backends };
    let key = number_key(changes.next("reap")?);
    changes.put(&key, &event)?;
    Ok(Some((event, key)))
}

fn backends_of(service: &Service, addresses: &[SocketAddr]) -> Vec<Backend> {
    addresses.iter().map(|address| service.backend(*address)).collect()
}

fn no_backend(name: &Name, backend: SocketAddr) -> Failure {
    Failure::not_found(format!("{backend} is no backend of {name}")).hint("see `netloom backend list`")
}

/// The addresses under which clients reach a service.
pub(crate) fn vips(service: &Service, node: &[IpAddr]) -> Vec<SocketAddr> {
    let vip = service.vip;
    if !service.is_on_node() {
        return vec![vip];
    }
    let of_family = node.iter().filter(|address| address.is_ipv4() == vip.is_ipv4());
    of_family.map(|address| SocketAddr::new(*address, vip.port())).collect()
}
