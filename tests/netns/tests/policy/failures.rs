//! Plugins that fail while they serve: who decides then, what operators are told, and until when.

use std::path::Path;

use netloom_api::types::{Decision, Done, PluginView};
use netloom_test_support::Netns;
use serde_json::{Value, json};

use netloom_netns_tests::{Node, ObjectFile};

use crate::{
    patient_limits, patient_node,
    plugins::{Component, load},
    reloading::until,
};

/// The plugin `bad`, which does this in this hook.
fn misbehave(node: &Node, component: &Component, hook: &str, what: &str, limits: Value) -> PluginView {
    let config = json!({ "in": hook, "do": what });
    let body = json!({ "name": "bad", "path": component.path(), "config": config, "limits": limits });
    load(node, body).unwrap()
}

fn last_decision(node: &Node, hook: &str) -> Decision {
    let mut decisions: Vec<Decision> = node.daemon.get("/v1/decisions").unwrap();
    decisions.retain(|decision| decision.hook == hook);
    decisions.pop().unwrap()
}

/// Attaches a program and detaches it again, so that where it goes is asked once: by whom it was decided.
fn ask_for_a_place(node: &Node, device: &str) -> String {
    let object = ObjectFile::of(netloom_test_programs::PASS);
    let request = json!({ "device": device, "object": object.path(), "owner": "acme/firewall" });
    let attachment = node.attach(request).unwrap().attachment;
    let _: Done = node.daemon.delete(&format!("/v1/attachments/{}", attachment.id)).unwrap();
    attachment.decided_by
}

/// What the log says of such a failure of the plugin.
fn failed(reason: &str) -> String {
    format!("a plugin failed; the others go on plugin=bad why=\"{reason}")
}

#[test]
fn a_failing_mode_plugins_last_good_answer_holds_for_endpoints_alike_and_the_built_in_one_for_others() {
    let node = Node::configured("[plugins]\nbundled = false\ndeadline_ms = 60000\n");
    for reason in ["trapped", "gave a bad answer", "ran past its deadline of 100 ms"] {
        node.daemon.expect_error(&failed(reason));
    }
    let component = Component::of("bad.wasm", netloom_test_components::MISBEHAVING);
    let add = |name: &str, mac: Option<&str>| {
        let netns = Netns::new(name);
        let view = node.add(json!({ "name": name, "netns": netns.path(), "mac": mac })).unwrap();
        (last_decision(&node, "datapath-mode").decided_by, view.device.unwrap().mtu, netns)
    };
    misbehave(&node, &component, "choose", "small-mtu", patient_limits());
    let (by, mtu, _good) = add("good", None);
    assert_eq!((by.as_str(), mtu), ("bad", 1_400));

    for (number, what) in ["trap", "mtu-zero", "loop"].into_iter().enumerate() {
        let limits = json!({ "deadline_ms": 100, "init_deadline_ms": 60_000 });
        misbehave(&node, &component, "choose", what, limits);
        let (by, mtu, _alike) = add(&format!("alike{number}"), None);
        assert_eq!((by.as_str(), mtu), ("last good answer", 1_400), "{what}");
        let (by, mtu, _other) = add(&format!("other{number}"), Some(&format!("02:00:00:00:00:0{number}")));
        assert_eq!((by.as_str(), mtu), ("built-in", 1_500), "{what}");
    }
    // One that has no opinion has not failed.
    misbehave(&node, &component, "choose", "nothing", patient_limits());
    let (by, mtu, _without) = add("without", None);
    assert_eq!((by.as_str(), mtu), ("built-in", 1_500));
}

#[test]
fn another_plugin_decides_before_the_last_good_answer_does() {
    let node = patient_node();
    node.daemon.expect_error(&failed("trapped"));
    let component = Component::of("bad.wasm", netloom_test_components::MISBEHAVING);
    misbehave(&node, &component, "choose", "small-mtu", patient_limits());
    let first = node.endpoint("first");
    assert_eq!(first.view.device.as_ref().unwrap().mtu, 1_400);
    misbehave(&node, &component, "choose", "trap", patient_limits());
    let second = node.endpoint("second");
    assert_eq!(second.view.device.as_ref().unwrap().mtu, 1_500);
    assert_eq!(last_decision(&node, "datapath-mode").decided_by, "datapath-mode");
}

/// What the book says of each reason, with N for a number.
fn reasons_of_the_book() -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(here.join("../../docs/plugins/debugging.md")).unwrap()
}

#[test]
fn each_limit_holds_and_each_reason_for_a_pause_is_told_in_the_words_of_the_book() {
    let node = patient_node();
    let web = node.endpoint("web");
    let component = Component::of("bad.wasm", netloom_test_components::MISBEHAVING);
    let book = reasons_of_the_book();
    let cases = [
        ("loop", json!({ "deadline_ms": 100 }), "ran past its deadline of 100 ms"),
        ("loop", json!({ "deadline_ms": 300 }), "ran past its deadline of 300 ms"),
        ("trap", json!({}), "trapped: it panicked or aborted (unreachable code)"),
        ("panic", json!({}), "trapped: it panicked or aborted (unreachable code)"),
        ("recurse", json!({}), "trapped: it reached outside its memory ("),
        (
            "memory-bomb",
            json!({ "memory_mib": 8 }),
            "wanted more than 8388608 bytes of memory, and then failed: ",
        ),
        ("memory-bomb", json!({}), "wanted more than 16777216 bytes of memory, and then failed: "),
        (
            "host-calls",
            json!({ "host_calls": 500 }),
            "called the host more than 500 times in one call, and then failed: ",
        ),
        ("unknown-entry", json!({}), "gave a bad answer"),
    ];
    let mut wrong = Vec::new();
    for (what, limits, reason) in cases {
        node.daemon.expect_error(&failed(reason));
        let mut all = patient_limits();
        all.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        misbehave(&node, &component, "place", what, all);
        assert_eq!(ask_for_a_place(&node, web.device()), "attach-order", "{what}");
        let told = last_decision(&node, "attach-order").steps.remove(0);
        if told.plugin.as_str() != "bad" || !told.answer.contains(reason) {
            wrong.push(format!("{what}: {told:?}"));
        }
        let number: String = reason.chars().filter(char::is_ascii_digit).collect();
        let written = if number.is_empty() { reason.to_owned() } else { reason.replace(&number, "N") };
        assert!(book.contains(written.trim_end()), "the book has no {written:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn five_failures_in_a_minute_put_a_plugin_in_quarantine_until_it_is_loaded_again() {
    let node = patient_node();
    node.daemon.expect_error(&failed("trapped"));
    node.daemon.expect_error("the plugin failed too often and is quarantined plugin=\"bad\"");
    let web = node.endpoint("web");
    let component = Component::of("bad.wasm", netloom_test_components::MISBEHAVING);
    misbehave(&node, &component, "place", "trap", patient_limits());
    let view = || node.daemon.get::<PluginView>("/v1/plugins/bad").unwrap();
    until("it is never put in quarantine", || {
        assert_eq!(ask_for_a_place(&node, web.device()), "attach-order");
        view().state == "quarantined"
    });
    assert_eq!(view().failures, 5);
    for _ in 0..3 {
        ask_for_a_place(&node, web.device());
    }
    assert_eq!(view().failures, 5, "it is asked in quarantine");
    let told = last_decision(&node, "attach-order").steps.remove(0);
    assert!(told.answer.contains("quarantine"), "{told:?}");
    let reason = "trapped: it panicked or aborted (unreachable code)";
    for words in [&["plugin", "list"][..], &["plugin", "inspect", "bad"], &["doctor"], &["status"]] {
        let shown = node.daemon.netloom(words).stdout;
        let one_line = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(one_line.contains("quarantine") && one_line.contains(reason), "{words:?}: {shown}");
    }
    assert!(node.daemon.log().contains(reason), "{}", node.daemon.log());
    let others: Vec<PluginView> = node.daemon.get("/v1/plugins").unwrap();
    assert!(
        others.iter().filter(|plugin| plugin.name.as_str() != "bad").all(|plugin| plugin.state == "active")
    );

    let again = misbehave(&node, &component, "place", "trap", patient_limits());
    assert_eq!((again.state.as_str(), again.reason), ("active", None), "not mended, and released");
    ask_for_a_place(&node, web.device());
    let asked = view();
    assert_eq!(asked.failures, 1, "it is asked again");
    // The first pause may be over when it is looked at; each is longer than the one before.
    until("it has no pause", || {
        let asked = view();
        assert_ne!(asked.state, "quarantined");
        asked.state == "backoff" || {
            ask_for_a_place(&node, web.device());
            view().state == "backoff"
        }
    });
    misbehave(&node, &component, "place", "nothing", patient_limits());
    ask_for_a_place(&node, web.device());
    assert_eq!((view().state.as_str(), view().failures), ("active", 0));
}
