//! Looking for namespaces, place by place: names, processes, mounts, descriptors, sockets.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use netloom_core::model::{NetnsCookie, NetnsId};
use netloom_sys::ns;

use super::{Netns, NetnsError, id, in_thread, listed};
use crate::mounts;

/// Where `ip netns` and the container runtimes keep named namespaces.
pub(super) const NAMED: &str = "/run/netns";

/// So many names of one namespace are reported; the node's own has one for every process.
const MAX_NAMES: usize = 8;

pub(super) type Stage = fn(&mut Search);

/// Cheapest first, so that a search for one namespace may stop early.
pub(super) const STAGES: [Stage; 4] = [Search::named, Search::processes, Search::mounts, Search::descriptors];

pub(super) struct Search {
    processes: Vec<i32>,
    /// The device of nsfs: links show the inode only.
    nsfs: u64,
    pub(super) found: BTreeMap<NetnsId, (Netns, Vec<PathBuf>)>,
}

impl Search {
    pub(super) fn new() -> Result<Self, NetnsError> {
        let processes = fs::read_dir("/proc")
            .map_err(|source| NetnsError::Proc { source })?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        let nsfs = Netns::current()?.id().device;
        Ok(Self { processes, nsfs, found: BTreeMap::new() })
    }

    /// Takes all that the kernel lists; false if it does not.
    pub(super) fn listed(&mut self) -> bool {
        let Some(all) = listed::all() else { return false };
        self.found.extend(all.into_iter().map(|netns| (netns.id(), (netns, Vec::new()))));
        true
    }

    /// Takes a path for a way to a namespace.
    fn offer(&mut self, id: NetnsId, path: PathBuf) {
        if let Some((_, names)) = self.found.get_mut(&id) {
            if names.len() < MAX_NAMES {
                names.push(path);
            }
        } else if let Ok(netns) = Netns::open(&path) {
            // Between the look and the opening it may have become another one: what is open counts.
            self.offer_open(netns, path);
        }
    }

    /// Takes a path for a way to the namespace that was opened by it.
    fn offer_open(&mut self, netns: Netns, path: PathBuf) {
        let (_, names) = self.found.entry(netns.id()).or_insert_with(|| (netns, Vec::new()));
        if names.len() < MAX_NAMES {
            names.push(path);
        }
    }

    pub(super) fn named(&mut self) {
        for entry in fs::read_dir(NAMED).into_iter().flatten().flatten() {
            // The file below a name whose mount is gone is on another device, and is turned away when opened.
            if let Some(id) = stat(&entry.path()) {
                self.offer(id, entry.path());
            }
        }
    }

    pub(super) fn processes(&mut self) {
        for pid in self.processes.clone() {
            let process = PathBuf::from(format!("/proc/{pid}/ns/net"));
            let Some(own) = stat(&process) else { continue };
            self.offer(own, process);
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let path = task.path().join("ns/net");
                // A thread's path is a name only where it differs from its process's.
                if let Some(id) = stat(&path)
                    && id != own
                {
                    self.offer(id, path);
                }
            }
        }
    }

    fn mounts(&mut self) {
        let mut seen = BTreeSet::new();
        for pid in self.processes.clone() {
            let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { continue };
            if !seen.insert(namespace) {
                continue;
            }
            let Ok(table) = fs::read_to_string(format!("/proc/{pid}/mountinfo")) else { continue };
            for mount in mounts::parse(&table) {
                let Some(inode) = net_inode(&mount.root) else { continue };
                let point = mount.point;
                let id = NetnsId { device: self.nsfs, inode };
                // A name once known by its plain path is not repeated by each mount namespace that copied it.
                if !self.found.get(&id).is_some_and(|(_, names)| names.contains(&point)) {
                    // Whoever mounted it chose the path: it is taken beneath the root, and what is opened counts.
                    let relative = point.strip_prefix("/").unwrap_or(&point);
                    let through = Path::new(&format!("/proc/{pid}/root")).join(relative);
                    let here = match ns::open_beneath(Path::new("/"), relative) {
                        Ok(ns::Opened::Net(fd, identity)) => Some(Netns::from_parts(fd, identity)),
                        _ => None,
                    };
                    match here.filter(|netns| netns.id() == id) {
                        Some(netns) => self.offer_open(netns, point),
                        None => {
                            if let Ok(netns) = Netns::open(&through) {
                                self.offer_open(netns, through);
                            }
                        }
                    }
                }
            }
        }
    }

    fn descriptors(&mut self) {
        for pid in self.processes.clone() {
            for (path, target) in descriptors(pid) {
                let inode = target.to_str().and_then(net_inode);
                // Every agent of the node holds descriptors; one tells something only of a namespace nothing
                // else keeps.
                if let Some(id) = inode.map(|inode| NetnsId { device: self.nsfs, inode })
                    && self.found.get(&id).is_none_or(|(_, names)| names.is_empty())
                    && !self.is_own(pid, &path)
                    && let Ok(netns) = Netns::open(&path)
                {
                    self.offer_open(netns, path);
                }
            }
        }
    }

    /// Whether a descriptor is one that this search holds a namespace by.
    fn is_own(&self, pid: i32, path: &Path) -> bool {
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        u32::try_from(pid) == Ok(std::process::id())
            && self.found.values().any(|(netns, _)| Some(netns.fd().as_raw_fd()) == number)
    }

    /// The last resort: copies every socket of every process to ask it for its namespace.
    pub(super) fn by_socket(
        &self,
        mut missing: BTreeSet<NetnsCookie>,
        into: &mut HashMap<NetnsCookie, Netns>,
    ) {
        for pid in &self.processes {
            let Ok(process) = ns::Process::open(*pid) else { continue };
            for (path, target) in descriptors(*pid) {
                if missing.is_empty() {
                    return;
                }
                if !target.to_str().is_some_and(|target| target.starts_with("socket:[")) {
                    continue;
                }
                let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
                let Some(socket) = number.and_then(|number| process.fd(number).ok()) else { continue };
                let Ok(cookie) = ns::socket_cookie(socket.as_fd()).map(NetnsCookie) else { continue };
                if missing.contains(&cookie)
                    && let Ok((fd, identity)) = ns::of_socket(socket.as_fd())
                {
                    missing.remove(&cookie);
                    into.insert(cookie, Netns::from_parts(fd, identity));
                }
            }
        }
    }
}

fn descriptors(pid: i32) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.path(), fs::read_link(entry.path()).ok()?)))
}

pub(super) fn stat(path: &Path) -> Option<NetnsId> {
    let metadata = fs::metadata(path).ok()?;
    Some(id(ns::Identity { device: metadata.dev(), inode: metadata.ino() }))
}

/// `net:[4026531840]`, as links of `/proc` and roots of nsfs mounts show it.
fn net_inode(text: &str) -> Option<u64> {
    text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// The cookies of many namespaces, by one thread that visits them all.
pub(super) fn cookies(netns: &[Netns]) -> Result<Vec<NetnsCookie>, NetnsError> {
    in_thread(|| {
        netns
            .iter()
            .map(|netns| {
                if let Some(cookie) = netns.0.cookie.get() {
                    return Ok(*cookie);
                }
                let id = netns.id();
                ns::enter(netns.fd()).map_err(|source| NetnsError::Enter { netns: id, source })?;
                let cookie: io::Result<u64> = ns::current_cookie();
                let cookie = NetnsCookie(cookie.map_err(|source| NetnsError::Cookie { netns: id, source })?);
                Ok(*netns.0.cookie.get_or_init(|| cookie))
            })
            .collect()
    })?
}
