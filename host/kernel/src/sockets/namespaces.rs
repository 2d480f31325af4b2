//! Finding and destroying by `iter/tcp` and `iter/udp`, a namespace at a time: for kernels without an iterator over
//! storages, or without SOCK_DESTROY. Each pass walks all sockets of its namespace; the kernel filters.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Mutex, PoisonError},
};

use aya::maps::{HashMap as BpfHashMap, MapData};
use netloom_core::model::{Protocol, SocketCookie, SocketFilter, SocketState};
use netloom_ebpf::{layout::Doomed, socket_destroyer_with};

use super::{
    Conditions, Exact, PROTOCOLS, SocketError,
    dump::Dump,
    everywhere::{enter, namespaces, side_by_side},
    iterator::{FilterMaps, MAX_KEYS, Object, clear, passes, run},
};
use crate::{kernel_types::KernelTypes, netns::Netns};

/// The links of both protocols' iterators. A link knows no namespace: each pass is of the one it is started in.
pub(super) struct Links {
    tcp: OwnedFd,
    udp: OwnedFd,
}

impl Links {
    pub(super) fn open(
        object: &mut Object,
        tcp: &'static str,
        udp: &'static str,
    ) -> Result<Self, SocketError> {
        Ok(Self { tcp: object.link(tcp, "tcp", None)?, udp: object.link(udp, "udp", None)? })
    }

    pub(super) const fn of(&self, protocol: Protocol) -> &OwnedFd {
        match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        }
    }
}

/// Finds, a namespace at a time.
pub(super) struct Namespaces {
    links: Links,
    /// One search at a time: the filter is in maps.
    filter: Mutex<FilterMaps>,
    /// For sockets without a peer, whose storage the iterators do not know.
    dump: Dump,
}

impl Namespaces {
    pub(super) fn open(pins: &Path) -> Result<Self, SocketError> {
        let mut object = Object::load(netloom_ebpf::SOCKETS, pins)?;
        let links = Links::open(&mut object, "nl_find_tcp", "nl_find_udp")?;
        Ok(Self { links, filter: Mutex::new(object.filter()?), dump: Dump::open(pins)? })
    }

    pub(super) fn find(&self, filter: &SocketFilter) -> Result<Vec<Exact>, SocketError> {
        let namespaces = namespaces(filter)?;
        let mut maps = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = HashMap::new();
        let chunks: Vec<&[_]> = match filter.backends.as_slice() {
            [] => vec![&[]],
            backends => backends.chunks(MAX_KEYS).collect(),
        };
        for chunk in chunks {
            maps.fill(filter, chunk)?;
            for part in side_by_side(&namespaces, |(_, netns)| self.find_in(netns, filter)) {
                found.extend(part?);
            }
        }
        drop(maps);
        let mut found: Vec<Exact> = found.into_values().collect();
        if let Some(filter) = without_peer(filter) {
            found.extend(self.dump.find(&filter)?);
        }
        Ok(found)
    }

    /// Moves the calling thread to the namespace.
    fn find_in(
        &self,
        netns: &Netns,
        filter: &SocketFilter,
    ) -> Result<HashMap<SocketCookie, Exact>, SocketError> {
        enter(netns)?;
        let conditions = Conditions::new(filter);
        let mut found = HashMap::new();
        for protocol in protocols(filter) {
            passes(self.links.of(protocol), &conditions, &mut found)?;
        }
        found.retain(|_, exact| exact.socket.state.is_connected());
        Ok(found)
    }
}

/// The part of a filter that lets unconnected sockets through.
fn without_peer(filter: &SocketFilter) -> Option<SocketFilter> {
    let wanted = |state: &SocketState| !state.is_connected();
    let states: Vec<SocketState> = match filter.states.as_slice() {
        [] => SocketState::ALL.into_iter().filter(wanted).collect(),
        states => states.iter().copied().filter(wanted).collect(),
    };
    (!filter.connected_only && !states.is_empty()).then(|| SocketFilter { states, ..filter.clone() })
}

fn protocols(filter: &SocketFilter) -> impl Iterator<Item = Protocol> {
    PROTOCOLS
        .into_iter()
        .filter(|protocol| filter.protocols.is_empty() || filter.protocols.contains(protocol))
}

/// Destroys with `bpf_sock_destroy`, a namespace at a time.
pub(super) struct Kfunc {
    links: Links,
    /// One namespace at a time: which sockets, is in a map.
    doomed: Mutex<BpfHashMap<MapData, u64, [u8; Doomed::SIZE]>>,
}

impl Kfunc {
    /// # Errors
    /// [`SocketError::NoKfunc`] before Linux 6.5.
    pub(super) fn open(pins: &Path) -> Result<Self, SocketError> {
        let types = KernelTypes::read().map_err(SocketError::Btf)?;
        let function = types.function("bpf_sock_destroy").ok_or(SocketError::NoKfunc)?;
        let object =
            socket_destroyer_with(function).map_err(|_| SocketError::Incomplete("bpf_sock_destroy"))?;
        let mut object = Object::load(&object, pins)?;
        let links = Links::open(&mut object, "nl_destroy_tcp", "nl_destroy_udp")?;
        let doomed = object.map("nl_doomed")?.try_into().map_err(SocketError::Filter)?;
        Ok(Self { links, doomed: Mutex::new(doomed) })
    }

    /// Destroys sockets of one namespace, to which the calling thread moves: for each whether it was met, and the
    /// errno if it could not be destroyed.
    pub(super) fn destroy(
        &self,
        netns: &Netns,
        sockets: &[&Exact],
    ) -> Result<Vec<Result<bool, io::Error>>, SocketError> {
        enter(netns)?;
        let mut doomed = self.doomed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut results = Vec::with_capacity(sockets.len());
        for chunk in sockets.chunks(MAX_KEYS) {
            clear(&mut doomed).map_err(SocketError::Filter)?;
            for exact in chunk {
                let value = Doomed::new(exact.socket.backend).to_bytes();
                doomed.insert(exact.socket.cookie.0, value, 0).map_err(SocketError::Filter)?;
            }
            for protocol in PROTOCOLS {
                if chunk.iter().any(|exact| exact.socket.protocol == protocol) {
                    run(self.links.of(protocol))?;
                }
            }
            for exact in chunk {
                let value = doomed.get(&exact.socket.cookie.0, 0).map_err(SocketError::Filter)?;
                results.push(match Doomed::from_bytes(value).result {
                    0 => Ok(true),
                    1.. => Ok(false),
                    errno => Err(io::Error::from_raw_os_error(-errno)),
                });
            }
        }
        clear(&mut doomed).map_err(SocketError::Filter)?;
        Ok(results)
    }
}
