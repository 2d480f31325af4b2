//! Which of the sockets bound to a dead backend's address a reap is about.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use netloom_core::model::{BoundSocket, Name, NetnsCookie, Protocol, ReapEvent, ReapReason, ServiceId};

use super::{Pass, Reaping};
use crate::{failure::Failure, store::ServiceRecord};

type Bound = (SocketAddr, Protocol);

/// Which sockets some events are about: those bound through their services, to backends that did not come back
/// meanwhile, outside the node's own namespace unless policy names it.
pub(super) struct Scope {
    known: HashMap<ServiceId, Name>,
    /// The place of the event among the pass's, by what the socket is bound to and through which service.
    about: HashMap<(Bound, Name), usize>,
    /// The same of the first event with the address, whatever the service.
    anybody: HashMap<Bound, usize>,
    host: Option<NetnsCookie>,
}

impl Reaping {
    pub(super) fn scope(&self, pass: &Pass) -> Result<Scope, Failure> {
        let services = self.store.all::<ServiceRecord>()?;
        let services = services.into_iter().map(|(_, record)| record).collect::<Vec<_>>();
        let host = self.netns.cookie()?;
        let names_host = pass.plan.filter.netns_cookies.contains(&host);
        Ok(Scope::new(&pass.events, &services, (!names_host).then_some(host)))
    }
}

impl Scope {
    fn new(events: &[ReapEvent], services: &[ServiceRecord], host: Option<NetnsCookie>) -> Self {
        let known = services.iter().map(|record| (record.id, record.service.name.clone())).collect();
        let live: HashSet<(Bound, &Name)> = services
            .iter()
            .map(|record| &record.service)
            .flat_map(|service| {
                service.backends.iter().map(|address| ((*address, service.protocol), &service.name))
            })
            .collect();
        let (mut about, mut anybody) = (HashMap::new(), HashMap::new());
        for (index, event) in events.iter().enumerate() {
            for backend in &event.backends {
                let bound = (backend.address, backend.protocol);
                // Whoever asks for a reap means the backend as it is, alive or not.
                if event.reason == ReapReason::Requested || !live.contains(&(bound, &backend.service)) {
                    about.entry((bound, backend.service.clone())).or_insert(index);
                    anybody.entry(bound).or_insert(index);
                }
            }
        }
        Self { known, about, anybody, host }
    }

    /// The place of the event that is about a socket; none if it is to be left alone.
    pub(super) fn event_of(&self, socket: &BoundSocket) -> Option<usize> {
        if self.host == Some(socket.netns_cookie) {
            return None;
        }
        let bound = (socket.backend, socket.protocol);
        match self.known.get(&socket.service) {
            Some(service) => self.about.get(&(bound, service.clone())).copied(),
            // Its service was removed: it is one of the event's if the address is.
            None => self.anybody.get(&bound).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use netloom_core::model::{Service, SocketCookie, SocketState};

    use super::*;

    const BACKEND: &str = "10.0.0.1:80";

    fn socket(service: u32, netns: u64) -> BoundSocket {
        BoundSocket {
            cookie: SocketCookie(1),
            netns_cookie: NetnsCookie(netns),
            protocol: Protocol::Tcp,
            state: SocketState::Established,
            local: "10.0.0.9:4000".parse().unwrap(),
            remote: BACKEND.parse().unwrap(),
            backend: BACKEND.parse().unwrap(),
            service: ServiceId(service),
            age: Duration::from_secs(1),
            bytes_sent: 0,
            bytes_received: 0,
        }
    }

    fn record(id: u32, name: &str, backends: &[&str]) -> ServiceRecord {
        let vip = format!("10.96.0.{id}:80").parse().unwrap();
        let mut service = Service::new(Name::new(name).unwrap(), vip, Protocol::Tcp);
        service.backends.extend(backends.iter().map(|backend| backend.parse::<SocketAddr>().unwrap()));
        ServiceRecord { id: ServiceId(id), service }
    }

    fn event(reason: ReapReason, service: &str) -> ReapEvent {
        let service = record(1, service, &[]).service;
        ReapEvent { reason, backends: vec![service.backend(BACKEND.parse().unwrap())] }
    }

    /// Of the service `web`, which lost its backend, beside `other`, which has it still.
    fn scope(reason: ReapReason, left: &[&str]) -> Scope {
        let services = [record(1, "web", left), record(2, "other", &[BACKEND])];
        Scope::new(&[event(reason, "web")], &services, Some(NetnsCookie(7)))
    }

    #[test]
    fn only_sockets_of_the_events_service_are_covered() {
        let scope = scope(ReapReason::Removed, &[]);
        assert_eq!(scope.event_of(&socket(1, 1)), Some(0));
        assert_eq!(scope.event_of(&socket(2, 1)), None, "the same backend serves another service");
    }

    #[test]
    fn sockets_of_a_removed_service_are_covered_by_address() {
        assert_eq!(scope(ReapReason::Removed, &[]).event_of(&socket(3, 1)), Some(0));
    }

    #[test]
    fn the_nodes_own_sockets_are_spared_unless_policy_names_them() {
        let spares = scope(ReapReason::Removed, &[]);
        assert_eq!(spares.event_of(&socket(1, 7)), None);
        assert_eq!(Scope { host: None, ..spares }.event_of(&socket(1, 7)), Some(0));
    }

    #[test]
    fn a_backend_that_came_back_keeps_its_sockets_unless_they_are_asked_for() {
        assert_eq!(scope(ReapReason::Removed, &[BACKEND]).event_of(&socket(1, 1)), None);
        assert_eq!(scope(ReapReason::Requested, &[BACKEND]).event_of(&socket(1, 1)), Some(0));
    }

    #[test]
    fn of_several_events_the_one_with_the_service_is_meant() {
        let events = [event(ReapReason::Removed, "web"), event(ReapReason::Removed, "shop")];
        let services = [record(1, "web", &[]), record(2, "shop", &[])];
        let scope = Scope::new(&events, &services, None);
        assert_eq!(scope.event_of(&socket(2, 1)), Some(1));
        assert_eq!(scope.event_of(&socket(1, 1)), Some(0));
    }
}
