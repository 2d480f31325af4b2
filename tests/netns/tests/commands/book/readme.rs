//! README.md.

use std::{io::ErrorKind, path::Path};

use netloom_core::model::Feature;
use serde_json::{Value, json};

use super::{VIP, lab::Lab};
use crate::{SOON, spoofing::while_spoofing};

#[test]
fn readme() {
    let mut lab = Lab::of("README.md");
    lab.set("CARGO_TARGET_DIR", env!("CARGO_TARGET_TMPDIR"));
    lab.replace(VIP, "10.96.53.10");
    lab.section("See it");
    lab.section("Test it");

    // The first plugin, on a node whose endpoint is there already. The pool's first address is for another: an address
    // rests before it is given again.
    let web = lab.endpoint("web", &json!({ "addresses": ["10.210.200.2"] }));
    lab.file("flows.bpf.o", netloom_test_programs::OBSERVER);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/observer-first");
    let component = "target/plugins/netloom-example-observer-first.wasm";
    lab.file(component, "");
    lab.prepare(&format!("netloom plugin build {} --out {component}", example.display()));
    let said = lab.section("A first plugin");
    assert!(said.contains("observer-first") && said.contains("acme/flows"), "{said}");
    lab.node.delete("web").unwrap();
    drop(web);

    // The operator's commands, on a node on which nothing is.
    let netns = lab.namespace("/run/netns/web");
    lab.those(&["netloomd &", "netloom endpoint add web"]);
    assert!(netns.can_ping([192, 0, 2, 1]), "the endpoint does not reach the node");
    let echo = netns.tcp_echo("10.210.0.2:8080");
    let client = lab.endpoint("client", &Value::Null);
    lab.those(&["netloom service add shop"]);
    let reader = client.netns.blocked_reader("10.96.53.10:80".parse().unwrap());
    lab.those(&["netloom backend remove shop"]);
    assert_eq!(reader.error_within(SOON).kind(), ErrorKind::ConnectionAborted);
    drop(echo);
    let said = lab.those(&["netloom chain show"]);
    assert!(said.contains("nl_from_endpoin"), "{said}");
    // It goes on until it is ended, or until there were as many drops as it is told here.
    let monitor = lab.find("netloom monitor");
    let said = while_spoofing(&client, || lab.command_with(&monitor, "--count 1"));
    assert!(said.contains("spoofed"), "{said}");
    let migrate = lab.find("netloom endpoint migrate");
    if lab.has(Feature::NetkitLinks) {
        lab.command(&migrate);
    } else {
        lab.refused(&migrate, "netkit");
    }
    lab.those(&["netloom doctor"]);
}
