//! What packets make of an order, on the loopback device.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use aya::maps::{Map, MapData, PerCpuArray};
use netloom_core::model::{Feature, HookPoint, Placement};
use netloom_kernel::programs::{self, LoadOptions, Program};
use netloom_test_support::require;

use crate::scratch::{Scratch, at_points};

at_points!(tcx tc: the_chain_runs_in_order_until_a_verdict, no_packet_misses_a_program_that_is_updated);
at_points!(tcx: legacy_tc_decides_what_tcx_leaves_open);

fn load(object: &[u8]) -> Program {
    programs::load("a test's object", object, &LoadOptions::default()).unwrap()
}

/// Packets the observer has counted.
fn observed(observer: &Program) -> u64 {
    let map = MapData::from_id(observer.maps()[0]).unwrap();
    let counts: PerCpuArray<_, [u64; 2]> = Map::PerCpuArray(map).try_into().unwrap();
    counts.get(&0, 0).unwrap().iter().map(|[packets, _]| packets).sum()
}

/// Whether a datagram to this host arrives.
fn arrives(scratch: &Scratch) -> bool {
    let sent = scratch.netns.run(|| {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"packet", receiver.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 16];
        receiver.recv(&mut buffer).is_ok()
    });
    sent.unwrap()
}

fn the_chain_runs_in_order_until_a_verdict(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook_on("lo", point);
    let drop = load(netloom_test_programs::DROP);
    let observer = load(netloom_test_programs::OBSERVER);
    assert!(arrives(&scratch), "{point}: nothing is attached");

    let dropping = scratch.attach(&hook, &drop, Placement::Tail);
    let behind = scratch.attach(&hook, &observer, Placement::Tail);
    assert!(!arrives(&scratch), "{point}: the drop program drops");
    assert_eq!(observed(&observer), 0, "{point}: nothing runs behind a verdict");

    behind.detach(&hook, &scratch.netns, observer.id()).unwrap();
    let in_front = scratch.attach(&hook, &observer, Placement::Head);
    assert!(!arrives(&scratch), "{point}: the observer leaves the verdict to the next");
    assert_eq!(observed(&observer), 1, "{point}: the observer sees what is dropped behind it");

    let pass = load(netloom_test_programs::PASS);
    dropping.update(&hook, &scratch.netns, &pass, drop.id()).unwrap();
    assert!(arrives(&scratch), "{point}: the pass program took the place of the drop program");
    assert_eq!(observed(&observer), 2, "{point}");

    in_front.detach(&hook, &scratch.netns, observer.id()).unwrap();
    dropping.detach(&hook, &scratch.netns, pass.id()).unwrap();
    assert!(arrives(&scratch), "{point}: nothing is attached");
    assert_eq!(observed(&observer), 2, "{point}: a detached program sees nothing");
}

/// On one side of a device both kinds of chain may be in use: legacy tc gets what tcx leaves open, and nothing else.
fn legacy_tc_decides_what_tcx_leaves_open(point: HookPoint) {
    let scratch = Scratch::new();
    let (hook, legacy) = (scratch.hook_on("lo", point), scratch.hook_on("lo", point.on(true).unwrap()));
    let (observer, dropping) = (load(netloom_test_programs::OBSERVER), load(netloom_test_programs::DROP));
    let seen = load(netloom_test_programs::OBSERVER);
    let _dropping = scratch.attach(&legacy, &dropping, Placement::Tail);
    let _seen = scratch.attach(&legacy, &seen, Placement::Head);
    assert!(!arrives(&scratch), "{point}: legacy tc alone drops");
    assert_eq!(observed(&seen), 1, "{point}");

    let _observer = scratch.attach(&hook, &observer, Placement::Tail);
    assert!(!arrives(&scratch), "{point}: tcx leaves it open, and legacy tc drops");
    assert_eq!((observed(&observer), observed(&seen)), (1, 2), "{point}");

    let _pass = scratch.attach(&hook, &load(netloom_test_programs::PASS), Placement::Tail);
    assert!(arrives(&scratch), "{point}: tcx decides, and legacy tc is not asked");
    assert_eq!((observed(&observer), observed(&seen)), (2, 2), "{point}");
}

/// Updates while datagrams flow: the program that drops all others would lose one if ever both were missed.
fn no_packet_misses_a_program_that_is_updated(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook_on("lo", point);
    let (first, second) = (load(netloom_test_programs::DROP), load(netloom_test_programs::DROP));
    let attached = scratch.attach(&hook, &first, Placement::Tail);
    let leaked = scratch.netns.run(|| {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_nonblocking(true).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        let stop = Instant::now() + Duration::from_millis(300);
        let mut leaked = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut running, mut other) = (&first, &second);
                while Instant::now() < stop {
                    attached.update(&hook, &scratch.netns, other, running.id()).unwrap();
                    std::mem::swap(&mut running, &mut other);
                }
            });
            while Instant::now() < stop {
                // A program that drops on egress is an error to the sender.
                let _ = sender.send_to(b"packet", address);
                leaked += usize::from(receiver.recv(&mut [0; 16]).is_ok());
            }
        });
        leaked
    });
    assert_eq!(leaked.unwrap(), 0, "{point}");
}

#[test]
fn a_chain_on_a_netkit_pair_decides_what_passes() {
    if !require(Feature::NetkitLinks) {
        return;
    }
    let scratch = Scratch::new();
    let hook = scratch.hook(HookPoint::NetkitPeer);
    scratch.run("ip link set primary up");
    scratch.run("ip link set peer up");
    let observer = load(netloom_test_programs::OBSERVER);
    let _observing = scratch.attach(&hook, &observer, Placement::Tail);
    // The peer has a link-local address and solicits routers through it.
    let deadline = Instant::now() + Duration::from_secs(5);
    scratch.run("ip route add 192.0.2.0/24 dev peer");
    while observed(&observer) == 0 && Instant::now() < deadline {
        let send = || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"packet", "192.0.2.1:9");
        let _ = scratch.netns.run(send).unwrap();
    }
    assert!(observed(&observer) > 0, "packets sent through the peer are seen");
}
