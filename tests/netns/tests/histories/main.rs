//! Histories: several clients ask for random things at once, beside devices, programs, filters and rules of others, while
//! the daemon is killed now and then. Afterwards every answer has to fit into an order in which it is right, the records
//! and the kernel have to agree, and what is of others has to be as it was.
//!
//! `NETLOOM_SEED` sets the seed, `NETLOOM_MINUTES` how long it goes on instead of [`OPERATIONS`]; the clients' pace is
//! the machine's, so a seed fixes what is asked for and not how it interleaves.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used, missing_docs)]
#![allow(clippy::needless_pass_by_value, reason = "`json!` at the call reads better than `&json!`")]

mod clients;
mod foreign;
mod history;
mod order;

use std::{
    collections::BTreeSet,
    sync::RwLock,
    thread,
    time::{Duration, Instant},
};

use netloom_api::types::{DeviceView, Doctor, OrphanView};
use netloom_netns_tests::Node;
use netloom_test_support::emulated;

use clients::World;
use foreign::Foreign;
use history::{Answer, Event, History, Verb};

const CLIENTS: u64 = 8;
const OPERATIONS: u64 = 10_000;
/// Where a request takes a second.
const OPERATIONS_EMULATED: u64 = 150;
const SEED: u64 = 20_261_130;
/// How many are asked between two kills, on a real machine and on one that is emulated.
const KILL_EVERY: u64 = 300;
const KILL_EVERY_EMULATED: u64 = 60;

#[test]
fn every_answer_fits_an_order_and_nothing_is_lost_leaked_or_taken_from_others() {
    let number = |variable| std::env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("NETLOOM_SEED").unwrap_or(SEED);
    let until = number("NETLOOM_MINUTES").map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let (operations, kill_every) = match emulated() {
        true => (OPERATIONS_EMULATED, KILL_EVERY_EMULATED),
        false => (OPERATIONS, KILL_EVERY),
    };
    println!("NETLOOM_SEED={seed}");

    let world = World::new();
    let foreign = Foreign::new(world.node.read().unwrap().netns.path());
    let history = History::default();
    let goes_on = || until.map_or(history.asked() < operations, |until| Instant::now() < until);
    let kills = thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (world, history) = (&world, &history);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(CLIENTS).wrapping_add(client));
                while goes_on() {
                    world.ask(&mut random, history);
                }
            });
        }
        scope.spawn(|| foreign.come_and_go(seed, goes_on));
        let mut kills = 0;
        while goes_on() {
            if history.asked() >= (kills + 1) * kill_every {
                kill(&world.node, &history);
                kills += 1;
            }
            thread::sleep(Duration::from_millis(5));
        }
        kills
    });
    println!("{} operations by {CLIENTS} clients, {kills} kills", history.asked());
    assert!(kills > 0, "it was never killed");

    let node = world.node.into_inner().unwrap();
    foreign.check();
    look_at_the_end(&node, &history);
    history.check();
    agree(&node);
    remove_all(&node);
    foreign.check();
}

/// Ends the daemon at whatever it is, and starts it anew.
fn kill(node: &RwLock<Node>, history: &History) {
    let pid = node.read().unwrap().daemon.pid().expect("it runs");
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it can be killed");
    // The clients' requests fail, and they let go of it.
    let mut node = node.write().unwrap();
    node.daemon.kill9();
    node.daemon.restart();
    history.restarted();
}

/// What is there when all is quiet counts as answers too.
fn look_at_the_end(node: &Node, history: &History) {
    let status = node.status();
    let endpoints = status.endpoints.iter().map(|view| format!("endpoint {}", view.endpoint.spec.name));
    let attachments = status.attachments.iter().map(|own| format!("attachment {}", own.id));
    let services = status.services.iter().map(|service| format!("service {}", service.name));
    let devices = records(node).into_iter().map(|name| format!("device {name}"));
    let there: BTreeSet<String> = endpoints.chain(attachments).chain(services).chain(devices).collect();
    for object in history.objects() {
        let answer = if there.contains(&object) { Answer::Done } else { Answer::Missing };
        let began = history.now();
        history.add(object, Event::new(Verb::Use, answer, began, Some(history.now()), "the end"));
    }
}

/// The devices of the node that the daemon says are its own.
fn records(node: &Node) -> BTreeSet<String> {
    let devices: Vec<DeviceView> = node.daemon.get("/v1/devices").unwrap();
    let own =
        devices.into_iter().filter(|view| view.owner.as_ref().is_some_and(|of| of.starts_with("device ")));
    own.map(|view| view.device.name).filter(|name| name.starts_with('d')).collect()
}

/// Whether the records, the kernel and the datapath have the same, to the last object.
fn agree(node: &Node) {
    let status = node.status();
    let orphans: Vec<OrphanView> = node.daemon.get("/v1/orphans").unwrap();
    assert!(orphans.is_empty(), "{orphans:?}");
    let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
    let trouble: Vec<_> = doctor
        .findings
        .iter()
        .filter(|finding| finding.severity == "error" || finding.message.contains("cannot be done"))
        .collect();
    assert!(trouble.is_empty(), "{trouble:?}");
    for view in &status.endpoints {
        let device = view.device.as_ref().unwrap_or_else(|| panic!("{view:?} has no device"));
        assert_eq!(device.ifindex, view.endpoint.host_ifindex, "{view:?}");
    }
    let pins: BTreeSet<String> = ["attachments", "endpoints"]
        .iter()
        .flat_map(|folder| walk(&node.daemon.paths().bpffs.join(folder)))
        .collect();
    assert_eq!(pins.len(), status.attachments.len(), "{pins:?} {:?}", status.attachments);
    let mut recorded: Vec<&String> = status.attachments.iter().map(|attachment| &attachment.id).collect();
    let devices: BTreeSet<&str> =
        status.attachments.iter().map(|attachment| attachment.hook.device.as_str()).collect();
    let mut attached: Vec<String> = devices
        .iter()
        .flat_map(|device| node.chains(device))
        .flat_map(|chain| chain.entries)
        .filter_map(|entry| entry.attachment)
        .collect();
    recorded.sort();
    attached.sort();
    assert_eq!(attached.iter().collect::<Vec<_>>(), recorded, "what is attached, and what is recorded");
    let links = node.netns.ip(&["-o", "link", "show"]);
    let ours = links.lines().filter(|line| line.contains(": nl")).count();
    assert_eq!(ours, status.endpoints.len(), "{links}");
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path().display().to_string()] }
        })
        .collect()
}

fn remove_all(node: &Node) {
    let status = node.status();
    for view in &status.endpoints {
        node.delete(view.endpoint.spec.name.as_str()).unwrap();
    }
    for name in records(node) {
        let _: serde_json::Value = node.daemon.delete(&format!("/v1/devices/{name}")).unwrap();
    }
    for attachment in node.status().attachments {
        let _: serde_json::Value = node.daemon.delete(&format!("/v1/attachments/{}", attachment.id)).unwrap();
    }
    assert_eq!(node.traces(), Vec::<String>::new());
}
