//! Order, snapshots and refusals: the same on every hook point.

use netloom_core::model::{EntryId, Feature, HookPoint, LinkId, Placement, ProgramId};
use netloom_kernel::links::{self, Attached, Link, LinkError};
use netloom_test_support::require_without;

use crate::scratch::{Scratch, at_points, program};

at_points!(
    tcx netkit tc:
    programs_go_where_they_are_placed,
    an_entry_says_what_runs_and_how_it_is_attached,
    a_chain_that_changed_since_the_snapshot_is_left_alone,
    an_update_of_another_program_makes_a_snapshot_stale,
    a_program_is_attached_once_on_a_hook,
    a_placement_names_an_entry_of_the_snapshot,
    an_update_keeps_the_position_and_the_link,
);
at_points!(
    tcx netkit:
    a_hook_takes_63_programs,
    an_anchor_that_is_not_in_the_chain_is_refused,
    programs_of_others_are_seen_and_left_alone,
    a_link_that_is_dropped_without_a_pin_detaches,
);

/// What is attached, where, and the chain afterwards.
type Step<'a> = (&'a str, Placement, &'a [&'a str]);

fn programs_go_where_they_are_placed(point: HookPoint) {
    use Placement::{After, Before, Head, Replace, Tail};
    let steps: [Step<'_>; 10] = [
        ("a", Head, &["a"]),
        ("b", Tail, &["a", "b"]),
        ("c", Head, &["c", "a", "b"]),
        ("d", Before(EntryId(1)), &["c", "d", "a", "b"]),
        ("e", After(EntryId(2)), &["c", "d", "a", "e", "b"]),
        ("f", Replace(EntryId(2)), &["c", "d", "f", "e", "b"]),
        ("g", After(EntryId(4)), &["c", "d", "f", "e", "b", "g"]),
        ("h", Before(EntryId(0)), &["h", "c", "d", "f", "e", "b", "g"]),
        ("i", Replace(EntryId(0)), &["i", "c", "d", "f", "e", "b", "g"]),
        ("j", Tail, &["i", "c", "d", "f", "e", "b", "g", "j"]),
    ];
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let mut attached = Vec::new();
    for (name, placement, expected) in steps {
        attached.push(scratch.attach(&hook, &program(name), placement));
        assert_eq!(scratch.names(&hook), expected, "{point}: {name} at {placement:?}");
    }
    // A replacement is the replaced entry's own link or filter with another program.
    let place = |attached: &Attached| (attached.link_id(), attached.filter());
    assert_eq!(place(&attached[5]), place(&attached[0]), "{point}: f is in the place of a");
}

fn an_entry_says_what_runs_and_how_it_is_attached(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let observer = program("observer");
    let attached = scratch.attach(&hook, &observer, Placement::Tail);

    let chain = scratch.query(&hook);
    let [entry] = chain.entries.as_slice() else { panic!("{point}: {chain:?}") };
    assert_eq!((entry.program, entry.name.as_str()), (observer.id(), "observer"), "{point}");
    assert_eq!((entry.tag.as_str(), entry.tag.len()), (observer.tag(), 16), "{point}");
    assert_eq!((entry.link, entry.filter), (attached.link_id(), attached.filter()), "{point}");
    assert_eq!(entry.link.is_some(), !point.is_legacy(), "{point}");
    assert!(entry.owner.is_none() && entry.attachment.is_none(), "{point}");
}

fn a_chain_that_changed_since_the_snapshot_is_left_alone(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let _first = scratch.attach(&hook, &program("first"), Placement::Tail);
    let snapshot = scratch.query(&hook);
    let _second = scratch.attach(&hook, &program("second"), Placement::Tail);

    for placement in [Placement::Head, Placement::After(EntryId(0)), Placement::Replace(EntryId(0))] {
        let late = links::attach(&snapshot, &scratch.netns, &program("late"), placement);
        let error = late.expect_err("the snapshot is old");
        assert!(matches!(error, LinkError::Stale { .. }), "{point}, {placement:?}: {error}");
    }
    assert_eq!(scratch.names(&hook), ["first", "second"], "{point}");
}

fn an_update_of_another_program_makes_a_snapshot_stale(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let first = program("first");
    let attached = scratch.attach(&hook, &first, Placement::Tail);
    let snapshot = scratch.query(&hook);
    attached.update(&hook, &scratch.netns, &program("newer"), first.id()).unwrap();

    let late = links::attach(&snapshot, &scratch.netns, &program("late"), Placement::Tail);
    assert!(matches!(late, Err(LinkError::Stale { .. })), "{point}: {late:?}");
}

fn a_hook_takes_63_programs(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let names: Vec<_> = (0..63).map(|number| format!("p{number}")).collect();
    let _attached: Vec<_> =
        names.iter().map(|name| scratch.attach(&hook, &program(name), Placement::Tail)).collect();
    assert_eq!(scratch.names(&hook), names, "{point}");

    let error = scratch.try_attach(&hook, &program("p63"), Placement::Tail).expect_err("it is full");
    assert!(matches!(error, LinkError::Full { .. }), "{point}: {error}");
    assert!(error.to_string().contains("blue") || point.is_netkit(), "{error}");
    assert!(error.to_string().contains("63"), "{error}");
}

fn a_program_is_attached_once_on_a_hook(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let (twice, other) = (program("twice"), program("other"));
    let _first = scratch.attach(&hook, &twice, Placement::Tail);
    let second = scratch.attach(&hook, &other, Placement::Tail);

    let error = scratch.try_attach(&hook, &twice, Placement::Head).expect_err("it is there");
    assert!(matches!(error, LinkError::AlreadyAttached { .. }), "{point}: {error}");
    assert!(error.to_string().contains("twice"), "{error}");
    let error = second.update(&hook, &scratch.netns, &twice, other.id()).expect_err("it is there");
    assert!(matches!(error, LinkError::AlreadyAttached { .. }), "{point}: {error}");
    assert_eq!(scratch.names(&hook), ["twice", "other"], "{point}");
}

fn an_anchor_that_is_not_in_the_chain_is_refused(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let _there = scratch.attach(&hook, &program("there"), Placement::Tail);
    let elsewhere = scratch.hook_on("red", HookPoint::TcxIngress);
    let elsewhere = scratch.attach(&elsewhere, &program("elsewhere"), Placement::Tail);

    let mut snapshot = scratch.query(&hook);
    snapshot.entries[0].link = elsewhere.link_id();
    let lost = links::attach(&snapshot, &scratch.netns, &program("lost"), Placement::After(EntryId(0)));
    assert!(matches!(lost, Err(LinkError::AnchorGone { .. })), "{point}: {lost:?}");

    snapshot.entries[0].link = Some(LinkId(u32::MAX));
    let lost = links::attach(&snapshot, &scratch.netns, &program("lost"), Placement::Before(EntryId(0)));
    assert!(matches!(lost, Err(LinkError::AnchorGone { .. })), "{point}: {lost:?}");
}

fn a_placement_names_an_entry_of_the_snapshot(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let error = scratch
        .try_attach(&hook, &program("lost"), Placement::Before(EntryId(3)))
        .expect_err("the chain is empty");
    assert!(matches!(error, LinkError::NoSuchEntry { entry: 3, entries: 0, .. }), "{point}: {error}");
}

fn an_update_keeps_the_position_and_the_link(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let old = program("old");
    let _front = scratch.attach(&hook, &program("front"), Placement::Tail);
    let attached = scratch.attach(&hook, &old, Placement::Tail);
    let _back = scratch.attach(&hook, &program("back"), Placement::Tail);
    let place = (attached.link_id(), attached.filter());

    let new = program("new");
    attached.update(&hook, &scratch.netns, &new, old.id()).unwrap();
    let chain = scratch.query(&hook);
    assert_eq!(scratch.names(&hook), ["front", "new", "back"], "{point}");
    assert_eq!((chain.entries[1].link, chain.entries[1].filter), place, "{point}");

    // The one that was replaced is not the one that runs any more.
    let error = attached
        .update(&hook, &scratch.netns, &program("newest"), old.id())
        .expect_err("another program runs");
    assert!(
        matches!(error, LinkError::LinkRunsAnother { .. } | LinkError::Foreign { .. }),
        "{point}: {error}"
    );
    assert_eq!(scratch.names(&hook), ["front", "new", "back"], "{point}");
}

fn programs_of_others_are_seen_and_left_alone(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let foreign = program("foreign");
    scratch.attach_without_link(&hook, &foreign);

    let front = scratch.attach(&hook, &program("front"), Placement::Before(EntryId(0)));
    let back = scratch.attach(&hook, &program("back"), Placement::After(EntryId(1)));
    let chain = scratch.query(&hook);
    assert_eq!(scratch.names(&hook), ["front", "foreign", "back"], "{point}");
    assert_eq!((chain.entries[1].program, chain.entries[1].link), (foreign.id(), None), "{point}");

    let error = scratch
        .try_attach(&hook, &program("usurper"), Placement::Replace(EntryId(1)))
        .expect_err("it has no link");
    assert!(matches!(error, LinkError::NoLink { .. }), "{point}: {error}");
    for attached in [front, back] {
        attached.detach(&hook, &scratch.netns, ProgramId(0)).unwrap();
    }
    assert_eq!(scratch.names(&hook), ["foreign"], "{point}");
}

fn a_link_that_is_dropped_without_a_pin_detaches(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let attached = scratch.attach(&hook, &program("brief"), Placement::Tail);
    let id = attached.link_id().unwrap();
    assert_eq!(scratch.names(&hook), ["brief"], "{point}");
    drop(attached);
    assert!(scratch.names(&hook).is_empty(), "{point}");
    assert!(matches!(Link::from_id(id), Err(LinkError::LinkGone { .. })), "{point}");
}

#[test]
fn a_kernel_without_tcx_says_so() {
    if require_without(Feature::Tcx) {
        refuses(HookPoint::TcxIngress);
        refuses(HookPoint::TcxEgress);
    }
}

#[test]
fn a_kernel_without_netkit_says_so() {
    if require_without(Feature::NetkitLinks) {
        refuses(HookPoint::NetkitPrimary);
        refuses(HookPoint::NetkitPeer);
    }
}

fn refuses(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook_on("blue", point);
    let error = links::query(&hook, &scratch.netns).expect_err("there is no such hook point");
    assert!(matches!(error, LinkError::Unsupported { .. }), "{point}: {error}");
    assert!(error.to_string().contains("Linux 6."), "{error}");

    let mut chain = scratch.query(&scratch.hook(HookPoint::TcIngress));
    chain.hook = hook;
    let error = links::attach(&chain, &scratch.netns, &program("lost"), Placement::Tail);
    assert!(matches!(error, Err(LinkError::Unsupported { .. })), "{point}: {error:?}");
}
