//! Services and their backends: the datapath's tables follow the store, and a backend that goes makes a reap due.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use netloom_api::types::ReapReport;
use netloom_core::model::{Name, ReapEvent, ReapReason, Service, ServiceId, Weight, canonical};

use crate::{
    failure::Failure,
    node::Node,
    store::{ServiceRecord, number_key},
};

impl Node {
    /// Every service.
    pub(crate) fn services(&self) -> Result<Vec<Service>, Failure> {
        Ok(self.store.all::<ServiceRecord>()?.into_iter().map(|(_, record)| record.service).collect())
    }

    /// Adds a service with its backends.
    pub(crate) async fn add_service(&self, service: Service) -> Result<Service, Failure> {
        let service = check_lists(service)?;
        check_vip(&service)?;
        for backend in &service.backends {
            check_backend(&service, *backend)?;
        }
        let _guard = self.locks.services().await;
        let existing = self.store.all::<ServiceRecord>()?;
        for (_, ServiceRecord { service: other, .. }) in &existing {
            if other.name == service.name {
                return Err(Failure::conflict(format!("there is a service {} already", service.name))
                    .hint("remove it first, or choose another name"));
            }
            if (other.vip, other.protocol) == (service.vip, service.protocol) {
                return Err(Failure::conflict(format!(
                    "{}/{} is the address of service {}",
                    service.vip, service.protocol, other.name
                )));
            }
            check_chain(&service, &service.backends, other)?;
            check_chain(other, &other.backends, &service)?;
        }
        // Never given twice: sockets bound through a removed service keep its number.
        let id = self.store.commit(|changes| changes.next("service"))?;
        let id = ServiceId(u32::try_from(id)?);
        self.datapath.set_service(id, &service)?;
        self.back_fill.backends_were_added();
        let record = ServiceRecord { id, service };
        if let Err(error) = self.store.commit(|changes| changes.put(record.service.name.as_str(), &record)) {
            self.datapath.remove_service(record.id, record.service.vip, record.service.protocol)?;
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
        let record = self.service_record(name)?;
        let backend = canonical(backend);
        check_backend(&record.service, backend)?;
        if record.service.backends.contains(&backend) {
            return Err(Failure::conflict(format!("{backend} is a backend of {name} already"))
                .hint("change its weight with `netloom backend weight`"));
        }
        for (_, ServiceRecord { service: other, .. }) in &self.store.all::<ServiceRecord>()? {
            check_chain(&record.service, &[backend], other)?;
        }
        let mut changed = record.clone();
        changed.service.backends.push(backend);
        changed.service.set_weight(backend, weight);
        self.replace_service(&record, &changed)?;
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
        let record = self.service_record(name)?;
        let backend = canonical(backend);
        if !record.service.backends.contains(&backend) {
            return Err(no_backend(name, backend));
        }
        let mut changed = record.clone();
        changed.service.set_weight(backend, weight);
        self.replace_service(&record, &changed)?;
        Ok(changed.service)
    }

    /// Removes a backend, and has the sockets bound to it reaped as policy says.
    pub(crate) async fn remove_backend(
        self: &Arc<Self>,
        name: &Name,
        backend: SocketAddr,
    ) -> Result<ReapReport, Failure> {
        let (event, pending) = self.withdraw_backend(name, backend).await?;
        self.reap_due(event, pending).await
    }

    /// Removes a backend: the reap that is then due.
    pub(crate) async fn withdraw_backend(
        &self,
        name: &Name,
        backend: SocketAddr,
    ) -> Result<(ReapEvent, String), Failure> {
        let _guard = self.locks.services().await;
        let record = self.service_record(name)?;
        let backend = canonical(backend);
        let mut changed = record.clone();
        changed.service.backends.retain(|other| *other != backend);
        changed.service.weights.remove(&backend);
        if changed.service.backends.len() == record.service.backends.len() {
            return Err(no_backend(name, backend));
        }
        self.replace_service(&record, &changed)?;
        self.owe_reap(&record.service, &[backend])
    }

    /// Removes a service, and has the sockets bound to its backends reaped as policy says.
    pub(crate) async fn remove_service(self: &Arc<Self>, name: &Name) -> Result<ReapReport, Failure> {
        let (event, pending) = {
            let _guard = self.locks.services().await;
            let record = self.service_record(name)?;
            self.datapath.remove_service(record.id, record.service.vip, record.service.protocol)?;
            self.store.commit(|changes| changes.remove::<ServiceRecord>(name.as_str()))?;
            if record.service.backends.is_empty() {
                return Ok(ReapReport { finder: self.finder(), ..ReapReport::default() });
            }
            self.owe_reap(&record.service, &record.service.backends)?
        };
        self.reap_due(event, pending).await
    }

    pub(crate) fn service_record(&self, name: &Name) -> Result<ServiceRecord, Failure> {
        self.store.get::<ServiceRecord>(name.as_str())?.ok_or_else(|| {
            Failure::not_found(format!("there is no service {name}")).hint("see `netloom service list`")
        })
    }

    /// Changes the datapath, then the store; takes the change back if it cannot be kept.
    fn replace_service(&self, old: &ServiceRecord, new: &ServiceRecord) -> Result<(), Failure> {
        self.datapath.set_service(new.id, &new.service)?;
        self.back_fill.backends_were_added();
        if let Err(error) = self.store.commit(|changes| changes.put(new.service.name.as_str(), new)) {
            self.datapath.set_service(old.id, &old.service)?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Writes down that a reap is due, so that a crash before it is done does not forget it.
    fn owe_reap(&self, service: &Service, backends: &[SocketAddr]) -> Result<(ReapEvent, String), Failure> {
        let backends = backends.iter().map(|address| service.backend(*address)).collect();
        let event = ReapEvent { reason: ReapReason::Removed, backends };
        let key = self.store.commit(|changes| {
            let key = number_key(changes.next("reap")?);
            changes.put(&key, &event)?;
            Ok(key)
        })?;
        Ok((event, key))
    }
}

fn no_backend(name: &Name, backend: SocketAddr) -> Failure {
    Failure::not_found(format!("{backend} is no backend of {name}")).hint("see `netloom backend list`")
}

/// Backends are given once, and weights for backends only.
fn check_lists(service: Service) -> Result<Service, Failure> {
    let mut seen = HashSet::new();
    for backend in &service.backends {
        if !seen.insert(canonical(*backend)) {
            return Err(Failure::invalid(anyhow::anyhow!("the backend {backend} is given twice")));
        }
    }
    if let Some(stray) = service.weights.keys().find(|backend| !seen.contains(&canonical(**backend))) {
        return Err(Failure::invalid(anyhow::anyhow!("{stray} has a weight, and is no backend"))
            .hint("name it among the backends as well"));
    }
    Ok(service.canonical())
}

/// No backend may be a service's address: a connection is translated once, and would end where nobody listens.
fn check_chain(service: &Service, backends: &[SocketAddr], other: &Service) -> Result<(), Failure> {
    if service.protocol == other.protocol && backends.contains(&other.vip) {
        return Err(Failure::conflict(format!(
            "{} cannot be a backend of {}: it is the address of service {}",
            other.vip, service.name, other.name
        ))
        .hint("use the backends of that service"));
    }
    Ok(())
}

fn check_vip(service: &Service) -> Result<(), Failure> {
    let ip = service.vip.ip();
    if ip.is_unspecified() || ip.is_multicast() || service.vip.port() == 0 {
        return Err(Failure::invalid(anyhow::anyhow!("{} cannot be a service's address", service.vip))
            .hint("use an address that no interface has, and a port"));
    }
    Ok(())
}

fn check_backend(service: &Service, backend: SocketAddr) -> Result<(), Failure> {
    let refused = |why: &str| {
        Err(Failure::invalid(anyhow::anyhow!("{backend} cannot be a backend of {}: {why}", service.name)))
    };
    if backend == service.vip {
        return refused("it is the service's own address");
    }
    if matches!(backend.ip(), IpAddr::V4(_)) != matches!(service.vip.ip(), IpAddr::V4(_)) {
        return refused("the service's address is of the other family");
    }
    if backend.port() == 0 || backend.ip().is_unspecified() || backend.ip().is_multicast() {
        return refused("it is no address of one host with a port");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use netloom_core::model::Protocol;

    use super::*;

    fn service() -> Service {
        Service {
            name: Name::new("web").unwrap(),
            vip: "10.96.0.1:80".parse().unwrap(),
            protocol: Protocol::Tcp,
            backends: vec![],
            weights: BTreeMap::new(),
        }
    }

    #[test]
    fn backends_that_could_never_answer_are_refused() {
        for bad in ["10.96.0.1:80", "[fd00::1]:80", "10.0.0.1:0", "0.0.0.0:80", "224.0.0.1:80"] {
            let failure = check_backend(&service(), bad.parse().unwrap()).unwrap_err();
            assert!(failure.to_string().contains(bad), "{failure}");
        }
        assert!(check_backend(&service(), "10.96.0.1:8080".parse().unwrap()).is_ok());
    }

    #[test]
    fn lists_say_a_thing_once_and_of_backends_only() {
        let listed = |text: &str| check_lists(serde_json::from_str(text).unwrap());
        let start = r#"{"name": "web", "vip": "10.96.0.1:80", "protocol": "tcp", "backends": "#;
        let twice = listed(&format!(r#"{start}["10.0.0.1:80", "[::ffff:10.0.0.1]:80"]}}"#)).unwrap_err();
        assert!(twice.to_string().contains("given twice"), "{twice}");
        let stray =
            listed(&format!(r#"{start}["10.0.0.1:80"], "weights": {{"10.0.0.2:80": 2}}}}"#)).unwrap_err();
        assert!(stray.to_string().contains("10.0.0.2:80"), "{stray}");
        let fine = listed(&format!(r#"{start}["10.0.0.1:80"], "weights": {{"10.0.0.1:80": 0}}}}"#)).unwrap();
        assert_eq!(fine.weight("10.0.0.1:80".parse().unwrap()), Weight::NONE);
    }

    #[test]
    fn a_backend_is_no_services_address() {
        let backends = ["10.96.0.1:80".parse().unwrap()];
        let front = Service { vip: "10.96.0.2:80".parse().unwrap(), ..service() };
        let failure = check_chain(&front, &backends, &service()).unwrap_err();
        assert!(failure.to_string().contains("10.96.0.1:80"), "{failure}");
        assert!(check_chain(&front, &backends, &Service { protocol: Protocol::Udp, ..service() }).is_ok());
    }

    #[test]
    fn a_vip_needs_an_address_and_a_port() {
        for bad in ["0.0.0.0:80", "10.96.0.1:0", "224.0.0.1:80"] {
            assert!(check_vip(&Service { vip: bad.parse().unwrap(), ..service() }).is_err(), "{bad}");
        }
    }
}
