//! What packets make of an order, on the loopback device and on netkit pairs of both kinds.

use std::time::{Duration, Instant};

use aya::maps::{Map, MapData, PerCpuArray};
use netloom_core::model::{EntryId, NetkitPolicy, Placement};
use netloom_kernel::programs::{self, LoadOptions, Program};

use crate::road::{Road, on_roads};

on_roads!(tcx netkit tc: the_chain_runs_in_order_until_a_verdict, no_packet_misses_a_program_that_is_updated);
on_roads!(tcx netkit: programs_of_others_decide_in_their_places);
on_roads!(tcx: legacy_tc_decides_what_tcx_leaves_open);
on_roads!(netkit: a_netkit_pairs_policy_is_for_where_no_program_is);

fn load(object: &[u8]) -> Program {
    programs::load("a test's object", object, &LoadOptions::default()).unwrap()
}

/// Packets the observer has counted.
fn observed(observer: &Program) -> u64 {
    let map = MapData::from_id(observer.maps()[0]).unwrap();
    let counts: PerCpuArray<_, [u64; 2]> = Map::PerCpuArray(map).try_into().unwrap();
    counts.get(&0, 0).unwrap().iter().map(|[packets, _]| packets).sum()
}

fn the_chain_runs_in_order_until_a_verdict(road: &Road) {
    let Road { scratch, hook, .. } = road;
    let drop = load(netloom_test_programs::DROP);
    let observer = load(netloom_test_programs::OBSERVER);
    assert!(road.arrives(), "nothing is attached");

    let dropping = scratch.attach(hook, &drop, Placement::Tail);
    let behind = scratch.attach(hook, &observer, Placement::Tail);
    assert!(!road.arrives(), "the drop program drops");
    assert_eq!(observed(&observer), 0, "nothing runs behind a verdict");

    behind.detach(hook, &scratch.netns, observer.id()).unwrap();
    let in_front = scratch.attach(hook, &observer, Placement::Head);
    assert!(!road.arrives(), "the observer leaves the verdict to the next");
    assert_eq!(observed(&observer), 1, "the observer sees what is dropped behind it");

    let pass = load(netloom_test_programs::PASS);
    dropping.update(hook, &scratch.netns, &pass, drop.id()).unwrap();
    assert!(road.arrives(), "the pass program took the place of the drop program");
    assert_eq!(observed(&observer), 2);

    in_front.detach(hook, &scratch.netns, observer.id()).unwrap();
    dropping.detach(hook, &scratch.netns, pass.id()).unwrap();
    assert!(road.arrives(), "nothing is attached");
    assert_eq!(observed(&observer), 2, "a detached program sees nothing");
}

/// Those that other tools attach, without links.
fn programs_of_others_decide_in_their_places(road: &Road) {
    let Road { scratch, hook, .. } = road;
    let (foreign, front, behind) = (
        load(netloom_test_programs::DROP),
        load(netloom_test_programs::OBSERVER),
        load(netloom_test_programs::OBSERVER),
    );
    scratch.attach_without_link(hook, &foreign);
    let _front = scratch.attach(hook, &front, Placement::Before(EntryId(0)));
    let _behind = scratch.attach(hook, &behind, Placement::After(EntryId(1)));
    assert!(!road.arrives(), "it drops");
    assert_eq!((observed(&front), observed(&behind)), (1, 0));

    let pass = load(netloom_test_programs::PASS);
    let first = scratch.attach(hook, &pass, Placement::Head);
    assert!(road.arrives(), "ours in front of it decides");
    first.detach(hook, &scratch.netns, pass.id()).unwrap();
    assert!(!road.arrives());
    assert_eq!((observed(&front), observed(&behind)), (2, 0));
}

/// On one side of a device both kinds of chain may be in use: legacy tc gets what tcx leaves open, and nothing else.
fn legacy_tc_decides_what_tcx_leaves_open(road: &Road) {
    let Road { scratch, hook, .. } = road;
    let legacy = scratch.hook_on("lo", hook.point.on(true).unwrap());
    let (observer, dropping) = (load(netloom_test_programs::OBSERVER), load(netloom_test_programs::DROP));
    let seen = load(netloom_test_programs::OBSERVER);
    let _dropping = scratch.attach(&legacy, &dropping, Placement::Tail);
    let _seen = scratch.attach(&legacy, &seen, Placement::Head);
    assert!(!road.arrives(), "legacy tc alone drops");
    assert_eq!(observed(&seen), 1);

    let _observer = scratch.attach(hook, &observer, Placement::Tail);
    assert!(!road.arrives(), "tcx leaves it open, and legacy tc drops");
    assert_eq!((observed(&observer), observed(&seen)), (1, 2));

    let _pass = scratch.attach(hook, &load(netloom_test_programs::PASS), Placement::Tail);
    assert!(road.arrives(), "tcx decides, and legacy tc is not asked");
    assert_eq!((observed(&observer), observed(&seen)), (2, 2));
}

/// A chain whose programs all go on to the next is not asked for a policy: the kernel forwards.
fn a_netkit_pairs_policy_is_for_where_no_program_is(road: &Road) {
    let Road { scratch, hook, .. } = road;
    assert!(road.arrives(), "no program, and the policy forwards");
    road.set_policy(NetkitPolicy::Blackhole);
    assert!(!road.arrives(), "no program, and the policy drops");
    let observer = load(netloom_test_programs::OBSERVER);
    let observing = scratch.attach(hook, &observer, Placement::Tail);
    assert!(road.arrives(), "the only program goes on, and the policy is not asked");
    assert_eq!(observed(&observer), 1);
    observing.detach(hook, &scratch.netns, observer.id()).unwrap();
    assert!(!road.arrives(), "no program any more, and the policy drops");
}

/// Updates while datagrams flow: the program that drops all others would lose one if ever both were missed.
fn no_packet_misses_a_program_that_is_updated(road: &Road) {
    let Road { scratch, hook, .. } = road;
    let (first, second) = (load(netloom_test_programs::DROP), load(netloom_test_programs::DROP));
    assert!(road.arrives(), "nothing is attached");
    let attached = scratch.attach(hook, &first, Placement::Tail);
    let (sender, receiver) = road.sockets();
    receiver.set_nonblocking(true).unwrap();
    let address = receiver.local_addr().unwrap();
    let stop = Instant::now() + Duration::from_millis(300);
    let (mut leaked, mut sent) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut running, mut other) = (&first, &second);
            while Instant::now() < stop {
                attached.update(hook, &scratch.netns, other, running.id()).unwrap();
                std::mem::swap(&mut running, &mut other);
            }
        });
        while Instant::now() < stop {
            // A program that drops on egress is an error to the sender.
            let _ = sender.send_to(b"packet", address);
            sent += 1;
            leaked += usize::from(receiver.recv(&mut [0; 16]).is_ok());
        }
    });
    assert!(sent > 10, "{sent} sent");
    assert_eq!(leaked, 0, "of {sent}");
}
