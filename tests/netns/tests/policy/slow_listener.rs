//! One who reads the monitor's events more slowly than they come.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, UdpSocket},
    os::unix::net::UnixStream,
    time::Duration,
};

use netloom_api::types::{ConnectEvent, MonitorEvent};
use netloom_netns_tests::Node;
use netloom_test_support::Netns;

use crate::reloading::until;

/// Events that wait for one listener, as the book says.
const WAITING: usize = 4_096;
/// More than wait, and than the buffers of two sockets hold on the way: what the datapath's buffer holds, so many times.
const AT_ONCE: u64 = 500;
const TIMES: u64 = 24;

/// The next event of a stream of JSON lines, whatever frames them.
fn event(stream: &mut BufReader<UnixStream>) -> MonitorEvent {
    loop {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).expect("an event comes"), 0, "the stream ended");
        if line.starts_with('{') {
            return serde_json::from_str(&line).unwrap();
        }
    }
}

#[test]
fn who_reads_slowly_misses_the_oldest_events_and_is_told_how_many() {
    let node = Node::configured("[datapath]\nevents_per_second = 1000000\n");
    let netns = Netns::new("client");
    let vips: [SocketAddr; 2] = ["10.96.90.1:53", "10.96.90.2:53"].map(|vip| vip.parse().unwrap());
    for (name, vip) in ["flood", "last"].into_iter().zip(vips) {
        // Without a backend each message is an event, and none leaves.
        node.service(name, &vip.to_string(), "udp", &[]);
    }
    let mut slow = UnixStream::connect(node.daemon.paths().socket).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    slow.write_all(b"GET /v1/monitor?kind=connect HTTP/1.1\r\nhost: netloomd\r\n\r\n").unwrap();
    let listeners = || node.daemon.netloom(&["metrics"]).expect_ok();
    until("it does not listen", || listeners().contains("netloom_monitor_listeners 1"));
    let mut last = node.daemon.listen("/v1/monitor?service=last").unwrap();

    let socket = netns.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let mut lost_below = 0;
    for _ in 0..TIMES {
        for _ in 0..AT_ONCE {
            assert!(socket.send_to(b"?", vips[0]).is_err());
        }
        // When this one is told, netloomd has emptied the datapath's buffer, which is not what is tested.
        assert!(socket.send_to(b"?", vips[1]).is_err());
        loop {
            match last.line() {
                MonitorEvent::Lost(lost) => lost_below += lost.events,
                MonitorEvent::Connect(connect) if connect.vip == vips[1] => break,
                other => panic!("{other:?}"),
            }
        }
    }

    // All of it has been given out by now; only now does it read.
    let mut stream = BufReader::new(slow);
    let (mut told, mut lost, mut since) = (0, 0, 0);
    let mut newest: Option<ConnectEvent> = None;
    while told + lost < TIMES * (AT_ONCE + 1) {
        match event(&mut stream) {
            MonitorEvent::Lost(missing) => {
                lost += missing.events;
                since = 0;
            }
            MonitorEvent::Connect(connect) => {
                told += 1;
                since += 1;
                newest = Some(connect);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told + lost, TIMES * (AT_ONCE + 1), "{told} told, {lost} lost");
    assert!(lost > lost_below, "it missed {lost}, and {lost_below} never came so far");
    assert!(told >= WAITING as u64, "{told} told");
    assert!(since <= WAITING, "{since} events waited");
    let service = newest.and_then(|newest| newest.service);
    assert_eq!(service.as_ref().map(|name| name.as_str()), Some("last"), "the newest are not missed");
}
