//! Destroying exact sockets in their namespaces, and making sure of it.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use netloom_core::model::{
    BoundSocket, DestroyFailureKind, DestroyOutcome, NetnsCookie, Protocol, SocketFilter, SocketState,
    canonical,
};
use netloom_sys::diag::{Found, SocketId, Transport};

use super::{
    Exact, SocketError,
    error::chain,
    everywhere::{diag_in, side_by_side},
    namespaces::Kfunc,
    ways::Destroy,
};
use crate::netns::{self, Netns};

/// What became of one socket, as far as one round can tell.
#[derive(Clone, Debug)]
enum Round {
    Done(DestroyOutcome),
    /// There is no such socket at these addresses.
    Absent,
    /// Its namespace cannot be found.
    NoNamespace,
}

pub(super) fn destroy(
    way: &Destroy,
    sockets: &[BoundSocket],
    find: impl Fn(&SocketFilter) -> Result<Vec<Exact>, SocketError>,
) -> Result<Vec<DestroyOutcome>, SocketError> {
    let wanted: Vec<Exact> = sockets.iter().map(from_model).collect();
    let first = match way {
        Destroy::SockDiag => round(&wanted, destroy_in),
        Destroy::Namespaces(kfunc) => round(&wanted, |netns, members| by_iterator(kfunc, netns, members)),
        Destroy::Nothing => return Err(SocketError::ReportOnly("there is no way to destroy them")),
    };
    let open: Vec<usize> = (0..first.len())
        .filter(|index| matches!(first.get(*index), Some(Round::Absent | Round::NoNamespace)))
        .collect();
    let second =
        if open.is_empty() { HashMap::new() } else { second_look(way, &wanted, &first, &open, find)? };
    Ok(first
        .into_iter()
        .enumerate()
        .map(|(index, round)| match (round, second.get(&index)) {
            (Round::Done(outcome), _) => outcome,
            (_, Some(outcome)) => outcome.clone(),
            (Round::Absent | Round::NoNamespace, None) => DestroyOutcome::Gone,
        })
        .collect())
}

/// "Absent" has two meanings: gone, or hidden: the kernel needs the device that a socket is bound to, and shows
/// only one of several UDP sockets that share their addresses. The bindings tell which, and on what device.
fn second_look(
    way: &Destroy,
    wanted: &[Exact],
    first: &[Round],
    open: &[usize],
    find: impl Fn(&SocketFilter) -> Result<Vec<Exact>, SocketError>,
) -> Result<HashMap<usize, DestroyOutcome>, SocketError> {
    let open_sockets = || open.iter().filter_map(|index| Some((*index, wanted.get(*index)?)));
    let mut filter = SocketFilter {
        backends: open_sockets().map(|(_, exact)| (exact.socket.backend, exact.socket.protocol)).collect(),
        netns_cookies: open_sockets().map(|(_, exact)| exact.socket.netns_cookie).collect(),
        ..SocketFilter::default()
    };
    filter.backends.sort_unstable();
    filter.backends.dedup();
    filter.netns_cookies.sort_unstable();
    filter.netns_cookies.dedup();
    let mut left: HashMap<_, _> =
        find(&filter)?.into_iter().map(|exact| (exact.socket.cookie, exact)).collect();

    let mut hidden = Vec::new();
    let mut outcomes = HashMap::new();
    for (index, exact) in open_sockets() {
        let Some(still) =
            left.remove(&exact.socket.cookie).filter(|still| is_same(&exact.socket, &still.socket))
        else {
            continue;
        };
        if matches!(first.get(index), Some(Round::NoNamespace)) {
            let cookie = exact.socket.netns_cookie;
            let reason =
                format!("its network namespace (cookie {cookie}) lives on but cannot be found in /proc");
            outcomes.insert(index, DestroyFailureKind::Namespace.because(reason));
        } else {
            hidden.push((index, still));
        }
    }
    let (indexes, again): (Vec<usize>, Vec<Exact>) = hidden.into_iter().unzip();
    let rounds = match way {
        // The iterator meets every socket: one that it did not destroy is connected elsewhere.
        Destroy::Namespaces(_) | Destroy::Nothing => vec![Round::Absent; again.len()],
        Destroy::SockDiag => round(&again, destroy_in),
    };
    for (index, round) in indexes.into_iter().zip(rounds) {
        outcomes.insert(
            index,
            match round {
                Round::Done(outcome) => outcome,
                Round::Absent | Round::NoNamespace => DestroyFailureKind::LivesOn
                    .because("it lives on, but the kernel finds another socket, or none, by its addresses"),
            },
        );
    }
    Ok(outcomes)
}

/// Whether a binding that is still there is the socket as it was to be destroyed. One that was closed or aborted
/// keeps its binding as long as a program holds it, and one that was connected elsewhere since is another's.
fn is_same(wanted: &BoundSocket, still: &BoundSocket) -> bool {
    let is_alive =
        still.state.is_connected() || (wanted.protocol == Protocol::Udp && wanted.state == still.state);
    is_alive && still.backend == wanted.backend && still.remote == wanted.remote
}

/// Goes through all namespaces once.
fn round(
    wanted: &[Exact],
    destroy_in: impl Fn(&Netns, &[&Exact]) -> Result<Vec<Round>, SocketError> + Sync,
) -> Vec<Round> {
    let mut by_netns: BTreeMap<NetnsCookie, Vec<usize>> = BTreeMap::new();
    for (index, exact) in wanted.iter().enumerate() {
        by_netns.entry(exact.socket.netns_cookie).or_default().push(index);
    }
    let found = netns::by_cookies(by_netns.keys().copied());
    let groups: Vec<(NetnsCookie, Vec<usize>)> = by_netns.into_iter().collect();
    let rounds = side_by_side(&groups, |(cookie, indexes)| {
        let members: Vec<&Exact> = indexes.iter().filter_map(|index| wanted.get(*index)).collect();
        let Some(netns) = found.get(cookie) else {
            return vec![Round::NoNamespace; members.len()];
        };
        destroy_in(netns, &members).unwrap_or_else(|error| {
            let reason = format!("in its network namespace {netns}: {}", chain(&error));
            vec![Round::Done(DestroyFailureKind::Namespace.because(reason)); members.len()]
        })
    });
    let mut outcomes = vec![Round::Absent; wanted.len()];
    for ((_, indexes), rounds) in groups.into_iter().zip(rounds) {
        for (index, round) in indexes.into_iter().zip(rounds) {
            if let Some(outcome) = outcomes.get_mut(index) {
                *outcome = round;
            }
        }
    }
    outcomes
}

/// Destroys sockets of one namespace with `bpf_sock_destroy`. Moves the calling thread there.
///
/// The iterator has the socket locked and its peer compared when it destroys it. What it did not meet is looked for
/// once more by whoever called.
fn by_iterator(kfunc: &Kfunc, netns: &Netns, sockets: &[&Exact]) -> Result<Vec<Round>, SocketError> {
    let results = kfunc.destroy(netns, sockets)?;
    let outcome = |result| match result {
        Ok(true) => Round::Done(DestroyOutcome::Destroyed),
        Ok(false) => Round::Absent,
        Err(error) => Round::Done(DestroyFailureKind::Refused.because(format!("bpf_sock_destroy: {error}"))),
    };
    Ok(results.into_iter().map(outcome).collect())
}

/// Destroys sockets of one namespace. Moves the calling thread there.
fn destroy_in(netns: &Netns, sockets: &[&Exact]) -> Result<Vec<Round>, SocketError> {
    let mut diag = diag_in(netns)?;
    let ids: Vec<SocketId> = sockets.iter().map(|exact| id(exact)).collect();
    let destroyed = diag.destroy(&ids).map_err(SocketError::Diag)?;
    let acknowledged: Vec<SocketId> =
        ids.iter().zip(&destroyed).filter(|(_, done)| matches!(done, Ok(true))).map(|(id, _)| *id).collect();
    let mut after = diag.lookup(&acknowledged).map_err(SocketError::Diag)?.into_iter();
    Ok(destroyed
        .into_iter()
        .zip(sockets)
        .map(|(done, exact)| match done {
            Ok(false) => Round::Absent,
            Err(failure) => Round::Done(DestroyFailureKind::Refused.because(failure.to_string())),
            Ok(true) => Round::Done(match after.next() {
                Some(Ok(found)) if found.is_none_or(|found| is_destroyed(exact, &found)) => {
                    DestroyOutcome::Destroyed
                }
                Some(Ok(_)) => DestroyFailureKind::LivesOn
                    .because("the kernel said that it is destroyed, but it lives on"),
                Some(Err(failure)) => DestroyFailureKind::Unverified.because(failure.to_string()),
                None => DestroyFailureKind::Unverified.because("whether it is gone could not be verified"),
            }),
        })
        .collect())
}

/// Whether a socket that is still in the kernel's table was destroyed nevertheless. A UDP socket that was given
/// its port by `bind` stays there without its peer; an unconnected one is told of its end and is otherwise as
/// before.
fn is_destroyed(before: &Exact, after: &Found) -> bool {
    let is_udp = before.socket.protocol == Protocol::Udp;
    is_udp && SocketState::from_number(after.state) == Some(SocketState::Close)
}

fn id(exact: &Exact) -> SocketId {
    let socket = &exact.socket;
    SocketId {
        transport: match socket.protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
        },
        local: canonical(socket.local),
        remote: canonical(socket.remote),
        device: exact.device,
        cookie: socket.cookie.0,
    }
}

fn from_model(socket: &BoundSocket) -> Exact {
    let device = match socket.local {
        SocketAddr::V6(local) => local.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    Exact { socket: socket.clone(), device }
}
