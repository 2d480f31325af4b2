//! Bound sockets in real namespaces, found and destroyed: with the real service translation, in a cgroup and
//! namespaces of the test's own. Takes root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod churn;
mod kinds;
mod world;

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use netloom_core::model::{DestroyOutcome, Feature, Protocol, ServiceId, SocketFilter, SocketState};
use netloom_kernel::sockets::{BackFill, Destroyer, Finder, SocketError, Sockets, Ways};
use netloom_test_support::{each_way, require};
use world::{Room, address, assert_alive, bound_to, cookie, cookies, world};

const DEAD: &str = "127.0.0.2:7000";
const LIVE: &str = "127.0.0.3:7000";
const DEAD_VIP: &str = "10.96.0.2:80";
const LIVE_VIP: &str = "10.96.0.3:80";

/// Every way to find, with every way to destroy.
const WAYS: [Ways; 4] = [
    ways(Finder::SkStorage, Destroyer::SockDiag),
    ways(Finder::Namespaces, Destroyer::SockDiag),
    ways(Finder::SockDiag, Destroyer::SockDiag),
    ways(Finder::Namespaces, Destroyer::Namespaces),
];

const fn ways(finder: Finder, destroyer: Destroyer) -> Ways {
    Ways { finder: Some(finder), destroyer: Some(destroyer) }
}

/// One test a way, of functions that take it.
macro_rules! in_each_way {
    ($($test:ident),+ $(,)?) => {
        netloom_test_support::each_way!($($test),+; {
            sk_storage_iterator: [
                netloom_core::model::Feature::SocketStorageIterator, netloom_core::model::Feature::SocketDestroy
            ] => crate::WAYS[0],
            netns_iterator: [netloom_core::model::Feature::SocketDestroy] => crate::WAYS[1],
            sock_diag_dump: [netloom_core::model::Feature::SocketDestroy] => crate::WAYS[2],
            destroyed_by_the_iterator: [netloom_core::model::Feature::SocketDestroyKfunc] => crate::WAYS[3],
        });
    };
}
use in_each_way;

in_each_way!(
    in_two_hundred_namespaces_the_dead_backends_sockets_are_destroyed_and_the_others_live,
    unconnected_udp_sockets_are_left_alone_and_keep_their_port,
    ipv6_and_v4_mapped_sockets_are_found_by_their_backend_and_destroyed,
    sockets_of_a_namespace_that_vanishes_meanwhile_are_gone,
    another_socket_with_the_same_addresses_is_not_destroyed,
    a_socket_that_was_connected_elsewhere_meanwhile_is_not_destroyed,
    sockets_that_the_kernel_hides_behind_a_device_or_each_other_are_destroyed_too,
);

fn all_destroyed(outcomes: &[DestroyOutcome]) -> bool {
    outcomes.iter().all(|outcome| *outcome == DestroyOutcome::Destroyed)
}

fn in_two_hundred_namespaces_the_dead_backends_sockets_are_destroyed_and_the_others_live(ways: Ways) {
    let mut world = world();
    let service = world.serve(DEAD_VIP, Protocol::Tcp, DEAD);
    world.serve(DEAD_VIP, Protocol::Udp, DEAD);
    world.serve(LIVE_VIP, Protocol::Tcp, LIVE);
    world.serve(LIVE_VIP, Protocol::Udp, LIVE);
    // The way that a node takes goes through as many as a large node has.
    let count = if ways == WAYS[0] { 200 } else { 20 };
    let rooms: Vec<Room> = (0..count).map(|_| Room::with_loopback()).collect();
    let (mut stale, mut spared, mut ends) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for room in &rooms {
        let (dead, live) = (room.listen(DEAD), room.listen(LIVE));
        let (client, server) = room.connect(DEAD_VIP, &dead);
        let udp = room.udp(DEAD_VIP);
        stale.extend([cookie(&client), cookie(&udp)]);
        let kept = room.connect(LIVE_VIP, &live);
        let kept_udp = room.udp(LIVE_VIP);
        spared.extend([cookie(&kept.0), cookie(&kept_udp)]);
        // Connected to the same address, but not through the service.
        let direct = room.connect(DEAD, &dead);
        ends.push(((client, server), udp, kept, kept_udp, direct));
    }
    let sockets = world.with(ways);
    assert_eq!((Some(sockets.finder()), Some(sockets.destroyer())), (ways.finder, ways.destroyer));

    let found = sockets.find(&bound_to(&[DEAD])).unwrap();
    assert_eq!(cookies(&found), stale);
    assert_eq!(cookies(&sockets.find(&SocketFilter::default()).unwrap()), &stale | &spared);
    for socket in &found {
        assert_eq!((socket.backend, socket.remote), (address(DEAD), address(DEAD)));
        assert_eq!(socket.state, SocketState::Established);
        assert!(rooms.iter().any(|room| room.cookie() == socket.netns_cookie));
    }
    let tcp = found.iter().find(|socket| socket.protocol == Protocol::Tcp).unwrap();
    assert_eq!(tcp.service, ServiceId(service));

    let outcomes = sockets.destroy(&found).unwrap();

    assert!(all_destroyed(&outcomes), "{outcomes:?}");
    assert_eq!(sockets.find(&bound_to(&[DEAD])).unwrap(), []);
    assert_eq!(cookies(&sockets.find(&bound_to(&[LIVE])).unwrap()), spared);
    for ((mut client, mut server), udp, (mut kept, mut kept_server), kept_udp, mut direct) in ends {
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(udp.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_alive(&mut kept, &mut kept_server);
        assert_alive(&mut direct.0, &mut direct.1);
        kept_udp.set_nonblocking(true).unwrap();
        assert_eq!(kept_udp.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    let again = sockets.destroy(&found).unwrap();
    assert!(again.iter().all(|outcome| *outcome == DestroyOutcome::Gone), "{again:?}");
}

#[test]
fn a_blocked_read_is_woken_with_econnaborted() {
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Tcp, DEAD);
    world.serve(DEAD_VIP, Protocol::Udp, DEAD);
    let room = Room::new();
    let server = room.listen(DEAD);
    let (mut client, _server_end) = room.connect(DEAD_VIP, &server);
    let udp = room.udp(DEAD_VIP);
    let sockets = world.sockets(Finder::SkStorage);

    thread::scope(|scope| {
        let tcp = scope.spawn(move || client.read(&mut [0]).unwrap_err().kind());
        let udp = scope.spawn(move || udp.recv(&mut [0]).unwrap_err().kind());
        thread::sleep(Duration::from_millis(50));

        let found = sockets.find(&bound_to(&[DEAD])).unwrap();
        assert_eq!(found.len(), 2);
        assert!(all_destroyed(&sockets.destroy(&found).unwrap()));

        assert_eq!(tcp.join().unwrap(), ErrorKind::ConnectionAborted);
        assert_eq!(udp.join().unwrap(), ErrorKind::ConnectionAborted);
    });
}

#[test]
fn a_connection_that_is_still_being_made_is_broken_off() {
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Tcp, DEAD);
    let room = Room::new();
    // The server's queue holds one connection; the kernel drops the next one's SYN.
    let server = room.run(|| {
        let server = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        server.bind(&address(DEAD).into()).unwrap();
        server.listen(0).unwrap();
        server
    });
    let _queued = room.run(|| TcpStream::connect(DEAD_VIP).unwrap());
    let sockets = world.sockets(Finder::SkStorage);
    let filter = SocketFilter { states: vec![SocketState::SynSent], ..bound_to(&[DEAD]) };

    thread::scope(|scope| {
        let connecting = scope.spawn(|| room.run(|| TcpStream::connect(DEAD_VIP).unwrap_err().kind()));
        let found = loop {
            let found = sockets.find(&filter).unwrap();
            if !found.is_empty() || connecting.is_finished() {
                break found;
            }
        };
        assert_eq!(found.len(), 1);
        assert!(all_destroyed(&sockets.destroy(&found).unwrap()));
        assert_eq!(connecting.join().unwrap(), ErrorKind::ConnectionAborted);
    });
    drop(server);
}

fn unconnected_udp_sockets_are_left_alone_and_keep_their_port(ways: Ways) {
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Udp, DEAD);
    let room = Room::new();
    let server = room.run(|| UdpSocket::bind(DEAD).unwrap());
    let sender = room.run(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    sender.send_to(b"to the service", DEAD_VIP).unwrap();
    let (_, from) = server.recv_from(&mut [0; 32]).unwrap();
    let disconnected = room.udp_at("127.0.0.1:4002", DEAD_VIP);
    rustix::net::connect_unspec(&disconnected).unwrap();
    let connected = room.udp(DEAD_VIP);
    let sockets = world.with(ways);

    let found = sockets.find(&bound_to(&[DEAD])).unwrap();
    assert_eq!(cookies(&found), BTreeSet::from([cookie(&connected)]));
    assert!(all_destroyed(&sockets.destroy(&found).unwrap()));

    sender.send_to(b"again", DEAD_VIP).unwrap();
    assert_eq!(server.recv_from(&mut [0; 32]).unwrap().1, from, "the source port is as before");
    disconnected.set_nonblocking(true).unwrap();
    assert_eq!(disconnected.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    // The policy may say otherwise.
    let all = SocketFilter { connected_only: false, ..bound_to(&[DEAD]) };
    assert!(cookies(&sockets.find(&all).unwrap()).contains(&cookie(&disconnected)));
}

fn ipv6_and_v4_mapped_sockets_are_found_by_their_backend_and_destroyed(ways: Ways) {
    let mut world = world();
    let (backend6, vip6) = ("[fd00::2]:7000", "[fd00:96::2]:80");
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        world.serve(vip6, protocol, backend6);
        world.serve("[fd00:96::3]:80", protocol, "[fd00::3]:7000");
        world.serve(DEAD_VIP, protocol, DEAD);
    }
    let room = Room::new();
    let (server6, other6, server4) =
        (room.listen(backend6), room.listen("[fd00::3]:7000"), room.listen(DEAD));
    let six = (room.connect(vip6, &server6), room.udp(vip6));
    let mut spared = room.connect("[fd00:96::3]:80", &other6);
    let mapped = (room.connect("[::ffff:10.96.0.2]:80", &server4), room.udp("[::ffff:10.96.0.2]:80"));
    let sockets = world.with(ways);

    let found = sockets.find(&bound_to(&[backend6])).unwrap();
    assert_eq!(cookies(&found), BTreeSet::from([cookie(&six.0.0), cookie(&six.1)]));
    assert!(found.iter().all(|socket| socket.remote == address(backend6)));
    assert!(all_destroyed(&sockets.destroy(&found).unwrap()));
    assert_alive(&mut spared.0, &mut spared.1);

    // A filter may be written either way.
    for backend in [DEAD, "[::ffff:127.0.0.2]:7000"] {
        let found = sockets.find(&bound_to(&[backend])).unwrap();
        assert_eq!(cookies(&found), BTreeSet::from([cookie(&mapped.0.0), cookie(&mapped.1)]));
        for socket in &found {
            assert_eq!(socket.backend, address(DEAD));
            assert_eq!(socket.remote, address("[::ffff:127.0.0.2]:7000"));
            assert!(socket.local.is_ipv6());
        }
    }
    let found = sockets.find(&bound_to(&[DEAD])).unwrap();
    assert!(all_destroyed(&sockets.destroy(&found).unwrap()));
    let ((mut client, _), udp) = mapped;
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(udp.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn a_namespace_that_only_a_socket_keeps_alive_is_reached() {
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Udp, DEAD);
    let room = Room::new();
    let udp = room.udp(DEAD_VIP);
    drop(room);
    let sockets = world.sockets(Finder::SkStorage);

    let found = sockets.find(&bound_to(&[DEAD])).unwrap();

    assert_eq!(cookies(&found), BTreeSet::from([cookie(&udp)]));
    assert!(all_destroyed(&sockets.destroy(&found).unwrap()));
    assert_eq!(udp.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

fn sockets_of_a_namespace_that_vanishes_meanwhile_are_gone(ways: Ways) {
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Udp, DEAD);
    let (leaves, stays) = (Room::new(), Room::new());
    let (leaving, staying) = (leaves.udp(DEAD_VIP), stays.udp(DEAD_VIP));
    let sockets = world.with(ways);
    let mut found = sockets.find(&bound_to(&[DEAD])).unwrap();
    found.sort_by_key(|socket| socket.netns_cookie != leaves.cookie());
    assert_eq!(found.len(), 2);

    drop((leaving, leaves));

    let outcomes = sockets.destroy(&found).unwrap();
    assert_eq!(outcomes, [DestroyOutcome::Gone, DestroyOutcome::Destroyed]);
    assert_eq!(staying.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

fn another_socket_with_the_same_addresses_is_not_destroyed(ways: Ways) {
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Udp, DEAD);
    let room = Room::new();
    let old = room.udp_at("127.0.0.1:4000", DEAD_VIP);
    let sockets = world.with(ways);
    let found = sockets.find(&bound_to(&[DEAD])).unwrap();
    assert_eq!(cookies(&found), BTreeSet::from([cookie(&old)]));
    drop(old);
    let new = room.udp_at("127.0.0.1:4000", DEAD_VIP);
    let now = sockets.find(&bound_to(&[DEAD])).unwrap();
    assert_eq!((now[0].local, now[0].remote), (found[0].local, found[0].remote));

    assert_eq!(sockets.destroy(&found).unwrap(), [DestroyOutcome::Gone]);

    new.set_nonblocking(true).unwrap();
    assert_eq!(new.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(cookies(&sockets.find(&bound_to(&[DEAD])).unwrap()), BTreeSet::from([cookie(&new)]));
}

fn a_socket_that_was_connected_elsewhere_meanwhile_is_not_destroyed(ways: Ways) {
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Udp, DEAD);
    world.serve(LIVE_VIP, Protocol::Udp, LIVE);
    let room = Room::new();
    let moved = room.udp(DEAD_VIP);
    let sockets = world.with(ways);
    let found = sockets.find(&bound_to(&[DEAD])).unwrap();

    moved.connect(LIVE_VIP).unwrap();

    assert_eq!(sockets.find(&bound_to(&[DEAD])).unwrap(), []);
    assert_eq!(sockets.destroy(&found).unwrap(), [DestroyOutcome::Gone]);
    moved.set_nonblocking(true).unwrap();
    assert_eq!(moved.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(moved.peer_addr().unwrap(), address(LIVE_VIP));
}

fn sockets_that_the_kernel_hides_behind_a_device_or_each_other_are_destroyed_too(ways: Ways) {
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Udp, DEAD);
    let room = Room::new();
    let on_device = room.run(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&socket).bind_device(Some(b"lo")).unwrap();
        socket.connect(DEAD_VIP).unwrap();
        socket
    });
    // Two sockets with the same four addresses and ports.
    let twins: Vec<UdpSocket> = (0..2)
        .map(|_| {
            room.run(|| {
                let socket = shared_udp(address("127.0.0.1:4001"));
                socket.connect(DEAD_VIP).unwrap();
                socket
            })
        })
        .collect();
    let sockets = world.with(ways);
    let found = sockets.find(&bound_to(&[DEAD])).unwrap();
    assert_eq!(found.len(), 3);

    let outcomes = sockets.destroy(&found).unwrap();

    assert!(all_destroyed(&outcomes), "{outcomes:?}");
    for socket in twins.iter().chain([&on_device]) {
        assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
}

/// A UDP socket on an address that others may have too (`SO_REUSEPORT`).
fn shared_udp(local: SocketAddr) -> UdpSocket {
    use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
    let fd = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    sockopt::set_socket_reuseport(&fd, true).unwrap();
    bind(&fd, &local).unwrap();
    fd.into()
}

each_way!(each_condition_of_a_filter_holds_back_the_sockets_it_names; {
    sk_storage_iterator: [Feature::SocketStorageIterator] => Finder::SkStorage,
    netns_iterator: [] => Finder::Namespaces,
    sock_diag_dump: [] => Finder::SockDiag,
});

fn each_condition_of_a_filter_holds_back_the_sockets_it_names(finder: Finder) {
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Tcp, DEAD);
    world.serve(DEAD_VIP, Protocol::Udp, DEAD);
    let (one, two) = (Room::new(), Room::new());
    let server = one.listen(DEAD);
    let (mut tcp, mut tcp_server) = one.connect(DEAD_VIP, &server);
    let (udp_one, udp_two) = (one.udp(DEAD_VIP), two.udp(DEAD_VIP));
    assert_alive(&mut tcp, &mut tcp_server);
    let sockets = world.sockets(finder);
    let find = |filter: SocketFilter| cookies(&sockets.find(&filter).unwrap());
    let all = || bound_to(&[DEAD]);
    let everything = BTreeSet::from([cookie(&tcp), cookie(&udp_one), cookie(&udp_two)]);

    assert_eq!(find(all()), everything);
    assert_eq!(
        find(SocketFilter { protocols: vec![Protocol::Tcp], ..all() }),
        BTreeSet::from([cookie(&tcp)])
    );
    assert_eq!(
        find(SocketFilter { backends: vec![(address(DEAD), Protocol::Udp)], ..all() }),
        BTreeSet::from([cookie(&udp_one), cookie(&udp_two)])
    );
    assert_eq!(
        find(SocketFilter { netns_cookies: vec![two.cookie()], ..all() }),
        BTreeSet::from([cookie(&udp_two)])
    );
    assert_eq!(
        find(SocketFilter { backends: Vec::new(), netns_cookies: vec![one.cookie()], ..all() }),
        BTreeSet::from([cookie(&tcp), cookie(&udp_one)])
    );
    assert_eq!(find(SocketFilter { min_age: Duration::from_secs(3600), ..all() }), BTreeSet::new());
    assert_eq!(find(SocketFilter { min_age: Duration::from_nanos(1), ..all() }), everything);
    let listed = sockets.find(&SocketFilter { protocols: vec![Protocol::Tcp], ..all() }).unwrap();
    assert_eq!((listed[0].bytes_sent, listed[0].bytes_received), (4, 4));
    assert!(listed[0].age < Duration::from_secs(60), "{:?}", listed[0].age);
    assert_eq!(find(SocketFilter { states: vec![SocketState::CloseWait], ..all() }), BTreeSet::new());
    drop(tcp_server);
    assert_eq!(
        find(SocketFilter { states: vec![SocketState::CloseWait], ..all() }),
        BTreeSet::from([cookie(&tcp)])
    );
}

#[test]
fn thousands_of_sockets_of_many_backends_are_each_found_once() {
    const BACKENDS: u16 = 1000;
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let mut world = world();
    let backend = |n: u16| format!("127.1.{}.{}:7000", n / 250, n % 250 + 1);
    for n in 0..BACKENDS {
        world.serve(&format!("10.97.{}.{}:80", n / 250, n % 250 + 1), Protocol::Udp, &backend(n));
    }
    let connect = |room: &Room, backends: &mut dyn Iterator<Item = u16>| -> Vec<UdpSocket> {
        let vips: Vec<String> = backends.map(|n| format!("10.97.{}.{}:80", n / 250, n % 250 + 1)).collect();
        room.run(|| {
            let connect = |vip: &String| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect(vip).unwrap();
                socket
            };
            vips.iter().map(connect).collect()
        })
    };
    // One socket of each backend, and so many of one of them that its storage takes several reads.
    let (one_each, many) = (Room::new(), Room::new());
    let mut connected = connect(&one_each, &mut (0..BACKENDS));
    connected.extend(connect(&many, &mut std::iter::repeat_n(1, usize::from(BACKENDS))));
    let everything: BTreeSet<_> = connected.iter().map(cookie).collect();
    let spared = BTreeSet::from([cookie(&connected[0])]);
    let dead: Vec<String> = (1..BACKENDS).map(backend).collect();
    let dead: Vec<&str> = dead.iter().map(String::as_str).collect();

    for finder in Finder::ALL {
        let sockets = world.sockets(finder);
        let found = sockets.find(&bound_to(&dead)).unwrap();
        assert_eq!(cookies(&found), &everything - &spared, "{finder}");
        assert_eq!(cookies(&sockets.find(&SocketFilter::default()).unwrap()), everything, "{finder}");
    }
    let sockets = world.sockets(Finder::SkStorage);
    let found = sockets.find(&bound_to(&dead)).unwrap();
    assert!(all_destroyed(&sockets.destroy(&found).unwrap()));
    let left = SocketFilter { connected_only: true, ..SocketFilter::default() };
    assert_eq!(cookies(&sockets.find(&left).unwrap()), spared);
}

#[test]
fn sockets_from_before_are_bound_when_their_peer_becomes_a_backend() {
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let mut world = world();
    let room = Room::new();
    let (server, server6) = (room.listen(DEAD), room.listen("[fd00::2]:7000"));
    let (client, _client_end) = room.connect(DEAD, &server);
    let (mapped, _mapped_end) = room.connect("[::ffff:127.0.0.2]:7000", &server);
    let (six, _six_end) = room.connect("[fd00::2]:7000", &server6);
    let udp = room.udp(DEAD);
    let unconnected = room.run(|| UdpSocket::bind("127.0.0.1:4003").unwrap());
    // On its way between processes: no process has a descriptor of it.
    let (sending, receiving) = std::os::unix::net::UnixStream::pair().unwrap();
    let passed = room.udp(DEAD);
    let passed_cookie = cookie(&passed);
    send_away(&sending, &passed);
    drop(passed);
    let marks = BackFill::open(&world.pins).unwrap();
    marks.mark().unwrap();
    // This one is connected under the eyes of the translation, to the backend itself.
    let direct = room.udp(DEAD);

    world.serve(DEAD_VIP, Protocol::Tcp, DEAD);
    world.serve(DEAD_VIP, Protocol::Udp, DEAD);
    world.serve("[fd00:96::2]:80", Protocol::Tcp, "[fd00::2]:7000");
    assert!(marks.bind().unwrap() >= 5);
    assert_eq!(marks.bind().unwrap(), 0, "once is enough");

    let sockets = world.sockets(Finder::SkStorage);
    let found = sockets.find(&bound_to(&[DEAD, "[fd00::2]:7000"])).unwrap();
    let wanted =
        BTreeSet::from([cookie(&client), cookie(&mapped), cookie(&six), cookie(&udp), passed_cookie]);
    let in_room: Vec<_> =
        found.iter().filter(|socket| socket.netns_cookie == room.cookie()).cloned().collect();
    assert_eq!(cookies(&in_room), wanted);
    assert!(all_destroyed(&sockets.destroy(&in_room).unwrap()));
    for mut stream in [client, mapped, six] {
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
    assert_eq!(udp.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    for spared in [direct, unconnected] {
        spared.set_nonblocking(true).unwrap();
        assert_eq!(spared.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    drop(receiving);
}

/// Sends a socket to whoever receives it.
fn send_away(to: &std::os::unix::net::UnixStream, socket: &UdpSocket) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::os::fd::AsFd;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [socket.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(to, &[std::io::IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()).unwrap();
}

/// A socket that was sent.
fn receive(from: &std::os::unix::net::UnixStream) -> std::os::fd::OwnedFd {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(from, &mut [std::io::IoSliceMut::new(&mut [0])], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .unwrap();
    let descriptors = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptors.unwrap()
}

#[test]
fn without_a_way_to_destroy_sockets_are_found_and_left_alone() {
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Udp, DEAD);
    let room = Room::new();
    let udp = room.udp(DEAD_VIP);
    let sockets = world.with(ways(Finder::SkStorage, Destroyer::Nothing));

    let found = sockets.find(&bound_to(&[DEAD])).unwrap();
    assert_eq!(cookies(&found), BTreeSet::from([cookie(&udp)]));

    assert!(matches!(sockets.destroy(&found), Err(SocketError::ReportOnly(_))));
    assert_eq!(cookies(&sockets.find(&bound_to(&[DEAD])).unwrap()), BTreeSet::from([cookie(&udp)]));
}

#[test]
fn missing_bindings_are_named_with_their_pin() {
    let error = Sockets::open("/sys/fs/bpf/netloom-no-such-directory".as_ref()).unwrap_err();

    assert!(matches!(error, SocketError::Bindings(_)));
    assert!(error.to_string().contains("netloom-no-such-directory/nl_bound:"), "{error}");
}

#[test]
fn the_first_finder_is_taken_where_the_kernel_has_it() {
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let world = world();
    assert_eq!(Sockets::open(&world.pins).unwrap().finder(), Finder::SkStorage);
}

const _: () = {
    const fn is_shared_between_threads<T: Send + Sync>() {}
    is_shared_between_threads::<Sockets>();
};
