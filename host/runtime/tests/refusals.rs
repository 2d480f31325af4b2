//! What is not a plugin is refused at load, in one sentence that names it and the way out.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use netloom_core::grants::{Access, Grant, Grants};
use netloom_runtime::{Failure, LoadRequest, PluginHost, Refusal};
use support::{Guest, LOOP, OK, TAIL, host, name, request, text_answer};

async fn refusal(component: Vec<u8>) -> Refusal {
    refusal_of(&host(), request("acme", component)).await
}

async fn refusal_of(host: &PluginHost, request: LoadRequest) -> Refusal {
    let error = host.load(request).await.expect_err("it is refused");
    let text = error.to_string();
    assert!(text.starts_with("plugin acme was not loaded: "), "{text}");
    assert!(!text.contains('\n'), "one sentence: {text}");
    error.reason
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn files_that_are_no_component() {
    assert_eq!(refusal(vec![]).await, Refusal::Empty);
    assert_eq!(refusal(b"(component)".to_vec()).await, Refusal::Text);
    assert_eq!(refusal(component("(module)")).await, Refusal::CoreModule);
    assert!(matches!(refusal(b"\x7fELF\x02\x01\x01\0".to_vec()).await, Refusal::NotWasm(_)));
    let whole = Guest::placing(TAIL).build();
    for part in [9, whole.len() / 2, whole.len() - 1] {
        let refusal = refusal(whole[..part].to_vec()).await;
        assert!(matches!(refusal, Refusal::Damaged(_)), "{part}: {refusal}");
    }
    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle..middle + 8].fill(0xff);
    assert!(matches!(refusal(flipped).await, Refusal::Damaged(_)));
}

#[tokio::test]
async fn a_component_over_the_size_limit() {
    let mut request = request("acme", Guest::placing(TAIL).build());
    let limits = netloom_runtime::Limits { component_bytes: 100, ..Default::default() };
    request.limits = Some(limits);
    assert!(matches!(refusal_of(&host(), request).await, Refusal::TooLarge { limit: 100, .. }));
}

#[tokio::test]
async fn imports_that_no_plugin_may_have() {
    let wasi = component(r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#);
    let refused = refusal(wasi).await;
    assert_eq!(refused, Refusal::Wasi("wasi:cli/environment@0.2.0".into()));
    assert!(refused.to_string().contains("wasm32-unknown-unknown"));

    let foreign = component(r#"(component (import "acme:secrets/vault@1.0.0" (instance)))"#);
    let Refusal::UnknownImport { import, .. } = refusal(foreign).await else { panic!("accepted") };
    assert_eq!(import, "acme:secrets/vault@1.0.0");

    let later = component(r#"(component (import "netloom:kernel/log@0.2.0" (instance)))"#);
    let Refusal::UnknownImport { hint, .. } = refusal(later).await else { panic!("accepted") };
    assert!(hint.contains("another version"), "{hint}");
}

#[tokio::test]
async fn a_component_without_hooks() {
    let refused = refusal(component("(component)")).await;
    assert_eq!(refused, Refusal::NoHook { exports: " and nothing else either".into() });
}

#[tokio::test]
async fn hooks_of_another_shape() {
    let other = component(
        r#"(component
            (core module $m (func (export "place")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "place")))
            (instance $hook (export "place" (func $f)) (export "rebalance" (func $f)))
            (export "netloom:policy/attach-order@0.1.0" (instance $hook)))"#,
    );
    assert!(matches!(refusal(other).await, Refusal::Mismatch(_)));
    let half = component(
        r#"(component
            (core module $m (func (export "place")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "place")))
            (instance $hook (export "place" (func $f)))
            (export "netloom:policy/attach-order@0.1.0" (instance $hook)))"#,
    );
    let Refusal::Mismatch(why) = refusal(half).await else { panic!("accepted") };
    assert!(why.contains("rebalance"), "{why}");
}

#[tokio::test]
async fn an_import_of_another_shape() {
    let other = component(
        r#"(component (import "netloom:kernel/log@0.1.0" (instance (export "write" (func (param "x" u32)))))
            (core module $m (func (export "place")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "place")))
            (instance $hook (export "place" (func $f)) (export "rebalance" (func $f)))
            (export "netloom:policy/attach-order@0.1.0" (instance $hook)))"#,
    );
    let Refusal::Mismatch(why) = refusal(other).await else { panic!("accepted") };
    assert!(why.contains("log"), "{why}");
}

#[tokio::test]
async fn a_plugin_that_refuses_its_configuration() {
    let refusing = Guest::placing(TAIL).living(&text_answer(1, "no such owner"), OK);
    assert_eq!(refusal(refusing.build()).await, Refusal::Init("no such owner".into()));
}

#[tokio::test]
async fn a_plugin_that_is_unhealthy_from_the_start() {
    let ill = Guest::placing(TAIL).living(OK, &text_answer(1, "no licence"));
    assert_eq!(refusal(ill.build()).await, Refusal::Unhealthy("no licence".into()));
}

#[tokio::test]
async fn a_plugin_that_does_not_come_up() {
    let trapping = Guest::placing(TAIL).living("(unreachable)", OK);
    assert!(matches!(refusal(trapping.build()).await, Refusal::Start(Failure::Trap(_))));

    let endless = Guest::placing(TAIL).living(LOOP, OK);
    let limit = Duration::from_millis(500);
    assert_eq!(refusal(endless.build()).await, Refusal::Start(Failure::Deadline(limit)));

    let endless_start =
        Guest { extra: "(func $start (loop (br 0))) (start $start)".into(), ..Guest::placing(TAIL) };
    assert_eq!(refusal(endless_start.build()).await, Refusal::Start(Failure::Deadline(limit)));

    let huge = Guest { pages: 10_000, ..Guest::placing(TAIL) };
    let refused = refusal(huge.build()).await;
    assert!(matches!(refused, Refusal::Start(Failure::Limit(..))), "{refused}");
}

#[tokio::test]
async fn operations_need_a_grant() {
    let sockets = Guest {
        imports: r#"(import "netloom:kernel/datapath@0.1.0" "services" (func $services (param i32)))"#.into(),
        ..Guest::placing(TAIL)
    };
    let host = host();
    let inspection = host.inspect(sockets.build()).await.unwrap();
    assert_eq!(inspection.grants, [Grant::Datapath]);
    let refused = refusal_of(&host, request("acme", sockets.build())).await;
    assert!(matches!(refused, Refusal::MissingGrant { grant: Grant::Datapath, .. }));
    assert!(refused.to_string().contains("netloom:kernel/datapath@0.1.0 without the grant `datapath`"));
    let granted = LoadRequest {
        grants: Grants::everything(Grant::Datapath, Access::Mutate),
        ..LoadRequest::new(name("acme"), sockets.build())
    };
    // Nobody here carries operations out, so even a granted plugin is refused: nothing is stubbed.
    assert!(matches!(refusal_of(&host, granted).await, Refusal::NotOffered { .. }));
}

#[tokio::test]
async fn an_inspection_tells_what_a_component_is() {
    let guest = Guest::placing(TAIL).living(OK, OK).build();
    let inspection = host().inspect(guest.clone()).await.unwrap();
    let hooks: Vec<&str> = inspection.hooks.iter().map(|hook| hook.as_str()).collect();
    assert_eq!(hooks, ["attach-order", "lifecycle"]);
    assert_eq!(inspection.size, guest.len() as u64);
    assert_eq!(inspection.digest.len(), 64);
    assert!(inspection.grants.is_empty());
    assert_eq!(host().inspect(b"text".to_vec()).await, Err(Refusal::Text));
}
