//! Where each namespace was last found. A thread keeps it up to date: it looks anew when a named namespace comes or
//! goes, when a device of the node gets its peer in another namespace, and every half minute for whatever else there
//! is. Paths only: holding a namespace open would keep every dead endpoint's devices alive. A kernel that lists its
//! namespaces is asked instead.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use netloom_core::model::{NetnsCookie, NetnsId};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify,
    time::Timespec,
};

use super::{
    Netns, NetnsError, listed,
    search::{NAMED, Search, cookies, stat},
};

/// The multicast group in which the kernel tells that a namespace has become known to this one.
const RTNLGRP_NSID: u32 = 28;

/// At the longest between two looks.
const INTERVAL: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// After a look, and before one that an event led to: a pod that starts causes several events, and a new name is made
/// before its namespace is mounted on it.
const REST: Duration = Duration::from_millis(200);

/// More than this is stale for the most part: namespaces come and go, and their cookies are never reused.
const MAX_KNOWN: usize = 16_384;

struct Known {
    id: NetnsId,
    path: PathBuf,
}

static KNOWN: LazyLock<Mutex<HashMap<NetnsCookie, Known>>> = LazyLock::new(Mutex::default);
static WALKS: AtomicU64 = AtomicU64::new(0);

/// What the index holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexStatus {
    /// How many namespaces it knows, by the kind of place where each was found: `name`, `process`, `mount`,
    /// `descriptor`; `kernel` for all of them, where the kernel lists them.
    pub known: BTreeMap<&'static str, usize>,
    /// How often all places of the node had to be gone through for a namespace that it did not know.
    pub walks: u64,
}

/// What the index holds at the moment.
#[must_use]
pub fn status() -> IndexStatus {
    let mut status = IndexStatus { walks: WALKS.load(Ordering::Relaxed), ..IndexStatus::default() };
    if let Some(all) = listed::all() {
        status.known.insert("kernel", all.len());
        return status;
    }
    for known in known().values() {
        *status.known.entry(place(&known.path)).or_default() += 1;
    }
    status
}

/// Whether it has a namespace with this cookie.
#[must_use]
pub fn knows(cookie: NetnsCookie) -> bool {
    listed::by_cookie(cookie).is_some() || known().contains_key(&cookie)
}

/// Brings the index up to date with the named namespaces and those of processes, and forgets those that are gone.
///
/// # Errors
/// [`NetnsError`] if `/proc` cannot be read or a namespace not be asked for its cookie.
pub fn refresh() -> Result<(), NetnsError> {
    let mut search = Search::new()?;
    search.named();
    search.processes();
    known().retain(|_, known| search.found.contains_key(&known.id) || stat(&known.path) == Some(known.id));
    let seen: HashMap<NetnsId, PathBuf> =
        known().values().map(|known| (known.id, known.path.clone())).collect();
    let new: Vec<(Netns, PathBuf)> = search
        .found
        .into_iter()
        // What is known stays known, unless it has to be found elsewhere from now on.
        .filter(|(id, _)| seen.get(id).is_none_or(|path| stat(path) != Some(*id)))
        .filter_map(|(_, (netns, names))| Some((netns, names.into_iter().next()?)))
        .collect();
    let namespaces: Vec<Netns> = new.iter().map(|(netns, _)| netns.clone()).collect();
    for (cookie, (netns, path)) in cookies(&namespaces)?.into_iter().zip(new) {
        remember(cookie, netns.id(), path);
    }
    Ok(())
}

/// Keeps the index up to date from now on, on a thread of its own in the namespace of the calling one. Where the
/// kernel tells nothing, what is left is to look every half minute. One that lists its namespaces needs no index.
///
/// # Errors
/// If the thread cannot be started.
pub fn keep_up_to_date() -> io::Result<()> {
    if listed::is_available() {
        return Ok(());
    }
    thread::Builder::new().name("namespaces".into()).spawn(|| {
        let events = Events::listen();
        loop {
            // A node without `/proc` has told so already, to whoever looked for a namespace.
            refresh().unwrap_or_default();
            thread::sleep(REST);
            events.wait();
            thread::sleep(REST);
        }
    })?;
    Ok(())
}

/// What tells that there may be another namespace.
struct Events {
    names: Option<OwnedFd>,
    peers: Option<Socket>,
}

impl Events {
    fn listen() -> Self {
        Self { names: names(), peers: peers().ok() }
    }

    /// Until there is one, or for so long.
    fn wait(&self) {
        let sources: Vec<BorrowedFd<'_>> =
            self.names.iter().map(AsFd::as_fd).chain(self.peers.iter().map(AsFd::as_fd)).collect();
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().map(|source| PollFd::from_borrowed_fd(*source, PollFlags::IN)).collect();
        // An interrupted wait is a short one.
        let _ = poll(&mut polled, Some(&INTERVAL));
        self.drain();
    }

    /// What they say in detail does not matter.
    fn drain(&self) {
        if let Some(names) = &self.names {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            while inotify::Reader::new(names, &mut buffer).next().is_ok() {}
        }
        if let Some(peers) = &self.peers {
            let mut buffer = Vec::with_capacity(4096);
            while peers.recv(&mut buffer, 0).is_ok() {
                buffer.clear();
            }
        }
    }
}

/// Tells of names. The folder is made if it is not there: `ip netns` and the container runtimes make it as well.
fn names() -> Option<OwnedFd> {
    let events = inotify::WatchFlags::CREATE | inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVED_TO;
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let watcher = inotify::init(flags).ok()?;
    std::fs::create_dir_all(NAMED).ok()?;
    inotify::add_watch(&watcher, NAMED, events).ok()?;
    Some(watcher)
}

/// Tells of namespaces in which a device of this one gets its peer.
fn peers() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.add_membership(RTNLGRP_NSID)?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// The namespace where it was found before, if it is there still.
pub(super) fn recall(cookie: NetnsCookie) -> Option<Netns> {
    let path = known().get(&cookie).map(|known| known.path.clone())?;
    let netns = Netns::open(&path).ok().filter(|netns| netns.cookie().ok() == Some(cookie));
    if netns.is_none() {
        known().remove(&cookie);
    }
    netns
}

pub(super) fn remember(cookie: NetnsCookie, id: NetnsId, path: PathBuf) {
    let mut known = known();
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
    known.insert(cookie, Known { id, path });
}

/// Counts a walk through all places.
pub(super) fn walked() {
    WALKS.fetch_add(1, Ordering::Relaxed);
}

fn known() -> MutexGuard<'static, HashMap<NetnsCookie, Known>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kind of place that a path leads to.
fn place(path: &Path) -> &'static str {
    let text = path.to_string_lossy();
    if path.starts_with(NAMED) {
        "name"
    } else if !text.starts_with("/proc/") || text.contains("/root/") {
        "mount"
    } else if text.contains("/fd/") {
        "descriptor"
    } else {
        "process"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_by_their_paths() {
        for (path, kind) in [
            ("/run/netns/blue", "name"),
            ("/proc/7/ns/net", "process"),
            ("/proc/7/task/9/ns/net", "process"),
            ("/proc/7/fd/3", "descriptor"),
            ("/proc/7/root/run/hidden", "mount"),
            ("/var/lib/pods/net", "mount"),
        ] {
            assert_eq!(place(Path::new(path)), kind, "{path}");
        }
    }

    #[test]
    fn a_look_finds_this_process() {
        refresh().unwrap();
        let here = Netns::current().unwrap();
        assert_eq!(recall(here.cookie().unwrap()), Some(here));
        assert!(status().known.values().sum::<usize>() > 0);
    }
}
