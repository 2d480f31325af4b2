//! Work in many namespaces: which they are, and threads that go there.

use std::{
    num::NonZero,
    os::fd::AsFd,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use netloom_core::model::{NetnsCookie, SocketFilter};
use netloom_sys::{diag::DiagSocket, ns};

use super::SocketError;
use crate::netns::{self, Netns, NetnsError};

/// The kernel serves one sock_diag request at a time, so that more threads than this only wait. They pay off
/// because opening a namespace and its socket is a good part of the work.
const MAX_THREADS: usize = 4;

/// The namespaces that a filter is about.
pub(super) fn namespaces(filter: &SocketFilter) -> Result<Vec<(NetnsCookie, Netns)>, SocketError> {
    if filter.netns_cookies.is_empty() {
        return Ok(netns::all()?.into_iter().map(|found| (found.cookie, found.netns)).collect());
    }
    Ok(netns::by_cookies(filter.netns_cookies.iter().copied()).into_iter().collect())
}

/// Runs work on each item on a few threads, which may change their namespace as they like.
pub(super) fn side_by_side<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let available = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = available.min(MAX_THREADS).min(items.len());
    let mut done: Vec<(usize, T)> = thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(index) else { return done };
                done.push((index, work(item)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, value)| value).collect()
}

/// A sock_diag socket in a namespace, to which the calling thread moves.
pub(super) fn diag_in(netns: &Netns) -> Result<DiagSocket, SocketError> {
    enter(netns)?;
    DiagSocket::open().map_err(SocketError::Diag)
}

/// Moves the calling thread to a namespace.
pub(super) fn enter(netns: &Netns) -> Result<(), SocketError> {
    ns::enter(netns.as_fd()).map_err(|source| NetnsError::Enter { netns: netns.id(), source })?;
    Ok(())
}
