//! ICMP echo, without a ping program, so that it runs in the smallest of images.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use netloom_kernel::netns::Netns;
use netloom_test_support::at_this_pace;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, sendto,
    socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

/// Whether `to` answers an echo request from inside a namespace: the first one.
pub(crate) fn ping(from: &Netns, to: IpAddr) -> bool {
    from.run(|| echo(to, at_this_pace(Duration::from_secs(5)))).unwrap()
}

/// Whether no answer comes to an echo request for a while.
pub(crate) fn is_silent(from: &Netns, to: IpAddr) -> bool {
    from.run(|| !echo(to, at_this_pace(Duration::from_millis(500)))).unwrap()
}

fn echo(to: IpAddr, patience: Duration) -> bool {
    let (family, protocol, request, reply): (_, Protocol, u8, u8) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol)).unwrap();
    set_socket_timeout(&socket, Timeout::Recv, Some(patience)).unwrap();

    let identifier = std::process::id().to_be_bytes();
    let mut packet = vec![request, 0, 0, 0, identifier[2], identifier[3], 0, 1];
    packet.extend_from_slice(b"netloom!");
    if to.is_ipv4() {
        // The kernel sums ICMPv6 itself.
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum);
    }
    if sendto(&socket, &packet, SendFlags::empty(), &SocketAddr::new(to, 0)).is_err() {
        return false;
    }
    let deadline = Instant::now() + patience;
    let mut buffer = [0_u8; 256];
    while Instant::now() < deadline {
        let Ok((length, _)) = recv(&socket, &mut buffer[..], RecvFlags::empty()) else { return false };
        // A raw IPv4 socket gives the IP header as well.
        let skip = if to.is_ipv4() { usize::from(buffer[0] & 0x0f) * 4 } else { 0 };
        let answer = &buffer[skip..length];
        if answer[0] == reply && answer[4..] == packet[4..] {
            return true;
        }
    }
    false
}

fn checksum(packet: &[u8]) -> [u8; 2] {
    let mut sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}
