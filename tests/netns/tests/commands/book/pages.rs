//! The chapters for operators.

use netloom_api::types::{Attachment, Event, EventKind, MonitorEvent};
use netloom_core::model::{Choice, Feature};
use netloom_netns_tests::shown::{devices, link};
use netloom_test_support::{Netns, until};
use serde_json::{Value, json};

use super::lab::Lab;
use crate::spoofing::while_spoofing;

#[test]
fn chains() {
    let mut lab = Lab::of("docs/chains.md");
    let peer = Netns::new("peer");
    lab.node.netns.link("10.9.0.1/24").to(&peer, "10.9.0.2/24");
    let _web = lab.endpoint("web", &Value::Null);
    lab.file("count.o", netloom_test_programs::OBSERVER);
    lab.file("shaper.o", netloom_test_programs::SHAPER);
    lab.file("shaper-v2.o", netloom_test_programs::ONCE);
    let commands = lab.commands();
    let (update, others): (Vec<_>, Vec<_>) =
        commands.iter().partition(|command| command.contains("attachment update"));
    for command in others {
        lab.command(command);
    }
    // Attachments are numbered as they come, whoever's they are.
    let attachments: Vec<Attachment> = lab.node.daemon.get("/v1/attachments").unwrap();
    let shapers: Vec<String> =
        attachments.into_iter().map(|it| it.id).filter(|id| id.starts_with("shaper-")).collect();
    assert_eq!(shapers.len(), 4, "{shapers:?}");
    lab.replace("shaper-1", shapers[0].clone());
    for command in update {
        lab.command(command);
    }
    let chains = lab.node.chains("eth0");
    assert!(chains.iter().flat_map(|chain| &chain.entries).any(|entry| entry.name == "once"), "{chains:?}");
}

#[test]
fn devices_of_endpoints_and_of_the_node() {
    let mut lab = Lab::of("docs/devices.md");
    let web = lab.endpoint("web", &Value::Null);
    let vm1 = lab.endpoint("vm1", &json!({ "mac": "02:00:00:00:00:07" }));
    let blue = lab.namespace("blue");
    lab.those(&["netloom endpoint set web --mtu", "netloom endpoint set web --gso"]);
    let ends = link(&web.netns, "eth0");
    assert_eq!((&ends["mtu"], &ends["gso_max_size"]), (&json!(9_000), &json!(196_608)));
    let policy = lab.find("netloom endpoint set web --peer-policy");
    let to_netkit = lab.find("netloom endpoint migrate web");
    let to_l2 = lab.find("netloom endpoint migrate vm1");
    let create = lab.find("netloom device create");
    if lab.has(Feature::NetkitLinks) {
        lab.prepare("netloom endpoint migrate web --mode veth");
        lab.prepare("netloom endpoint migrate vm1 --mode veth");
        for command in [&to_netkit, &policy, &to_l2, &create] {
            lab.command(command);
        }
    } else {
        for command in [&policy, &to_netkit, &to_l2, &create] {
            lab.refused(command, "netkit");
        }
        lab.prepare(&to_l2.replace("netkit-l2", "veth"));
        lab.prepare(&create.replace("netkit", "veth"));
    }
    assert_eq!(link(&vm1.netns, "eth0")["address"], "02:00:00:00:00:01");
    lab.those(&["netloom device set"]);
    assert_eq!(link(&blue, "eth0")["mtu"], 9_000);
    lab.those(&["netloom device delete"]);
    assert_eq!(devices(&blue), ["lo"]);
}

#[test]
fn mending() {
    let lab = Lab::of("docs/mending.md");
    let web = lab.endpoint("web", &Value::Null);
    web.netns.ip(&["route", "del", "default"]);
    let mended = |events: &Vec<Event>| events.iter().any(|event| event.kind == EventKind::Mended);
    until(|| lab.node.daemon.get("/v1/events").unwrap(), mended);
    let said = lab.all();
    assert!(said.contains("endpoint web") && said.contains("default route"), "{said}");
}

#[test]
fn monitoring() {
    let lab = Lab::of("docs/monitoring.md");
    let web = lab.endpoint("web", &Value::Null);
    lab.node.service("shop", "10.96.0.10:80", "tcp", &["10.0.0.2:8080".to_owned()]);
    let said = lab.section("Which way it would take");
    assert!(said.contains("through shop"), "{said}");
    // It goes on until it is ended, or until there were as many events as it is told here.
    let command = lab.find("netloom monitor");
    let said = while_spoofing(&web, || lab.command_with(&command, "--count 1 --output json"));
    let event: MonitorEvent = serde_json::from_str(said.lines().nth(1).unwrap()).unwrap();
    assert!(matches!(event, MonitorEvent::Drop(_)), "{event:?}");
}

#[test]
fn services() {
    let lab = Lab::of("docs/services.md");
    let said = lab.section("");
    assert!(said.contains("weight 3"), "{said}");
    let before = lab.node.status().services;
    let shop: Vec<String> = before[0].backends.iter().map(ToString::to_string).collect();
    assert_eq!(
        (shop, before[0].choice),
        (vec!["10.0.0.3:8080".to_owned(), "10.0.0.4:8080".to_owned()], Choice::Random)
    );
    lab.section("Many at once");
    assert_eq!(lab.node.status().services, before, "what was written is what is there");
}

#[test]
fn sockets() {
    let lab = Lab::of("docs/sockets.md");
    let client = lab.endpoint("client", &Value::Null);
    lab.node.netns.add_address("lo", "10.0.0.2/32");
    let echo = lab.node.netns.tcp_echo("10.0.0.2:8080");
    lab.node.service("shop", "10.96.54.10:80", "tcp", &[echo.address().to_string()]);
    let reader = client.netns.blocked_reader("10.96.54.10:80".parse().unwrap());
    let said = lab.all();
    assert!(said.contains("1 destroyed"), "{said}");
    assert!(reader.end_within(crate::SOON).is_some(), "it is cut");
}

#[test]
fn operating() {
    let mut lab = Lab::of("docs/operating.md");
    let _web = lab.endpoint("web", &Value::Null);
    let backup = lab.file("operating/there", "").with_file_name("netloom.backup");
    lab.replace("/root/netloom.backup", backup.display().to_string());
    let said = lab.all();
    assert!(said.contains("1 endpoints") && backup.is_file(), "{said}");
    assert_eq!(lab.node.endpoints().len(), 1, "what has a record is no orphan");
}
