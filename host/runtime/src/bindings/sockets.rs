use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use netloom_core::{
    grants::{Namespace, NamespacePlace, SocketGrant},
    model::{BoundSocket, DestroyOutcome, NetnsCookie, Protocol, SocketCookie, SocketFilter, canonical},
};
use wasmtime::component::Resource;

use super::{
    convert,
    kernel::{sockets, types as wit},
    operations::{Answer, invalid},
};
use crate::{limits::JUDGE_BATCH, state::State};

/// Backends, namespaces and states of one filter, each, at most.
const CONDITIONS: usize = 4_096;
/// `bound-socket.backend` where the filter names no backends.
const NO_BACKEND: u16 = u16::MAX;

/// An iteration: what it has not given yet.
#[allow(unreachable_pub, reason = "the generated code re-exports it")]
pub struct Iteration(VecDeque<wit::BoundSocket>);

/// The known namespaces by cookie; one can be known in several ways.
struct Known(HashMap<NetnsCookie, Vec<Namespace>>);

impl Known {
    fn covers(&self, grant: &SocketGrant, socket: &BoundSocket) -> bool {
        match self.0.get(&socket.netns_cookie) {
            None => grant.covers(None, socket.backend.port()),
            Some(ways) => ways.iter().any(|way| grant.covers(Some(way), socket.backend.port())),
        }
    }

    fn endpoint(&self, socket: &BoundSocket) -> Option<String> {
        self.0.get(&socket.netns_cookie)?.iter().find_map(|way| match &way.place {
            NamespacePlace::Endpoint { name, .. } => Some(name.to_string()),
            _ => None,
        })
    }
}

impl State {
    fn socket_grant(&self) -> Answer<SocketGrant> {
        self.granted("sockets", |grants| grants.sockets.as_ref())
    }

    async fn known(&self) -> Answer<Known> {
        let mut known: HashMap<NetnsCookie, Vec<Namespace>> = HashMap::new();
        for namespace in self.namespaces().await? {
            known.entry(namespace.cookie).or_default().push(namespace);
        }
        Ok(Known(known))
    }

    async fn iterate_sockets(&mut self, filter: sockets::Filter) -> Answer<Iteration> {
        let grant = self.socket_grant()?;
        let conditions = filter.backends.len().max(filter.states.len()).max(filter.netns_cookies.len());
        if conditions > CONDITIONS {
            return Err(invalid(format!("a filter has at most {CONDITIONS} conditions of a kind")));
        }
        let backends: Vec<SocketAddr> = filter.backends.into_iter().map(Into::into).collect();
        let protocols: Vec<Protocol> = filter.protocols.into_iter().map(Into::into).collect();
        let both = [Protocol::Tcp, Protocol::Udp];
        let transports: &[Protocol] = if protocols.is_empty() { &both } else { &protocols };
        let model = SocketFilter {
            backends: backends
                .iter()
                .flat_map(|address| transports.iter().map(move |protocol| (*address, *protocol)))
                .collect(),
            connected_only: filter.states.is_empty(),
            states: filter.states.into_iter().map(Into::into).collect(),
            netns_cookies: filter.netns_cookies.into_iter().map(NetnsCookie).collect(),
            min_age: Duration::from_nanos(filter.min_age_ns),
            protocols,
        };
        let known = self.known().await?;
        let found = self.operations()?.sockets(model).await?;
        let covered = found.iter().filter(|socket| known.covers(&grant, socket));
        let records = covered.map(|socket| {
            let backend = backends.iter().position(|address| *address == socket.backend);
            let backend = backend.and_then(|at| u16::try_from(at).ok()).unwrap_or(NO_BACKEND);
            convert::socket(socket, known.endpoint(socket), backend)
        });
        Ok(Iteration(records.collect()))
    }

    async fn destroy_sockets(&mut self, given: Vec<wit::BoundSocket>) -> Answer<Vec<sockets::Outcome>> {
        const DESTROY: &str = "sockets.destroy";
        let (grant, operations) = (self.socket_grant()?, self.operations()?);
        self.check_mutate(grant.access, "sockets", DESTROY)?;
        if given.len() > JUDGE_BATCH {
            return Err(invalid(format!("at most {JUDGE_BATCH} sockets can be destroyed in one call")));
        }
        if given.is_empty() {
            return Ok(Vec::new());
        }
        // What the guest says of a socket is not taken at its word: each is found anew, and destroyed as found.
        let backends =
            given.iter().map(|socket| (SocketAddr::from(socket.remote), Protocol::from(socket.protocol)));
        let filter = SocketFilter { backends: unique(backends), ..SocketFilter::default() };
        let found = operations.sockets(filter).await?;
        let found: HashMap<SocketCookie, BoundSocket> =
            found.into_iter().map(|socket| (socket.cookie, socket)).collect();
        let known = self.known().await?;
        let mut outcomes = Vec::with_capacity(given.len());
        let mut doomed = Vec::new();
        for socket in &given {
            let present = found.get(&SocketCookie(socket.cookie));
            outcomes.push(match present {
                None => Some(sockets::Outcome::Gone),
                Some(present) if !is_same(present, socket) => Some(sockets::Outcome::Changed),
                Some(present) => {
                    self.check(known.covers(&grant, present), DESTROY, || {
                        format!("a socket bound to {} in this namespace", present.backend)
                    })?;
                    doomed.push(present.clone());
                    None
                }
            });
        }
        let fates =
            if doomed.is_empty() { Vec::new() } else { operations.destroy(&self.plugin, doomed).await? };
        let mut fates = fates.into_iter().map(|fate| match fate {
            DestroyOutcome::Destroyed => sockets::Outcome::Destroyed,
            DestroyOutcome::Gone => sockets::Outcome::Gone,
            DestroyOutcome::Failed(_) => sockets::Outcome::Failed,
        });
        let complete = outcomes
            .into_iter()
            .map(|outcome| outcome.or_else(|| fates.next()).unwrap_or(sockets::Outcome::Failed));
        Ok(complete.collect())
    }
}

fn unique<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.fold(Vec::new(), |mut seen, item| {
        if !seen.contains(&item) {
            seen.push(item);
        }
        seen
    })
}

fn is_same(present: &BoundSocket, given: &wit::BoundSocket) -> bool {
    present.netns_cookie.0 == given.netns_cookie
        && present.protocol == Protocol::from(given.protocol)
        && canonical(present.local) == SocketAddr::from(given.local)
        && canonical(present.remote) == SocketAddr::from(given.remote)
}

impl sockets::Host for State {
    async fn iterate(&mut self, filter: sockets::Filter) -> wasmtime::Result<Answer<Resource<Iteration>>> {
        self.meter.count_host_call()?;
        match self.iterate_sockets(filter).await {
            Ok(iteration) => Ok(Ok(self.table().push(iteration)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn destroy(
        &mut self,
        given: Vec<wit::BoundSocket>,
    ) -> wasmtime::Result<Answer<Vec<sockets::Outcome>>> {
        self.meter.count_host_call()?;
        Ok(self.destroy_sockets(given).await)
    }
}

impl sockets::HostIterator for State {
    async fn next(
        &mut self,
        iteration: Resource<Iteration>,
        limit: u32,
    ) -> wasmtime::Result<Answer<Vec<wit::BoundSocket>>> {
        self.meter.count_host_call()?;
        let Iteration(left) = self.table().get_mut(&iteration)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if !(1..=JUDGE_BATCH).contains(&limit) {
            return Ok(Err(invalid(format!("a batch has 1 to {JUDGE_BATCH} sockets, not {limit}"))));
        }
        Ok(Ok(left.drain(..limit.min(left.len())).collect()))
    }

    async fn drop(&mut self, iteration: Resource<Iteration>) -> wasmtime::Result<()> {
        self.table().delete(iteration)?;
        Ok(())
    }
}
