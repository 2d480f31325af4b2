//! Framing and filters are checked by hand-laid bytes; the rest against the kernel, in namespaces of the test's own,
//! which takes root.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    thread,
};

use netloom_test_support::require_root;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Runs a filter as `inet_diag_bc_run` does, for a socket of one family with a remote address.
fn accepts(filter: &[u8], remote: SocketAddr) -> bool {
    let (mut at, end) = (0isize, filter.len() as isize);
    while at < end {
        let op = &filter[at as usize..];
        let (code, yes, no) =
            (op[0], isize::from(op[1]), isize::from(u16::from_ne_bytes([op[2], op[3]]) as i16));
        let holds = match code {
            1 => false,
            8 => {
                let port = i32::from_ne_bytes(op[8..12].try_into().unwrap());
                let ip: std::net::IpAddr = match op[4] {
                    2 => <[u8; 4]>::try_from(&op[12..16]).unwrap().into(),
                    _ => <[u8; 16]>::try_from(&op[12..28]).unwrap().into(),
                };
                i32::from(remote.port()) == port && remote.ip() == ip
            }
            other => panic!("operation {other}"),
        };
        at += if holds { yes } else { no };
    }
    at == end
}

#[test]
fn a_filter_accepts_each_of_its_remotes_and_nothing_else() {
    let remotes: Vec<SocketAddr> = (0..FILTER as u16)
        .map(|n| {
            if n % 3 == 0 {
                SocketAddr::new(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n).into(), 80 + n)
            } else {
                address(&format!("10.0.0.{n}:{}", 80 + n))
            }
        })
        .collect();

    for count in [1, 2, FILTER] {
        let filter = remote_filter(&remotes[..count]);

        assert!(filter.len() < usize::from(u16::MAX));
        for (index, remote) in remotes.iter().enumerate() {
            assert_eq!(accepts(&filter, *remote), index < count, "{remote} of {count}");
        }
        assert!(!accepts(&filter, address("10.0.0.1:80")));
        assert!(!accepts(&filter, address("[fd00::]:81")));
    }
}

#[test]
fn an_exact_request_has_the_kernels_layout() {
    let socket = SocketId {
        transport: Transport::Tcp,
        local: address("[::ffff:10.0.0.1]:4660"),
        remote: address("10.0.0.2:80"),
        device: 7,
        cookie: 0x0102_0304_0506_0708,
    };
    let mut bytes = Vec::new();

    Request::exact(&socket, DiagAction::Destroy).encode(9, &mut bytes);

    assert_eq!((bytes.len(), &bytes[..4]), (72, 72u32.to_ne_bytes().as_slice()));
    assert_eq!(bytes[4..6], 21u16.to_ne_bytes(), "SOCK_DESTROY");
    assert_eq!(bytes[8..12], 9u32.to_ne_bytes());
    assert_eq!(bytes[16..18], [2, 6], "a v4-mapped socket is asked for as IPv4");
    assert_eq!(bytes[24..28], [0x12, 0x34, 0, 80]);
    assert_eq!(bytes[28..32], [10, 0, 0, 1]);
    assert_eq!(bytes[44..48], [10, 0, 0, 2]);
    assert_eq!(bytes[60..64], 7u32.to_ne_bytes());
    assert_eq!(bytes[64..68], 0x0506_0708u32.to_ne_bytes(), "the low half of the cookie comes first");
    assert_eq!(bytes[68..72], 0x0102_0304u32.to_ne_bytes());
}

#[test]
fn a_message_that_lies_about_its_length_is_refused() {
    let mut bytes = vec![0; 16];
    bytes[..4].copy_from_slice(&64u32.to_ne_bytes());

    assert!(message::parts(&bytes).any(|part| matches!(part, Err(DiagError::Malformed(_)))));
    assert!(message::parts(&bytes[..3]).any(|part| part.is_err()));
    assert!(parse_found(&[2; 71]).is_err());
}

/// Runs a test in a new network namespace with loopback up.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let entered = thread::spawn(|| {
        crate::ns::enter_new().unwrap();
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "ip link set lo up");
        test();
    });
    entered.join().unwrap();
}

fn identity(
    transport: Transport,
    fd: impl AsFd,
    local: SocketAddr,
    remote: SocketAddr,
) -> (SocketId, SocketAddr) {
    let cookie = sockopt::socket_cookie(fd).unwrap();
    (SocketId { transport, local, remote, device: 0, cookie }, remote)
}

const CONNECTED: u32 = 1 << 1;

#[test]
fn tcp_sockets_of_both_families_are_found_destroyed_and_gone() {
    if !require_root() {
        return;
    }
    for (listen, connect) in
        [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "[::1]"), ("[::]:0", "[::ffff:127.0.0.1]")]
    {
        in_namespace(move || {
            let listener = TcpListener::bind(listen).unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut stream = TcpStream::connect(address(&format!("{connect}:{port}"))).unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            stream.write_all(b"five!").unwrap();
            peer.read_exact(&mut [0; 5]).unwrap();
            peer.write_all(b"answer").unwrap();
            stream.read_exact(&mut [0; 6]).unwrap();
            let (id, remote) =
                identity(Transport::Tcp, &stream, stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            let mut diag = DiagSocket::open().unwrap();
            diag.probe(Transport::Tcp).unwrap();

            let mut found = Vec::new();
            diag.dump(Transport::Tcp, CONNECTED, &[remote], &[], |socket, _| found.push(socket)).unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].id(Transport::Tcp), id);
            assert_eq!((found[0].bytes_acked, found[0].bytes_received), (1 + 5, 6));

            let other = SocketId { cookie: id.cookie + 1, ..id };
            assert!(
                !diag.destroy(&[other]).unwrap()[0].as_ref().unwrap(),
                "another cookie is another socket"
            );
            assert!(diag.lookup(&[other]).unwrap()[0].as_ref().unwrap().is_none());
            let before = diag.lookup(&[id]).unwrap()[0].as_ref().unwrap().unwrap();
            assert_eq!(before.cookie, id.cookie);

            assert!(diag.destroy(&[id]).unwrap()[0].as_ref().unwrap());
            assert!(diag.lookup(&[id]).unwrap()[0].as_ref().unwrap().is_none());
            assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
            assert!(!diag.destroy(&[id]).unwrap()[0].as_ref().unwrap(), "it is gone already");
        });
    }
}

#[test]
fn udp_sockets_are_destroyed_exactly_in_batches() {
    if !require_root() {
        return;
    }
    for (bind, connect) in
        [("127.0.0.1:0", "127.0.0.1:9"), ("[::1]:0", "[::1]:9"), ("[::]:0", "[::ffff:127.0.0.1]:9")]
    {
        in_namespace(move || {
            let count = BATCH * 3 + 1;
            let sockets: Vec<UdpSocket> = (0..count)
                .map(|_| {
                    let socket = UdpSocket::bind(bind).unwrap();
                    socket.connect(connect).unwrap();
                    socket.set_nonblocking(true).unwrap();
                    socket
                })
                .collect();
            let ids: Vec<SocketId> = sockets
                .iter()
                .map(|socket| {
                    identity(Transport::Udp, socket, socket.local_addr().unwrap(), address(connect)).0
                })
                .collect();
            let (even, odd): (Vec<_>, Vec<_>) = ids.iter().enumerate().partition(|(index, _)| index % 2 == 0);
            let even: Vec<SocketId> = even.into_iter().map(|(_, id)| *id).collect();
            let odd: Vec<SocketId> = odd.into_iter().map(|(_, id)| *id).collect();
            let mut diag = DiagSocket::open().unwrap();
            diag.probe(Transport::Udp).unwrap();

            let mut found = 0;
            diag.dump(Transport::Udp, CONNECTED, &[address(connect)], &[], |_, _| found += 1).unwrap();
            assert_eq!(found, count);
            found = 0;
            diag.dump(Transport::Udp, CONNECTED, &[address("127.0.0.1:10")], &[], |_, _| found += 1).unwrap();
            assert_eq!(found, 0);
            assert!(diag.lookup(&ids).unwrap().into_iter().all(|socket| socket.unwrap().is_some()));

            assert!(diag.destroy(&even).unwrap().into_iter().all(|done| done.unwrap()));
            for (after, id) in diag.lookup(&even).unwrap().into_iter().zip(&even) {
                let after = after.unwrap();
                assert!(after.is_none_or(|socket| socket.state == 7), "{id} is {after:?}");
            }
            for after in diag.lookup(&odd).unwrap() {
                assert_eq!(after.unwrap().unwrap().state, 1);
            }
            for (index, socket) in sockets.iter().enumerate() {
                let kind = socket.recv(&mut [0; 8]).unwrap_err().kind();
                let expected =
                    if index % 2 == 0 { ErrorKind::ConnectionAborted } else { ErrorKind::WouldBlock };
                assert_eq!(kind, expected, "socket {index}");
            }
        });
    }
}
