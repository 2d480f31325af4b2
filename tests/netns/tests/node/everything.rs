//! One stream and one transfer, and everything that can change on their way changes.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use netloom_api::types::{EndpointView, HookPoint};
use netloom_core::model::Feature;
use netloom_test_support::{Kills, emulated, require, require_condition};
use serde_json::json;

use netloom_netns_tests::{Node, Wire};

use crate::moves::{
    ORDER, STEPS, TURN, assert_exactly_once, migrate, owners, rebalance, update, want_another_order,
};

/// An endpoint sends a numbered stream and a TCP transfer to the node, while ten programs on its device go from legacy tc
/// to tcx, back and forth again, are brought into another order, and one of them is updated a hundred times; then MTU and
/// sizes change. The daemon is killed at each step of each.
#[test]
fn under_one_stream_and_one_transfer_everything_changes_and_nothing_is_lost() {
    if !require(Feature::Tcx) || !require(Feature::LegacyTc) {
        return;
    }
    let way_out = "a hundred starts of a daemon; each part has a test of its own that runs here";
    if !require_condition(!emulated(), "a CPU that is not emulated", way_out) {
        return;
    }
    let mut wire = Wire::from_endpoint();
    let attachments: Vec<_> = (0..10)
        .map(|number| {
            let more = json!({ "priority": number, "mode": "tc" });
            (wire.attach(&format!("p{number}"), more).attachment.id, wire.mark())
        })
        .collect();
    let ids: Vec<String> = attachments.iter().map(|(id, _)| id.clone()).collect();
    let echo = wire.node.netns.tcp_echo(&format!("{}:8080", Node::ADDRESS));
    let mut connection = wire.peer.connect_tcp(echo.address());
    let (stop, transferred) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let text: String = (0..60_000_u32).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
            while !stop.load(Ordering::Relaxed) {
                assert!(connection.exchange(&text) == text, "the transfer was garbled");
                transferred.fetch_add(text.len(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        let _stop = StopOnDrop(&stop);
        there_and_back(&mut wire, &ids);
        into_another_order(&mut wire);
        a_hundred_updates(&mut wire, &ids[0]);
        larger_and_smaller(&mut wire);
    });
    assert!(transferred.load(Ordering::Relaxed) > 1_000_000);
    wire.run(50);
    assert_exactly_once(wire, &attachments);
}

/// Also where an assertion fails: a scope waits for its threads.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Has the daemon killed in a change, as `kills` says.
fn killed<T: Debug>(
    wire: &mut Wire,
    mut kills: Kills,
    change: impl Fn(&Wire) -> Result<T, netloom_api::ClientError>,
) {
    while let Some(step) = kills.next_step() {
        wire.node.daemon.crash_after(step);
        let changed = change(wire);
        kills.killed(&mut wire.node.daemon, changed);
        assert_eq!(wire.leftovers(), Vec::<String>::new(), "step {step}");
    }
    kills.check();
}

fn there_and_back(wire: &mut Wire, ids: &[String]) {
    for to in ["tcx", "tc", "tcx"] {
        // Killed after the turn it is finished at the next start, and nothing is left to be done.
        let steps = (1..TURN).chain([TURN + 1]);
        let kills = Kills::of(format!("going to {to} under load"), STEPS).only(steps);
        killed(wire, kills, |wire| migrate(wire, &ids[0], to));
        for id in ids {
            migrate(wire, id, to).unwrap();
        }
        let wanted = if to == "tc" { HookPoint::TcIngress } else { HookPoint::TcxIngress };
        let ours = wire.attachments().into_iter().filter(|each| ids.contains(&each.id));
        assert!(ours.into_iter().all(|each| each.hook.point == wanted), "{to}");
    }
}

fn into_another_order(wire: &mut Wire) {
    want_another_order(wire);
    let moves = rebalance(wire, json!({ "dry_run": true })).unwrap();
    let moves: usize = moves.iter().map(|chain| chain.moved.len()).sum();
    // Each start finishes the move that was under way, if it was beyond its turn.
    let kills = Kills::of(format!("{moves} moves under load"), moves * STEPS).only(1..=STEPS);
    killed(wire, kills, |wire| rebalance(wire, json!({})));
    let chains = wire.node.chains(&wire.device);
    let chain = chains.iter().find(|chain| chain.hook.point == HookPoint::TcxIngress).unwrap();
    let ours: Vec<&str> = owners(chain).into_iter().filter(|owner| *owner != "netloom/datapath").collect();
    assert_eq!(ours, ORDER);
}

fn a_hundred_updates(wire: &mut Wire, id: &str) {
    killed(wire, Kills::of("an update under load", 1), |wire| update(wire, id, &wire.object));
    for _ in 0..100 {
        update(wire, id, &wire.object).unwrap();
    }
}

fn larger_and_smaller(wire: &mut Wire) {
    for (mtu, size) in [(9_000, 120_000), (1_400, 30_000)] {
        let asked = json!({ "mtu": mtu, "gso_max_size": size, "gro_max_size": size });
        let change = |wire: &Wire| wire.node.daemon.patch::<EndpointView>("/v1/endpoints/web", &asked);
        killed(wire, Kills::of(format!("a change of the MTU to {mtu} under load"), 5), change);
        assert_eq!(wire.node.endpoints()[0].endpoint.mode.mtu, mtu);
    }
}
