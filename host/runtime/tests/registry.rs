//! Several plugins decide together, are replaced under load, and only the failing one is taken out.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use netloom_core::{
    answer::RawPlacement,
    model::{Candidate, Capabilities, Chain, Placement},
    validate,
};
use netloom_runtime::{
    HostConfig, Outcome, PluginHost, Position, Registry, State, StepAnswer, Supervision, Verdict,
};
use support::{Guest, HEAD, ONE, TAIL, candidate, capabilities, chain, load, name, node, patient, veto};

struct Question {
    capabilities: Capabilities,
    chain: Chain,
    candidate: Candidate,
}

impl Question {
    fn new() -> Self {
        Self { capabilities: capabilities(), chain: chain(&[]), candidate: candidate("acme/probe") }
    }

    async fn ask(&self, registry: &Registry) -> Outcome<Placement> {
        let check = |raw| validate::placement(&self.chain, &self.candidate, raw);
        registry.place(node(&self.capabilities), &self.chain, &self.candidate, check).await
    }
}

fn winner<V>(outcome: &Outcome<V>) -> &str {
    match &outcome.verdict {
        Verdict::Decided { plugin, .. } => plugin.name().as_str(),
        Verdict::Vetoed { .. } => "veto",
        Verdict::Undecided => "nobody",
    }
}

fn answers<V>(outcome: &Outcome<V>) -> Vec<String> {
    outcome.steps.iter().map(|step| format!("{}: {}", step.plugin, step.answer)).collect()
}

/// Plugins in this order.
async fn registry(guests: &[(&str, &str)]) -> Registry {
    let host = support::host();
    let registry = Registry::default();
    for (plugin, place) in guests {
        registry.insert(load(&host, plugin, &Guest::placing(place)).await, Some(Position::Last));
    }
    registry
}

#[tokio::test]
async fn the_first_decision_wins_and_the_trace_tells_all() {
    let registry = registry(&[("shy", ONE), ("first", HEAD), ("second", TAIL)]).await;
    let outcome = Question::new().ask(&registry).await;
    assert!(matches!(&outcome.verdict, Verdict::Decided { value: Placement::Head, .. }));
    assert_eq!(winner(&outcome), "first");
    assert_eq!(answers(&outcome), ["shy: abstained", "first: head", "second: tail (overruled)"]);
}

#[tokio::test]
async fn any_may_veto_also_behind_the_first_decision() {
    let registry = registry(&[("first", HEAD), ("guard", &veto("unknown owner")), ("late", TAIL)]).await;
    let outcome = Question::new().ask(&registry).await;
    let Verdict::Vetoed { plugin, reason } = &outcome.verdict else { panic!("{:?}", outcome.verdict) };
    assert_eq!((plugin.as_str(), reason.as_str()), ("guard", "unknown owner"));
    assert_eq!(answers(&outcome), ["first: head", "guard: vetoed: unknown owner"]);
}

#[tokio::test]
async fn a_failing_plugin_is_passed_over() {
    let registry = registry(&[("broken", "(unreachable)"), ("sound", TAIL)]).await;
    let outcome = Question::new().ask(&registry).await;
    assert_eq!(winner(&outcome), "sound");
    assert!(matches!(&outcome.steps[0].answer, StepAnswer::Failed(why) if why.contains("trapped")));
}

#[tokio::test]
async fn a_bad_answer_counts_as_a_failure_and_the_next_decides() {
    let before_nothing = "(i32.store8 (i32.const 1024) (i32.const 0)) (i32.store8 (i32.const 1028) (i32.const 2)) \
                          (i32.store (i32.const 1032) (i32.const 999)) (i32.const 1024)";
    let registry = registry(&[("liar", before_nothing), ("sound", TAIL)]).await;
    let outcome = Question::new().ask(&registry).await;
    assert_eq!(winner(&outcome), "sound");
    assert_eq!(
        answers(&outcome)[0],
        "liar: gave a bad answer (before 999): it names entry 999, but the chain has 0 entries"
    );
    assert_eq!(registry.get(&name("liar")).unwrap().status().failures, 1);
}

#[tokio::test]
async fn nobody_deciding_leaves_it_to_the_fallback() {
    assert_eq!(winner(&Question::new().ask(&Registry::default()).await), "nobody");
    assert_eq!(winner(&Question::new().ask(&registry(&[("shy", ONE)]).await).await), "nobody");
}

#[tokio::test]
async fn plugins_stand_where_they_are_put() {
    let host = support::host();
    let registry = Registry::default();
    let names = |registry: &Registry| {
        registry.plugins().iter().map(|plugin| plugin.name().to_string()).collect::<Vec<_>>()
    };
    let guest = Guest::placing(TAIL);
    registry.insert(load(&host, "a", &guest).await, Some(Position::Last));
    registry.insert(load(&host, "b", &guest).await, Some(Position::Last));
    assert!(registry.insert(load(&host, "c", &guest).await, None).is_none(), "in front unless told");
    assert_eq!(names(&registry), ["c", "a", "b"]);

    let old = registry.insert(load(&host, "a", &guest).await, None).expect("the replaced one");
    assert_eq!(names(&registry), ["c", "a", "b"], "it keeps the place");
    let new = registry.get(&name("a")).unwrap();
    assert!(!Arc::ptr_eq(&old, &new));
    registry.insert(Arc::clone(&old), None);
    assert!(Arc::ptr_eq(&old, &registry.get(&name("a")).unwrap()), "rolled back");

    registry.insert(old, Some(Position::First));
    assert_eq!(names(&registry), ["a", "c", "b"]);
    assert!(registry.remove(&name("c")).is_some());
    assert!(registry.remove(&name("c")).is_none());
    assert_eq!(names(&registry), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_under_load_loses_no_question() {
    let host = support::leisurely();
    let registry = Arc::new(Registry::default());
    registry.insert(load(&host, "p", &Guest::placing(TAIL)).await, None);

    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let askers: Vec<_> = (0..4)
        .map(|_| {
            let (registry, stop, asked) = (Arc::clone(&registry), Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(async move {
                let question = Question::new();
                while !stop.load(Ordering::Relaxed) {
                    let outcome = question.ask(&registry).await;
                    assert_eq!(winner(&outcome), "p", "{:?}", answers(&outcome));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    for round in 0..20 {
        let place = if round % 2 == 0 { HEAD } else { TAIL };
        let next = load(&host, "p", &Guest::placing(place)).await;
        let before = asked.load(Ordering::Relaxed);
        registry.insert(next, None);
        let question = Question::new();
        let outcome = question.ask(&registry).await;
        let Verdict::Decided { value, .. } = outcome.verdict else { panic!("undecided") };
        assert_eq!(value == Placement::Head, round % 2 == 0, "the new one answers from the swap on");
        while asked.load(Ordering::Relaxed) < before + 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for asker in askers {
        asker.await.unwrap();
    }
}

fn strict(failures: usize, backoff: Duration) -> PluginHost {
    let supervision = Supervision {
        first_backoff: backoff,
        longest_backoff: backoff * 10,
        failures,
        window: Duration::from_secs(60),
    };
    PluginHost::new(HostConfig { supervision, ..patient() }).unwrap()
}

#[tokio::test]
async fn a_plugin_that_fails_again_and_again_is_quarantined_alone() {
    let host = strict(3, Duration::ZERO);
    let registry = Registry::default();
    registry.insert(load(&host, "broken", &Guest::placing("(unreachable)")).await, Some(Position::Last));
    registry.insert(load(&host, "sound", &Guest::placing(TAIL)).await, Some(Position::Last));
    let question = Question::new();
    for _ in 0..3 {
        assert_eq!(winner(&question.ask(&registry).await), "sound");
    }
    let broken = registry.get(&name("broken")).unwrap();
    let status = broken.status();
    assert_eq!(status.state, State::Quarantined);
    assert!(status.reason.unwrap().contains("panicked or aborted"));
    assert_eq!((status.calls, status.failures), (3, 3));

    let outcome = question.ask(&registry).await;
    assert_eq!(winner(&outcome), "sound");
    assert!(matches!(&outcome.steps[0].answer, StepAnswer::Skipped(why) if why.contains("quarantine")));
    assert_eq!(broken.status().failures, 3, "it is not even asked");
    assert_eq!(registry.get(&name("sound")).unwrap().status().state, State::Active);

    broken.release();
    assert_eq!(broken.status().state, State::Active);
    assert!(matches!(question.ask(&registry).await.steps[0].answer, StepAnswer::Failed(_)));
}

#[tokio::test]
async fn a_plugin_in_backoff_is_skipped_and_then_asked_again() {
    let host = strict(10, Duration::from_millis(200));
    // It traps once: the marker lies in its kv store, which outlives the instance.
    let once = Guest {
        imports: r#"(import "netloom:kernel/kv@0.1.0" "get" (func $get (param i32 i32 i32)))
                    (import "netloom:kernel/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))"#
            .into(),
        ..Guest::placing(&format!(
            "(i32.store8 (i32.const 100) (i32.const 107)) \
             (call $get (i32.const 100) (i32.const 1) (i32.const 512)) \
             (if (i32.eqz (i32.load8_u (i32.const 516))) (then \
               (call $set (i32.const 100) (i32.const 1) (i32.const 100) (i32.const 1) (i32.const 512)) \
               (unreachable))) {TAIL}"
        ))
    };
    let registry = Registry::default();
    registry.insert(load(&host, "once", &once).await, None);
    let question = Question::new();
    assert!(matches!(question.ask(&registry).await.steps[0].answer, StepAnswer::Failed(_)));
    let skipped = question.ask(&registry).await;
    assert!(matches!(&skipped.steps[0].answer, StepAnswer::Skipped(why) if why.contains("backoff")));
    assert!(matches!(registry.get(&name("once")).unwrap().status().state, State::Backoff { .. }));
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(winner(&question.ask(&registry).await), "once");
}

#[tokio::test]
async fn questions_can_be_asked_from_any_task() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let (registry, question) = (registry(&[("p", TAIL)]).await, Question::new());
    let check = |raw: RawPlacement| Ok::<_, Infallible>(raw);
    let asked = registry.place(node(&question.capabilities), &question.chain, &question.candidate, check);
    assert_eq!(winner(&is_send(asked).await), "p");
}
