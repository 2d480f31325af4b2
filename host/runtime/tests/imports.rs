//! What every plugin may import does what `wit/kernel/ambient.wit` says.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::{Arc, Mutex};

use netloom_core::answer::{Answer, RawPlacement};
use netloom_runtime::{HostConfig, KvStore, LoadRequest, MemoryKv, Metric, PluginHost};
use support::{Guest, HEAD, LOOP, OK, TAIL, name, patient, place};
use tracing::field::{Field, Visit};

/// Collects the log entries of plugins.
#[derive(Clone, Default)]
struct Entries(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Entries {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "netloom::plugin"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!(" {}={value:?}", field.name()));
            }
        }
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn log_entries_carry_the_plugins_name_and_a_flood_is_cut_off() {
    let entries = Entries::default();
    let _guard = tracing::subscriber::set_default(entries.clone());
    let guest = Guest {
        imports: r#"(import "netloom:kernel/log@0.1.0" "write" (func $log (param i32 i32 i32 i32 i32)))"#
            .into(),
        extra: format!(
            "(data (i32.const 0) \"hello\") (func $chat (result i32) (local $n i32) \
             (loop (call $log (i32.const 1) (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 0)) \
             (local.set $n (i32.add (local.get $n) (i32.const 1))) \
             (br_if 0 (i32.lt_u (local.get $n) (i32.const 1000)))) {HEAD})"
        ),
        ..Guest::placing("(call $chat)")
    };
    let plugin = support::load(&support::host(), "chatty", &guest).await;
    assert_eq!(place(&plugin).await, Ok(Answer::Decide(RawPlacement::Head)));
    let entries = entries.0.lock().unwrap();
    assert!((100..200).contains(&entries.len()), "{} of 1,000 entries passed", entries.len());
    assert_eq!(entries[0], r#"WARN message=hello plugin="chatty" fields="""#);
}

#[tokio::test]
async fn config_is_the_operators_table() {
    // It decides `head` if `get("a.b")` is there, else `tail`.
    let guest = Guest {
        imports: r#"(import "netloom:kernel/config@0.1.0" "get" (func $get (param i32 i32 i32)))"#.into(),
        extra: format!(
            "(data (i32.const 0) \"a.b\") (func $ask (result i32) \
             (call $get (i32.const 0) (i32.const 3) (i32.const 512)) \
             (if (i32.load8_u (i32.const 512)) (then (return {HEAD}))) {TAIL})"
        ),
        ..Guest::placing("(call $ask)")
    };
    let host = support::host();
    let mut request = support::request("p", guest.build());
    let without = host.load(request.clone()).await.unwrap();
    request.config.insert("a".to_owned(), serde_json::json!({"b": 1}));
    let with = host.load(request).await.unwrap();
    assert_eq!(place(&without).await, Ok(Answer::Decide(RawPlacement::Tail)));
    assert_eq!(place(&with).await, Ok(Answer::Decide(RawPlacement::Head)));
}

#[tokio::test]
async fn init_is_given_the_configuration() {
    // It traps unless the document has eleven bytes.
    let guest = Guest {
        extra: "(global $len (mut i32) (i32.const 0))".into(),
        ..Guest::placing(TAIL)
            .living(&format!("(if (i32.ne (local.get 1) (i32.const 11)) (then (unreachable))) {OK}"), OK)
    };
    let mut request = support::request("p", guest.build());
    request.config.insert("a".to_owned(), serde_json::json!("bcd"));
    support::host().load(request.clone()).await.unwrap();
    request.config.clear();
    support::host().load(request).await.unwrap_err();
}

#[tokio::test]
async fn a_plugins_store_is_its_own_and_outlives_the_plugin() {
    let kv = Arc::new(MemoryKv::default());
    let host = PluginHost::new(HostConfig { kv: Arc::clone(&kv) as Arc<dyn KvStore>, ..patient() }).unwrap();
    // set("k", "v"), then `head` if that went well.
    let guest = Guest {
        imports: r#"(import "netloom:kernel/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))"#.into(),
        extra: format!(
            "(data (i32.const 0) \"kv\") (func $ask (result i32) \
             (call $set (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 1) (i32.const 512)) \
             (if (i32.eqz (i32.load8_u (i32.const 512))) (then (return {HEAD}))) {TAIL})"
        ),
        ..Guest::placing("(call $ask)")
    };
    let plugin = support::load(&host, "keeper", &guest).await;
    assert_eq!(place(&plugin).await, Ok(Answer::Decide(RawPlacement::Head)));
    drop(plugin);
    assert_eq!(kv.get(&name("keeper"), "k").await.unwrap().as_deref(), Some(b"v".as_slice()));
    assert_eq!(kv.get(&name("other"), "k").await.unwrap(), None);

    let mut poor = LoadRequest::new(name("poor"), guest.build());
    poor.limits = Some(netloom_runtime::Limits { kv_bytes: 1, ..patient().limits });
    let poor = host.load(poor).await.unwrap();
    assert_eq!(place(&poor).await, Ok(Answer::Decide(RawPlacement::Tail)), "beyond its quota");
}

#[tokio::test]
async fn metrics_are_collected_under_the_plugins_name() {
    let guest = Guest {
        imports: r#"(import "netloom:kernel/metrics@0.1.0" "counter-add" (func $add (param i32 i32 i64)))"#
            .into(),
        extra: "(data (i32.const 0) \"asked\")".into(),
        ..Guest::placing(&format!("(call $add (i32.const 0) (i32.const 5) (i64.const 2)) {TAIL}"))
    };
    let host = support::host();
    let plugin = support::load(&host, "counting", &guest).await;
    for _ in 0..3 {
        place(&plugin).await.unwrap();
    }
    assert_eq!(host.metrics().snapshot(), [(name("counting"), "asked".to_owned(), Metric::Counter(6))]);
}

#[tokio::test]
async fn plugins_outlive_the_host_and_stay_within_their_deadline() {
    let plugin = support::load(&support::host(), "p", &Guest::placing(LOOP)).await;
    place(&plugin).await.unwrap_err();
}
