use std::time::{Duration, Instant};

use netloom_api::types::{AttachAnswer, Decision, Done, PluginInspection, PluginView};
use serde_json::{Value, json};

use netloom_netns_tests::{Endpoint, Node, ObjectFile, refusal};

use crate::{patient_limits, patient_node};

/// A file of a folder of its own.
pub(crate) struct Component {
    folder: tempfile::TempDir,
    name: String,
}

impl Component {
    pub(crate) fn of(name: &str, bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), bytes).unwrap();
        Self { folder, name: name.to_owned() }
    }

    pub(crate) fn path(&self) -> String {
        self.folder.path().join(&self.name).to_str().unwrap().to_owned()
    }
}

pub(crate) fn load(node: &Node, body: Value) -> Result<PluginView, netloom_api::ClientError> {
    node.daemon.post("/v1/plugins", &body)
}

fn attach(node: &Node, to: &Endpoint, owner: &str) -> AttachAnswer {
    let object = ObjectFile::of(netloom_test_programs::PASS);
    node.attach(json!({ "device": to.device(), "object": object.path(), "owner": owner })).unwrap()
}

#[test]
fn a_plugin_loaded_at_run_time_decides_first_survives_a_restart_and_can_be_unloaded() {
    let mut node = patient_node();
    let web = node.endpoint("web");
    let component = Component::of("policy.wasm", netloom_test_components::CUSTOM_POLICY);
    let body = json!({ "name": "policy", "path": component.path(), "config": { "first": "acme/firewall" }, "limits": patient_limits() });
    assert_eq!(load(&node, body).unwrap().state, "active");
    drop(component);
    assert_eq!(attach(&node, &web, "acme/firewall").decided_by, "policy");
    assert_eq!(attach(&node, &web, "acme/other").decided_by, "attach-order");

    node.daemon.kill9();
    node.daemon.restart();
    let answer = attach(&node, &web, "acme/firewall");
    assert_eq!(answer.decided_by, "policy");
    assert_eq!(answer.chain.entries[0].attachment.as_ref(), Some(&answer.attachment.id));

    let _: Done = node.daemon.delete("/v1/plugins/policy").unwrap();
    assert_eq!(attach(&node, &web, "acme/firewall").decided_by, "attach-order");
    let (status, _, _) = refusal(node.daemon.delete::<Done>("/v1/plugins/policy"));
    assert_eq!(status, 404);
}

#[test]
fn what_is_no_plugin_is_refused_in_words_and_the_others_go_on() {
    let node = patient_node();
    let whole = netloom_test_components::CUSTOM_POLICY;
    for (name, bytes, word) in [
        ("truncated.wasm", &whole[..whole.len() / 2], "truncated"),
        ("core.wasm", b"\0asm\x01\0\0\0".as_slice(), "core Wasm module"),
        ("empty.wasm", b"", "empty"),
        ("text.wasm", b"(component)", "text"),
        ("other.wasm", b"\x7fELF\x02\x01\x01\0\0\0\0\0", "not WebAssembly"),
        ("hookless.wasm", b"\0asm\x0d\0\x01\0", "exports no hook"),
    ] {
        let component = Component::of(name, bytes);
        let (status, error, _) = refusal(load(&node, json!({ "path": component.path() })));
        assert_eq!(status, 422, "{error}");
        assert!(error.contains(word), "{name}: {error}");
    }
    let component = Component::of("policy.wasm", whole);
    let (_, error, _) = refusal(load(&node, json!({ "path": component.path(), "config": { "frist": "x" } })));
    assert!(error.contains("frist"), "{error}");
    let (_, error, _) = refusal(load(&node, json!({ "path": "/nonexistent.wasm" })));
    assert!(error.contains("/nonexistent.wasm"), "{error}");
    let (_, error, _) = refusal(load(&node, json!({ "name": "attach-order", "path": component.path() })));
    assert!(error.contains("bundled"), "{error}");
    let names: Vec<_> = node.status().plugins.iter().map(|plugin| plugin.name.to_string()).collect();
    assert_eq!(names, ["attach-order", "datapath-mode", "socket-reap"]);
}

#[test]
fn a_plugin_that_traps_is_passed_over_quarantined_and_explained() {
    let node = patient_node();
    let web = node.endpoint("web");
    let component = Component::of("bad.wasm", netloom_test_components::MISBEHAVING);
    for error in [
        "plugin=bad why=\"trapped: it panicked",
        "plugin=bad why=\"ran past its deadline of 100 ms",
        "plugin=bad why=\"wanted more than 16777216 bytes",
        "plugin=bad why=\"trapped: it reached outside its memory",
        "plugin=bad why=\"gave a bad answer",
        "the plugin failed too often and is quarantined plugin=\"bad\"",
    ] {
        node.daemon.expect_error(error);
    }
    for what in ["trap", "loop", "memory-bomb", "recurse", "unknown-entry"] {
        let config = json!({ "in": "place", "do": what });
        let limits = json!({ "deadline_ms": 100, "init_deadline_ms": 60_000 });
        let body = json!({ "name": "bad", "path": component.path(), "config": config, "limits": limits });
        load(&node, body).unwrap();
        assert_eq!(attach(&node, &web, "acme/firewall").decided_by, "attach-order", "{what}");
        let view: PluginView = node.daemon.get("/v1/plugins/bad").unwrap();
        assert_eq!(view.failures, 1, "{what}: {view:?}");
        let decisions: Vec<Decision> = node.daemon.get("/v1/decisions").unwrap();
        let step = &decisions.last().unwrap().steps[0];
        assert_eq!(step.plugin.as_str(), "bad", "{what}");
        assert!(!step.answer.is_empty(), "{what}");
    }
    let metrics = node.daemon.netloom(&["metrics"]).expect_ok();
    assert!(metrics.contains("netloom_plugin_failures_total{plugin=\"bad\"} 5"), "{metrics}");

    // The last one goes on failing each time its pause is over, until it is put in quarantine.
    let start = Instant::now();
    loop {
        let answer = attach(&node, &web, "acme/firewall");
        let _: Done = node.daemon.delete(&format!("/v1/attachments/{}", answer.attachment.id)).unwrap();
        let view: PluginView = node.daemon.get("/v1/plugins/bad").unwrap();
        if view.state == "quarantined" {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(240), "{view:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let doctor = node.daemon.netloom(&["doctor"]);
    assert!(doctor.stdout.contains("plugin bad"), "{}", doctor.stdout);
}

#[test]
fn a_component_can_be_inspected_without_loading_it() {
    let node = patient_node();
    let component = Component::of("policy.wasm", netloom_test_components::CUSTOM_POLICY);
    let seen: PluginInspection =
        node.daemon.post("/v1/plugins/inspect", &json!({ "path": component.path() })).unwrap();
    assert_eq!(seen.hooks, ["attach-order", "socket-reap", "lifecycle"]);
    assert!(seen.imports.iter().all(|import| import.starts_with("netloom:kernel/")), "{:?}", seen.imports);
    assert!(seen.grants.is_empty());
    assert_eq!(node.status().plugins.len(), 3);
}
