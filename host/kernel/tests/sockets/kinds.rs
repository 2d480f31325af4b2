//! Sockets that are connected in other ways than by a plain `connect`, or used elsewhere than where they were made.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
};

use netloom_core::model::{Feature, Protocol};
use netloom_kernel::sockets::Finder;
use netloom_test_support::{require, require_condition};
use socket2::{Domain, Socket, Type};

use crate::{
    DEAD, DEAD_VIP, LIVE, LIVE_VIP, all_destroyed, receive, send_away,
    world::{Room, address, assert_alive, bound_to, cookie, cookies, world},
};

/// `MSG_FASTOPEN`: connect, and send with the first packet.
const FASTOPEN: i32 = 0x2000_0000;

#[test]
fn multipath_tcp_is_found_and_destroyed() {
    let multipath = || Socket::new(Domain::IPV4, Type::STREAM, Some(socket2::Protocol::MPTCP));
    if !require(Feature::SocketStorageIterator)
        || !require_condition(multipath().is_ok(), "multipath TCP", "a kernel with CONFIG_MPTCP has it")
    {
        return;
    }
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Tcp, DEAD);
    world.serve(LIVE_VIP, Protocol::Tcp, LIVE);
    let room = Room::new();
    let listen = |at: &str, socket: Socket| -> TcpListener {
        socket.bind(&address(at).into()).unwrap();
        socket.listen(8).unwrap();
        socket.into()
    };
    let connect = |vip: &str, server: &TcpListener| -> (TcpStream, TcpStream) {
        let client = room.run(|| multipath().unwrap());
        client.connect(&address(vip).into()).unwrap();
        (client.into(), server.accept().unwrap().0)
    };
    // A server that does not speak it, and one that does.
    for (server, speaks_it) in
        [((|| Socket::new(Domain::IPV4, Type::STREAM, None)) as fn() -> _, false), (multipath, true)]
    {
        let (dead, live) = room.run(|| (listen(DEAD, server().unwrap()), listen(LIVE, server().unwrap())));
        let (mut stale, mut spared) = (connect(DEAD_VIP, &dead), connect(LIVE_VIP, &live));
        assert_alive(&mut stale.0, &mut stale.1);
        let sockets = world.sockets(Finder::SkStorage);

        let found = sockets.find(&bound_to(&[DEAD])).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(all_destroyed(&sockets.destroy(&found).unwrap()));

        assert_eq!(sockets.find(&bound_to(&[DEAD])).unwrap(), []);
        // Where both ends speak it, the kernel ends a path, and tells nobody as long as there might be another.
        if !speaks_it {
            assert_eq!(stale.0.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        }
        assert_alive(&mut spared.0, &mut spared.1);
    }
}

#[test]
fn tcp_fast_open_is_found_and_destroyed() {
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Tcp, DEAD);
    let room = Room::new();
    // Client and server side, on every listener.
    room.run(|| std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "1027").unwrap());
    let server = room.listen(DEAD);
    let open = || -> (TcpStream, TcpStream) {
        let client = room.run(|| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
        assert_eq!(client.send_to_with_flags(b"ping", &address(DEAD_VIP).into(), FASTOPEN).unwrap(), 4);
        let (mut end, _) = server.accept().unwrap();
        end.read_exact(&mut [0; 4]).unwrap();
        (client.into(), end)
    };
    // The first learns the server's cookie, the second sends with its first packet.
    let stale = [open(), open()];
    let sockets = world.sockets(Finder::SkStorage);

    let found = sockets.find(&bound_to(&[DEAD])).unwrap();
    assert_eq!(cookies(&found), stale.iter().map(|(client, _)| cookie(client)).collect::<BTreeSet<_>>());
    assert!(all_destroyed(&sockets.destroy(&found).unwrap()));

    for (mut client, mut end) in stale {
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(end.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_socket_is_reaped_wherever_it_was_passed_to() {
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Udp, DEAD);
    let (home, away) = (Room::new(), Room::new());
    let (sending, receiving) = UnixStream::pair().unwrap();
    let in_flight = home.udp(DEAD_VIP);
    let passed = home.udp(DEAD_VIP);
    let wanted = BTreeSet::from([cookie(&in_flight), cookie(&passed)]);
    send_away(&sending, &passed);
    drop(passed);
    let passed: UdpSocket = away.run(|| receive(&receiving)).into();
    // Connected by who is in another namespace than the socket.
    let elsewhere = home.run(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    away.run(|| elsewhere.connect(DEAD_VIP).unwrap());
    let wanted = &wanted | &BTreeSet::from([cookie(&elsewhere)]);
    send_away(&sending, &in_flight);
    drop(in_flight);
    let sockets = world.sockets(Finder::SkStorage);

    let found = sockets.find(&bound_to(&[DEAD])).unwrap();
    assert_eq!(cookies(&found), wanted);
    assert!(
        found.iter().all(|socket| socket.netns_cookie == home.cookie()),
        "a socket stays where it was made"
    );
    assert!(all_destroyed(&sockets.destroy(&found).unwrap()));

    let in_flight: UdpSocket = receive(&receiving).into();
    for socket in [passed, elsewhere, in_flight] {
        assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
}

#[test]
fn a_connection_that_another_process_has_too_is_cut_for_both() {
    if !require(Feature::SocketStorageIterator) {
        return;
    }
    let mut world = world();
    world.serve(DEAD_VIP, Protocol::Tcp, DEAD);
    let room = Room::new();
    let server = room.listen(DEAD);
    let (client, _end) = room.connect(DEAD_VIP, &server);
    // Another process reads from it, and writes what it got to us.
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(client.try_clone().unwrap())))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let sockets = world.sockets(Finder::SkStorage);

    let found = sockets.find(&bound_to(&[DEAD])).unwrap();
    assert_eq!(found.len(), 1, "one socket, whoever has it");
    assert!(all_destroyed(&sockets.destroy(&found).unwrap()));

    assert!(!child.wait().unwrap().success(), "the other process was told");
    let gone = (&client).write_all(b"x").unwrap_err();
    assert!(matches!(gone.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted), "{gone}");
}
