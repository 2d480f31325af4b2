//! The bundled plugins, as operators run them: loaded like any other, within the same limits.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{sync::Arc, time::Instant};

use netloom_core::{
    answer::{Answer, RawPlacement},
    model::{Capabilities, DeviceMode, EndpointSpec, Feature, Labels, NetnsId, ReapAction},
};
use netloom_runtime::{
    EndpointFacts, HostConfig, LoadError, LoadRequest, Plugin, PluginHost, Refusal, config_schema,
};
use serde_json::Value;
use support::{candidate, capabilities, chain, event, name, node};

async fn bundled(host: &PluginHost, which: &str) -> Arc<Plugin> {
    let plugin = netloom_bundled::PLUGINS.iter().find(|plugin| plugin.name == which).unwrap();
    let request = LoadRequest { bundled: true, ..LoadRequest::new(name(which), plugin.component) };
    Arc::new(host.load(request).await.unwrap())
}

/// The limits of production, not the patient ones.
fn host() -> PluginHost {
    PluginHost::new(HostConfig::default()).unwrap()
}

#[tokio::test]
async fn the_datapath_goes_last_and_observers_in_front_of_it() {
    let plugin = bundled(&host(), "attach-order").await;
    let capabilities = capabilities();
    let place = async |owner: &str, labels: Labels, chain_of: &[Option<(&str, i32)>]| {
        let candidate = netloom_core::model::Candidate { labels, ..candidate(owner) };
        plugin.place(node(&capabilities), &chain(chain_of), &candidate).await.unwrap()
    };
    let here = [Some(("acme/firewall", 10)), Some(("netloom/datapath", 0))];
    let observer = Labels::from([("role".to_owned(), "observer".to_owned())]);
    let Answer::Decide(seen) = place("acme/probe", observer, &here).await else { panic!("it decides") };
    assert!(
        !matches!(seen, RawPlacement::Tail | RawPlacement::After(1) | RawPlacement::Replace(_)),
        "in front of the datapath: {seen:?}"
    );
    let Answer::Decide(last) = place("netloom/datapath", Labels::new(), &here[..1]).await else {
        panic!("it decides")
    };
    assert!(matches!(last, RawPlacement::Tail | RawPlacement::After(0)), "behind the firewall: {last:?}");
    assert!(plugin.status().bundled);
}

#[tokio::test]
async fn the_mode_follows_the_node_and_the_endpoint() {
    let plugin = bundled(&host(), "datapath-mode").await;
    let with_netkit = capabilities();
    let mut without = with_netkit.clone();
    for feature in [Feature::Netkit, Feature::NetkitLinks] {
        without.features.get_mut(&feature).unwrap().available = false;
    }
    let choose = async |capabilities: &Capabilities, virtual_machine: bool| {
        let spec = EndpointSpec { virtual_machine, ..EndpointSpec::plain(name("blue"), "/run/netns/blue") };
        let addresses = ["10.0.0.2/32".parse().unwrap()];
        let facts =
            EndpointFacts { spec: &spec, netns: NetnsId { device: 4, inode: 9 }, addresses: &addresses };
        match plugin.choose(node(capabilities), facts).await.unwrap() {
            Answer::Decide(mode) => mode.device,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(choose(&with_netkit, false).await, DeviceMode::Netkit);
    assert_eq!(choose(&with_netkit, true).await, DeviceMode::NetkitL2);
    assert_eq!(choose(&without, false).await, DeviceMode::Veth);
}

#[tokio::test]
async fn connected_sockets_of_a_removed_backend_are_reaped() {
    let plugin = bundled(&host(), "socket-reap").await;
    let capabilities = capabilities();
    let answer = plugin.plan(node(&capabilities), &event(&["10.0.0.1:80"])).await.unwrap();
    let Answer::Decide(plan) = answer else { panic!("it decides") };
    assert!(plan.connected_only);
    assert_eq!(plan.action, ReapAction::Destroy);
}

#[tokio::test]
async fn a_decision_takes_microseconds() {
    let plugin = bundled(&host(), "attach-order").await;
    let capabilities = capabilities();
    let chain = chain(&[Some(("acme/a", 1)); 8]);
    let candidate = candidate("acme/probe");
    let mut micros: Vec<u128> = Vec::new();
    for _ in 0..1_000 {
        let start = Instant::now();
        plugin.place(node(&capabilities), &chain, &candidate).await.unwrap();
        micros.push(start.elapsed().as_micros());
    }
    micros.sort_unstable();
    println!("decision on a chain of 8: p50 {} us, p99 {} us", micros[500], micros[990]);
    assert!(micros[500] < 5_000, "p50 {} us", micros[500]);
    assert_eq!(plugin.status().instances, 1, "a warm instance serves them all");
}

#[tokio::test]
async fn their_configurations_are_checked_against_their_schemas() {
    let host = host();
    for plugin in netloom_bundled::PLUGINS {
        let schema = config_schema(plugin.component).unwrap().unwrap();
        let load = async |config: &Value| {
            let config = config.as_object().unwrap().clone();
            host.load(LoadRequest { config, ..LoadRequest::new(name(plugin.name), plugin.component) }).await
        };
        for example in schema["examples"].as_array().unwrap() {
            load(example).await.unwrap();
            let mut misspelt = example.clone();
            misspelt["misspelt"] = true.into();
            let Err(LoadError { reason: Refusal::Config(why), .. }) = load(&misspelt).await else {
                panic!("{} accepts {misspelt}", plugin.name)
            };
            assert!(why.contains("'misspelt' was unexpected"), "{why}");
        }
    }
}
