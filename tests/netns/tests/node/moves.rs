//! Programs change their place and kind while packets flow: each packet meets each program exactly once, also when
//! the daemon is killed in the middle.

use std::os::fd::AsFd as _;

use aya::maps::{Array, Map, MapData};
use netloom_api::types::{AttachAnswer, Attachment, Chain, Done, HookPoint, Rebalanced};
use netloom_core::model::{Feature, ProgramId};
use netloom_sys::bpf::{self, AttachType, Position, Relative};
use netloom_test_support::{Kills, emulated, require};
use serde_json::{Value, json};

use netloom_netns_tests::{ObjectFile, Way, Wire, on_ways, refusal};

on_ways!(
    tc tcx netkit:
    a_chain_of_ten_is_brought_into_order_and_no_packet_misses_a_program,
    a_daemon_killed_at_any_step_of_a_rebalance_leaves_a_whole_chain,
    a_program_is_updated_a_hundred_times_and_keeps_its_place_and_maps,
    a_daemon_killed_in_an_update_undoes_it_or_has_it_done,
);
on_ways!(netkit: a_program_at_a_netkit_hook_stays_there);

/// The steps of taking a program to another place.
pub(crate) const STEPS: usize = 6;
/// Of those, the one from which on packets take the new place.
pub(crate) const TURN: usize = 3;

pub(crate) fn migrate(wire: &Wire, id: &str, to: &str) -> Result<Vec<Attachment>, netloom_api::ClientError> {
    wire.node.daemon.post(&format!("/v1/attachments/{id}/migrate"), &json!({ "to": to }))
}

pub(crate) fn update(
    wire: &Wire,
    id: &str,
    object: &ObjectFile,
) -> Result<AttachAnswer, netloom_api::ClientError> {
    let request = json!({ "object": object.path() });
    wire.node.daemon.post(&format!("/v1/attachments/{id}/update"), &request)
}

pub(crate) fn rebalance(wire: &Wire, more: Value) -> Result<Vec<Rebalanced>, netloom_api::ClientError> {
    let mut request = json!({ "device": wire.device });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    wire.node.daemon.post("/v1/chains/rebalance", &request)
}

pub(crate) fn owners(chain: &Chain) -> Vec<&str> {
    chain.entries.iter().map(|entry| entry.owner.as_ref().map_or("foreign", |owner| owner.as_str())).collect()
}

/// The owners of attachments, by the ids they got.
fn owners_of(ids: &[String]) -> Vec<&str> {
    ids.iter().filter_map(|id| id.split_once('-')).map(|(owner, _)| owner).collect()
}

/// Nothing was lost, and every program met every datagram once.
pub(crate) fn assert_exactly_once(wire: Wire, attachments: &[(String, u64)]) {
    assert_eq!(wire.leftovers(), Vec::<String>::new());
    let (arrivals, met) = wire.end(attachments);
    assert_eq!((arrivals.lost, arrivals.duplicated), (0, 0), "of {}", arrivals.sent);
    for (met, (id, _)) in met.iter().zip(attachments) {
        assert!(met.sent > 100, "{id}: {met:?}");
        assert!(met.missed.is_empty() && met.repeated.is_empty(), "{id}: {met:?}");
    }
}

#[test]
fn a_program_goes_from_tc_to_tcx_and_back_and_meets_each_packet_once() {
    if !require(Feature::Tcx) || !require(Feature::LegacyTc) {
        return;
    }
    let wire = Wire::start(None);
    let answer = wire.attach("once", json!({ "mode": "tc" }));
    assert_eq!(answer.attachment.hook.point, HookPoint::TcIngress);
    let id = answer.attachment.id;
    let from = wire.mark();
    for (to, point) in
        [("tcx", HookPoint::TcxIngress), ("tc", HookPoint::TcIngress), ("tcx", HookPoint::TcxIngress)]
    {
        wire.run(100);
        let moved = migrate(&wire, &id, to).unwrap();
        assert_eq!((moved.len(), moved[0].hook.point), (1, point));
        let chains = wire.node.chains("d0");
        assert_eq!(chains.len(), 1, "{chains:?}");
        assert_eq!((chains[0].hook.point, owners(&chains[0])), (point, vec!["once"]));
    }
    wire.run(100);
    assert_exactly_once(wire, &[(id, from)]);
}

#[test]
fn going_to_where_it_is_changes_nothing() {
    if !require(Feature::Tcx) {
        return;
    }
    let wire = Wire::start(None);
    let id = wire.attach("once", json!({})).attachment.id;
    let before = wire.node.chains("d0");
    assert_eq!(migrate(&wire, &id, "tcx").unwrap().len(), 1);
    assert_eq!(wire.node.chains("d0"), before);
    let (status, error, _) = refusal(migrate(&wire, "nosuch-1", "tcx"));
    assert_eq!(status, 404, "{error}");
}

#[test]
fn a_daemon_killed_at_any_step_of_a_migration_finishes_or_undoes_it() {
    if !require(Feature::Tcx) || !require(Feature::LegacyTc) {
        return;
    }
    let mut wire = Wire::start(None);
    let id = wire.attach("once", json!({ "mode": "tc" })).attachment.id;
    let from = wire.mark();
    let mut present = HookPoint::TcIngress;
    let mut there = Kills::of("going from tc to tcx", STEPS).emulated_only([1, 3, 5]);
    let mut back = Kills::of("going from tcx to tc", STEPS).emulated_only([2, 4, 6]);
    let mut going_there = false;
    loop {
        going_there = !going_there;
        let (kills, to, wanted) = if going_there {
            (&mut there, "tcx", HookPoint::TcxIngress)
        } else {
            (&mut back, "tc", HookPoint::TcIngress)
        };
        let Some(step) = kills.next_step() else { break };
        wire.node.daemon.crash_after(step);
        let migrated = migrate(&wire, &id, to);
        wire.run(50);
        let killed = kills.killed(&mut wire.node.daemon, migrated);
        let point = wire.attachments()[0].hook.point;
        let expected = if step < TURN { present } else { wanted };
        assert_eq!(point, expected, "killed ({killed}) after step {step} of going to {to}");
        assert_eq!(wire.leftovers(), Vec::<String>::new(), "step {step}");
        assert_eq!(wire.node.chains("d0").len(), 1, "step {step}");
        if point != wanted {
            migrate(&wire, &id, to).unwrap();
        }
        present = wanted;
    }
    there.check();
    back.check();
    wire.run(100);
    assert_exactly_once(wire, &[(id, from)]);
}

/// Ten programs attached by priority, and then a configuration that wants them the other way round.
fn disordered(way: Way) -> (Wire, Vec<(String, u64)>) {
    let mut wire = Wire::on(way, None);
    let attachments: Vec<_> = (0..10)
        .map(|number| {
            let more = way.request(json!({ "priority": number, "required": number % 2 == 0 }));
            (wire.attach(&format!("p{number}"), more).attachment.id, wire.mark())
        })
        .collect();
    want_another_order(&mut wire);
    (wire, attachments)
}

pub(crate) fn want_another_order(wire: &mut Wire) {
    wire.node.daemon.stop();
    wire.node.daemon.set_config(&in_order(&ORDER));
    wire.node.daemon.restart();
}

/// A configuration that wants these owners in this order.
fn in_order(owners: &[&str]) -> String {
    let priorities = owners.iter().enumerate().map(|(priority, owner)| format!("{owner} = {priority}\n"));
    format!("[plugins.config.attach-order.priorities]\n{}", priorities.collect::<String>())
}

/// How they were attached.
const BEFORE: [&str; 10] = ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"];
pub(crate) const ORDER: [&str; 10] = ["p9", "p2", "p6", "p4", "p8", "p0", "p7", "p3", "p5", "p1"];

/// Puts a program of another tool behind the fifth: a filter, or a program without a link. It lets the next one decide.
fn plant(wire: &Wire, way: Way) -> ProgramId {
    let chain = wire.node.chains("d0").remove(0);
    if way == Way::Tc {
        let foreign = ObjectFile::of(netloom_test_programs::OBSERVER);
        let path = foreign.path();
        let filter = ["bpf", "direct-action", "object-file", path.to_str().unwrap(), "section", "tc"];
        let (priority, handle) = chain.entries[4].filter.unwrap();
        let (priority, handle) = ((priority + 1).to_string(), handle.to_string());
        let at = ["filter", "add", "dev", "d0", "ingress", "prio", &priority, "handle", &handle];
        wire.node.netns.tc(&[at.as_slice(), &filter].concat());
    } else {
        let foreign = bpf::load_next("foreign").unwrap();
        let place = Position::After(Relative::ProgramId(chain.entries[4].program.0));
        let (device, point) = (chain.hook.ifindex.0, attach_type(way));
        let attach = || bpf::prog_attach(foreign.as_fd(), device, point, place, None, None);
        wire.node.netns.run(attach).unwrap();
    }
    let foreign = &wire.node.chains("d0")[0].entries[5];
    assert_eq!(foreign.owner, None);
    foreign.program
}

/// A way's hook, as the kernel numbers it.
pub(crate) fn attach_type(way: Way) -> AttachType {
    match way {
        Way::Tc => panic!("legacy tc has filters"),
        Way::Tcx => AttachType::TCX_INGRESS,
        Way::NetkitPeer => AttachType::NETKIT_PEER,
        Way::NetkitPrimary => AttachType::NETKIT_PRIMARY,
    }
}

fn a_chain_of_ten_is_brought_into_order_and_no_packet_misses_a_program(way: Way) {
    let (wire, attachments) = disordered(way);
    let foreign = plant(&wire, way);
    let planned = rebalance(&wire, json!({ "dry_run": true })).unwrap();
    let rebalanced = rebalance(&wire, json!({})).unwrap();
    assert_eq!(rebalanced[0].moved, planned[0].moved);
    // Three at most are in order already; of such runs the one of required programs stays.
    let moved = owners_of(&rebalanced[0].moved);
    assert_eq!(moved, ["p9", "p6", "p0", "p7", "p3", "p5", "p1"]);
    let chain = &rebalanced[0].chain;
    assert_eq!(chain.hook.point, way.point());
    let mut found = owners(chain);
    assert!(chain.entries.iter().any(|entry| entry.program == foreign), "{found:?}");
    found.retain(|owner| *owner != "foreign");
    assert_eq!(found, ORDER);
    assert!(rebalance(&wire, json!({})).unwrap()[0].moved.is_empty(), "it is in order");
    wire.run(100);
    assert_exactly_once(wire, &attachments);
}

/// The daemon is killed at each step of the first two of seven moves; each time the chain has just been brought into
/// the other order.
fn a_daemon_killed_at_any_step_of_a_rebalance_leaves_a_whole_chain(way: Way) {
    const MOVES: usize = 7;
    let (mut wire, attachments) = disordered(way);
    let first = 1..=2 * STEPS;
    // Where a start takes seconds: every step at one of netkit's hooks, and on all other ways one into the second move.
    let emulated = match way {
        Way::NetkitPeer => (1..=STEPS).collect(),
        Way::NetkitPrimary => vec![TURN - 1, STEPS + TURN],
        Way::Tc | Way::Tcx => vec![STEPS + TURN],
    };
    let mut kills = Kills::of(format!("bringing ten programs at {} into order", way.point()), MOVES * STEPS)
        .only(first)
        .emulated_only(emulated);
    let mut orders = [ORDER, BEFORE].into_iter().cycle();
    while let Some(step) = kills.next_step() {
        let order = orders.next().unwrap();
        wire.node.daemon.set_config(&in_order(&order));
        wire.node.daemon.crash_after(step);
        let planned = rebalance(&wire, json!({ "dry_run": true })).unwrap();
        assert_eq!(planned[0].moved.len(), MOVES, "{planned:?}");
        let rebalanced = rebalance(&wire, json!({}));
        wire.run(20);
        kills.killed(&mut wire.node.daemon, rebalanced);
        assert_eq!(wire.leftovers(), Vec::<String>::new(), "step {step}");
        assert_eq!(wire.node.chains("d0")[0].entries.len(), 10, "step {step}");
        let rebalanced = rebalance(&wire, json!({})).unwrap();
        assert_eq!(owners(&rebalanced[0].chain), order, "step {step}");
    }
    kills.check();
    wire.run(50);
    assert_exactly_once(wire, &attachments);
}

#[test]
fn programs_go_to_one_place_of_legacy_tc_again_and_again_and_ours_make_room() {
    if !require(Feature::LegacyTc) {
        return;
    }
    let mut wire = Wire::start(None);
    let mut attachments = Vec::new();
    let attach = |wire: &Wire, attachments: &mut Vec<(String, u64)>, priority: i32| {
        let more = json!({ "priority": priority, "mode": "tc" });
        attachments.push((wire.attach(&format!("p{priority}"), more).attachment.id, wire.mark()));
    };
    attach(&wire, &mut attachments, 0);
    attach(&wire, &mut attachments, 1_000);
    let foreign = ObjectFile::of(netloom_test_programs::OBSERVER);
    let path = foreign.path();
    let filter = ["bpf", "direct-action", "object-file", path.to_str().unwrap(), "section", "tc"];
    for priority in ["7", "1400"] {
        let at = ["filter", "add", "dev", "d0", "ingress", "prio", priority, "handle", "1"];
        wire.node.netns.tc(&[at.as_slice(), &filter].concat());
    }
    let theirs = |wire: &Wire| -> Vec<_> {
        let chain = wire.node.chains("d0").remove(0);
        let theirs = chain.entries.into_iter().filter(|entry| entry.owner.is_none());
        theirs.map(|entry| (entry.filter, entry.program)).collect()
    };
    let before = theirs(&wire);
    // Each goes behind the one before it and in front of the last.
    let times = if emulated() { 9 } else { 20 };
    for priority in 1..=times {
        attach(&wire, &mut attachments, priority);
    }
    // And with a daemon that is killed while it makes room. One that has no room to make has a single step, and survives.
    let mut next = times + 1;
    let steps = if emulated() { 2..=2 } else { 2..=STEPS };
    for step in steps.clone() {
        loop {
            assert!(next < times + 100, "no attachment is killed at step {step}: none makes room");
            wire.node.daemon.crash_after(step);
            let request = json!({
                "device": "d0", "object": wire.object.path(), "owner": format!("p{next}"), "priority": next, "mode": "tc",
            });
            let Ok(answer) = wire.node.attach(request) else { break };
            attachments.push((answer.attachment.id, wire.mark()));
            next += 1;
        }
        wire.node.daemon.restart_after_crash();
        assert_eq!(wire.leftovers(), Vec::<String>::new(), "step {step}");
    }
    println!("killed at steps {steps:?} of making room, over {} attachments", next - times);
    let chain = wire.node.chains("d0").remove(0);
    let mut wanted: Vec<String> = (0..next).map(|priority| format!("p{priority}")).collect();
    wanted.push("p1000".to_owned());
    let mut found = owners(&chain);
    found.retain(|owner| *owner != "foreign");
    assert_eq!(found, wanted);
    assert_eq!(theirs(&wire), before, "filters of others stay as they are");
    wire.run(100);
    assert_exactly_once(wire, &attachments);
}

fn a_program_is_updated_a_hundred_times_and_keeps_its_place_and_maps(way: Way) {
    let wire = Wire::on(way, None);
    let answer = wire.attach("once", way.request(json!({ "priority": 5 })));
    let _behind = wire.attach("behind", way.request(json!({ "priority": 6 })));
    let (id, from) = (answer.attachment.id, wire.mark());
    let mut programs = vec![answer.attachment.program];
    let times = if emulated() { 20 } else { 100 };
    for _ in 0..times {
        let updated = update(&wire, &id, &wire.object).unwrap();
        assert_eq!(owners(&updated.chain), ["once", "behind"]);
        assert_eq!(updated.attachment.link, answer.attachment.link);
        assert_eq!(updated.attachment.filter, answer.attachment.filter);
        programs.push(updated.attachment.program);
    }
    programs.dedup();
    assert_eq!(programs.len(), times + 1, "each is another program");
    wire.run(50);
    assert_exactly_once(wire, &[(id, from)]);
}

#[test]
fn an_update_that_cannot_be_is_refused_and_changes_nothing() {
    let wire = Wire::start(None);
    let id = wire.attach("once", json!({})).attachment.id;
    let before = wire.node.chains("d0");
    let garbage = ObjectFile::of(b"this is no ELF file");
    let (status, error, _) = refusal(update(&wire, &id, &garbage));
    assert_eq!(status, 422, "{error}");
    assert!(error.contains("was not updated") && error.contains("object.bpf.o"), "{error}");
    assert_eq!(wire.node.chains("d0"), before);
    assert_eq!(wire.leftovers(), Vec::<String>::new());
    let web = wire.node.endpoint("web");
    let (status, _, hint) = refusal(update(&wire, "web:from", &wire.object));
    assert_eq!(status, 409, "{hint}");
    drop(web);
}

/// Done in the kernel but not in the records: undone, to the very program of before.
fn a_daemon_killed_in_an_update_undoes_it_or_has_it_done(way: Way) {
    let mut wire = Wire::on(way, None);
    let answer = wire.attach("once", way.request(json!({})));
    let (id, from) = (answer.attachment.id, wire.mark());
    let mut kills = Kills::of(format!("an update at {}", way.point()), 1);
    while let Some(step) = kills.next_step() {
        wire.node.daemon.crash_after(step);
        let updated = update(&wire, &id, &wire.object);
        let killed = kills.killed(&mut wire.node.daemon, updated);
        let record = wire.attachments().remove(0);
        assert_eq!(record.program == answer.attachment.program, killed, "step {step}");
        assert_eq!(wire.node.chains("d0")[0].entries[0].program, record.program, "step {step}");
    }
    kills.check();
    wire.run(50);
    assert_exactly_once(wire, &[(id, from)]);
}

fn a_program_at_a_netkit_hook_stays_there(way: Way) {
    let wire = Wire::on(way, None);
    let id = wire.attach("once", way.request(json!({}))).attachment.id;
    let from = wire.mark();
    let before = wire.node.chains("d0");
    let (status, error, hint) = refusal(migrate(&wire, &id, "tc"));
    assert!(status == 422 && error.contains("stays at netkit") && hint.contains("veth"), "{error}; {hint}");
    for to in ["tcx", "auto"] {
        assert_eq!(migrate(&wire, &id, to).unwrap()[0].hook.point, way.point(), "{to}");
    }
    assert_eq!(wire.node.chains("d0"), before);
    wire.run(100);
    assert_exactly_once(wire, &[(id, from)]);
}

#[test]
fn the_configuration_takes_everything_along_and_what_was_asked_for_stays() {
    if !require(Feature::Tcx) || !require(Feature::LegacyTc) {
        return;
    }
    let mut wire = Wire::start(Some("[attachments]\nmode = \"tc\"\n"));
    let id = wire.attach("once", json!({})).attachment.id;
    let from = wire.mark();
    wire.attach("fixed", json!({ "mode": "tc" }));
    wire.attach("named", json!({ "point": "tc-egress" }));
    let (client, server) = (wire.node.endpoint("client"), wire.node.endpoint("server"));
    let stream = server.netns.count_datagrams(&format!("{}:7100", server.v4()));
    let sender = client.netns.send_datagrams(stream.address(), std::time::Duration::from_micros(500));
    for (mode, point) in
        [("tcx", HookPoint::TcxIngress), ("tc", HookPoint::TcIngress), ("auto", HookPoint::TcxIngress)]
    {
        wire.node.daemon.stop();
        wire.node.daemon.set_config(&format!("[attachments]\nmode = \"{mode}\"\n"));
        wire.node.daemon.restart();
        let veth = wire.node.endpoints()[0].endpoint.mode.device == netloom_core::model::DeviceMode::Veth;
        let follows = |wire: &Wire| {
            wire.attachments().into_iter().all(|each| match each.candidate.owner.as_str() {
                "once" => each.hook.point == point,
                "fixed" => each.hook.point == HookPoint::TcIngress,
                "named" => each.hook.point == HookPoint::TcEgress,
                _ if !veth => !each.hook.point.is_legacy(),
                _ => each.hook.point.is_legacy() == point.is_legacy(),
            })
        };
        let started = std::time::Instant::now();
        // The last of them is tidied up when its record has changed already.
        while !follows(&wire) || !wire.leftovers().is_empty() {
            assert!(started.elapsed().as_secs() < 60, "{mode}: {:?}", wire.attachments());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    let arrivals = stream.compare(sender.stop(), std::time::Duration::from_secs(10));
    assert_eq!((arrivals.lost, arrivals.duplicated), (0, 0), "of {}", arrivals.sent);
    assert_exactly_once(wire, &[(id, from)]);
}

#[test]
fn a_change_of_the_configuration_that_is_taken_back_halfway_is_taken_back() {
    if !require(Feature::Tcx) || !require(Feature::LegacyTc) {
        return;
    }
    let mut wire = Wire::start(Some("[attachments]\nmode = \"tc\"\n"));
    let attachments: Vec<_> =
        ["one", "two"].map(|owner| (wire.attach(owner, json!({})).attachment.id, wire.mark())).into();
    // It dies when one of them is on tcx.
    wire.node.daemon.set_config("[attachments]\nmode = \"tcx\"\n");
    wire.node.daemon.crash_at_start(STEPS + 1);
    wire.node.daemon.set_config("[attachments]\nmode = \"tc\"\n");
    wire.node.daemon.restart();
    let on_tc = |wire: &Wire| wire.attachments().into_iter().all(|each| each.hook.point.is_legacy());
    let started = std::time::Instant::now();
    while !on_tc(&wire) || !wire.leftovers().is_empty() {
        assert!(started.elapsed().as_secs() < 60, "{:?}", wire.attachments());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    wire.run(50);
    assert_exactly_once(wire, &attachments);
}

#[test]
fn an_owners_objects_share_maps_where_that_is_asked_for_and_nobody_elses() {
    let wire = Wire::start(None);
    let shared = json!({ "shared_maps": true });
    for owner in ["acme/one", "acme/one", "acme/two"] {
        wire.attach(owner, shared.clone());
    }
    let from = wire.mark();
    wire.run(50);
    let map = |owner: &str| wire.node.daemon.paths().bpffs.join("shared").join(owner).join("met");
    let maps = [map("acme+one"), map("acme+two")];
    let number = from as u32;
    let counted = |path: &std::path::Path| {
        let map: Array<_, u32> = Map::Array(MapData::from_pin(path).unwrap()).try_into().unwrap();
        map.get(&number, 0).unwrap()
    };
    assert_eq!(maps.map(|path| counted(&path)), [2, 1], "two programs of one owner count together");
    // With the last of an owner's programs its maps go.
    for attachment in
        wire.attachments().into_iter().filter(|each| each.candidate.owner.as_str() == "acme/one")
    {
        let _: Done = wire.node.daemon.delete(&format!("/v1/attachments/{}", attachment.id)).unwrap();
    }
    assert!(!map("acme+one").exists() && map("acme+two").exists());
}
