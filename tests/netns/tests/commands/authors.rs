//! `netloom plugin …`, as far as it is for authors: a plugin from its first line over a registry to a node.

use std::path::Path;

use netloom_api::types::{AttachAnswer, PluginView};
use netloom_netns_tests::ObjectFile;
use netloom_test_support::Registry;
use serde_json::json;

use crate::session::{Covered, Session, text};

pub(crate) const COVERS: &[Covered] = &[
    text("plugin bench"),
    text("plugin build"),
    text("plugin bundle create"),
    text("plugin bundle extract"),
    text("plugin keygen"),
    text("plugin new"),
    text("plugin pull"),
    text("plugin push"),
    text("plugin replay"),
    text("plugin run"),
    text("plugin setup"),
    text("plugin sign"),
    text("plugin test"),
    text("plugin verify"),
];

#[test]
fn a_plugin_goes_from_its_first_line_over_a_registry_to_a_node() {
    let Some(registry) = Registry::start("", &[]) else { return };
    let node = crate::patient_node();
    let cache = tempfile::tempdir().unwrap();
    let netloom = Session::on(&node, COVERS)
        .with("NETLOOM_CACHE", cache.path())
        .with("DOCKER_CONFIG", cache.path())
        .with("NETLOOM_SDK", Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/rust"))
        // The standard library for Wasm is built once for all runs of such tests.
        .with("CARGO_TARGET_DIR", env!("CARGO_TARGET_TMPDIR"));

    netloom.table("plugin setup", "--lang rust");
    netloom.table("plugin new", "policy --lang rust");
    netloom.table("plugin build", "policy --out policy.wasm");
    let component = netloom.read("policy.wasm");
    assert!(component.starts_with(b"\0asm"), "that is no component");
    assert!(netloom.table("plugin test", "policy.wasm --scenarios policy/scenarios").contains(" 0 failed"));
    let said = netloom.table("plugin run", "policy.wasm --question policy/scenarios/observer.json");
    assert!(said.contains("\"head\""), "{said}");
    assert!(netloom.table("plugin bench", "policy.wasm --rounds 10").contains("start an instance"));

    let name = registry.name("acme/policy:1");
    let pinned = netloom.table("plugin push", &format!("policy.wasm {name} --plain-http"));
    let pinned = pinned.trim();
    netloom.table("plugin keygen", "acme");
    let unsigned = netloom.run("plugin verify", &format!("{name} --key acme.pub --plain-http"));
    assert_eq!(unsigned.code, Some(1), "{unsigned:?}");
    netloom.table("plugin sign", &format!("{pinned} --key acme.key --plain-http"));
    netloom.table("plugin verify", &format!("{name} --key acme.pub --plain-http"));
    netloom.table("plugin pull", &format!("{name} --verify-key acme.pub --output pulled.wasm --plain-http"));
    assert_eq!(netloom.read("pulled.wasm"), component);
    netloom.table("plugin bundle create", &format!("plugins.tar {pinned} --plain-http"));
    std::fs::remove_dir_all(cache.path()).unwrap();
    netloom.table("plugin bundle extract", "plugins.tar");
    drop(registry);

    // Without a registry, and by the proof that was in the bundle.
    let load = format!("oci://{pinned} --verify-key acme.pub --limit init_deadline_ms=60000 --output json");
    let view: PluginView = serde_json::from_str(&netloom.run("plugin load", &load).expect_ok()).unwrap();
    assert_eq!((view.name.as_str(), view.state.as_str()), ("policy", "active"));
    let web = node.endpoint("web");
    let object = ObjectFile::of(netloom_test_programs::PASS);
    let labels = json!({ "role": "observer" });
    let request =
        json!({ "device": web.device(), "object": object.path(), "owner": "acme/flows", "labels": labels });
    let answer: AttachAnswer = node.attach(request).unwrap();
    assert_eq!(answer.decided_by, "policy");
    let recorded = netloom.run("plugin record", "--name policy").expect_ok();
    netloom.write("decisions.json", recorded);
    let said = netloom.table("plugin replay", "policy.wasm decisions.json --against policy");
    assert!(said.contains(" 0 answered otherwise") && !said.starts_with("0 decisions"), "{said}");
}
