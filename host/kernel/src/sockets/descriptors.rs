//! The binding of a socket that is only known by its inode: through a copy of a file descriptor that refers to it.
//! The kernel's own way to ask for a UDP socket's binding without an iterator is a lookup by descriptor.

use std::{collections::HashMap, fs};

use aya::maps::{Map, MapData, SkStorage};
use netloom_core::model::SocketCookie;
use netloom_ebpf::layout::Binding;
use netloom_sys::ns::Process;
use rustix::net::sockopt;

use super::SocketError;
use crate::bindings::{Bindings, BoundBackend};

/// A socket whose binding is wanted.
pub(super) struct Wanted {
    pub(super) cookie: SocketCookie,
    /// What it may be bound to: the address that it is connected to, or any backend if it is not.
    pub(super) backends: Vec<BoundBackend>,
}

type Storage = SkStorage<MapData, [u8; Binding::SIZE]>;

/// The storages that were opened so far.
struct Storages<'a> {
    bindings: &'a Bindings,
    open: HashMap<BoundBackend, Option<Storage>>,
}

impl Storages<'_> {
    fn of(&mut self, backend: BoundBackend) -> Result<Option<&Storage>, SocketError> {
        if !self.open.contains_key(&backend) {
            let storage = self
                .bindings
                .storage(backend)?
                .map(|(_, fd)| Storage::try_from(Map::from_map_data(MapData::from_fd(fd)?)?));
            self.open.insert(backend, storage.transpose().map_err(SocketError::Binding)?);
        }
        Ok(self.open.get(&backend).and_then(Option::as_ref))
    }
}

/// The bindings of sockets, by inode. One that no process has a descriptor of, or that has no binding, is left out.
/// Goes through the descriptors of every process, once.
pub(super) fn bindings_of(
    bindings: &Bindings,
    mut wanted: HashMap<u32, Wanted>,
) -> Result<Vec<(u32, Binding)>, SocketError> {
    let mut storages = Storages { bindings, open: HashMap::new() };
    let mut found = Vec::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if wanted.is_empty() {
            break;
        }
        let mut process = None;
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let inode = fs::read_link(entry.path()).ok().and_then(|target| socket_inode(target.to_str()?));
            let Some((inode, socket)) = inode.and_then(|inode| Some((inode, wanted.get(&inode)?))) else {
                continue;
            };
            if process.is_none() {
                process = Process::open(pid).ok();
            }
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let copy = process.as_ref().zip(number).and_then(|(process, number)| process.fd(number).ok());
            // The descriptor may have become another's since it was looked at.
            let Some(copy) = copy.filter(|copy| sockopt::socket_cookie(copy) == Ok(socket.cookie.0)) else {
                continue;
            };
            for backend in &socket.backends {
                if let Some(binding) = storages.of(*backend)?.and_then(|storage| storage.get(&copy, 0).ok()) {
                    found.push((inode, Binding::from_bytes(binding)));
                    break;
                }
            }
            wanted.remove(&inode);
        }
    }
    Ok(found)
}

/// `socket:[4711]`.
fn socket_inode(text: &str) -> Option<u32> {
    text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}
