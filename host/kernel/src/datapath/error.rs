use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use aya::maps::MapError;
use netloom_core::model::Protocol;

use crate::{bindings::BindingsError, programs::ProgramError};

/// An operation on the datapath failed.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The folder is not in a bpf filesystem.
    #[error("{path} is not in a bpf filesystem: mount one (`mount -t bpf bpf /sys/fs/bpf`)")]
    NotBpffs {
        /// Which.
        path: PathBuf,
    },
    /// The maps of socket bindings cannot be used.
    #[error(transparent)]
    Bindings(#[from] BindingsError),
    /// A map has no room.
    #[error("the map {map} is full ({size} entries): raise {key} and restart netloomd")]
    Full {
        /// Which.
        map: &'static str,
        /// Its size.
        size: u32,
        /// The configuration's key.
        key: &'static str,
    },
    /// The pins were removed under a running daemon.
    #[error("the map pinned at {path} is not the one in use, somebody removed it: start netloomd again")]
    Unpinned {
        /// Where it was.
        path: PathBuf,
    },
    /// An endpoint's number is larger than its map.
    #[error("endpoint number {id} is out of range, there is room for {size}: raise datapath.max_endpoints")]
    EndpointId {
        /// The number.
        id: u32,
        /// The size.
        size: u32,
    },
    /// An endpoint has too many addresses.
    #[error("endpoint number {id} has {count} addresses of one family: an endpoint can have {limit}")]
    Addresses {
        /// The endpoint.
        id: u32,
        /// How many it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The node has too many devices to outside.
    #[error(
        "{count} devices lead to outside, and packets can pass the stack by for {limit}: name fewer in datapath.uplinks"
    )]
    Uplinks {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Two endpoints would have one address.
    #[error(
        "{address} belongs to endpoint number {owner} already: delete that endpoint, or use another address"
    )]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        owner: u32,
    },
    /// Two services would have one address.
    #[error(
        "{vip}/{protocol} belongs to service number {owner} already: delete that service, or use another address"
    )]
    VipTaken {
        /// The address.
        vip: SocketAddr,
        /// The protocol.
        protocol: Protocol,
        /// Whose it is.
        owner: u32,
    },
    /// A service and a backend of it have different address families.
    #[error("backend {backend} is of another address family than its service {vip}: use one of the same")]
    Family {
        /// The service.
        vip: SocketAddr,
        /// The backend.
        backend: SocketAddr,
    },
    /// The cgroup is none.
    #[error(
        "{path} is not a cgroup2 directory, which socket-LB needs: mount one (`mount -t cgroup2 none PATH`) and \
             name it in datapath.cgroup"
    )]
    NotCgroup {
        /// The path.
        path: PathBuf,
    },
    /// The datapath's object was not loaded.
    #[error("cannot load {object}")]
    Load {
        /// The object.
        object: &'static str,
        /// Why.
        source: Box<aya::EbpfError>,
    },
    /// The kernel refused a program.
    #[error("the kernel refused the program {program}")]
    Rejected {
        /// The program.
        program: &'static str,
        /// Why.
        source: Box<aya::programs::ProgramError>,
    },
    /// The datapath's object is not this version's.
    #[error(transparent)]
    Constants(#[from] netloom_ebpf::NoConstants),
    /// A pin or a program failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// An operation on a map failed.
    #[error("cannot {action} the map {map}")]
    Map {
        /// read, write, …
        action: &'static str,
        /// Which.
        map: &'static str,
        /// Why.
        source: MapError,
    },
    /// Anything else.
    #[error("{call} of {on} failed")]
    Sys {
        /// The call.
        call: &'static str,
        /// On what.
        on: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl DatapathError {
    pub(super) fn sys(call: &'static str, on: impl Into<String>, source: io::Error) -> Self {
        Self::Sys { call, on: on.into(), source }
    }
}
