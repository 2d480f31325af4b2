//! Without capabilities.

use netloom_core::model::{HookPoint, Placement};
use netloom_kernel::{
    links::{self, LinkError},
    programs::{self, LoadError, LoadOptions, Program, ProgramError},
};
use netloom_test_programs as objects;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::scratch::{Scratch, at_points, program};

at_points!(tcx netkit tc: chains_cannot_be_read_or_changed);

/// Runs something on a thread that can do no more than anybody.
fn without_capabilities<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let none = CapabilitySet::empty();
            let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
            rustix::thread::set_capabilities(None, sets).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn loading_says_what_is_missing() {
    let load = || programs::load("observer.o", objects::OBSERVER, &LoadOptions::default());
    // aya looks once what the kernel can do, and remembers.
    load().unwrap();
    let error = without_capabilities(load).expect_err("denied");
    assert!(matches!(error, LoadError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("run as root, or with CAP_BPF"), "{error}");
}

#[test]
fn opening_by_id_says_what_is_missing() {
    let there = program("there");
    let error = without_capabilities(|| Program::from_id(there.id())).expect_err("denied");
    assert!(matches!(error, ProgramError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("CAP_BPF"), "{error}");
}

fn chains_cannot_be_read_or_changed(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let snapshot = scratch.query(&hook);
    let observer = program("observer");
    without_capabilities(|| {
        let error = links::query(&hook, &scratch.netns).expect_err("denied");
        assert!(matches!(error, LinkError::Netns(_)), "{point}: {error}");
        let error = links::attach(&snapshot, &scratch.netns, &observer, Placement::Tail);
        assert!(matches!(error, Err(LinkError::Netns(_))), "{point}: {error:?}");
    });
    assert!(scratch.names(&hook).is_empty(), "{point}");
}
