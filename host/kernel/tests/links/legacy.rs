//! Legacy tc, with other tools' filters and qdiscs beside ours.

use netloom_core::model::{Chain, EntryId, Feature, HookPoint, Placement};
use netloom_kernel::{
    links::{self, Attached, LinkError},
    programs::Program,
};
use netloom_test_support::require;

use crate::scratch::{Bpffs, Scratch, at_points, program};

at_points!(
    tc:
    the_qdisc_comes_with_the_first_filter_and_goes_with_the_last,
    a_qdisc_that_others_made_or_use_stays,
    filters_of_others_keep_their_place,
    a_filter_at_our_place_that_is_not_ours_is_left_alone,
    there_is_a_place_in_front_of_priority_1,
    between_two_filters_without_room_nothing_is_placed,
    a_long_chain_is_read_whole,
    a_snapshot_of_a_hook_without_a_qdisc_is_enough_to_attach,
);

fn side(point: HookPoint) -> &'static str {
    if point == HookPoint::TcIngress { "ingress" } else { "egress" }
}

fn qdiscs(scratch: &Scratch) -> String {
    scratch.run("tc qdisc show dev blue")
}

fn the_qdisc_comes_with_the_first_filter_and_goes_with_the_last(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    assert!(scratch.query(&hook).entries.is_empty());
    assert!(!qdiscs(&scratch).contains("clsact"), "to look is not to change");

    let (one, two) = (program("one"), program("two"));
    let first = scratch.attach(&hook, &one, Placement::Tail);
    let second = scratch.attach(&hook, &two, Placement::Tail);
    assert!(qdiscs(&scratch).contains("clsact"));
    first.detach(&hook, &scratch.netns, one.id()).unwrap();
    assert_eq!(scratch.names(&hook), ["two"], "{point}");
    assert!(qdiscs(&scratch).contains("clsact"));
    second.detach(&hook, &scratch.netns, two.id()).unwrap();
    assert!(!qdiscs(&scratch).contains("clsact"), "{point}: {}", qdiscs(&scratch));

    // Once more is no error.
    second.detach(&hook, &scratch.netns, two.id()).unwrap();
}

fn a_qdisc_that_others_made_or_use_stays(point: HookPoint) {
    // Made by another tool, idle.
    let scratch = Scratch::new();
    scratch.run("tc qdisc add dev blue clsact");
    let hook = scratch.hook(point);
    let ours = program("ours");
    scratch.attach(&hook, &ours, Placement::Tail).detach(&hook, &scratch.netns, ours.id()).unwrap();
    assert!(qdiscs(&scratch).contains("clsact"), "{point}");

    // Made by us, and meanwhile used by another tool, on either side.
    for other in ["ingress", "egress"] {
        let scratch = Scratch::new();
        let hook = scratch.hook(point);
        let attached = scratch.attach(&hook, &ours, Placement::Tail);
        scratch.add_classic_filter(other, 7);
        attached.detach(&hook, &scratch.netns, ours.id()).unwrap();
        assert!(qdiscs(&scratch).contains("clsact"), "{point}");
        assert!(scratch.run(&format!("tc filter show dev blue {other}")).contains("bytecode"), "{point}");
    }
}

fn filters_of_others_keep_their_place(point: HookPoint) {
    let bpffs = Bpffs::new();
    let foreign = program("foreign");
    let pin = bpffs.path().join("foreign");
    foreign.pin(&pin).unwrap();
    let scratch = Scratch::new();
    let side = side(point);
    scratch.run("tc qdisc add dev blue clsact");
    scratch.add_classic_filter(side, 5);
    scratch.run(&format!(
        "tc filter add dev blue {side} prio 10 handle 1 bpf direct-action object-pinned {}",
        pin.display()
    ));
    let hook = scratch.hook(point);
    let before = scratch.run(&format!("tc filter show dev blue {side}"));

    // The filter without a program is no entry of the chain, but has its place.
    assert_eq!(scratch.names(&hook), ["foreign"], "{point}");
    let (front, back) = (program("front"), program("back"));
    let first = scratch.attach(&hook, &front, Placement::Before(EntryId(0)));
    let last = scratch.attach(&hook, &back, Placement::Tail);
    assert_eq!(scratch.names(&hook), ["front", "foreign", "back"], "{point}");
    let (priority, handle) = first.filter().unwrap();
    assert!(priority > 5 && priority < 10, "{point}: {priority}");
    assert_ne!(handle, 1);

    first.detach(&hook, &scratch.netns, front.id()).unwrap();
    last.detach(&hook, &scratch.netns, back.id()).unwrap();
    assert_eq!(scratch.run(&format!("tc filter show dev blue {side}")), before, "{point}");
}

fn a_filter_at_our_place_that_is_not_ours_is_left_alone(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let (ours, usurper) = (program("ours"), program("usurper"));
    let attached = scratch.attach(&hook, &ours, Placement::Tail);
    attached.update(&hook, &scratch.netns, &usurper, ours.id()).unwrap();

    let error = attached.detach(&hook, &scratch.netns, ours.id()).expect_err("another program runs");
    assert!(matches!(error, LinkError::Foreign { .. }), "{point}: {error}");
    assert!(error.to_string().contains("left alone"), "{error}");
    assert_eq!(scratch.names(&hook), ["usurper"], "{point}");
    attached.detach(&hook, &scratch.netns, usurper.id()).unwrap();
}

/// The highest priority is 1, and that is what other tools like to take.
fn there_is_a_place_in_front_of_priority_1(point: HookPoint) {
    let bpffs = Bpffs::new();
    let foreign = program("foreign");
    let pin = bpffs.path().join("foreign");
    foreign.pin(&pin).unwrap();
    let scratch = Scratch::new();
    scratch.run("tc qdisc add dev blue clsact");
    scratch.run(&format!(
        "tc filter add dev blue {} prio 1 handle 1 bpf direct-action object-pinned {}",
        side(point),
        pin.display()
    ));
    let hook = scratch.hook(point);
    let front = program("front");
    let attached = scratch.attach(&hook, &front, Placement::Head);
    assert_eq!(scratch.names(&hook), ["front", "foreign"], "{point}");
    attached.detach(&hook, &scratch.netns, front.id()).unwrap();
    assert_eq!(scratch.names(&hook), ["foreign"], "{point}");
}

fn between_two_filters_without_room_nothing_is_placed(point: HookPoint) {
    let scratch = Scratch::new();
    scratch.run("tc qdisc add dev blue clsact");
    for priority in [1, 2] {
        scratch.add_classic_filter(side(point), priority);
    }
    let hook = scratch.hook(point);
    let error = scratch.try_attach(&hook, &program("lost"), Placement::Head).expect_err("no room");
    assert!(matches!(error, LinkError::NoPriority { before: 0, after: 1, .. }), "{point}: {error}");
    let _back = scratch.attach(&hook, &program("back"), Placement::Tail);
}

#[test]
fn an_ingress_qdisc_serves_ingress_and_is_named_on_egress() {
    if !require(Feature::LegacyTc) {
        return;
    }
    let scratch = Scratch::new();
    scratch.run("tc qdisc add dev blue ingress");
    let ours = program("ours");
    let hook = scratch.hook(HookPoint::TcIngress);
    let attached = scratch.attach(&hook, &ours, Placement::Tail);
    assert_eq!(scratch.names(&hook), ["ours"]);
    assert!(scratch.names(&scratch.hook(HookPoint::TcEgress)).is_empty(), "they are not on the other side");
    attached.detach(&hook, &scratch.netns, ours.id()).unwrap();
    assert!(qdiscs(&scratch).contains("ingress"));

    let error = scratch
        .try_attach(&scratch.hook(HookPoint::TcEgress), &ours, Placement::Tail)
        .expect_err("there is no egress");
    assert!(matches!(error, LinkError::IngressQdisc { .. }), "{error}");
}

#[test]
fn filters_that_devices_share_are_seen_and_left_alone() {
    if !require(Feature::LegacyTc) {
        return;
    }
    let bpffs = Bpffs::new();
    let foreign = program("foreign");
    let pin = bpffs.path().join("foreign");
    foreign.pin(&pin).unwrap();
    let scratch = Scratch::new();
    scratch.run("tc qdisc add dev blue ingress_block 21 clsact");
    scratch.run("tc qdisc add dev red ingress_block 21 clsact");
    scratch.run(&format!("tc filter add block 21 bpf direct-action object-pinned {}", pin.display()));

    let hook = scratch.hook(HookPoint::TcIngress);
    assert_eq!(scratch.names(&hook), ["foreign"]);
    let error = scratch.try_attach(&hook, &program("lost"), Placement::Head).expect_err("it is shared");
    assert!(matches!(error, LinkError::SharedBlock { .. }), "{error}");
    assert_eq!(scratch.names(&hook), ["foreign"]);
}

/// More filters than one answer of the kernel holds.
fn a_long_chain_is_read_whole(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let programs: Vec<Program> = (0..100).map(|number| program(&format!("p{number}"))).collect();
    let names: Vec<_> = programs.iter().map(Program::name).collect();
    for program in &programs {
        let Attached::Filter { .. } = scratch.attach(&hook, program, Placement::Tail) else { panic!() };
    }
    assert_eq!(scratch.names(&hook), names, "{point}");
}

fn a_snapshot_of_a_hook_without_a_qdisc_is_enough_to_attach(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let snapshot = Chain { hook: hook.clone(), revision: Default::default(), entries: Vec::new() };
    links::attach(&snapshot, &scratch.netns, &program("first"), Placement::Head).unwrap();
    assert_eq!(scratch.names(&hook), ["first"], "{point}");
}
