//! What stays when the process that attached it has gone.

use netloom_core::model::{HookPoint, Placement, ProgramId};
use netloom_kernel::{
    links::{self, Attached, Link, LinkError},
    programs::{Program, ProgramError},
};

use crate::scratch::{Bpffs, Scratch, at_points, is_loaded, program};

at_points!(
    tcx netkit:
    a_pinned_link_stays_attached_and_is_found_again,
    a_detached_link_lets_go_of_its_chain_though_it_is_pinned,
);

fn a_pinned_link_stays_attached_and_is_found_again(point: HookPoint) {
    let bpffs = Bpffs::new();
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let path = bpffs.path().join("links").join(point.as_str());
    let first = program("first");
    let Attached::Link(link) = scratch.attach(&hook, &first, Placement::Tail) else { panic!() };
    link.pin(&path).unwrap();
    let id = link.id();
    drop(link);
    assert_eq!(scratch.names(&hook), ["first"], "{point}");

    let link = Link::open_pinned(&path).unwrap();
    let info = link.info().unwrap();
    assert_eq!((link.id(), info.id, info.program, info.point), (id, id, first.id(), point));
    let device = if point == HookPoint::NetkitPeer { scratch.hook_on("peer", point) } else { hook.clone() };
    assert_eq!(info.ifindex, Some(device.ifindex), "{point}");
    let second = program("second");
    link.update(&second, first.id()).unwrap();
    assert_eq!(scratch.names(&hook), ["second"], "{point}");
    Link::update_pinned(&path, &program("third"), &second).unwrap();
    assert_eq!(scratch.names(&hook), ["third"], "{point}");

    assert!(matches!(link.pin(&path), Err(LinkError::Program(ProgramError::PinTaken { .. }))));
    links::unpin(&path).unwrap();
    links::unpin(&path).unwrap();
    drop(link);
    assert!(scratch.names(&hook).is_empty(), "{point}");
    assert!(matches!(Link::open_pinned(&path), Err(LinkError::NoPin { .. })), "{point}");
}

fn a_detached_link_lets_go_of_its_chain_though_it_is_pinned(point: HookPoint) {
    let bpffs = Bpffs::new();
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let path = bpffs.path().join(point.as_str());
    let Attached::Link(link) = scratch.attach(&hook, &program("gone"), Placement::Tail) else { panic!() };
    link.pin(&path).unwrap();
    link.detach().unwrap();
    assert!(scratch.names(&hook).is_empty(), "{point}");
    assert_eq!(Link::open_pinned(&path).unwrap().info().unwrap().ifindex, None, "{point}");
    links::unpin(&path).unwrap();
}

#[test]
fn a_program_is_pinned_and_opened_by_path_and_id() {
    let bpffs = Bpffs::new();
    let path = bpffs.path().join("programs/kept");
    let kept = program("kept");
    kept.pin(&path).unwrap();
    let (id, tag) = (kept.id(), kept.tag().to_owned());
    drop(kept);

    let again = Program::open_pinned(&path).unwrap();
    assert_eq!((again.id(), again.name(), again.tag()), (id, "kept", tag.as_str()));
    assert!(again.is_classifier());
    assert_eq!(Program::from_id(id).unwrap().name(), "kept");
    assert!(matches!(Link::open_pinned(&path), Err(LinkError::NotALink { .. })));

    links::unpin(&path).unwrap();
    drop(again);
    assert!(matches!(Program::open_pinned(&path), Err(ProgramError::NoPin { .. })));
    // The kernel frees a program a moment after its last user has gone.
    for _ in 0..200 {
        if !is_loaded(id) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(matches!(Program::from_id(id), Err(ProgramError::Gone { id: gone }) if gone == id));
    assert!(matches!(Program::from_id(ProgramId(u32::MAX)), Err(ProgramError::Gone { .. })));
}

#[test]
fn a_pin_belongs_in_a_bpf_filesystem() {
    let folder = tempfile::tempdir().unwrap();
    let error = program("lost").pin(&folder.path().join("lost")).expect_err("not a bpf filesystem");
    assert!(matches!(error, ProgramError::NotBpffs { .. }), "{error}");
    assert!(error.to_string().contains("mount -t bpf"), "{error}");
}
