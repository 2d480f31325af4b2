//! What services and backends may not be.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use netloom_core::model::{Choice, Service, canonical, maglev};

use super::vips;
use crate::failure::Failure;

/// A service by itself, in its canonical form.
pub(super) fn alone(service: Service) -> Result<Service, Failure> {
    let service = lists(service)?;
    vip(&service)?;
    for address in &service.backends {
        backend(&service, *address)?;
    }
    size(&service)?;
    Ok(service)
}

/// Backends are given once, and weights for backends only.
fn lists(service: Service) -> Result<Service, Failure> {
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
pub(super) fn chain(service: &Service, backends: &[SocketAddr], other: &Service) -> Result<(), Failure> {
    if service.protocol == other.protocol && backends.contains(&other.vip) {
        return Err(Failure::conflict(format!(
            "{} cannot be a backend of {}: it is the address of service {}",
            other.vip, service.name, other.name
        ))
        .hint("use the backends of that service"));
    }
    Ok(())
}

fn vip(service: &Service) -> Result<(), Failure> {
    let ip = service.vip.ip();
    if ip.is_multicast() || service.vip.port() == 0 {
        return Err(Failure::invalid(anyhow::anyhow!("{} cannot be a service's address", service.vip)).hint(
            "use an address that no interface has, and a port; or 0.0.0.0 or [::] and a port, which is every address of \
             the node",
        ));
    }
    Ok(())
}

pub(super) fn backend(service: &Service, backend: SocketAddr) -> Result<(), Failure> {
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

/// A Maglev table has a slot for each backend, and a few more.
pub(super) fn size(service: &Service) -> Result<(), Failure> {
    let (backends, slots) = (service.backends.len(), maglev::SLOTS);
    if service.choice == Choice::Maglev && backends > slots {
        return Err(Failure::invalid(anyhow::anyhow!(
            "service {} has {backends} backends, and a maglev table {slots} slots",
            service.name
        ))
        .hint("let it choose by chance"));
    }
    Ok(())
}

/// No two services may have one address and protocol, a service on the node's addresses included.
pub(super) fn address(service: &Service, other: &Service, node: &[IpAddr]) -> Result<(), Failure> {
    if service.protocol != other.protocol {
        return Ok(());
    }
    let theirs = vips(other, node);
    let both = vips(service, node).into_iter().find(|vip| theirs.contains(vip));
    // A node without an address of the family has none in common yet.
    let Some(vip) = both.or_else(|| (service.vip == other.vip).then_some(service.vip)) else { return Ok(()) };
    Err(Failure::conflict(format!("{vip}/{} is the address of service {}", service.protocol, other.name)))
}

#[cfg(test)]
mod tests {
    use netloom_core::model::{Name, Protocol, Weight};

    use super::*;

    fn service() -> Service {
        Service::new(Name::new("web").unwrap(), "10.96.0.1:80".parse().unwrap(), Protocol::Tcp)
    }

    #[test]
    fn backends_that_could_never_answer_are_refused() {
        for bad in ["10.96.0.1:80", "[fd00::1]:80", "10.0.0.1:0", "0.0.0.0:80", "224.0.0.1:80"] {
            let failure = backend(&service(), bad.parse().unwrap()).unwrap_err();
            assert!(failure.to_string().contains(bad), "{failure}");
        }
        assert!(backend(&service(), "10.96.0.1:8080".parse().unwrap()).is_ok());
    }

    #[test]
    fn lists_say_a_thing_once_and_of_backends_only() {
        let listed = |text: &str| lists(serde_json::from_str(text).unwrap());
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
        let failure = chain(&front, &backends, &service()).unwrap_err();
        assert!(failure.to_string().contains("10.96.0.1:80"), "{failure}");
        assert!(chain(&front, &backends, &Service { protocol: Protocol::Udp, ..service() }).is_ok());
    }

    #[test]
    fn an_address_of_the_node_is_one_services_only() {
        let node = ["10.9.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let at = |vip: &str| Service { vip: vip.parse().unwrap(), ..service() };
        let clash = |a: &str, b: &str| address(&at(a), &at(b), &node).is_err();
        assert!(clash("0.0.0.0:80", "10.9.0.1:80") && clash("10.9.0.1:80", "0.0.0.0:80"));
        assert!(clash("0.0.0.0:80", "0.0.0.0:80") && clash("10.96.0.1:80", "10.96.0.1:80"));
        assert!(!clash("0.0.0.0:80", "10.9.0.1:81") && !clash("0.0.0.0:80", "10.96.0.1:80"));
        assert!(!clash("0.0.0.0:80", "[::]:80") && clash("[::]:80", "[::1]:80"));
    }

    #[test]
    fn a_vip_needs_an_address_and_a_port() {
        for bad in ["0.0.0.0:0", "10.96.0.1:0", "224.0.0.1:80"] {
            assert!(vip(&Service { vip: bad.parse().unwrap(), ..service() }).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_maglev_table_has_a_slot_for_each_backend() {
        let with = |count: u16, choice| {
            let backends = (1..=count).map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect();
            size(&Service { backends, choice, ..service() })
        };
        assert!(with(509, Choice::Maglev).is_ok());
        assert!(with(510, Choice::Maglev).unwrap_err().to_string().contains("510 backends"));
        assert!(with(510, Choice::Random).is_ok());
    }
}
