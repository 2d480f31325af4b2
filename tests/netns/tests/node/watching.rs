//! Others change the chains our programs are on, and the devices under them.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use netloom_api::types::{Chain, Doctor, Done, Event, EventKind};
use netloom_core::model::Feature;
use netloom_sys::bpf::{self, AttachType, Position, Relative};
use netloom_test_support::{Netns, at_this_pace, emulated, require};
use serde_json::json;

use netloom_netns_tests::{Node, ObjectFile, Way, on_ways};

use crate::moves::attach_type;

on_ways!(
    tc tcx netkit:
    what_was_on_a_device_that_is_deleted_is_dropped_and_nothing_leaks,
    what_nobody_watches_is_missed_by_the_doctor_and_attached_anew_at_a_start,
    a_start_follows_a_device_that_has_another_name_since,
);
on_ways!(
    tcx netkit:
    a_program_that_another_tool_detaches_is_attached_anew_in_its_place,
    a_program_goes_with_its_device_to_another_namespace,
    a_start_follows_a_device_to_another_namespace,
    a_tool_that_attaches_and_detaches_all_the_time_neither_disturbs_our_order_nor_loses_its_own,
);

/// A node with a device `d0` to the namespace `peer`.
fn node() -> (Node, Netns) {
    node_on(Way::Tcx)
}

/// The same with a device of a way's kind.
fn node_on(way: Way) -> (Node, Netns) {
    node_with("watch_ms = 50", way)
}

/// The same with other settings of attachments.
fn node_with(settings: &str, way: Way) -> (Node, Netns) {
    let node = Node::configured(&format!("[attachments]\n{settings}\n"));
    let peer = Netns::new("peer");
    node.netns.link("10.9.0.1/24").of(way.device()).named("d0").to(&peer, "10.9.0.2/24");
    (node, peer)
}

fn attach(node: &Node, object: &[u8], owner: &str, more: serde_json::Value) -> String {
    let object = ObjectFile::of(object);
    let mut request = json!({ "device": "d0", "object": object.path(), "owner": owner });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    node.attach(request).unwrap().attachment.id
}

fn events(node: &Node) -> Vec<Event> {
    node.daemon.get("/v1/events").unwrap()
}

/// Waits for an event of a kind that says this.
fn wait_for(node: &Node, kind: EventKind, word: &str) -> Event {
    let started = Instant::now();
    loop {
        let all = events(node);
        if let Some(event) = all.iter().find(|event| event.kind == kind && event.message.contains(word)) {
            return event.clone();
        }
        assert!(
            started.elapsed() < at_this_pace(Duration::from_secs(30)),
            "no {} with {word:?}: {all:?}",
            kind.as_str()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ours(chain: &Chain) -> Vec<&str> {
    chain.entries.iter().filter_map(|entry| entry.owner.as_ref()).map(|owner| owner.as_str()).collect()
}

/// The links at `d0`, from the kernel itself.
fn chain_without_locks(node: &Node, way: Way) -> Vec<u32> {
    let ifindex = ifindex(&node.netns, "d0");
    let chain = node.netns.run(|| bpf::prog_query(ifindex, attach_type(way))).unwrap();
    chain.entries.iter().map(|entry| entry.link.unwrap()).collect()
}

fn ifindex(netns: &Netns, device: &str) -> u32 {
    let shown = netns.ip(&["-o", "link", "show", device]);
    shown.split(':').next().and_then(|index| index.trim().parse().ok()).expect("ip shows an index first")
}

#[test]
fn a_filter_planted_with_plain_tc_behind_a_verdict_is_found() {
    if !require(Feature::Tcx) || !require(Feature::LegacyTc) {
        return;
    }
    let (node, _peer) = node();
    attach(&node, netloom_test_programs::PASS, "firewall", json!({}));
    let observer = ObjectFile::of(netloom_test_programs::OBSERVER);
    let path = observer.path();
    node.netns.tc(&["qdisc", "add", "dev", "d0", "clsact"]);
    let at = ["filter", "add", "dev", "d0", "ingress", "prio", "9", "handle", "1"];
    let filter = ["bpf", "direct-action", "object-file", path.to_str().unwrap(), "section", "tc"];
    node.netns.tc(&[at.as_slice(), &filter].concat());

    let event = wait_for(&node, EventKind::Shadowed, "observer");
    assert!(event.message.contains("program pass") && event.subject.contains("d0"), "{event:?}");
    let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
    let finding = doctor.findings.iter().find(|finding| finding.message.contains("observer"));
    let finding = finding.unwrap_or_else(|| panic!("{:?}", doctor.findings));
    assert_eq!(finding.severity, "warning");
    assert!(
        finding.message.contains("no packet reaches") && finding.subject.contains("tc-ingress"),
        "{finding:?}"
    );
    let started = Instant::now();
    while !node.daemon.netloom(&["metrics"]).expect_ok().contains("netloom_shadowed 1") {
        assert!(started.elapsed() < at_this_pace(Duration::from_secs(10)), "the metric follows");
        std::thread::sleep(Duration::from_millis(20));
    }
    let shown = node.daemon.netloom(&["events", "--kind", "shadowed"]).expect_ok();
    assert!(shown.contains("observer"), "{shown}");
}

#[test]
fn legacy_filters_behind_one_that_takes_everything_are_found_and_others_are_not() {
    if !require(Feature::LegacyTc) {
        return;
    }
    let (node, _peer) = node();
    let add = |side: &str, words: &[&str]| {
        node.netns.command(&[&["tc", "filter", "add", "dev", "d0", side], words].concat())
    };
    let objects = [netloom_test_programs::OBSERVER, netloom_test_programs::PASS].map(ObjectFile::of);
    let bpf = |priority: &str, object: &ObjectFile, section: &str| {
        let path = object.path();
        let path = path.to_str().unwrap();
        let words = ["prio", priority, "bpf", "direct-action", "object-file", path, "section", section];
        let _ = add("ingress", &words).expect_ok();
    };
    node.netns.tc(&["qdisc", "add", "dev", "d0", "clsact"]);
    bpf("11", &objects[0], "tc");
    bpf("12", &objects[1], "tcx/ingress");
    bpf("13", &objects[0], "tc");
    let shadowed = || -> Vec<String> {
        let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
        let messages = doctor.findings.into_iter().map(|finding| finding.message);
        messages.filter(|message| message.contains("no packet reaches")).collect()
    };
    let found = shadowed();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("observer") && found[0].contains("priority 13"), "{found:?}");
    assert!(found[0].contains("pass") && found[0].contains("priority 12"), "{found:?}");

    // Filters of other kinds, on kernels that have one.
    if !add("egress", &["prio", "1", "matchall", "action", "continue"]).ok() {
        return;
    }
    let _ = add("egress", &["prio", "2", "protocol", "ip", "matchall", "action", "pass"]).expect_ok();
    let _ = add("egress", &["prio", "3", "matchall", "action", "pass"]).expect_ok();
    assert_eq!(
        shadowed().len(),
        1,
        "one goes on, one is not for all packets, and nothing is behind the third"
    );
    let _ = add("egress", &["prio", "4", "matchall", "action", "drop"]).expect_ok();
    let found = shadowed();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|each| each.contains("priority 4") && each.contains("priority 3")), "{found:?}");
}

fn a_program_that_another_tool_detaches_is_attached_anew_in_its_place(way: Way) {
    let (node, _peer) = node_on(way);
    for (owner, priority) in [("first", 1), ("second", 2), ("third", 3)] {
        let more = way.request(json!({ "priority": priority }));
        attach(&node, netloom_test_programs::OBSERVER, owner, more);
    }
    // Again as soon as it is back in its place, which may be before the look that put it there is over.
    for _ in 0..if emulated() { 3 } else { 100 } {
        let victim = chain_without_locks(&node, way)[1];
        bpf::link_detach(bpf::link_by_id(victim).unwrap().as_fd()).unwrap();
        let started = Instant::now();
        while !matches!(chain_without_locks(&node, way).as_slice(), [_, second, _] if *second != victim) {
            assert!(started.elapsed() < at_this_pace(Duration::from_secs(30)), "{:?}", events(&node));
        }
    }
    wait_for(&node, EventKind::Detached, "second");
    // It is back in its chain a moment before its record says so.
    let started = Instant::now();
    while ours(&node.chains("d0")[0]) != ["first", "second", "third"] {
        assert!(started.elapsed() < at_this_pace(Duration::from_secs(30)), "{:?}", node.chains("d0"));
    }
    assert_eq!(node.chains("d0")[0].hook.point, way.point());
}

fn what_was_on_a_device_that_is_deleted_is_dropped_and_nothing_leaks(way: Way) {
    let (node, _peer) = node_on(way);
    let more = way.request(json!({ "all_programs": true }));
    let id = attach(&node, netloom_test_programs::TWINS, "gone", more);
    assert_eq!(node.chains("d0")[0].hook.point, way.point());
    node.netns.ip(&["link", "delete", "d0"]);
    wait_for(&node, EventKind::DeviceGone, &id);
    wait_for(&node, EventKind::DeviceGone, "gone-2");
    assert!(node.status().attachments.is_empty());
    assert_eq!(node.traces(), Vec::<String>::new());
    assert!(!node.daemon.paths().bpffs.join("shared/gone").exists());
}

fn what_nobody_watches_is_missed_by_the_doctor_and_attached_anew_at_a_start(way: Way) {
    let (mut node, _peer) = node_with("watch_ms = 0", way);
    let id = attach(&node, netloom_test_programs::OBSERVER, "flows", way.request(json!({})));
    let missed = |node: &Node| {
        let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
        let of_it =
            doctor.findings.into_iter().filter(|finding| finding.subject == format!("attachment {id}"));
        of_it.map(|finding| finding.message).collect::<Vec<_>>()
    };
    assert_eq!(missed(&node), Vec::<String>::new());
    if way == Way::Tc {
        let _ = node.netns.command(&["tc", "filter", "delete", "dev", "d0", "ingress"]).expect_ok();
    } else {
        let link = chain_without_locks(&node, way)[0];
        bpf::link_detach(bpf::link_by_id(link).unwrap().as_fd()).unwrap();
    }
    let told = missed(&node);
    assert!(told.len() == 1 && told[0].contains("somebody else detached it"), "{told:?}");
    node.daemon.stop();
    node.daemon.restart();
    assert_eq!(node.status().adoption.reattached, 1);
    assert_eq!(ours(&node.chains("d0")[0]), ["flows"]);
    assert_eq!(missed(&node), Vec::<String>::new());
}

fn a_start_follows_a_device_that_has_another_name_since(way: Way) {
    let (mut node, _peer) = node_with("watch_ms = 0", way);
    let id = attach(&node, netloom_test_programs::OBSERVER, "flows", way.request(json!({})));
    node.daemon.kill9();
    node.netns.ip(&["link", "set", "d0", "down"]);
    node.netns.ip(&["link", "set", "d0", "name", "d7"]);
    node.daemon.restart();
    let status = node.status();
    assert_eq!((status.adoption.attachments, status.adoption.reattached), (1, 0), "{:?}", status.adoption);
    assert_eq!((&status.attachments[0].id, status.attachments[0].hook.device.as_str()), (&id, "d7"));
    assert_eq!(ours(&node.chains("d7")[0]), ["flows"]);
}

fn a_start_follows_a_device_to_another_namespace(way: Way) {
    let (mut node, _peer) = node_with("watch_ms = 0", way);
    let other = Netns::new("other");
    attach(&node, netloom_test_programs::OBSERVER, "flows", way.request(json!({})));
    node.daemon.kill9();
    node.netns.ip(&["link", "set", "d0", "netns", other.name()]);
    node.daemon.restart();
    let status = node.status();
    assert_eq!((status.adoption.attachments, status.adoption.reattached), (1, 0), "{:?}", status.adoption);
    assert_eq!(status.attachments[0].netns, Some(other.path()));
}

fn a_program_goes_with_its_device_to_another_namespace(way: Way) {
    let (node, _peer) = node_on(way);
    let other = Netns::new("other");
    let id = attach(&node, netloom_test_programs::OBSERVER, "flows", way.request(json!({})));
    let link = node.status().attachments[0].link;
    node.netns.ip(&["link", "set", "d0", "netns", other.name()]);
    wait_for(&node, EventKind::DeviceMoved, &id);
    let attachment = node.status().attachments.remove(0);
    assert_eq!(attachment.netns, Some(other.path()));
    assert_eq!(attachment.link, link, "it was never detached");
    let chains: Vec<Chain> =
        node.daemon.get(&format!("/v1/chains?device=d0&netns={}", other.path().display())).unwrap();
    assert_eq!(ours(&chains[0]), ["flows"]);
    // And once more by another name, of which the daemon may or may not hear before the second move.
    other.ip(&["link", "set", "d0", "name", "d7"]);
    other.ip(&["link", "set", "d7", "netns", node.netns.name()]);
    wait_for(&node, EventKind::DeviceMoved, &format!("moved with its device to {} of d7", way.point()));
    assert_eq!(node.status().attachments[0].netns, None);
    let _: Done = node.daemon.delete(&format!("/v1/attachments/{id}")).unwrap();
    assert!(node.chains("d7").is_empty());
}

#[test]
fn what_was_in_a_namespace_that_is_deleted_is_dropped() {
    if !require(Feature::Tcx) {
        return;
    }
    let (node, _peer) = node();
    let other = Netns::new("other");
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    let request = json!({ "device": "lo", "netns": other.path(), "object": object.path(), "owner": "flows" });
    let id = node.attach(request).unwrap().attachment.id;
    drop(other);
    let started = Instant::now();
    while !node.status().attachments.is_empty() {
        assert!(started.elapsed() < at_this_pace(Duration::from_secs(30)), "{:?}", events(&node));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        events(&node)
            .iter()
            .any(|event| event.kind == EventKind::NamespaceGone && event.message.contains(&id))
    );
    assert_eq!(node.traces(), Vec::<String>::new());
}

/// A tool that attaches and detaches at random positions, without links, as fast as it can.
struct Vandal {
    stop: AtomicBool,
    ifindex: u32,
    point: AttachType,
}

impl Vandal {
    /// Between its changes. An emulated daemon, which takes a tenth of a second to look and decide, would meet every
    /// single one.
    fn pause() -> Duration {
        Duration::from_millis(if emulated() { 150 } else { 2 })
    }

    /// Works until it is told to stop; afterwards its last programs are attached.
    fn work(&self, programs: &[OwnedFd]) -> (u64, Vec<u32>) {
        let point = self.point;
        let id = |program: &OwnedFd| bpf::program_info(program.as_fd()).unwrap().id;
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % u64::try_from(below).unwrap()).unwrap()
        };
        let mut attached: Vec<usize> = Vec::new();
        let mut changes = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let which = next(programs.len());
            let program = programs[which].as_fd();
            if let Some(at) = attached.iter().position(|other| *other == which) {
                bpf::prog_detach(program, self.ifindex, point, None)
                    .expect("its own program is where it put it");
                attached.remove(at);
            } else {
                let entries = bpf::prog_query(self.ifindex, point).unwrap().entries;
                let anchor = (!entries.is_empty())
                    .then(|| entries[next(entries.len())])
                    .map(|entry| entry.link.map_or(Relative::ProgramId(entry.program), Relative::LinkId));
                let position = match (next(4), anchor) {
                    (0, _) | (_, None) => Position::Head,
                    (1, _) => Position::Tail,
                    (2, Some(anchor)) => Position::Before(anchor),
                    (_, Some(anchor)) => Position::After(anchor),
                };
                // The anchor may be gone by now.
                if bpf::prog_attach(program, self.ifindex, point, position, None, None).is_ok() {
                    attached.push(which);
                }
            }
            changes += 1;
            std::thread::sleep(Self::pause());
        }
        let mut left: Vec<u32> = attached.into_iter().map(|which| id(&programs[which])).collect();
        left.sort_unstable();
        (changes, left)
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn a_tool_that_attaches_and_detaches_all_the_time_neither_disturbs_our_order_nor_loses_its_own(way: Way) {
    // Longer than the daemon looks back on before it calls it a fight.
    let time = Duration::from_secs(if emulated() { 12 } else { 30 });
    // A daemon that is kept busy by others meets many changes in a row.
    let (node, _peer) = node_with("watch_ms = 50\nattempts = 1000", way);
    let attach = |owner: &str, priority: i32| {
        attach(&node, netloom_test_programs::OBSERVER, owner, way.request(json!({ "priority": priority })))
    };
    for (owner, priority) in [("a", 1), ("c", 3), ("e", 5)] {
        attach(owner, priority);
    }
    let programs: Vec<OwnedFd> =
        (0..8).map(|number| bpf::load_next(&format!("vandal{number}")).unwrap()).collect();
    let vandal =
        Vandal { stop: AtomicBool::new(false), ifindex: ifindex(&node.netns, "d0"), point: attach_type(way) };
    let (changes, left) = std::thread::scope(|scope| {
        let work = scope.spawn(|| node.netns.run(|| vandal.work(&programs)));
        // Also when an assertion fails: the scope waits for it.
        let stop = StopOnDrop(&vandal.stop);
        let stopped = Instant::now() + time;
        let mut wanted = vec!["a", "c", "e"];
        while Instant::now() < stopped {
            let id = attach("b", 2);
            wanted.insert(1, "b");
            for _ in 0..10 {
                assert_eq!(ours(&node.chains("d0")[0]), wanted);
                std::thread::sleep(Duration::from_millis(20));
            }
            let _: Done = node.daemon.delete(&format!("/v1/attachments/{id}")).unwrap();
            wanted.remove(1);
            assert_eq!(ours(&node.chains("d0")[0]), wanted);
        }
        wait_for(&node, EventKind::Churn, "fight");
        drop(stop);
        work.join().unwrap()
    });
    assert!(changes > 50, "{changes} changes");
    let chain = node.chains("d0").remove(0);
    assert_eq!(ours(&chain), ["a", "c", "e"]);
    let mut foreign: Vec<u32> =
        chain.entries.iter().filter(|entry| entry.owner.is_none()).map(|entry| entry.program.0).collect();
    foreign.sort_unstable();
    assert_eq!(foreign, left, "its programs are those it attached last");
    let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
    assert!(
        doctor.findings.iter().any(|finding| finding.message.contains("all the time")),
        "{:?}",
        doctor.findings
    );
    assert!(events(&node).iter().any(|event| event.kind == EventKind::ForeignAttached));
    assert!(events(&node).iter().any(|event| event.kind == EventKind::ForeignDetached));
}
