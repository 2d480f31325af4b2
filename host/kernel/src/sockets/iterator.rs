//! What both kinds of iterators share: the filter in their maps, reading a pass, and the records they write.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    io::{ErrorKind, Read},
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::OnceLock,
    time::Duration,
};

use aya::{
    Btf, Ebpf, EbpfError, Pod,
    maps::{Array, HashMap as BpfHashMap, MapData, MapError},
    programs::Iter,
};
use netloom_core::model::{
    BoundSocket, NetnsCookie, Protocol, ServiceId, SocketCookie, SocketFilter, SocketState, canonical,
};
use netloom_ebpf::layout::{BoundKey, Find, Found, find_only};
use netloom_sys::bpf;

use crate::{kernel_types::KernelTypes, loader};

use super::{Conditions, Exact, SocketError, age, monotonic, payload, state_mask};

const AF_INET6: u8 = 10;

/// What the maps of backends and namespaces hold at most; `sockets.bpf.c`.
pub(super) const MAX_KEYS: usize = 16384;

/// A read gives at most the kernel's buffer of eight pages.
const READ_BUFFER: usize = 64 * 1024;

/// A pass that needs several reads can miss a socket, because sockets come and go between them and the iterator
/// resumes by counting. So it is repeated until it brings nothing new, but not for ever.
const MAX_PASSES: usize = 8;

/// The kernel's structures that the iterators look into: `sock.h` and `backfill.bpf.c`.
const STRUCTURES: [&str; 12] = [
    "bpf_iter__bpf_sk_storage_map",
    "bpf_iter__task_file",
    "bpf_iter__tcp",
    "bpf_iter__udp",
    "bpf_iter_meta",
    "in6_addr",
    "net",
    "refcount_struct",
    "sock",
    "sock_common",
    "socket",
    "tcp_sock",
];

/// The kernel's functions whose programs the iterators are.
const FUNCTIONS: [&str; 4] =
    ["bpf_iter_bpf_sk_storage_map", "bpf_iter_task_file", "bpf_iter_tcp", "bpf_iter_udp"];

/// The iterators' object, its maps in the kernel.
pub(super) struct Object {
    object: Ebpf,
    functions: Btf,
}

impl Object {
    /// Loads an object, with the pinned maps it shares with the service translation.
    pub(super) fn load(bytes: &[u8], pins: &Path) -> Result<Self, SocketError> {
        let types = KernelTypes::read().map_err(SocketError::Btf)?;
        let object = structures(types)
            .and_then(|structures| loader::load(Some(structures), Some(pins), [], bytes))
            .map_err(SocketError::Object)?;
        Ok(Self { object, functions: types.with_functions(&FUNCTIONS) })
    }

    /// Loads one iterator; `target` is what it iterates over, as the kernel calls it.
    pub(super) fn program(&mut self, name: &'static str, target: &str) -> Result<OwnedFd, SocketError> {
        let program: &mut Iter = self
            .object
            .program_mut(name)
            .ok_or(SocketError::Incomplete(name))?
            .try_into()
            .map_err(SocketError::Program)?;
        loader::load_program(|| program.load(target, &self.functions)).map_err(SocketError::Program)?;
        let program = program.fd().map_err(SocketError::Program)?;
        program.as_fd().try_clone_to_owned().map_err(SocketError::Descriptor)
    }

    /// Loads one iterator and makes a link of it, over a map's elements if `target` is a kind of map.
    pub(super) fn link(
        &mut self,
        name: &'static str,
        target: &str,
        map: Option<BorrowedFd<'_>>,
    ) -> Result<OwnedFd, SocketError> {
        let program = self.program(name, target)?;
        bpf::iter_link(program.as_fd(), map)
            .map_err(|source| SocketError::Iterator { command: bpf::command::LINK_CREATE, source })
    }

    /// A copy of the descriptor of one of its maps.
    pub(super) fn descriptor(&mut self, name: &'static str) -> Result<OwnedFd, SocketError> {
        let map = self.object.map(name).ok_or(SocketError::Incomplete(name))?;
        let (aya::maps::Map::SkStorage(data) | aya::maps::Map::Unsupported(data)) = map else {
            return Err(SocketError::Incomplete(name));
        };
        data.fd().as_fd().try_clone_to_owned().map_err(SocketError::Descriptor)
    }

    /// One of its maps.
    pub(super) fn map(&mut self, name: &'static str) -> Result<aya::maps::Map, SocketError> {
        self.object.take_map(name).ok_or(SocketError::Incomplete(name))
    }

    /// The maps of its filter.
    pub(super) fn filter(&mut self) -> Result<FilterMaps, SocketError> {
        Ok(FilterMaps {
            find: self.map("nl_find")?.try_into().map_err(SocketError::Filter)?,
            backends: self.map("nl_find_backend")?.try_into().map_err(SocketError::Filter)?,
            netns: self.map("nl_find_netns")?.try_into().map_err(SocketError::Filter)?,
        })
    }
}

/// The structures as aya takes them, the same for every object.
fn structures(kernel: &KernelTypes) -> Result<&'static Btf, EbpfError> {
    static TYPES: OnceLock<Btf> = OnceLock::new();
    match TYPES.get() {
        Some(types) => Ok(types),
        None => {
            let types = kernel.with_structures(&STRUCTURES)?;
            Ok(TYPES.get_or_init(|| types))
        }
    }
}

/// The filter that the programs look into.
pub(super) struct FilterMaps {
    find: Array<MapData, [u8; Find::SIZE]>,
    backends: BpfHashMap<MapData, [u8; BoundKey::SIZE], u8>,
    netns: BpfHashMap<MapData, u64, u8>,
}

impl FilterMaps {
    /// Sets the filter: of these backends, or of any if there are none.
    pub(super) fn fill(
        &mut self,
        filter: &SocketFilter,
        backends: &[(SocketAddr, Protocol)],
    ) -> Result<(), SocketError> {
        self.replace(filter, backends).map_err(SocketError::Filter)
    }

    fn replace(
        &mut self,
        filter: &SocketFilter,
        backends: &[(SocketAddr, Protocol)],
    ) -> Result<(), MapError> {
        clear(&mut self.backends)?;
        clear(&mut self.netns)?;
        let mut conditions = 0;
        for (address, protocol) in backends {
            conditions |= find_only::BACKENDS;
            self.backends.insert(BoundKey::new(canonical(*address), protocol.number()).to_bytes(), 1, 0)?;
        }
        // More than the map holds are told apart here instead.
        if filter.netns_cookies.len() <= MAX_KEYS {
            for cookie in &filter.netns_cookies {
                conditions |= find_only::NETNS;
                self.netns.insert(cookie.0, 1, 0)?;
            }
        }
        let protocols = [(Protocol::Tcp, 1), (Protocol::Udp, 2)]
            .into_iter()
            .filter(|(protocol, _)| filter.protocols.is_empty() || filter.protocols.contains(protocol))
            .fold(0, |mask, (_, bit)| mask | bit);
        let min_age = u64::try_from(filter.min_age.as_nanos()).unwrap_or(u64::MAX);
        let find = Find { min_age, states: state_mask(filter), protocols, conditions };
        self.find.set(0, find.to_bytes(), 0)
    }
}

/// Empties a map.
pub(super) fn clear<K: Pod, V: Pod>(map: &mut BpfHashMap<MapData, K, V>) -> Result<(), MapError> {
    let keys: Vec<_> = map.keys().collect::<Result<_, _>>()?;
    keys.iter().try_for_each(|key| map.remove(key))
}

/// One pass of an iterator that is run for what it does; how many bytes it wrote nevertheless.
pub(super) fn run(link: &OwnedFd) -> Result<usize, SocketError> {
    let mut buffer = vec![0; READ_BUFFER];
    let mut iterator = start(link)?;
    let mut bytes = 0;
    loop {
        match iterator.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(len) => bytes += len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(SocketError::Read(error)),
        }
    }
}

fn start(link: &OwnedFd) -> Result<File, SocketError> {
    bpf::iter_create(link.as_fd())
        .map(File::from)
        .map_err(|source| SocketError::Iterator { command: bpf::command::ITER_CREATE, source })
}

/// Reads an iterator's link in the calling thread's namespace, until a pass brings nothing new.
pub(super) fn passes(
    link: &OwnedFd,
    conditions: &Conditions<'_>,
    found: &mut HashMap<SocketCookie, Exact>,
) -> Result<(), SocketError> {
    for number in 0..MAX_PASSES {
        let before = found.len();
        let reads = pass(link, conditions, found)?;
        // A pass in several reads that brings nothing may have missed all there is: it takes two to believe that.
        let brought_nothing = found.len() == before && number > 0;
        if reads <= 1 || brought_nothing {
            break;
        }
    }
    Ok(())
}

/// One pass; the number of reads it took.
fn pass(
    link: &OwnedFd,
    conditions: &Conditions<'_>,
    found: &mut HashMap<SocketCookie, Exact>,
) -> Result<usize, SocketError> {
    let mut iterator = start(link)?;
    let mut buffer = vec![0; READ_BUFFER];
    let mut reads = 0;
    loop {
        let len = match iterator.read(&mut buffer) {
            Ok(0) => return Ok(reads),
            Ok(len) => len,
            // The kernel walked its fill of sockets that do not match, and wants to be asked again.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                reads += 1;
                continue;
            }
            Err(error) => return Err(SocketError::Read(error)),
        };
        reads += 1;
        let now = monotonic();
        let (records, rest) = buffer.get(..len).unwrap_or_default().as_chunks::<{ Found::SIZE }>();
        if !rest.is_empty() {
            return Err(SocketError::Record(len));
        }
        for record in records {
            if let Some(exact) = exact(&Found::from_bytes(*record), now)
                && conditions.hold(&exact.socket)
            {
                match found.entry(exact.socket.cookie) {
                    Entry::Vacant(entry) => drop(entry.insert(exact)),
                    // A socket that was bound to this backend before, and connected elsewhere in between, may
                    // be in a storage that another backend has since: the younger binding is the present one.
                    Entry::Occupied(mut entry) if exact.socket.age < entry.get().socket.age => {
                        entry.insert(exact);
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
    }
}

/// A record in the model's words; none if it has a protocol or state that the model does not know.
fn exact(record: &Found, now: Duration) -> Option<Exact> {
    let is_v6 = record.family == AF_INET6;
    let address = |address: [u8; 16], port: u16| {
        let ip = Ipv6Addr::from(address);
        if is_v6 {
            // A link-local address means nothing without its device.
            let scope = if ip.is_unicast_link_local() { record.device } else { 0 };
            SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope))
        } else {
            canonical(SocketAddr::new(ip.into(), port))
        }
    };
    Some(Exact {
        socket: BoundSocket {
            cookie: SocketCookie(record.cookie),
            netns_cookie: NetnsCookie(record.netns_cookie),
            protocol: Protocol::from_number(record.protocol)?,
            state: SocketState::from_number(record.state)?,
            local: address(record.local.to_bytes(), record.local_port),
            remote: address(record.remote.to_bytes(), record.remote_port.get()),
            backend: SocketAddr::new(record.backend.into(), record.backend_port.get()),
            service: ServiceId(record.service),
            age: age(now, record.bound_at),
            bytes_sent: payload(record.bytes_acked),
            bytes_received: record.bytes_received,
        },
        device: record.device,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_alone_relocate_the_iterators_as_all_of_the_kernels_types_do() {
        let kernel = KernelTypes::read();
        if !netloom_test_support::require_condition(kernel.is_ok(), "btf", "run it on a kernel with BTF") {
            return;
        }
        let all = Btf::from_sys_fs().unwrap();
        for bytes in [netloom_ebpf::SOCKETS, netloom_ebpf::SOCKDESTROY, netloom_ebpf::BACKFILL] {
            let relocated = |types| {
                let mut object = aya_obj::Object::parse(bytes).unwrap();
                object.relocate_btf(types).unwrap();
                format!("{:?}", object.functions)
            };
            let some = relocated(structures(kernel.as_ref().unwrap()).unwrap());
            assert_eq!(some, relocated(&all));
            assert_ne!(some, relocated(&Btf::new()), "it would be the same without");
        }
    }
}
