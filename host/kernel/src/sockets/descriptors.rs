//! The binding of a socket that is only known by its inode: through a copy of a file descriptor that refers to it.
//! The kernel's own way to ask for a UDP socket's binding without an iterator is a lookup by descriptor.

use std::{collections::HashMap, fs, os::fd::OwnedFd};

use aya::maps::{Map, MapData, MapError, SkStorage};
use netloom_core::model::SocketCookie;
use netloom_ebpf::{layout::Binding, shard::Shard};
use netloom_sys::ns::Process;
use rustix::net::sockopt;

use super::SocketError;

/// The shards, for lookups by descriptor.
pub(super) struct Bindings(Vec<SkStorage<MapData, [u8; Binding::SIZE]>>);

/// A socket whose binding is wanted.
pub(super) struct Wanted {
    pub(super) cookie: SocketCookie,
    /// The shard of the address it is connected to; none if it is not connected.
    pub(super) shard: Option<Shard>,
}

impl Bindings {
    pub(super) fn open(shards: &[OwnedFd]) -> Result<Self, SocketError> {
        let open = |shard: &OwnedFd| -> Result<_, MapError> {
            Map::from_map_data(MapData::from_fd(shard.try_clone()?)?)?.try_into()
        };
        Ok(Self(shards.iter().map(open).collect::<Result<_, _>>().map_err(SocketError::Bindings)?))
    }

    /// The bindings of sockets, by inode. One that no process has a descriptor of, or that has no binding, is left
    /// out. Goes through the descriptors of every process, once.
    pub(super) fn of(&self, mut wanted: HashMap<u32, Wanted>) -> Vec<(u32, Binding)> {
        let mut found = Vec::new();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
            if wanted.is_empty() {
                break;
            }
            let mut process = None;
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let inode =
                    fs::read_link(entry.path()).ok().and_then(|target| socket_inode(target.to_str()?));
                let Some((inode, socket)) = inode.and_then(|inode| Some((inode, wanted.get(&inode)?))) else {
                    continue;
                };
                if process.is_none() {
                    process = Process::open(pid).ok();
                }
                let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
                let copy = process.as_ref().zip(number).and_then(|(process, number)| process.fd(number).ok());
                // The descriptor may have become another's since it was looked at.
                let Some(copy) = copy.filter(|copy| sockopt::socket_cookie(copy) == Ok(socket.cookie.0))
                else {
                    continue;
                };
                let shards = self.0.iter().enumerate();
                let binding = shards
                    .filter(|(index, _)| socket.shard.is_none_or(|shard| shard.index() == *index))
                    .find_map(|(_, shard)| shard.get(&copy, 0).ok());
                if let Some(binding) = binding {
                    found.push((inode, Binding::from_bytes(binding)));
                }
                wanted.remove(&inode);
            }
        }
        found
    }
}

/// `socket:[4711]`.
fn socket_inode(text: &str) -> Option<u32> {
    text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}
