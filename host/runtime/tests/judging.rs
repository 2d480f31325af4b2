//! Sockets are judged in batches, and no socket is destroyed on an answer that does not fit the question.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use netloom_runtime::{Failure, Hook};
use support::{Guest, OK, TAIL, event, load, place, socket, suspects};

/// Judges by the batch: `judge` destroys every socket, `judge-packed` those whose bit is set in the pattern.
fn judging(count: &str, words: &str) -> Guest {
    let list = |len: &str| {
        format!(
            "(i32.store (i32.const 1024) (i32.const 32768)) (i32.store (i32.const 1028) {len}) (i32.const 1024)"
        )
    };
    let fill = "(memory.fill (i32.const 32768) (i32.const 1) (i32.const 8192))";
    Guest {
        socket_reap: Some((
            OK.to_owned(),
            format!("{fill} {}", list(count)),
            format!("{fill} {}", list(words)),
        )),
        ..Guest::default()
    }
}

const EACH: &str = "(local.get $count)";
const WORDS: &str =
    "(i32.div_u (i32.add (i32.div_u (local.get $count) (i32.const 10)) (i32.const 63)) (i32.const 64))";

#[tokio::test]
async fn every_socket_is_judged_across_batches() {
    let plugin = load(&support::host(), "judge", &judging(EACH, WORDS)).await;
    let event = event(&["10.0.0.1:80"]);
    let sockets: Vec<_> = (0..10_000).map(|cookie| socket(cookie, "10.0.0.1:80")).collect();
    let suspects = suspects(&sockets);
    let judged = plugin.judge(&event, &suspects).await.unwrap();
    assert_eq!(judged.len(), 10_000);
    assert!(judged.iter().all(|destroy| *destroy));
    assert_eq!(plugin.status().calls, 10, "ten batches");

    let judged = plugin.judge_packed(&event, &suspects).await.unwrap();
    assert_eq!(judged.len(), 10_000);
    let destroyed: Vec<usize> = (0..16).filter(|at| judged[*at]).collect();
    assert_eq!(destroyed, [0, 8], "bytes of 1: every eighth bit, the first in the lowest");
    assert!(plugin.judge(&event, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn too_few_answers_are_a_failure() {
    let plugin = load(&support::host(), "judge", &judging("(i32.const 1)", "(i32.const 2)")).await;
    let event = event(&["10.0.0.1:80"]);
    let sockets: Vec<_> = (0..3).map(|cookie| socket(cookie, "10.0.0.1:80")).collect();
    let error = plugin.judge(&event, &suspects(&sockets)).await.unwrap_err();
    assert_eq!(error.failure, Failure::BadAnswer("it gave 1 answers for 3 sockets".into()));
    let error = plugin.judge_packed(&event, &suspects(&sockets)).await.unwrap_err();
    assert_eq!(error.failure, Failure::BadAnswer("it gave 128 answers for 3 sockets".into()));
    assert_eq!(plugin.status().failures, 2);
}

#[tokio::test]
async fn a_socket_of_another_backend_is_not_asked_about() {
    let plugin = load(&support::host(), "judge", &judging(EACH, WORDS)).await;
    let sockets = [socket(1, "10.0.0.9:80")];
    let error = plugin.judge(&event(&["10.0.0.1:80"]), &suspects(&sockets)).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Question(_)), "{error}");
    assert!(!error.was_asked());
    assert_eq!(plugin.status().failures, 0, "not the plugin's fault");
}

#[tokio::test]
async fn a_plugin_is_asked_only_what_it_serves() {
    let host = support::host();
    let judge = load(&host, "judge", &judging(EACH, WORDS)).await;
    assert_eq!(place(&judge).await.unwrap_err().failure, Failure::NotServed(Hook::AttachOrder));
    let placing = load(&host, "placing", &Guest::placing(TAIL)).await;
    let error =
        placing.judge(&event(&["10.0.0.1:80"]), &suspects(&[socket(1, "10.0.0.1:80")])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "plugin placing: judge was not asked: the plugin does not serve socket-reap"
    );
}
