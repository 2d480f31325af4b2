//! Devices that go, move, or are of the wrong kind.

use netloom_core::model::{HookPoint, Placement};
use netloom_kernel::{
    links::{self, Attached, LinkError},
    netns::Netns,
};

use crate::scratch::{Scratch, at_points, ifindex, program};

at_points!(
    tcx netkit tc:
    what_was_attached_to_a_device_that_is_gone_says_so,
    a_hook_is_looked_for_in_its_own_namespace_only,
);
at_points!(tcx netkit: a_link_moves_with_its_device);
at_points!(
    netkit:
    only_netkit_devices_have_netkit_hooks,
    a_netkit_pair_is_reached_through_its_primary_only,
    tcx_and_netkit_hooks_of_one_device_are_apart,
);

fn what_was_attached_to_a_device_that_is_gone_says_so(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let old = program("old");
    let attached = scratch.attach(&hook, &old, Placement::Tail);
    let snapshot = scratch.query(&hook);
    scratch.run(&format!("ip link delete {}", hook.device));

    let error = links::query(&hook, &scratch.netns).expect_err("the device is gone");
    assert!(matches!(error, LinkError::DeviceGone { .. }), "{point}: {error}");
    assert!(error.to_string().contains(&hook.device), "{error}");
    let error = links::attach(&snapshot, &scratch.netns, &program("new"), Placement::Tail);
    assert!(matches!(error, Err(LinkError::DeviceGone { .. })), "{point}: {error:?}");

    let error =
        attached.update(&hook, &scratch.netns, &program("new"), old.id()).expect_err("the device is gone");
    assert!(
        matches!(error, LinkError::LinkWithoutDevice { .. } | LinkError::DeviceGone { .. }),
        "{point}: {error}"
    );
    if let Attached::Link(link) = &attached {
        let info = link.info().unwrap();
        assert_eq!((info.ifindex, info.program, info.point), (None, old.id(), point));
    }
    attached.detach(&hook, &scratch.netns, old.id()).unwrap();
}

fn a_link_moves_with_its_device(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let observer = program("observer");
    let attached = scratch.attach(&hook, &observer, Placement::Tail);
    let elsewhere = Netns::create().unwrap();
    scratch.run(&format!(
        "ip link set {} netns /proc/{}/fd/{}",
        hook.device,
        std::process::id(),
        std::os::fd::AsRawFd::as_raw_fd(&elsewhere.fd())
    ));

    assert!(matches!(links::query(&hook, &scratch.netns), Err(LinkError::DeviceGone { .. })), "{point}");
    let Attached::Link(link) = &attached else { panic!("{point} has links") };
    let moved = ifindex(&elsewhere, &hook.device).expect("the device is there");
    // A netkit program is on the peer where it runs, though it is attached by the primary.
    let on_device = (point != HookPoint::NetkitPeer).then_some(moved);
    assert_eq!(link.info().unwrap().ifindex, on_device.or(ifindex(&scratch.netns, "peer")));
    let hook = netloom_core::model::Hook { netns: elsewhere.id(), ifindex: moved, ..hook };
    let chain = links::query(&hook, &elsewhere).unwrap();
    assert_eq!(chain.entries[0].link, attached.link_id(), "{point}");
}

fn a_hook_is_looked_for_in_its_own_namespace_only(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let elsewhere = Netns::create().unwrap();
    let error = links::query(&hook, &elsewhere).expect_err("another namespace");
    assert!(matches!(error, LinkError::OtherNetns { .. }), "{point}: {error}");
}

fn only_netkit_devices_have_netkit_hooks(point: HookPoint) {
    let scratch = Scratch::new();
    let error = links::query(&scratch.hook_on("blue", point), &scratch.netns).expect_err("it is a veth");
    assert!(matches!(error, LinkError::NotNetkit { .. }), "{point}: {error}");
    assert!(error.to_string().contains("blue is not a netkit device"), "{error}");
}

fn a_netkit_pair_is_reached_through_its_primary_only(point: HookPoint) {
    let scratch = Scratch::new();
    let mut chain = scratch.query(&scratch.hook(point));
    chain.hook = scratch.hook_on("peer", point);
    let error = links::attach(&chain, &scratch.netns, &program("lost"), Placement::Tail);
    assert!(matches!(error, Err(LinkError::ViaPeer { .. })), "{point}: {error:?}");
}

fn tcx_and_netkit_hooks_of_one_device_are_apart(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let _netkit = scratch.attach(&hook, &program("netkit"), Placement::Tail);
    let tcx = scratch.hook_on("primary", HookPoint::TcxIngress);
    let _tcx = scratch.attach(&tcx, &program("tcx"), Placement::Tail);
    assert_eq!(scratch.names(&hook), ["netkit"]);
    assert_eq!(scratch.names(&tcx), ["tcx"]);
}
