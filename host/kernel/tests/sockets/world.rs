//! A node for tests: the real service translation in a cgroup of the test's own, and namespaces with a loopback.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    path::PathBuf,
    process::Command,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, MapData},
    programs::{CgroupAttachMode, CgroupSockAddr},
};
use netloom_core::model::{BoundSocket, NetnsCookie, Protocol, SocketCookie, SocketFilter};
use netloom_ebpf::layout::{Backend, BackendKey, Service, ServiceKey};
use netloom_kernel::{
    bindings::Numbering,
    mounts,
    netns::Netns,
    sockets::{Finder, Sockets, Ways},
};
use netloom_test_support::{Cgroup, settle};

pub(crate) struct World {
    pub(crate) pins: PathBuf,
    object: Ebpf,
    numbering: Numbering,
    services: u32,
    _cgroup: Cgroup,
}

/// The world of a test that has its turn.
pub(crate) fn world() -> World {
    assert!(rustix::process::geteuid().is_root(), "these tests take root");
    allow_open_files(20_000);
    let cgroup = Cgroup::join();
    let bpffs = PathBuf::from("/sys/fs/bpf");
    mounts::ensure_bpffs(&bpffs).unwrap();
    let pins = bpffs.join(format!("netloom-sockets-{}", std::process::id()));
    fs::create_dir(&pins).unwrap();

    let mut object = EbpfLoader::new().default_map_pin_directory(&pins).load(netloom_ebpf::SOCKLB).unwrap();
    let directory = fs::File::open(cgroup.path()).unwrap();
    for (_, program) in object.programs_mut() {
        let program: &mut CgroupSockAddr = program.try_into().unwrap();
        program.load().unwrap();
        program.attach(&directory, CgroupAttachMode::Single).unwrap();
    }
    let numbering = Numbering::open(&pins).unwrap();
    World { pins, object, numbering, services: 0, _cgroup: cgroup }
}

/// Thousands of sockets take more descriptors than a shell's default allows.
fn allow_open_files(count: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum.map(|maximum| maximum.max(count));
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum }).unwrap();
}

impl Drop for World {
    fn drop(&mut self) {
        let unpinned = fs::remove_dir_all(&self.pins);
        if !std::thread::panicking() {
            unpinned.expect("nothing of the test is left behind");
        }
    }
}

impl World {
    /// Translates a virtual address to one backend.
    pub(crate) fn serve(&mut self, vip: &str, protocol: Protocol, backend: &str) -> u32 {
        self.services += 1;
        let service = self.services;
        self.numbering.number(&[(address(backend), protocol)]).unwrap();
        let mut backends: HashMap<&mut MapData, [u8; BackendKey::SIZE], [u8; Backend::SIZE]> =
            self.object.map_mut("nl_backends").unwrap().try_into().unwrap();
        let key = BackendKey { service, slot: 0 };
        backends.insert(key.to_bytes(), Backend::new(address(backend), service).to_bytes(), 0).unwrap();
        let mut services: HashMap<&mut MapData, [u8; ServiceKey::SIZE], [u8; Service::SIZE]> =
            self.object.map_mut("nl_services").unwrap().try_into().unwrap();
        let key = ServiceKey::new(address(vip), protocol.number());
        services
            .insert(
                key.to_bytes(),
                Service { id: service, count: 1, counters: 0, choice: 0, affinity: 0 }.to_bytes(),
                0,
            )
            .unwrap();
        service
    }

    /// Takes a virtual address back.
    pub(crate) fn withdraw(&mut self, vip: &str, protocol: Protocol) {
        let mut services: HashMap<&mut MapData, [u8; ServiceKey::SIZE], [u8; Service::SIZE]> =
            self.object.map_mut("nl_services").unwrap().try_into().unwrap();
        services.remove(&ServiceKey::new(address(vip), protocol.number()).to_bytes()).unwrap();
    }

    pub(crate) fn sockets(&self, finder: Finder) -> Sockets {
        self.with(Ways { finder: Some(finder), ..Ways::default() })
    }

    pub(crate) fn with(&self, ways: Ways) -> Sockets {
        Sockets::open_with(&self.pins, ways).unwrap()
    }
}

/// A namespace with the addresses 127.0.0.0/8, ::1, fd00::1, fd00::2 and fd00::3.
pub(crate) struct Room {
    pub(crate) netns: Netns,
}

impl Room {
    /// One with 127.0.0.0/8 and ::1 alone.
    pub(crate) fn with_loopback() -> Self {
        let room = Self { netns: Netns::create().unwrap() };
        room.ip("link set lo up");
        room
    }

    pub(crate) fn new() -> Self {
        let room = Self::with_loopback();
        for host in 1..=3 {
            room.ip(&format!("-6 address add fd00::{host}/128 dev lo nodad"));
            settle(&room.netns, format!("fd00::{host}").parse().unwrap());
        }
        room
    }

    fn ip(&self, arguments: &str) {
        let status = self.run(|| Command::new("ip").args(arguments.split(' ')).status().unwrap());
        assert!(status.success(), "ip {arguments}");
    }

    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns.run(work).unwrap()
    }

    pub(crate) fn cookie(&self) -> NetnsCookie {
        self.netns.cookie().unwrap()
    }

    pub(crate) fn listen(&self, at: &str) -> TcpListener {
        self.run(|| TcpListener::bind(at).unwrap())
    }

    /// A TCP connection to a virtual address, and the server's end of it.
    pub(crate) fn connect(&self, vip: &str, server: &TcpListener) -> (TcpStream, TcpStream) {
        let client = self.run(|| TcpStream::connect(vip).unwrap());
        (client, server.accept().unwrap().0)
    }

    /// A UDP socket connected to a virtual address.
    pub(crate) fn udp(&self, vip: &str) -> UdpSocket {
        self.udp_at(if vip.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }, vip)
    }

    pub(crate) fn udp_at(&self, local: &str, vip: &str) -> UdpSocket {
        self.run(|| {
            let socket = UdpSocket::bind(local).unwrap();
            socket.connect(vip).unwrap_or_else(|error| panic!("connecting to {vip}: {error}"));
            socket
        })
    }
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn cookie(socket: impl AsFd) -> SocketCookie {
    SocketCookie(rustix::net::sockopt::socket_cookie(socket).unwrap())
}

pub(crate) fn cookies(sockets: &[BoundSocket]) -> BTreeSet<SocketCookie> {
    let cookies: BTreeSet<_> = sockets.iter().map(|socket| socket.cookie).collect();
    assert_eq!(cookies.len(), sockets.len(), "each socket is found once");
    cookies
}

/// The connected sockets bound to these backends, whatever the transport.
pub(crate) fn bound_to(backends: &[&str]) -> SocketFilter {
    SocketFilter {
        backends: backends
            .iter()
            .flat_map(|backend| [(address(backend), Protocol::Tcp), (address(backend), Protocol::Udp)])
            .collect(),
        connected_only: true,
        ..SocketFilter::default()
    }
}

/// A connection still carries data both ways.
pub(crate) fn assert_alive(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"ping").unwrap();
    server.read_exact(&mut [0; 4]).unwrap();
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
}
