//! Service translation, seen from programs in a cgroup of the tests' own.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use aya::maps::{Map, MapData, MapError, SkStorage};
use netloom_core::model::{Choice, LinkId, Protocol, Service, ServiceId, Weight};
use netloom_ebpf::layout::Binding;
use netloom_kernel::{
    bindings::Bindings,
    datapath::{Datapath, DatapathError, MapSizes, ServiceCounters, SocketLbHook},
    netns::Netns,
};
use netloom_sys::bpf;
use netloom_test_support::{Cgroup, settle, until};

use crate::{
    node::{Pins, SIZES},
    services::service,
};

type Storage = SkStorage<MapData, [u8; Binding::SIZE]>;

/// The test's process in a cgroup with socket-LB, and a namespace with 127.0.0.0/8, fd00::1 and fd00::2.
struct World {
    datapath: Datapath,
    netns: Netns,
    pins: Pins,
    cgroup: Cgroup,
}

impl World {
    fn new() -> Self {
        Self::sized(SIZES)
    }

    fn sized(sizes: MapSizes) -> Self {
        let mut world = Self::bare();
        world.datapath = Datapath::open(&world.pins.0, sizes).unwrap();
        world.datapath.attach_socket_lb(world.cgroup.path()).unwrap();
        world
    }

    fn bare() -> Self {
        let cgroup = Cgroup::join();
        let netns = Netns::create().unwrap();
        for arguments in [
            "link set lo up",
            "-6 address add fd00::1/128 dev lo nodad",
            "-6 address add fd00::2/128 dev lo nodad",
        ] {
            let status =
                netns.run(|| Command::new("ip").args(arguments.split(' ')).status().unwrap()).unwrap();
            assert!(status.success(), "ip {arguments}");
        }
        for address in ["fd00::1", "fd00::2"] {
            settle(&netns, address.parse().unwrap());
        }
        let pins = Pins::new();
        let datapath = pins.datapath();
        Self { datapath, netns, pins, cgroup }
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns.run(work).unwrap()
    }

    fn serve(&self, id: u32, vip: &str, protocol: Protocol, backends: &[&str]) {
        self.datapath.set_service(ServiceId(id), &service(vip, protocol, backends)).unwrap();
    }

    /// What a socket is bound to: every backend in whose storage it is.
    fn bindings(&self, socket: &impl AsRawFd) -> Vec<Binding> {
        let bindings = Bindings::open(&self.datapath.maps_dir()).unwrap();
        let binding = |(backend, _)| {
            let (_, storage) = bindings.storage(backend).unwrap().expect("a backend has a storage");
            let storage: Storage =
                Map::from_map_data(MapData::from_fd(storage).unwrap()).unwrap().try_into().unwrap();
            match storage.get(socket, 0) {
                Ok(bytes) => {
                    let binding = Binding::from_bytes(bytes);
                    assert_eq!(binding.backend_address(), backend.0, "it is in its own backend's storage");
                    Some(binding)
                }
                Err(MapError::KeyNotFound) => None,
                Err(error) => panic!("{error}"),
            }
        };
        bindings.backends().unwrap().into_iter().filter_map(binding).collect()
    }

    fn link_ids(&self) -> Vec<LinkId> {
        SocketLbHook::ALL
            .iter()
            .filter_map(|hook| bpf::obj_get(&self.pins.0.join("socklb").join(hook.as_str())).ok())
            .map(|link| LinkId(bpf::link_info(link.as_fd()).unwrap().id))
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let detached = self.datapath.detach_socket_lb();
        if !std::thread::panicking() {
            detached.unwrap();
        }
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tcp(world: &World, dial: &str, vip: &str, backend: &str, family: u8) {
    world.serve(1, vip, Protocol::Tcp, &[backend]);
    let listener = world.run(|| TcpListener::bind(backend).unwrap());
    let before = world.datapath.socket_lb_counters().unwrap();
    let mut client = world.run(|| TcpStream::connect(dial).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"hello").unwrap();
    let mut greeting = [0; 5];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"hello");
    assert_eq!(client.peer_addr().unwrap(), address(dial), "the client sees the service");
    assert_eq!(world.datapath.socket_lb_counters().unwrap().connected, before.connected + 1);

    let bindings = world.bindings(&client);
    let [binding] = bindings.as_slice() else { panic!("{bindings:?}") };
    assert_eq!(binding.backend_address(), address(backend));
    assert_eq!(binding.vip_address(), address(vip));
    assert_eq!((binding.service, binding.protocol, binding.family), (1, 6, family));
    assert_eq!(binding.cookie, rustix::net::sockopt::socket_cookie(&client).unwrap());
    assert_eq!(binding.netns_cookie, world.netns.cookie().unwrap().0);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let age = Duration::new(now.tv_sec as u64, now.tv_nsec as u32) - Duration::from_nanos(binding.bound_at);
    assert!(age < Duration::from_secs(10), "{age:?}");
    assert!(world.bindings(&server).is_empty());
}

const INET: u8 = 2;
const INET6: u8 = 10;

#[test]
fn a_tcp_client_lands_on_the_backend_and_sees_the_service() {
    let world = World::new();
    tcp(&world, "10.96.0.1:80", "10.96.0.1:80", "127.0.0.1:8080", INET);
    world.datapath.remove_service(ServiceId(1)).unwrap();
    tcp(&world, "[fd00::80]:80", "[fd00::80]:80", "[fd00::1]:8080", INET6);
}

#[test]
fn a_v4_mapped_client_uses_the_v4_service() {
    let world = World::new();
    tcp(&world, "[::ffff:10.96.0.1]:80", "10.96.0.1:80", "127.0.0.1:8080", INET6);
}

/// Which share of connects each backend gets.
fn weighed(protocol: Protocol, dial: &str, vip: &str, backends: [&str; 3]) {
    let world = World::new();
    let mut service = service(vip, protocol, &backends);
    service.set_weight(address(backends[1]), "3".parse().unwrap());
    service.set_weight(address(backends[2]), Weight::NONE);
    world.datapath.set_service(ServiceId(1), &service).unwrap();
    let mut counts = [0; 3];
    let mut count = |socket: OwnedFd| {
        let bound = world.bindings(&socket)[0].backend_address();
        counts[backends.iter().position(|backend| address(backend) == bound).unwrap()] += 1;
    };
    if protocol == Protocol::Tcp {
        let listeners = backends.map(|backend| world.run(|| TcpListener::bind(backend).unwrap()));
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        for _ in 0..400 {
            count(world.run(|| TcpStream::connect(dial).unwrap()).into());
            // What waits to be accepted is bounded.
            listeners.iter().for_each(|listener| drop(listener.accept()));
        }
    } else {
        let local = if address(dial).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        for _ in 0..400 {
            let socket = world.run(|| UdpSocket::bind(local).unwrap());
            socket.connect(dial).unwrap();
            count(socket.into());
        }
    }
    // 100 and 300 are expected; further off than this it is once in more runs than there will ever be.
    assert!((30..=190).contains(&counts[0]), "{counts:?}");
    assert_eq!(counts[2], 0, "{counts:?}");
}

#[test]
fn connects_are_shared_out_by_weight() {
    let v4 = ["127.0.0.1:5301", "127.0.0.1:5302", "127.0.0.1:5303"];
    let v6 = ["[fd00::1]:5301", "[fd00::1]:5302", "[fd00::1]:5303"];
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        weighed(protocol, "10.96.0.53:53", "10.96.0.53:53", v4);
        weighed(protocol, "[fd00::53]:53", "[fd00::53]:53", v6);
    }
    weighed(Protocol::Udp, "[::ffff:10.96.0.53]:53", "10.96.0.53:53", v4);
}

fn udp_connected(dial: &str, local: &str, vip: &str, backend: &str) {
    let other = SocketAddr::new(address(backend).ip(), 6000).to_string();
    let backends = [backend, &other];
    let world = World::new();
    world.serve(1, vip, Protocol::Udp, &backends[..1]);
    let servers = backends.map(|backend| world.run(|| UdpSocket::bind(backend).unwrap()));
    let client = world.run(|| UdpSocket::bind(local).unwrap());
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.connect(dial).unwrap();
    assert_eq!(client.peer_addr().unwrap(), address(dial));
    client.send(b"question").unwrap();
    let mut buffer = [0; 64];
    let (length, from) = servers[0].recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"question");
    servers[0].send_to(b"answer", from).unwrap();
    let (_, source) = client.recv_from(&mut buffer).unwrap();
    assert_eq!(source, address(dial), "the answer comes from the service");
    assert_eq!(world.bindings(&client)[0].backend_address(), address(backends[0]));

    // Connected once more: to another backend, which has another storage.
    world.serve(1, vip, Protocol::Udp, &backends[1..]);
    client.connect(dial).unwrap();
    let bindings = world.bindings(&client);
    assert_eq!(bindings.len(), 1);
    assert_eq!(bindings[0].backend_address(), address(backends[1]));

    // And to an address that is no service.
    client.connect(backends[0]).unwrap_or_else(|_| client.connect("[::ffff:127.0.0.1]:9").unwrap());
    assert!(world.bindings(&client).is_empty());
}

#[test]
fn a_connected_udp_client_is_bound_to_its_present_backend_only() {
    udp_connected("10.96.0.53:53", "0.0.0.0:0", "10.96.0.53:53", "127.0.0.1:5301");
    udp_connected("[fd00::53]:53", "[::]:0", "[fd00::53]:53", "[fd00::1]:5301");
    udp_connected("[::ffff:10.96.0.53]:53", "[::]:0", "10.96.0.53:53", "127.0.0.1:5301");
}

fn udp_unconnected(dial: &str, local: &str, vip: &str, backends: [&str; 2]) {
    let world = World::new();
    world.serve(1, vip, Protocol::Udp, &backends);
    let servers = backends.map(|backend| world.run(|| UdpSocket::bind(backend).unwrap()));
    for server in &servers {
        server.set_nonblocking(true).unwrap();
    }
    let client = world.run(|| UdpSocket::bind(local).unwrap());
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let exchange = || {
        client.send_to(b"question", dial).unwrap();
        let mut buffer = [0; 64];
        let (index, from) = servers
            .iter()
            .enumerate()
            .find_map(|(index, server)| Some((index, server.recv_from(&mut buffer).ok()?.1)))
            .expect("one of the backends is asked");
        servers[index].send_to(b"answer", from).unwrap();
        assert_eq!(
            client.recv_from(&mut buffer).unwrap().1,
            address(dial),
            "the answer comes from the service"
        );
        index
    };
    let first = exchange();
    for _ in 0..20 {
        assert_eq!(exchange(), first, "an exchange stays with its backend");
    }
    assert!(world.bindings(&client).is_empty(), "an unconnected socket is not bound");

    let other = 1 - first;
    world.serve(1, vip, Protocol::Udp, &[backends[other]]);
    assert_eq!(exchange(), other, "and leaves it when the service does");
}

#[test]
fn an_unconnected_udp_client_stays_with_its_backend_and_sees_the_service() {
    udp_unconnected("10.96.0.53:53", "0.0.0.0:0", "10.96.0.53:53", ["127.0.0.1:5301", "127.0.0.1:5302"]);
    udp_unconnected("[fd00::53]:53", "[::]:0", "[fd00::53]:53", ["[fd00::1]:5301", "[fd00::1]:5302"]);
    udp_unconnected(
        "[::ffff:10.96.0.53]:53",
        "[::]:0",
        "10.96.0.53:53",
        ["127.0.0.1:5301", "127.0.0.1:5302"],
    );
}

#[test]
fn every_backend_gets_its_share() {
    let world = World::new();
    let backends = ["127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"];
    world.serve(1, "10.96.0.1:80", Protocol::Udp, &backends);
    let mut hits = [0; 3];
    for _ in 0..300 {
        let client = world.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        client.connect("10.96.0.1:80").unwrap();
        let backend = world.bindings(&client)[0].backend_address();
        hits[backends.iter().position(|text| address(text) == backend).unwrap()] += 1;
    }
    assert!(hits.iter().all(|&hits| hits > 50), "{hits:?}");
}

#[test]
fn a_client_never_sees_a_service_half_changed() {
    let world = World::new();
    let vip = "10.96.0.1:80";
    let all: Vec<String> = (1..=9).map(|host| format!("127.0.0.{host}:8080")).collect();
    let sets: Vec<Vec<&str>> = [&all[..], &all[8..], &all[2..5], &all[..1], &all[4..]]
        .iter()
        .map(|set| set.iter().map(String::as_str).collect())
        .collect();
    world.serve(1, vip, Protocol::Udp, &sets[0]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let mut changes = 0;
            while !stop.load(Ordering::Relaxed) {
                world.serve(1, vip, Protocol::Udp, &sets[changes % sets.len()]);
                changes += 1;
            }
            changes
        });
        for _ in 0..500 {
            let client = world.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
            client.connect(vip).expect("each set has a backend");
            let backend = world.bindings(&client)[0].backend_address();
            assert!(all.iter().any(|known| address(known) == backend), "{backend} was never a backend");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(changes.join().unwrap() > 100, "the service changed meanwhile");
    });
    assert_eq!(world.datapath.socket_lb_counters().unwrap().refused, 0);
}

#[test]
fn a_service_without_backends_refuses_at_once() {
    let world = World::new();
    world.serve(1, "10.96.0.1:80", Protocol::Tcp, &[]);
    world.serve(2, "10.96.0.1:53", Protocol::Udp, &[]);
    let start = Instant::now();
    let error = world.run(|| TcpStream::connect("10.96.0.1:80")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    let client = world.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let error = client.connect("10.96.0.1:53").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    let error = client.send_to(b"question", "10.96.0.1:53").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(world.datapath.socket_lb_counters().unwrap().refused, 3);
    world.datapath.wait_for_translations().unwrap();
}

/// The backends that so many connects of a client in a namespace get.
fn chosen(netns: &Netns, world: &World, vip: &str, connects: usize) -> BTreeSet<SocketAddr> {
    (0..connects)
        .map(|_| {
            let client = netns.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
            client.connect(vip).unwrap();
            world.bindings(&client)[0].backend_address()
        })
        .collect()
}

const EIGHT: [&str; 8] = [
    "127.0.0.1:8080",
    "127.0.0.2:8080",
    "127.0.0.3:8080",
    "127.0.0.4:8080",
    "127.0.0.5:8080",
    "127.0.0.6:8080",
    "127.0.0.7:8080",
    "127.0.0.8:8080",
];

#[test]
fn a_client_stays_with_its_backend_as_long_as_the_affinity_lasts() {
    let world = World::new();
    let vip = "10.96.0.1:80";
    let mut affine = Service { affinity_seconds: 3600, ..service(vip, Protocol::Udp, &EIGHT) };
    world.datapath.set_service(ServiceId(1), &affine).unwrap();
    let first = chosen(&world.netns, &world, vip, 30);
    assert_eq!(first.len(), 1, "{first:?}");

    // An exchange without connecting as well.
    let client = world.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let backend = world.run(|| UdpSocket::bind(first.first().unwrap()).unwrap());
    client.send_to(b"question", vip).unwrap();
    backend.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(backend.recv(&mut [0; 16]).unwrap(), 8);

    // Another client has its own, and all are used.
    let others: Vec<Netns> = (0..24).map(|_| lo_netns()).collect();
    let theirs: BTreeSet<_> = others.iter().flat_map(|netns| chosen(netns, &world, vip, 1)).collect();
    assert!(theirs.len() > 1, "{theirs:?}");

    // One whose backend goes gets another, and stays with that.
    affine.backends.retain(|backend| !first.contains(backend));
    world.datapath.set_service(ServiceId(1), &affine).unwrap();
    let second = chosen(&world.netns, &world, vip, 30);
    assert_eq!(second.len(), 1);
    assert!(second.is_disjoint(&first));

    affine.affinity_seconds = 1;
    world.datapath.set_service(ServiceId(1), &affine).unwrap();
    let after_a_while: BTreeSet<_> = (0..8)
        .flat_map(|_| {
            sleep(Duration::from_millis(1100));
            chosen(&world.netns, &world, vip, 1)
        })
        .collect();
    assert!(after_a_while.len() > 1, "{after_a_while:?}");
}

fn lo_netns() -> Netns {
    let netns = Netns::create().unwrap();
    let up = netns.run(|| Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap()).unwrap();
    assert!(up.success());
    netns
}

#[test]
fn with_maglev_few_clients_change_their_backend() {
    let world = World::sized(MapSizes { backends: 1024, ..SIZES });
    let vip = "10.96.0.1:80";
    let mut maglev = Service { choice: Choice::Maglev, ..service(vip, Protocol::Udp, &EIGHT) };
    let clients: Vec<Netns> = (0..40).map(|_| lo_netns()).collect();
    let choices = |service: &Service| -> Vec<SocketAddr> {
        world.datapath.set_service(ServiceId(1), service).unwrap();
        let chosen = clients.iter().map(|netns| {
            let chosen = chosen(netns, &world, vip, 3);
            assert_eq!(chosen.len(), 1, "each has its own: {chosen:?}");
            *chosen.first().unwrap()
        });
        chosen.collect()
    };
    let before = choices(&maglev);
    let used: BTreeSet<_> = before.iter().collect();
    assert!(used.len() >= 5, "{used:?}");
    let gone = maglev.backends.remove(3);
    let after = choices(&maglev);
    let moved = before.iter().zip(&after).filter(|(old, new)| **old != gone && old != new).count();
    assert!(moved <= clients.len() / 4, "{moved} clients of other backends moved");
    assert!(!after.contains(&gone));
    maglev.choice = Choice::Random;
    world.datapath.set_service(ServiceId(1), &maglev).unwrap();
    assert!(chosen(&clients[0], &world, vip, 40).len() > 1);
}

#[test]
fn a_service_has_several_addresses_and_counts_for_all_of_them() {
    let world = World::new();
    let web = service("0.0.0.0:80", Protocol::Udp, &["127.0.0.1:8080"]);
    let set = |vips: &[&str]| {
        let vips: Vec<_> = vips.iter().map(|vip| address(vip)).collect();
        world.datapath.set_service_at(ServiceId(7), &web, &vips)
    };
    set(&["10.96.0.1:80", "10.96.0.2:80"]).unwrap();
    for vip in ["10.96.0.1:80", "10.96.0.2:80"] {
        assert_eq!(chosen(&world.netns, &world, vip, 1), BTreeSet::from([address("127.0.0.1:8080")]));
    }
    let counted = |id| world.datapath.service_counters(ServiceId(id)).unwrap();
    assert_eq!(counted(7).unwrap().connected, 2);
    set(&["10.96.0.2:80", "10.96.0.3:80"]).unwrap();
    let vips = world.datapath.services().unwrap().remove(0).vips;
    assert_eq!(vips, [address("10.96.0.2:80"), address("10.96.0.3:80")]);
    chosen(&world.netns, &world, "10.96.0.3:80", 1);
    assert_eq!(counted(7).unwrap().connected, 3);

    world.serve(8, "10.96.0.4:80", Protocol::Udp, &["127.0.0.1:8080"]);
    let taken = set(&["10.96.0.2:80", "10.96.0.4:80"]).unwrap_err();
    assert!(matches!(taken, DatapathError::VipTaken { owner: 8, .. }), "{taken}");
    assert_eq!(world.datapath.services().unwrap()[0].vips, vips, "it is as before");

    world.datapath.remove_service(ServiceId(7)).unwrap();
    assert_eq!(counted(7), None);
    assert_eq!(world.datapath.gone_service_counters().unwrap().connected, 3);
    world.serve(9, "10.96.0.2:80", Protocol::Udp, &[]);
    assert_eq!(counted(9), Some(ServiceCounters::default()), "a new one counts from zero");
    assert_eq!(world.datapath.socket_lb_counters().unwrap().connected, 3);
}

#[test]
fn a_restart_adopts_the_links() {
    let world = World::bare();
    let first = world.datapath.attach_socket_lb(world.cgroup.path()).unwrap();
    assert_eq!(first.len(), 8);
    assert_eq!(world.link_ids(), first);
    let again = world.pins.datapath();
    assert_eq!(again.attach_socket_lb(world.cgroup.path()).unwrap(), first);
}

#[test]
fn links_over_maps_that_are_gone_are_updated_in_place() {
    let world = World::bare();
    let first = world.datapath.attach_socket_lb(world.cgroup.path()).unwrap();
    fs::remove_dir_all(world.datapath.maps_dir()).unwrap();
    let again = world.pins.datapath();
    assert_eq!(again.attach_socket_lb(world.cgroup.path()).unwrap(), first);

    again.set_service(ServiceId(1), &service("10.96.0.1:80", Protocol::Tcp, &["127.0.0.1:8080"])).unwrap();
    let _listener = world.run(|| TcpListener::bind("127.0.0.1:8080").unwrap());
    world.run(|| TcpStream::connect("10.96.0.1:80").unwrap());
}

#[test]
fn links_follow_to_another_cgroup() {
    let world = World::bare();
    let inner = world.cgroup.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let first = world.datapath.attach_socket_lb(&inner).unwrap();
    let second = world.datapath.attach_socket_lb(world.cgroup.path()).unwrap();
    assert!(first.iter().all(|link| !second.contains(link)));
    assert_eq!(world.link_ids(), second);
    let gone = |link: &LinkId| bpf::link_by_id(link.0).is_err();
    until(|| first.iter().all(gone), |gone| *gone);
    fs::remove_dir(inner).unwrap();
    world.serve(1, "10.96.0.1:80", Protocol::Tcp, &["127.0.0.1:8080"]);
    let _listener = world.run(|| TcpListener::bind("127.0.0.1:8080").unwrap());
    world.run(|| TcpStream::connect("10.96.0.1:80").unwrap());
}

#[test]
fn detaching_leaves_nothing_and_connections_alone() {
    let world = World::new();
    world.serve(1, "10.96.0.1:80", Protocol::Tcp, &["127.0.0.1:8080"]);
    let listener = world.run(|| TcpListener::bind("127.0.0.1:8080").unwrap());
    let mut client = world.run(|| TcpStream::connect("10.96.0.1:80").unwrap());
    world.datapath.detach_socket_lb().unwrap();
    assert!(!world.pins.0.join("socklb").exists());
    assert!(world.run(|| TcpStream::connect("10.96.0.1:80")).is_err());
    client.write_all(b"still here").unwrap();
    let mut bytes = [0; 10];
    listener.accept().unwrap().0.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"still here");
    world.datapath.detach_socket_lb().unwrap();
}

#[test]
fn a_path_that_is_no_cgroup_is_refused() {
    let pins = Pins::new();
    let datapath = pins.datapath();
    for path in ["/proc", "/no/such/cgroup"] {
        let error = datapath.attach_socket_lb(path.as_ref()).unwrap_err();
        assert!(matches!(error, DatapathError::NotCgroup { .. }), "{error}");
    }
}
