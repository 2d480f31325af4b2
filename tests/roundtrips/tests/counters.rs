//! What is counted of an endpoint is what was sent, to the byte, on both ends, in every mode and both families, and
//! its device says the same.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

use netloom_roundtrips::nodes::{Endpoint, Node, Traffic, modes};
use netloom_test_support::{Netns, at_this_pace, until};
use tokio::runtime::Builder;

const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const DATAGRAMS: u64 = 10;
const PINGS: u64 = 3;

/// Where something is sent from or to: an endpoint, or the node itself.
#[derive(Clone)]
struct Place<'a> {
    name: String,
    netns: &'a Netns,
    addresses: [IpAddr; 2],
    endpoint: Option<&'a Endpoint>,
}

fn place(endpoint: &Endpoint) -> Place<'_> {
    Place {
        name: endpoint.mode.to_string(),
        netns: &endpoint.netns,
        addresses: [endpoint.addresses[0], endpoint.addresses[1]],
        endpoint: Some(endpoint),
    }
}

/// What was sent: packets and bytes with their link headers, there and back.
type Sent = ([u64; 2], [u64; 2]);

fn headers(address: IpAddr) -> u64 {
    14 + if address.is_ipv4() { 20 } else { 40 }
}

fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn datagrams(from: &Place<'_>, to: &Place<'_>, address: IpAddr, source: IpAddr) -> Sent {
    const SIZE: u64 = 321;
    let listen = SocketAddr::new(address, port());
    let server = to.netns.run(|| UdpSocket::bind(listen).unwrap());
    server.set_read_timeout(Some(at_this_pace(Duration::from_secs(5)))).unwrap();
    let client = from.netns.run(|| UdpSocket::bind(SocketAddr::new(source, 0)).unwrap());
    for _ in 0..DATAGRAMS {
        client.send_to(&[7; SIZE as usize], listen).unwrap();
        assert_eq!(server.recv(&mut [0; 2000]).expect("a datagram arrives"), SIZE as usize);
    }
    ([DATAGRAMS, DATAGRAMS * (headers(address) + 8 + SIZE)], [0, 0])
}

fn pings(from: &Place<'_>, address: IpAddr, source: IpAddr) -> Sent {
    let (count, source, address_text) = (PINGS.to_string(), source.to_string(), address.to_string());
    let words = ["ping", "-c", &count, "-i", "0.02", "-W", "5", "-s", "100", "-I", &source, &address_text];
    assert!(from.netns.command(&words).ok(), "{source} does not reach {address}");
    let each_way = [PINGS, PINGS * (headers(address) + 8 + 100)];
    (each_way, each_way)
}

/// How many segments TCP has sent in a namespace once more (RFC 4022, tcpRetransSegs).
fn sent_again(netns: &Netns) -> u64 {
    let counters = netns.run(|| fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
    let mut lines = counters.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut columns = names.split(' ').zip(values.split(' '));
    columns.find(|(name, _)| *name == "RetransSegs").unwrap().1.parse().unwrap()
}

/// Sends so many bytes and waits for all of them to arrive, and for the end.
///
/// Returns how many segments TCP sent once more: on a machine that is busy or emulated it may take a slow answer for a
/// lost one.
fn stream(from: &Place<'_>, to: &Place<'_>, address: IpAddr) -> u64 {
    let before = sent_again(from.netns);
    let listen = SocketAddr::new(address, port());
    let server = to.netns.run(|| TcpListener::bind(listen).unwrap());
    let receiver = thread::spawn(move || {
        let (mut connection, _) = server.accept().unwrap();
        let mut all = Vec::new();
        connection.read_to_end(&mut all).unwrap();
        all.len()
    });
    let mut client = from.netns.run(|| TcpStream::connect(listen).unwrap());
    client.write_all(&[7; STREAM]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert_eq!(receiver.join().unwrap(), STREAM);
    sent_again(from.netns) - before
}

const STREAM: usize = 200_000;
/// The most payload a segment has on a device of 1,500 bytes.
const SEGMENT: u64 = 1_500 - 20 - 20;

/// What datapath and devices counted at both ends, of those that are endpoints.
type Seen = [Option<[Traffic; 2]>; 2];

/// Sends something, and waits until both ends counted it as they should: what is under way may be counted at one end
/// and not yet at the other, and what is counted wrongly stays so.
fn counts<T>(
    (node, ends, what): (&Node, [&Place<'_>; 2], &str),
    send: impl FnOnce() -> T,
    holds: impl Fn(&T, Seen) -> Result<(), String>,
) {
    let look = || ends.map(|place: &Place<'_>| place.endpoint.map(|endpoint| node.traffic(endpoint)));
    let before = look();
    let sent = send();
    let counted = || {
        let after = look();
        let since = |end: usize| {
            let (after, before) = (after[end]?, before[end]?);
            Some([after[0].since(before[0]), after[1].since(before[1])])
        };
        holds(&sent, [since(0), since(1)]).map_err(|error| format!("{what}: {error}"))
    };
    until(counted, Result::is_ok).unwrap();
}

fn exactly(sent: &Sent, ends: Seen) -> Result<(), String> {
    let expected = [Traffic { sent: sent.0, received: sent.1 }, Traffic { sent: sent.1, received: sent.0 }];
    for (end, expected) in ends.into_iter().zip(expected) {
        if end.is_some_and(|seen| seen != [expected; 2]) {
            return Err(format!("sent {expected:?}, datapath and device counted {end:?}"));
        }
    }
    Ok(())
}

/// How many of the bytes are headers follows from the packets; the payload must be in there, once but for so many
/// segments.
fn a_stream(again: u64, ends: Seen) -> Result<(), String> {
    for (end, forth) in ends.into_iter().zip([true, false]) {
        let Some([ours, device]) = end else { continue };
        let [packets, bytes] = if forth { ours.sent } else { ours.received };
        let payload = STREAM as u64;
        // At least without options, at most with all that TCP has room for.
        let most = payload + packets * (14 + 40 + 60) + again * SEGMENT;
        let plausible = payload + packets * (14 + 20 + 20)..=most;
        if ours != device || !plausible.contains(&bytes) {
            return Err(format!("{again} segments sent again, datapath {ours:?}, device {device:?}"));
        }
    }
    if let [Some([client, _]), Some([server, _])] = ends
        && (client.sent, client.received) != (server.received, server.sent)
    {
        return Err(format!("the client counted {client:?}, the server {server:?}"));
    }
    Ok(())
}

#[test]
fn counters_equal_what_was_sent_to_the_byte_on_both_ends_in_all_modes() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let capabilities = runtime.block_on(netloom_kernel::capabilities::probe());
    let mut node = Node::new("node", &capabilities);
    for (address, length) in HOST.into_iter().zip([32, 128]) {
        node.netns.add_address("lo", &format!("{address}/{length}"));
    }
    let modes = modes(&capabilities);
    let mut all = |first: u8| -> Vec<Endpoint> {
        let numbered = modes.iter().zip(first..);
        let addresses = |number| [format!("10.1.1.{number}"), format!("fd00:1::{number}")];
        numbered
            .map(|(mode, number)| {
                let addresses = addresses(number).map(|address| address.parse().unwrap());
                node.endpoint(&runtime, *mode, &addresses)
            })
            .collect()
    };
    let (clients, servers) = (all(10), all(20));
    let host = Place {
        name: "the node".to_owned(),
        netns: &node.netns,
        addresses: HOST.map(|address| address.parse().unwrap()),
        endpoint: None,
    };
    let mut pairs = Vec::new();
    for client in &clients {
        pairs.extend(servers.iter().map(|server| [place(client), place(server)]));
        pairs.push([place(client), host.clone()]);
        pairs.push([host.clone(), place(client)]);
    }
    // The kernel reports the groups of new devices, on some versions late.
    let all = || clients.iter().chain(&servers).map(|end| node.traffic(end)).collect::<Vec<_>>();
    let look = || {
        let before = all();
        thread::sleep(at_this_pace(Duration::from_millis(500)));
        (before, all())
    };
    until(look, |(before, after)| before == after);
    for [from, to] in &pairs {
        for family in [0, 1] {
            let (source, address) = (from.addresses[family], to.addresses[family]);
            let what = format!("{} to {} at {address}", from.name, to.name);
            // Hardware addresses are asked for once.
            pings(from, address, source);
            pings(to, source, address);
            let ends = [from, to];
            let way = (&node, ends, what.as_str());
            counts(way, || datagrams(from, to, address, source), exactly);
            counts(way, || pings(from, address, source), exactly);
            counts(way, || stream(from, to, address), |again, seen| a_stream(*again, seen));
        }
    }
}
