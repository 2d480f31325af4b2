//! The chapters on operating plugins and on what they may do themselves.

use netloom_netns_tests::{Endpoint, ObjectFile};
use netloom_test_components::{CUSTOM_POLICY, OPERATING};
use serde_json::{Value, json};

use super::{lab::Lab, root};

fn attach(lab: &Lab, to: &Endpoint) {
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    let request = json!({ "device": to.device(), "object": object.path(), "owner": "acme/firewall" });
    lab.node.attach(request).unwrap();
}

#[test]
fn grants() {
    let lab = Lab::of("docs/plugins/grants.md");
    lab.file("operator.wasm", OPERATING);
    // The page's own file, with what it names in this folder, and the one operation more that this plugin imports.
    let page = std::fs::read_to_string(root().join("docs/plugins/grants.md")).unwrap();
    let file = page.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    assert!(file.starts_with("# operator-grants.toml"), "{file}");
    let object = lab.file("flows.bpf.o", netloom_test_programs::OBSERVER);
    let reports = lab.file("reports/first", "");
    let file = file
        .replace("/usr/lib/acme/flows.bpf.o", object.to_str().unwrap())
        .replace("/var/lib/acme/reports", reports.parent().unwrap().to_str().unwrap());
    lab.file("operator-grants.toml", file + "[datapath]\nendpoints = []\nservices = []\n");
    let said = lab.all();
    assert!(said.contains("links: mutate nl* in node for acme/*"), "{said}");
}

#[test]
fn operating() {
    let lab = Lab::of("docs/plugins/operating.md");
    let web = lab.endpoint("web", &Value::Null);
    lab.file("policy.wasm", CUSTOM_POLICY);
    lab.file("new.wasm", [CUSTOM_POLICY, b"\x00\x05\x04note"].concat());
    lab.prepare("netloom plugin load policy.wasm --limit init_deadline_ms=60000");
    attach(&lab, &web);
    let said = lab.all();
    assert!(said.contains(" 0 answered otherwise") && !said.contains("\n0 decisions"), "{said}");
}
