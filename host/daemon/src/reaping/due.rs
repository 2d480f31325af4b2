//! Reaps that are due. What becomes due while a pass runs is gathered, and is done together in the next one: a
//! thousand backends that die at once are a pass or two, and not a thousand.

use std::{
    collections::{HashMap, HashSet},
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use netloom_api::types::{ReapReport, ReapedSocket};
use netloom_core::model::{Name, Protocol, ReapEvent, ReapReason};
use tokio::sync::Mutex as AsyncMutex;

use super::{Reaping, micros};
use crate::failure::Failure;

/// The reaps that wait for the next pass.
#[derive(Default)]
pub(crate) struct Due {
    waiting: Mutex<Vec<Waiting>>,
    /// Held while a pass runs.
    turn: AsyncMutex<()>,
}

type Answer = OnceLock<Result<ReapReport, Arc<Failure>>>;

/// A change of backends whose sockets are to be reaped.
struct Waiting {
    event: ReapEvent,
    /// It is written down under this key, so that a crash does not forget it.
    key: String,
    since: Instant,
    answer: Arc<Answer>,
}

impl Waiting {
    fn new(event: ReapEvent, key: String) -> Self {
        Self { event, key, since: Instant::now(), answer: Arc::default() }
    }
}

impl Due {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reaping {
    /// Reaps for a change of backends that is written down under a key: what was found and done for this change, in
    /// the pass that it was part of. A reap that fails stays due: the next start tries again.
    pub(crate) async fn reap_due(
        self: &Arc<Self>,
        event: ReapEvent,
        key: String,
    ) -> Result<ReapReport, Failure> {
        self.failpoints.step_done().await;
        let waiting = Waiting::new(event, key);
        let answer = Arc::clone(&waiting.answer);
        self.due.waiting().push(waiting);
        // Whoever has the turn does it for all that wait by then, so that most find their answer when it is theirs.
        let turn = self.due.turn.lock().await;
        if answer.get().is_none() {
            let gathered = mem::take(&mut *self.due.waiting());
            self.reap_together(&gathered).await;
        }
        drop(turn);
        match answer.get() {
            Some(Ok(report)) => Ok(report.clone()),
            Some(Err(failure)) => Err(failure.repeated()),
            None => Err(anyhow::anyhow!("the reap was broken off, and stays due").into()),
        }
    }

    /// Reaps that an earlier daemon owed when it ended; how many.
    pub(crate) async fn resume(self: &Arc<Self>) -> Result<usize, Failure> {
        let owed = self.store.all::<ReapEvent>()?.into_iter();
        let owed: Vec<Waiting> = owed.map(|(key, event)| Waiting::new(event, key)).collect();
        self.reap_together(&owed).await;
        for waiting in &owed {
            if let Some(Err(failure)) = waiting.answer.get() {
                tracing::error!(%failure, "a reap that was due failed, and stays due");
            }
        }
        Ok(owed.len())
    }

    async fn reap_together(self: &Arc<Self>, gathered: &[Waiting]) {
        for reason in [ReapReason::Removed, ReapReason::Terminating, ReapReason::Requested] {
            let alike: Vec<&Waiting> =
                gathered.iter().filter(|waiting| waiting.event.reason == reason).collect();
            if alike.is_empty() {
                continue;
            }
            let keys = alike.iter().map(|waiting| waiting.key.clone()).collect();
            self.metrics.reap_changes.inc_by(alike.len() as u64);
            match self.reap(merged(reason, &alike), keys, false).await {
                Ok(report) => hand_out(report, &alike),
                Err(failure) => {
                    let failure = Arc::new(failure);
                    for waiting in alike {
                        // Each waits for one answer, which is given here alone.
                        let _ = waiting.answer.set(Err(Arc::clone(&failure)));
                    }
                }
            }
        }
    }
}

/// One event of several, with each backend once.
fn merged(reason: ReapReason, alike: &[&Waiting]) -> ReapEvent {
    let mut seen = HashSet::new();
    let mut backends = Vec::new();
    for backend in alike.iter().flat_map(|waiting| &waiting.event.backends) {
        if seen.insert((backend.address, backend.protocol, &backend.service)) {
            backends.push(backend.clone());
        }
    }
    ReapEvent { reason, backends }
}

/// Gives each its part of what was done for all.
fn hand_out(mut report: ReapReport, alike: &[&Waiting]) {
    let mut parts: Vec<Vec<ReapedSocket>> = alike.iter().map(|_| Vec::new()).collect();
    let mut by_service: HashMap<(SocketAddr, Protocol, &Name), usize> = HashMap::new();
    let mut by_address: HashMap<(SocketAddr, Protocol), usize> = HashMap::new();
    for (index, waiting) in alike.iter().enumerate() {
        for backend in &waiting.event.backends {
            by_service.entry((backend.address, backend.protocol, &backend.service)).or_insert(index);
            by_address.entry((backend.address, backend.protocol)).or_insert(index);
        }
    }
    for socket in mem::take(&mut report.sockets) {
        let bound = (socket.view.socket.backend, socket.view.socket.protocol);
        let service = socket.view.service_name.as_ref();
        let index = service
            .and_then(|service| by_service.get(&(bound.0, bound.1, service)))
            .or_else(|| by_address.get(&bound));
        if let Some(part) = index.and_then(|index| parts.get_mut(*index)) {
            part.push(socket);
        }
    }
    for (waiting, sockets) in alike.iter().zip(parts) {
        let total_us = micros(waiting.since.elapsed());
        let _ = waiting.answer.set(Ok(ReapReport { sockets, total_us, ..report.clone() }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use netloom_api::types::{Fate, SocketView};
    use netloom_core::model::{Backend, BoundSocket, NetnsCookie, ServiceId, SocketCookie, SocketState};

    use super::*;

    fn waiting(service: &str, addresses: &[&str]) -> Waiting {
        let backend = |address: &&str| Backend {
            address: address.parse().unwrap(),
            protocol: Protocol::Tcp,
            service: Name::new(service).unwrap(),
        };
        let backends = addresses.iter().map(backend).collect();
        Waiting::new(ReapEvent { reason: ReapReason::Removed, backends }, service.to_owned())
    }

    #[test]
    fn a_backend_that_dies_twice_before_the_pass_is_reaped_once() {
        let (one, two) = (waiting("web", &["10.0.0.1:80"]), waiting("web", &["10.0.0.1:80", "10.0.0.2:80"]));
        let other = waiting("shop", &["10.0.0.1:80"]);
        let event = merged(ReapReason::Removed, &[&one, &two, &other]);
        let names: Vec<_> = event
            .backends
            .iter()
            .map(|backend| (backend.address.to_string(), backend.service.as_str()))
            .collect();
        let expected = [("10.0.0.1:80", "web"), ("10.0.0.2:80", "web"), ("10.0.0.1:80", "shop")];
        assert_eq!(names, expected.map(|(address, service)| (address.to_owned(), service)));
    }

    #[test]
    fn each_is_answered() {
        let (one, two) = (waiting("web", &["10.0.0.1:80"]), waiting("shop", &["10.0.0.2:80"]));
        hand_out(ReapReport::default(), &[&one, &two]);
        assert!([one, two].iter().all(|waiting| matches!(waiting.answer.get(), Some(Ok(_)))));
    }

    fn socket(cookie: u64, backend: &str, service: Option<&str>) -> ReapedSocket {
        let backend = backend.parse().unwrap();
        let socket = BoundSocket {
            cookie: SocketCookie(cookie),
            netns_cookie: NetnsCookie(1),
            protocol: Protocol::Tcp,
            state: SocketState::Established,
            local: "10.0.0.9:4000".parse().unwrap(),
            remote: backend,
            backend,
            service: ServiceId(1),
            age: Duration::ZERO,
            bytes_sent: 0,
            bytes_received: 0,
        };
        let service_name = service.map(|name| Name::new(name).unwrap());
        ReapedSocket { view: SocketView { socket, endpoint: None, service_name }, fate: Fate::Destroyed }
    }

    #[test]
    fn each_is_told_of_the_sockets_of_its_own_backends() {
        let mut one = waiting("web", &["10.0.0.1:80"]);
        one.since = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let two = waiting("shop", &["10.0.0.1:80", "10.0.0.2:80"]);
        let sockets = vec![
            socket(1, "10.0.0.1:80", Some("shop")),
            socket(2, "10.0.0.1:80", Some("web")),
            socket(3, "10.0.0.1:80", None),
            socket(4, "10.0.0.2:80", None),
            socket(5, "10.0.0.3:80", None),
        ];
        hand_out(ReapReport { sockets, find_us: 7, ..ReapReport::default() }, &[&one, &two]);
        let told = |waiting: &Waiting| {
            let report = waiting.answer.get().unwrap().as_ref().unwrap();
            assert_eq!(report.find_us, 7);
            report.sockets.iter().map(|socket| socket.view.socket.cookie.0).collect::<Vec<_>>()
        };
        assert_eq!(told(&one), [2, 3], "its own, and what nobody knows the service of, to the first");
        assert_eq!(told(&two), [1, 4]);
        assert!(one.answer.get().unwrap().as_ref().unwrap().total_us >= 1_000_000, "since it became due");
    }
}
