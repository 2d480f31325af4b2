//! Finding by sock_diag, a namespace at a time. A TCP socket comes with its binding; for a UDP socket that is
//! looked up afterwards.

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use netloom_core::model::{
    BoundSocket, NetnsCookie, Protocol, ServiceId, SocketCookie, SocketFilter, SocketState, canonical,
};
use netloom_ebpf::layout::Binding;
use netloom_sys::diag::{Found, Transport};

use super::{
    Conditions, Exact, SocketError, age,
    descriptors::{Wanted, bindings_of},
    everywhere::{diag_in, namespaces, side_by_side},
    monotonic, payload, state_mask,
};
use crate::{
    bindings::{Bindings, BoundBackend},
    netns::Netns,
};

/// A dump asks for the bindings of so many backends at once: each is a descriptor, and a comparison for every socket.
const MAX_BACKENDS: usize = 256;

pub(super) struct Dump(Bindings);

/// A socket in the right state, and to the right address; whether it is bound, is to be seen.
struct Candidate {
    socket: Found,
    netns_cookie: NetnsCookie,
    protocol: Protocol,
    binding: Option<Binding>,
}

impl Dump {
    pub(super) fn open(pins: &Path) -> Result<Self, SocketError> {
        Ok(Self(Bindings::open(pins)?))
    }

    pub(super) fn find(&self, filter: &SocketFilter) -> Result<Vec<Exact>, SocketError> {
        let namespaces = namespaces(filter)?;
        let backends = if filter.backends.is_empty() {
            self.0.backends()?.into_iter().map(|(backend, _)| backend).collect()
        } else {
            filter.backends.clone()
        };
        let conditions = Conditions::new(filter);
        let mut found: HashMap<SocketCookie, Exact> = HashMap::new();
        for chunk in backends.chunks(MAX_BACKENDS) {
            let mut storages = Vec::new();
            for backend in chunk {
                storages.extend(self.0.storage(*backend)?.map(|(_, storage)| storage));
            }
            let search = Search { filter, backends: chunk, storages };
            let candidates = side_by_side(&namespaces, |(cookie, netns)| search.candidates(*cookie, netns));
            let mut candidates: Vec<Candidate> =
                candidates.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
            self.complete(&mut candidates, chunk)?;
            let now = monotonic();
            let exact = candidates.iter().filter_map(|candidate| exact(candidate, now));
            let wanted = exact.filter(|exact| conditions.hold(&exact.socket));
            found.extend(wanted.map(|exact| (exact.socket.cookie, exact)));
        }
        Ok(found.into_values().collect())
    }

    /// Looks up the bindings that did not come along.
    fn complete(&self, candidates: &mut [Candidate], backends: &[BoundBackend]) -> Result<(), SocketError> {
        let wanted = candidates.iter().filter(|candidate| candidate.binding.is_none()).map(|candidate| {
            let socket = &candidate.socket;
            let remote = canonical(socket.remote);
            let backends =
                if remote.port() == 0 { backends.to_vec() } else { vec![(remote, candidate.protocol)] };
            (socket.inode, Wanted { cookie: SocketCookie(socket.cookie), backends })
        });
        let bindings: HashMap<u32, Binding> = bindings_of(&self.0, wanted.collect())?.into_iter().collect();
        for candidate in candidates.iter_mut().filter(|candidate| candidate.binding.is_none()) {
            candidate.binding = bindings.get(&candidate.socket.inode).copied();
        }
        Ok(())
    }
}

struct Search<'a> {
    filter: &'a SocketFilter,
    backends: &'a [BoundBackend],
    storages: Vec<OwnedFd>,
}

impl Search<'_> {
    /// The candidates of one namespace. Moves the calling thread there.
    fn candidates(&self, netns_cookie: NetnsCookie, netns: &Netns) -> Result<Vec<Candidate>, SocketError> {
        let mut diag = diag_in(netns)?;
        let filter = self.filter;
        let states = state_mask(filter);
        let only_connected = SocketState::ALL
            .into_iter()
            .all(|state| state.is_connected() || states & (1 << state.number()) == 0);
        let storages: Vec<BorrowedFd<'_>> = self.storages.iter().map(AsFd::as_fd).collect();
        let mut candidates = Vec::new();
        for (protocol, transport) in [(Protocol::Tcp, Transport::Tcp), (Protocol::Udp, Transport::Udp)] {
            let mut remotes: Vec<SocketAddr> = self
                .backends
                .iter()
                .filter(|(_, of)| *of == protocol)
                .map(|(address, _)| canonical(*address))
                .collect();
            let is_wanted = filter.protocols.is_empty() || filter.protocols.contains(&protocol);
            if !is_wanted || remotes.is_empty() {
                continue;
            }
            if !only_connected {
                // An unconnected socket has no remote address to filter by: its binding alone tells.
                remotes.clear();
            }
            diag.dump(transport, states, &remotes, &storages, |socket, stored| {
                let binding = stored.and_then(|stored| stored.first_chunk());
                let binding = binding.map(|bytes| Binding::from_bytes(*bytes));
                // The kernel has been asked about TCP; a UDP socket without a file cannot be asked about.
                if binding.is_some() || (protocol == Protocol::Udp && socket.inode != 0) {
                    candidates.push(Candidate { socket, netns_cookie, protocol, binding });
                }
            })
            .map_err(SocketError::Diag)?;
        }
        Ok(candidates)
    }
}

/// A candidate in the model's words, if it is bound, and to the backend it is connected to.
fn exact(candidate: &Candidate, now: Duration) -> Option<Exact> {
    let Candidate { socket, netns_cookie, protocol, binding } = candidate;
    let binding = binding.as_ref()?;
    let state = SocketState::from_number(socket.state)?;
    let backend = binding.backend_address();
    if state.is_connected() && canonical(socket.remote) != backend {
        return None;
    }
    Some(Exact {
        socket: BoundSocket {
            cookie: SocketCookie(socket.cookie),
            netns_cookie: *netns_cookie,
            protocol: *protocol,
            state,
            local: socket.local,
            remote: socket.remote,
            backend,
            service: ServiceId(binding.service),
            age: age(now, binding.bound_at),
            bytes_sent: payload(socket.bytes_acked),
            bytes_received: socket.bytes_received,
        },
        device: socket.device,
    })
}
