//! Whatever a guest does ends as an error that names it, in time, and the host and the other plugins go on.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use netloom_core::{
    answer::{Answer, RawPlacement},
    model::Name,
};
use netloom_runtime::{Breach, CallError, Failure, HostConfig, KvError, KvStore, Limits, PluginHost};
use support::{Guest, HEAD, LOOP, OK, TAIL, load, patient, place, text_answer};

const LOG: &str = r#"(import "netloom:kernel/log@0.1.0" "write" (func $log (param i32 i32 i32 i32 i32)))"#;
const WRITE: &str = "(call $log (i32.const 2) (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 0))";

/// Asks a misbehaving guest, and checks that a good one beside it answers before and after.
async fn failure_of(guest: &Guest) -> CallError {
    let host = support::host();
    let good = load(&host, "good", &Guest::placing(TAIL)).await;
    let bad = load(&host, "bad", guest).await;
    assert_eq!(place(&good).await, Ok(Answer::Decide(RawPlacement::Tail)));
    let error = place(&bad).await.expect_err("it misbehaves");
    assert_eq!(place(&good).await, Ok(Answer::Decide(RawPlacement::Tail)));
    assert_eq!(bad.status().failures, 1);
    assert_eq!(good.status().failures, 0);
    assert!(error.was_asked());
    assert!(error.to_string().starts_with("plugin bad: place "), "{error}");
    error
}

#[tokio::test]
async fn an_endless_loop_is_stopped_at_the_deadline() {
    let start = Instant::now();
    let host = support::host();
    let bad = load(&host, "bad", &Guest::placing(LOOP)).await;
    let asked = Instant::now();
    let error = place(&bad).await.unwrap_err();
    let took = asked.elapsed();
    assert_eq!(error.failure, Failure::Deadline(Duration::from_millis(50)));
    assert!(took >= Duration::from_millis(50), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?} of {:?}", start.elapsed());
}

#[tokio::test]
async fn a_loop_holds_up_nobody_else_even_on_one_thread() {
    let host = support::host();
    let good = load(&host, "good", &Guest::placing(TAIL)).await;
    let bad = load(&host, "bad", &Guest::placing(LOOP)).await;
    let spinning = tokio::spawn(async move { place(&bad).await });
    tokio::task::yield_now().await;
    for _ in 0..5 {
        assert_eq!(place(&good).await, Ok(Answer::Decide(RawPlacement::Tail)));
    }
    assert!(!spinning.is_finished(), "the good plugin answered five times while the bad one span");
    assert!(matches!(spinning.await.unwrap().unwrap_err().failure, Failure::Deadline(_)));
}

#[tokio::test]
async fn a_trap_is_named() {
    let error = failure_of(&Guest::placing("(unreachable)")).await;
    assert!(
        matches!(&error.failure, Failure::Trap(cause) if cause.contains("panicked or aborted")),
        "{error}"
    );
}

#[tokio::test]
async fn endless_recursion_is_named() {
    let deep = Guest {
        extra: "(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))"
            .into(),
        ..Guest::placing("(call $deep (i32.const 0))")
    };
    let error = failure_of(&deep).await;
    assert!(matches!(&error.failure, Failure::Trap(cause) if cause.contains("call stack")), "{error}");
}

#[tokio::test]
async fn a_memory_bomb_ends_at_the_limit() {
    let bomb = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    let error = failure_of(&Guest::placing(bomb)).await;
    assert!(
        matches!(error.failure, Failure::Limit(Breach::Memory(limit), _) if limit == 16 << 20),
        "{error}"
    );
}

#[tokio::test]
async fn a_refused_growth_is_no_failure_for_a_guest_that_copes() {
    let host = support::host();
    let greedy = format!("(drop (memory.grow (i32.const 10000))) {TAIL}");
    let plugin = load(&host, "greedy", &Guest::placing(&greedy)).await;
    assert_eq!(place(&plugin).await, Ok(Answer::Decide(RawPlacement::Tail)));
}

#[tokio::test]
async fn a_table_bomb_ends_at_the_limit() {
    let bomb = Guest {
        imports: "(table $t 1 funcref)".into(),
        ..Guest::placing(
            "(loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) (unreachable)",
        )
    };
    let error = failure_of(&bomb).await;
    assert!(matches!(error.failure, Failure::Limit(Breach::Table(20_000), _)), "{error}");
}

#[tokio::test]
async fn nonsense_answers_are_failures() {
    let discriminant = "(i32.store8 (i32.const 1024) (i32.const 77)) (i32.const 1024)";
    let wild_pointer = "(i32.store8 (i32.const 1024) (i32.const 2)) (i32.store (i32.const 1028) (i32.const -16)) \
                        (i32.store (i32.const 1032) (i32.const 100)) (i32.const 1024)";
    let unaligned = "(i32.const 1025)";
    let not_utf8 = text_answer(2, "x").replace("(i32.const 120)", "(i32.const 255)");
    for answer in [discriminant, wild_pointer, unaligned, &not_utf8] {
        let error = failure_of(&Guest::placing(answer)).await;
        assert!(matches!(error.failure, Failure::Trap(_)), "{error}");
    }
}

#[tokio::test]
async fn a_flood_of_host_calls_ends_at_the_limit() {
    let flood =
        Guest { imports: LOG.into(), ..Guest::placing(&format!("(loop {WRITE} (br 0)) (unreachable)")) };
    let error = failure_of(&flood).await;
    assert!(matches!(error.failure, Failure::Limit(Breach::HostCalls(2_000), _)), "{error}");
}

#[tokio::test]
async fn a_chatty_plugin_still_decides() {
    let host = support::host();
    let body = format!(
        "(local $n i32) (loop {WRITE} (local.set $n (i32.add (local.get $n) (i32.const 1))) \
         (br_if 0 (i32.lt_u (local.get $n) (i32.const 1000)))) {HEAD}"
    );
    let guest = Guest {
        imports: LOG.into(),
        extra: format!("(func $chat (result i32) {body})"),
        ..Guest::placing("(call $chat)")
    };
    let plugin = load(&host, "chatty", &guest).await;
    assert_eq!(place(&plugin).await, Ok(Answer::Decide(RawPlacement::Head)));
}

#[tokio::test]
async fn a_huge_message_does_not_reach_the_host() {
    let guest = Guest {
        imports: LOG.into(),
        pages: 128,
        ..Guest::placing(&format!(
            "(call $log (i32.const 2) (i32.const 0) (i32.const 6000000) (i32.const 0) (i32.const 0)) {TAIL}"
        ))
    };
    let error = failure_of(&guest).await;
    assert!(matches!(error.failure, Failure::Trap(_)), "{error}");
}

#[tokio::test]
async fn an_instance_that_failed_is_never_used_again() {
    // It counts its calls in its memory, and traps in the third.
    let counting = Guest {
        extra: "(global $calls (mut i32) (i32.const 0))".into(),
        ..Guest::placing(&format!(
            "(global.set $calls (i32.add (global.get $calls) (i32.const 1))) \
             (if (i32.eq (global.get $calls) (i32.const 3)) (then (unreachable))) {TAIL}"
        ))
    };
    let host = support::host();
    let plugin = load(&host, "counting", &counting).await;
    for _ in 0..2 {
        place(&plugin).await.unwrap();
    }
    place(&plugin).await.unwrap_err();
    assert_eq!(plugin.status().instances, 1, "one warm instance served all three");
    for _ in 0..2 {
        place(&plugin).await.unwrap();
    }
    assert_eq!(plugin.status().instances, 2, "a new one counts from the start");
}

/// A store that never answers.
struct Stuck;

#[async_trait]
impl KvStore for Stuck {
    async fn get(&self, _: &Name, _: &str) -> Result<Option<Vec<u8>>, KvError> {
        std::future::pending().await
    }
    async fn set(&self, _: &Name, _: &str, _: Vec<u8>, _: u64) -> Result<(), KvError> {
        std::future::pending().await
    }
    async fn delete(&self, _: &Name, _: &str) -> Result<bool, KvError> {
        std::future::pending().await
    }
    async fn keys(&self, _: &Name, _: &str) -> Result<Vec<String>, KvError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_guest_asleep_in_the_host_is_stopped_at_the_deadline_too() {
    let host = PluginHost::new(HostConfig { kv: Arc::new(Stuck), ..patient() }).unwrap();
    let guest = Guest {
        imports: r#"(import "netloom:kernel/kv@0.1.0" "delete" (func $delete (param i32 i32 i32)))"#.into(),
        ..Guest::placing(&format!("(call $delete (i32.const 0) (i32.const 1) (i32.const 512)) {TAIL}"))
    };
    let plugin = load(&host, "asleep", &guest).await;
    let start = Instant::now();
    assert!(matches!(place(&plugin).await.unwrap_err().failure, Failure::Deadline(_)));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn calls_beyond_the_instances_wait_and_then_give_up() {
    let limits = Limits { instances: 1, ..patient().limits };
    let host = PluginHost::new(HostConfig { limits, ..patient() }).unwrap();
    let plugin = load(&host, "slow", &Guest::placing(LOOP)).await;
    let (first, second) = tokio::join!(place(&plugin), place(&plugin));
    assert!(matches!(first.unwrap_err().failure, Failure::Deadline(_)));
    let second = second.unwrap_err();
    assert!(matches!(second.failure, Failure::Busy(_) | Failure::Deadline(_)), "{second}");
}

#[tokio::test]
async fn health_can_misbehave_as_well() {
    let host = support::host();
    let guest = Guest {
        extra: "(global $asked (mut i32) (i32.const 0))".into(),
        ..Guest::placing(TAIL).living(
            OK,
            &format!("(if (global.get $asked) (then (unreachable))) (global.set $asked (i32.const 1)) {OK}"),
        )
    };
    let plugin = load(&host, "ill", &guest).await;
    let error = plugin.health().await.unwrap_err();
    assert!(matches!(error.failure, Failure::Trap(_)), "{error}");
}
