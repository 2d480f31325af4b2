//! Versions that replace each other under load, and versions that are tried out beside the one that serves.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use netloom_core::{
    answer::{Answer, RawPlacement},
    model::Placement,
    validate,
};
use netloom_runtime::{
    Plugin, PluginHost, Question, RecordedNode, Registry, Reply, StepAnswer, Trial, TrialMode, Verdict,
};
use support::{Guest, HEAD, LOOP, TAIL, candidate, capabilities, chain, node};

async fn version(host: &PluginHost, place: &str) -> Arc<Plugin> {
    support::load(host, "policy", &Guest::placing(place)).await
}

async fn decide(registry: &Registry) -> (Placement, String) {
    let (capabilities, chain, candidate) = (capabilities(), chain(&[]), candidate("acme/probe"));
    let check = |raw| validate::placement(&chain, &candidate, raw);
    let outcome = registry.place(node(&capabilities), &chain, &candidate, check).await;
    match outcome.verdict {
        Verdict::Decided { plugin, value } => (value, plugin.digest().to_string()),
        other => panic!("not decided: {other:?}, {:?}", outcome.steps),
    }
}

/// What each version decides, by its digest.
fn decided_by(versions: &[&Arc<Plugin>]) -> Vec<(Placement, String)> {
    let placements = [Placement::Head, Placement::Tail];
    placements.into_iter().zip(versions.iter().map(|plugin| plugin.digest().to_string())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_decision_is_lost_or_made_by_half_a_version_while_versions_are_swapped() {
    const DECISIONS: usize = 20_000;
    let host = support::leisurely();
    let (head, tail) = (version(&host, HEAD).await, version(&host, TAIL).await);
    let registry = Arc::new(Registry::default());
    registry.insert(Arc::clone(&head), None);

    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (registry, stop, host) = (Arc::clone(&registry), Arc::clone(&stop), host.clone());
        tokio::spawn(async move {
            let mut swaps = 0;
            while !stop.load(Ordering::Relaxed) {
                let guest = if swaps % 2 == 0 { TAIL } else { HEAD };
                registry.insert(version(&host, guest).await, None);
                swaps += 1;
            }
            swaps
        })
    };
    let drivers = (0..2).map(|_| {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            let mut made = Vec::with_capacity(DECISIONS / 2);
            for _ in 0..DECISIONS / 2 {
                made.push(decide(&registry).await);
            }
            made
        })
    });
    let started = Instant::now();
    let mut made = Vec::new();
    for driver in drivers.collect::<Vec<_>>() {
        made.extend(driver.await.unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = swapper.await.unwrap();
    println!("{DECISIONS} decisions in {:?} over {swaps} swaps", started.elapsed());
    assert!(swaps > 1, "nothing was swapped meanwhile");
    assert_eq!(made.len(), DECISIONS);
    let wanted = decided_by(&[&head, &tail]);
    for (number, decision) in made.iter().enumerate() {
        assert!(wanted.contains(decision), "decision {number} is no version's: {decision:?}");
    }
    for each in &wanted {
        assert!(made.contains(each), "a version never decided: {each:?}");
    }
}

#[tokio::test]
async fn a_shadow_is_asked_and_compared_and_never_decides() {
    let host = support::leisurely();
    let (serving, tried) = (version(&host, HEAD).await, version(&host, TAIL).await);
    let registry = Registry::default();
    registry.insert(Arc::clone(&serving), None);
    registry.try_out(Trial::new(tried, TrialMode::Shadow));
    for _ in 0..10 {
        assert_eq!(decide(&registry).await.0, Placement::Head);
    }
    let trial = Arc::clone(&registry.trials()[0]);
    let patience = Instant::now() + Duration::from_secs(20);
    while trial.status().asked < 10 && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = trial.status();
    assert_eq!((status.asked, status.differed, status.failed), (10, 10, 0));
    let last = status.last.unwrap();
    assert_eq!(last.serving, Reply::Place(Answer::Decide(RawPlacement::Head)));
    assert_eq!(last.tried, Reply::Place(Answer::Decide(RawPlacement::Tail)));
    assert!(registry.end_trial(serving.name()).is_some());
    assert!(registry.trials().is_empty());
}

#[tokio::test]
async fn a_shadow_that_hangs_holds_nobody_up() {
    let host = support::host();
    let registry = Registry::default();
    registry.insert(version(&host, HEAD).await, None);
    registry.try_out(Trial::new(version(&host, LOOP).await, TrialMode::Shadow));
    assert_eq!(decide(&registry).await.0, Placement::Head);
    let trial = Arc::clone(&registry.trials()[0]);
    let patience = Instant::now() + Duration::from_secs(20);
    while trial.status().failed == 0 && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(trial.status().failed, 1);
}

#[tokio::test]
async fn a_canary_decides_its_share_evenly() {
    let host = support::leisurely();
    let registry = Registry::default();
    registry.insert(version(&host, HEAD).await, None);
    registry.try_out(Trial::new(version(&host, TAIL).await, TrialMode::Canary(20)));
    let mut tails = 0;
    for number in 1..=100 {
        tails += usize::from(decide(&registry).await.0 == Placement::Tail);
        assert!(tails.abs_diff(number / 5) <= 1, "{tails} of {number}");
    }
    assert_eq!(tails, 20);
    assert_eq!(registry.trials()[0].status().asked, 20);
    registry.remove(registry.plugins()[0].name());
    assert!(registry.trials().is_empty(), "a trial without its plugin");
}

#[tokio::test]
async fn a_recorded_question_is_answered_alike_and_another_version_differs() {
    let host = support::host();
    let question = Question::Place { chain: chain(&[]), candidate: candidate("acme/probe") };
    let node = RecordedNode { name: "node-1".into(), capabilities: capabilities() };
    let text = serde_json::to_string(&(&node, &question)).unwrap();
    let (node, question): (RecordedNode, Question) = serde_json::from_str(&text).unwrap();
    let (head, tail) = (version(&host, HEAD).await, version(&host, TAIL).await);
    let first = head.ask(node.facts(), &question).await;
    assert_eq!(first, Reply::Place(Answer::Decide(RawPlacement::Head)));
    assert_eq!(head.ask(node.facts(), &question).await, first);
    assert_ne!(tail.ask(node.facts(), &question).await, first);
    let hanging = version(&host, LOOP).await.ask(node.facts(), &question).await;
    assert!(matches!(hanging, Reply::Failed(_)), "{hanging:?}");
}

#[tokio::test]
async fn each_step_carries_what_was_said_as_it_can_be_recorded() {
    let host = support::host();
    let registry = Registry::default();
    let plugin = version(&host, HEAD).await;
    registry.insert(Arc::clone(&plugin), None);
    let (capabilities, chain, candidate) = (capabilities(), chain(&[]), candidate("acme/probe"));
    let check = |raw| validate::placement(&chain, &candidate, raw);
    let outcome = registry.place(node(&capabilities), &chain, &candidate, check).await;
    let step = &outcome.steps[0];
    assert!(matches!(step.answer, StepAnswer::Decided(_)));
    assert_eq!(step.reply, Reply::Place(Answer::Decide(RawPlacement::Head)));
    assert_eq!(&step.digest, plugin.digest());
}
