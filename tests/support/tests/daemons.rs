//! A daemon that does not end well fails its test. Needs root, and netloomd.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    os::fd::AsFd as _,
    panic::{AssertUnwindSafe, catch_unwind},
};

use netloom_sys::bpf;
use netloom_test_support::{Daemon, DaemonOptions, Netns, command};

fn start(node: &Netns, config: &str) -> Daemon {
    let config = Some(config.to_owned());
    Daemon::start(DaemonOptions { node: Some(node.path()), config, ..DaemonOptions::default() })
}

/// What is complained of when a daemon goes.
fn complaint(daemon: Daemon) -> String {
    let failed = catch_unwind(AssertUnwindSafe(|| drop(daemon))).unwrap_err();
    *failed.downcast::<String>().unwrap()
}

/// A configuration whose plugin is not there, which is an error that a start survives.
const BROKEN: &str = "[[plugins.load]]\nname = \"absent\"\npath = \"/nonexistent.wasm\"\n";
const ERROR: &str = "a configured plugin was not loaded";

#[test]
fn one_that_ends_in_order_leaves_nothing_to_complain_of() {
    let node = Netns::new("node");
    let mut daemon = start(&node, "");
    daemon.kill9();
    daemon.restart();
    daemon.stop();
}

#[test]
fn an_error_that_nobody_expected_is_complained_of() {
    let node = Netns::new("node");
    let said = complaint(start(&node, BROKEN));
    assert!(said.contains("an error that the test did not expect") && said.contains(ERROR), "{said}");
}

#[test]
fn an_expected_error_is_none_and_has_to_come() {
    let node = Netns::new("node");
    let daemon = start(&node, BROKEN);
    daemon.expect_error(ERROR);
    drop(daemon);
    let daemon = start(&node, "");
    daemon.expect_error(ERROR);
    let said = complaint(daemon);
    assert!(said.contains("its log has no error with"), "{said}");
}

#[test]
fn one_that_is_gone_already_is_complained_of() {
    let node = Netns::new("node");
    let daemon = start(&node, "");
    let pid = daemon.pid().unwrap().to_string();
    assert!(command(&["kill", "-9", &pid]).ok());
    let said = complaint(daemon);
    assert!(said.contains("SIGKILL") && said.contains("ended"), "{said}");
}

#[test]
fn a_device_that_is_left_is_complained_of() {
    let node = Netns::new("node");
    let daemon = start(&node, "");
    let instance = daemon.instance().clone();
    node.ip(&["link", "add", "left0", "type", "veth", "peer", "name", "left1"]);
    node.ip(&["link", "set", "left0", "alias", &format!("netloom-{instance}: something else")]);
    let said = complaint(daemon);
    assert!(said.contains("a device is left") && said.contains("left0"), "{said}");
}

#[test]
fn a_link_and_a_program_that_are_left_are_complained_of() {
    let node = Netns::new("node");
    let daemon = start(&node, "");
    let pins = std::fs::read_dir(daemon.paths().bpffs.join("socklb")).unwrap();
    let pin = pins.flatten().next().unwrap().path();
    let held = bpf::obj_get(&pin).unwrap();
    let id = bpf::link_info(held.as_fd()).unwrap().id;
    let said = complaint(daemon);
    assert!(said.contains(&format!("bpftool link show id {id}")), "{said}");
    assert!(said.contains("a BPF program is left"), "{said}");
}
