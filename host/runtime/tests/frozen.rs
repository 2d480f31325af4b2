//! Plugins that were built when their interfaces were published, and never since: they load and answer as they did.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use netloom_core::{
    answer::{Answer, RawPlacement},
    grants::{Access, Grant, Grants},
    model::{DeviceMode, EndpointSpec, NetnsId, ReapAction},
};
use netloom_runtime::{
    EmptyNode, EndpointFacts, Failure, Health, HostConfig, LoadError, LoadRequest, Operations, Plugin,
    PluginHost, Refusal, hex_digest,
};
use serde_json::{Value, json};
use support::{candidate, capabilities, chain, event, name, node, patient, place, socket, suspects};

/// Each of them has a test below.
const PLUGINS: [&str; 7] = [
    "attach-order",
    "custom-policy",
    "datapath-mode",
    "misbehaving",
    "node-operator",
    "operating",
    "socket-reap",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/plugins/frozen/0.1.0")
}

fn component(which: &str) -> Vec<u8> {
    std::fs::read(folder().join(which).with_extension("wasm")).unwrap()
}

async fn load(which: &str, config: Value) -> Result<Plugin, LoadError> {
    let operations = Some(Arc::new(EmptyNode) as Arc<dyn Operations>);
    let host = PluginHost::new(HostConfig { operations, ..patient() }).unwrap();
    let everything = |grants: Grants, grant| grants.and(Grants::everything(grant, Access::Mutate));
    let grants = Grant::ALL.into_iter().fold(Grants::none(), everything);
    let config = config.as_object().unwrap().clone();
    host.load(LoadRequest { config, grants, ..LoadRequest::new(name(which), component(which)) }).await
}

#[test]
fn they_are_the_bytes_that_were_published() {
    let sums = std::fs::read_to_string(folder().join("SHA256SUMS")).unwrap();
    let listed: BTreeSet<(String, String)> = sums
        .lines()
        .map(|line| line.split_once("  ").unwrap())
        .map(|(digest, file)| (file.to_owned(), digest.to_owned()))
        .collect();
    let here = PLUGINS.map(|which| (format!("{which}.wasm"), hex_digest(&component(which))));
    assert_eq!(listed, BTreeSet::from(here), "a frozen component is never built again: restore it");
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let components = files.filter(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    assert_eq!(components.count(), PLUGINS.len(), "each has a test");
}

#[tokio::test]
async fn one_that_orders_chains_answers() {
    let plugin = load("attach-order", json!({})).await.unwrap();
    let capabilities = capabilities();
    let here = chain(&[Some(("acme/firewall", 10)), Some(("netloom/datapath", 0))]);
    let answer = plugin.place(node(&capabilities), &here, &candidate("acme/probe")).await.unwrap();
    assert!(matches!(answer, Answer::Decide(_)), "{answer:?}");
    let order = plugin.rebalance(node(&capabilities), &here).await.unwrap();
    assert!(!matches!(order, Answer::Veto(_)), "{order:?}");
    assert_eq!(plugin.health().await, Ok(Health::Healthy));
}

#[tokio::test]
async fn one_that_chooses_modes_answers() {
    let plugin = load("datapath-mode", json!({})).await.unwrap();
    let spec = EndpointSpec { virtual_machine: true, ..EndpointSpec::plain(name("blue"), "/run/netns/blue") };
    let addresses = ["10.0.0.2/32".parse().unwrap()];
    let facts = EndpointFacts { spec: &spec, netns: NetnsId { device: 4, inode: 9 }, addresses: &addresses };
    let Answer::Decide(mode) = plugin.choose(node(&capabilities()), facts).await.unwrap() else {
        panic!("it decides")
    };
    assert_eq!(mode.device, DeviceMode::NetkitL2);
}

#[tokio::test]
async fn one_that_plans_reaps_answers() {
    let plugin = load("socket-reap", json!({ "grace_ms": 7 })).await.unwrap();
    let answer = plugin.plan(node(&capabilities()), &event(&["10.0.0.1:80"])).await.unwrap();
    let Answer::Decide(plan) = answer else { panic!("it decides") };
    assert_eq!((plan.action, plan.grace.as_millis()), (ReapAction::Destroy, 7));
}

#[tokio::test]
async fn one_that_judges_takes_its_configuration_and_answers_both_ways() {
    let refused = load("custom-policy", json!({ "frist": "acme/probe" })).await.unwrap_err();
    assert!(matches!(&refused.reason, Refusal::Init(why) if why.contains("frist")), "{refused}");

    let config = json!({ "first": "acme/probe", "spare_ports": [5432] });
    let plugin = load("custom-policy", config).await.unwrap();
    assert_eq!(place(&plugin).await, Ok(Answer::Decide(RawPlacement::Head)));
    let event = event(&["10.0.0.1:80", "10.0.0.1:5432"]);
    let sockets = [socket(1, "10.0.0.1:80"), socket(2, "10.0.0.1:5432")];
    assert_eq!(plugin.judge(&event, &suspects(&sockets)).await.unwrap(), [true, false]);
    assert_eq!(plugin.judge_packed(&event, &suspects(&sockets)).await.unwrap(), [true, false]);
}

#[tokio::test]
async fn one_that_lives_by_its_health_looks_at_devices() {
    let plugin = load("node-operator", json!({ "mtu": 1400 })).await.unwrap();
    assert_eq!(plugin.health().await, Ok(Health::Healthy));
}

#[tokio::test]
async fn one_that_imports_every_operation_calls_them() {
    let steps = json!([
        { "op": "devices" },
        { "op": "open", "inode": 4_026_531_840_u64, "name": "eth0" },
        { "op": "query", "inode": 4_026_531_840_u64, "name": "eth0" },
        { "op": "detach", "id": "a-1" },
        { "op": "sockets" },
        { "op": "endpoints" },
        { "op": "counters", "name": "web" },
        { "op": "services" },
        { "op": "backends", "name": "web" },
        { "op": "entries" },
        { "op": "read", "path": "x" },
    ]);
    let plugin = load("operating", json!({ "steps": steps })).await.unwrap();
    let answer = plugin.plan(node(&capabilities()), &event(&["10.0.0.1:80"])).await.unwrap();
    let Answer::Veto(said) = answer else { panic!("it says what came of it: {answer:?}") };
    let said: Vec<&str> = said.split(" | ").collect();
    // What can be listed is empty, and what is named is not there; no directory is granted.
    let kinds: Vec<&str> = said.iter().map(|each| each.split('(').next().unwrap()).collect();
    let gone = "Error::NotFound";
    assert_eq!(kinds, ["", gone, gone, gone, "", "", gone, "", gone, "", "Error::Denied"], "{said:?}");
}

#[tokio::test]
async fn one_that_calls_the_store_without_end_is_cut_off() {
    let config = json!({ "in": "place", "do": "host-calls" });
    let plugin = load("misbehaving", config).await.unwrap();
    let failure = place(&plugin).await.unwrap_err().failure;
    assert!(matches!(failure, Failure::Limit(..)), "{failure}");
}
