//! `netloom plugin …`, as far as it is about the plugins of a node.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use netloom_api::types::{AuditEntry, Done, PluginInspection, PluginVersion, PluginView, ReloadReport};
use netloom_netns_tests::{Endpoint, Node, ObjectFile, shown::link};
use netloom_test_components::{CUSTOM_POLICY, NODE_OPERATOR};
use serde_json::{Value, json};

use crate::{
    SOON,
    session::{Covered, Session, both, text},
};

pub(crate) const COVERS: &[Covered] = &[
    both("plugin abandon"),
    both("plugin audit"),
    both("plugin inspect"),
    both("plugin list"),
    both("plugin load"),
    both("plugin promote"),
    text("plugin record"),
    both("plugin reload"),
    both("plugin rollback"),
    both("plugin unload"),
    both("plugin versions"),
];

const PATIENT: &str = "--limit deadline_ms=60000 --limit init_deadline_ms=60000";

fn attached_by(node: &Node, web: &Endpoint, owner: &str) -> String {
    let object = ObjectFile::of(netloom_test_programs::PASS);
    let request = json!({ "device": web.device(), "object": object.path(), "owner": owner });
    node.attach(request).unwrap().decided_by
}

fn plugin(node: &Node, name: &str) -> PluginView {
    node.daemon.get(&format!("/v1/plugins/{name}")).unwrap()
}

#[test]
fn plugins_are_loaded_replaced_tried_out_and_unloaded() {
    let node = Node::configured("[plugins]\ndeadline_ms = 60000\nhealth_seconds = 1\n");
    let web = node.endpoint("web");
    let netloom = Session::on(&node, COVERS);
    netloom.write("policy.wasm", CUSTOM_POLICY);
    // It does the same and has another digest: there is one more custom section.
    netloom.write("new.wasm", [CUSTOM_POLICY, b"\x00\x05\x04note"].concat());

    let said = netloom.table("plugin load", &format!("policy.wasm --config first=acme/firewall {PATIENT}"));
    assert!(said.contains("policy") && said.contains("active"), "{said}");
    assert_eq!(attached_by(&node, &web, "acme/firewall"), "policy");
    let first = plugin(&node, "policy").digest;
    let inspected: PluginInspection = netloom.json("plugin inspect", "./new.wasm");
    assert!(inspected.hooks.contains(&"attach-order".to_owned()), "{inspected:?}");
    let second = inspected.digest;
    assert!(netloom.table("plugin inspect", "policy").contains(&first), "the plugin that is loaded");
    let listed: Vec<PluginView> = netloom.json("plugin list", "");
    assert_eq!((listed[0].name.as_str(), &listed[0].digest), ("policy", &first));
    let said = netloom.table("plugin list", "");
    assert!(said.find("policy") < said.find("attach-order"), "in the order in which they are asked: {said}");

    let dry: ReloadReport = netloom.json("plugin reload", "policy new.wasm --dry-run");
    assert_eq!((dry.outcome.as_str(), &dry.digest), ("dry run", &second));
    assert_eq!(plugin(&node, "policy").digest, first, "a dry run changed something");
    netloom.table("plugin reload", "policy new.wasm");
    assert_eq!(plugin(&node, "policy").digest, second);
    let versions: Vec<PluginVersion> = netloom.json("plugin versions", "policy");
    let versions: Vec<_> = versions.iter().map(|it| (it.digest.as_str(), it.serving)).collect();
    assert_eq!(versions, [(first.as_str(), false), (second.as_str(), true)]);
    let said = netloom.table("plugin versions", "policy");
    assert!(said.contains(&first[..12]) && said.contains(&second[..12]), "{said}");
    let back: ReloadReport = netloom.json("plugin rollback", "policy");
    assert_eq!((&back.digest, &plugin(&node, "policy").digest), (&first, &first));
    netloom.table("plugin rollback", &format!("policy --to {}", &second[..12]));
    assert_eq!(plugin(&node, "policy").digest, second);

    // Each trial is of the version that does not serve.
    let tried = |file: &str| {
        let report: ReloadReport = netloom.json("plugin reload", &format!("policy {file} --shadow"));
        assert_eq!(report.outcome, "trial");
        assert_eq!(plugin(&node, "policy").trial.unwrap().digest, report.digest);
    };
    tried("policy.wasm");
    netloom.table("plugin promote", "policy");
    assert_eq!((plugin(&node, "policy").digest, plugin(&node, "policy").trial), (first, None));
    tried("new.wasm");
    let promoted: PluginView = netloom.json("plugin promote", "policy");
    assert_eq!((&promoted.digest, &plugin(&node, "policy").digest), (&second, &second));
    tried("policy.wasm");
    netloom.table("plugin abandon", "policy");
    tried("policy.wasm");
    let abandoned: PluginView = netloom.json("plugin abandon", "policy");
    // It may have been asked for its health meanwhile.
    assert_eq!(
        PluginView { calls: 0, ..abandoned.clone() },
        PluginView { calls: 0, ..plugin(&node, "policy") }
    );
    assert_eq!((abandoned.digest, abandoned.trial), (second, None));

    let recorded: Vec<Value> =
        serde_json::from_str(&netloom.table("plugin record", "--name policy")).unwrap();
    assert!(!recorded.is_empty() && recorded.iter().all(|it| it["question"].is_object()), "{recorded:?}");

    acts(&node, &web, &netloom);

    netloom.table("plugin unload", "policy");
    let done: Done = netloom.json("plugin unload", "operator");
    assert_eq!(done.warnings, Vec::<String>::new());
    let left: Vec<PluginView> = netloom.json("plugin list", "");
    assert!(left.iter().all(|plugin| plugin.bundled), "{left:?}");
    assert_eq!(attached_by(&node, &web, "acme/firewall"), "attach-order");
}

/// A plugin with a grant, which sets an MTU, and of which that is known.
fn acts(node: &Node, web: &Endpoint, netloom: &Session) {
    let grants = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/node-operator/grants.toml");
    netloom.write("operator.wasm", NODE_OPERATOR);
    let load = format!("operator.wasm --config mtu=1400 --grant {} {PATIENT}", grants.display());
    let view: PluginView = netloom.json("plugin load", &load);
    assert_eq!(view.grants.iter().count(), 1, "{view:?}");
    let started = Instant::now();
    while link(&web.netns, "eth0")["mtu"] != 1_400 {
        assert!(started.elapsed() < 6 * SOON, "it does nothing:\n{}", node.daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let trail: Vec<AuditEntry> = netloom.json("plugin audit", "operator");
    let done = |it: &AuditEntry| it.operation == "devices.set-mtu" && it.outcome == "done";
    assert!(trail.iter().any(done), "{trail:?}");
    assert!(netloom.table("plugin audit", "operator --last 5").contains("devices.set-mtu"));
}
