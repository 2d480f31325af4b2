//! What is of others on the node: some of it stays, some comes and goes. None of it is Netloom's to touch.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::Duration,
};

use netloom_netns_tests::ObjectFile;
use netloom_test_support::command;

pub(crate) struct Foreign {
    node: PathBuf,
    _object: ObjectFile,
    /// What was there from the beginning, as the kernel's tools show it.
    stays: String,
    /// Devices that came and did not go, by name: their indexes.
    devices: Mutex<BTreeMap<String, String>>,
}

impl Foreign {
    pub(crate) fn new(node: PathBuf) -> Self {
        let object = ObjectFile::of(netloom_test_programs::OBSERVER);
        let path = object.path();
        let path = path.to_str().expect("a path");
        let foreign = |args: &[&str]| run(&node, args);
        foreign(&["ip", "link", "add", "theirs0", "type", "veth", "peer", "name", "theirs1"]);
        foreign(&["tc", "qdisc", "add", "dev", "f0", "clsact"]);
        let filter = ["bpf", "direct-action", "object-file", path, "section", "tc"];
        for (device, way) in [("f0", "ingress"), ("f0", "egress")] {
            let at = ["tc", "filter", "add", "dev", device, way, "prio", "40000", "handle", "1"];
            foreign(&[at.as_slice(), &filter].concat());
        }
        foreign(&["ip", "rule", "add", "from", "198.51.100.7", "table", "77", "priority", "500"]);
        foreign(&["ip", "route", "add", "203.0.113.0/24", "dev", "f0", "table", "77"]);
        let stays = shown(&node);
        Self { node, _object: object, stays, devices: Mutex::default() }
    }

    /// Devices come and go under names that Netloom's clients want as well, and under others.
    pub(crate) fn come_and_go(&self, seed: u64, goes_on: impl Fn() -> bool) {
        let mut random = fastrand::Rng::with_seed(seed ^ 0xf0f0);
        while goes_on() {
            let name = format!("x{}", random.u8(..4));
            let name = if random.u8(..4) == 0 { "d0".to_owned() } else { name };
            let mut devices = self.devices.lock().unwrap();
            if devices.remove(&name).is_some() {
                run(&self.node, &["ip", "link", "delete", &name]);
            } else {
                let peer = format!("p{name}");
                let made =
                    enter(&self.node, &["ip", "link", "add", &name, "type", "veth", "peer", "name", &peer]);
                // The name may be Netloom's.
                if made.ok() {
                    let index = index(&self.node, &name);
                    devices.insert(name, index);
                }
            }
            drop(devices);
            thread::sleep(Duration::from_millis(random.u64(5..40)));
        }
    }

    /// Fails if something of it was touched.
    pub(crate) fn check(&self) {
        assert_eq!(shown(&self.node), self.stays);
        for (name, made) in self.devices.lock().unwrap().iter() {
            assert_eq!(&index(&self.node, name), made, "{name} is another device than it was");
        }
    }
}

/// All of it that stays.
fn shown(node: &Path) -> String {
    let mut shown = run(node, &["ip", "rule", "show", "priority", "500"]);
    shown += &run(node, &["ip", "route", "show", "table", "77"]);
    shown += &index(node, "theirs0");
    for way in ["ingress", "egress"] {
        let filters = run(node, &["tc", "filter", "show", "dev", "f0", way]);
        let theirs = filters.lines().filter(|line| line.contains("pref 40000"));
        shown += &theirs.map(|line| format!("{}\n", line.trim())).collect::<String>();
    }
    shown
}

fn index(node: &Path, device: &str) -> String {
    let shown = run(node, &["ip", "-o", "link", "show", "dev", device]);
    shown.split(':').next().unwrap_or_default().to_owned()
}

fn run(node: &Path, args: &[&str]) -> String {
    enter(node, args).expect_ok()
}

fn enter(node: &Path, args: &[&str]) -> netloom_test_support::Output {
    let netns = format!("--net={}", node.display());
    command(&[["nsenter", &netns, "--"].as_slice(), args].concat())
}
