//! What the specification of CNI 1.1.0 says that a plugin must or should do, sentence by sentence, as far as it concerns
//! one that makes interfaces and delegates addresses. What is said of runtimes is left out.

use std::thread;

use netloom_netns_tests::{
    Node,
    shown::{devices, link},
};
use netloom_test_support::{CniCall, Netns};
use serde_json::{Value, json};

use crate::{
    ipam,
    runtime::{VERSIONS, WITH_CHECK, call, call_of_network, checked, endpoints, network, with},
};

/// A row: the section, the sentence in short, and what shows it.
type Row = (&'static str, &'static str, fn(&Node));

const ROWS: &[Row] = &[
    ("1", "a network's name must start with a letter or digit", names_have_a_shape),
    ("1", "generated keys should have the meaning that they are given", known_keys_mean_what_they_say),
    ("2", "a plugin must return an error if it cannot use CNI_IFNAME", interface_names_are_checked),
    ("2", "it must exit with 0 on success alone, and output an error otherwise", errors_are_structures),
    ("2 ADD", "it must output a result, and handle prevResult", add_answers_behind_others),
    ("2 ADD", "it must return an error if the interface is there already", an_interface_that_is_there),
    ("2 DEL", "it should do without prevResult", del_without_result),
    ("2 DEL", "it should succeed though state is missing", del_of_what_is_missing),
    ("2 DEL", "it must accept several for the same interface", del_again),
    ("2 CHECK", "it must compare with prevResult, and see what is missing", check_compares),
    ("2 CHECK", "it must let later plugins have changed things", check_lets_others_change),
    ("2 CHECK", "it should see what prevResult does not tell, and a container cut off", check_sees_the_rest),
    ("2 CHECK", "it must pass at once after ADD, in each version that has it", check_at_once),
    ("2 STATUS", "it must say whether ADD can be served; other commands go on", status_tells_of_add),
    ("2 VERSION", "it should output the versions it supports", version_lists),
    ("2 GC", "it should remove what is stale, as much as it can", gc_removes),
    ("3", "it must stand being run for several containers at once", several_at_once),
    (
        "4",
        "a delegate must get CHECK, DEL and GC, and its error be returned",
        ipam::every_command_is_passed_on_and_so_is_its_error,
    ),
    ("4", "if it fails on ADD, it should get DEL", ipam::what_cannot_be_honoured_is_refused_and_given_back),
    ("5", "the keys of an error and of a version must be there", errors_in_each_version),
];

#[test]
fn each_sentence_of_the_specification_holds() {
    // What is mended is not there to be found, and a pool of five addresses is full soon.
    let node = Node::configured("endpoints.mend = \"none\"\nendpoints.ipv4_pool = \"10.210.0.0/29\"");
    for (section, sentence, holds) in ROWS {
        println!("section {section}: {sentence}");
        holds(&node);
        assert_eq!(endpoints(&node), Vec::<String>::new(), "section {section}: {sentence}");
    }
    assert_eq!(node.traces(), Vec::<String>::new());
}

/// The configuration of a network of the newest version.
fn newest(node: &Node) -> Value {
    network(node, "1.1.0")
}

fn delete(node: &Node, container: &str, netns: &Netns) {
    call("DEL", container, netns).run(&newest(node)).silent();
}

fn names_have_a_shape(node: &Node) {
    let netns = Netns::new("container");
    for name in ["", "-pods", "a b"] {
        let config = with(newest(node), json!({ "name": name }));
        assert_eq!(call("ADD", "c1", &netns).run(&config).error().0, 7, "{name:?}");
    }
}

fn known_keys_mean_what_they_say(node: &Node) {
    let netns = Netns::new("container");
    let config = with(
        newest(node),
        json!({
            "ipMasq": true,
            "dns": { "nameservers": ["10.0.0.53"] },
            "args": { "cni": { "ips": ["10.9.0.7"], "labels": [{ "key": "app", "value": "shop" }] } },
        }),
    );
    // The node masquerades its pools alone.
    let (code, message) = call("ADD", "c1", &netns).run(&config).error();
    assert!(code == 2 && message.contains("ipMasq") && message.contains("10.9.0.7"), "{code} {message}");
    let config = with(config, json!({ "ipMasq": null }));
    let result = call("ADD", "c1", &netns).run(&config).result();
    assert_eq!(result["ips"][0]["address"], "10.9.0.7/32");
    assert_eq!(result["dns"], json!({ "nameservers": ["10.0.0.53"] }));
    assert_eq!(node.endpoints().remove(0).endpoint.spec.labels["app"], "shop");
    delete(node, "c1", &netns);
}

fn interface_names_are_checked(node: &Node) {
    let netns = Netns::new("container");
    for name in ["a/b", "..", "sixteen-bytes-it"] {
        let (code, message) = call("ADD", "c1", &netns).with("CNI_IFNAME", name).run(&newest(node)).error();
        assert!(code == 4 && message.contains("CNI_IFNAME"), "{code} {message}");
    }
}

fn errors_are_structures(node: &Node) {
    let netns = Netns::new("container");
    let nowhere = call("ADD", "c1", &netns).with("CNI_NETNS", "/run/netns/nowhere");
    let answer = nowhere.run(&newest(node));
    assert!(!answer.succeeded);
    let error: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(error["cniVersion"], "1.1.0");
    assert!(error["code"].as_u64().unwrap() > 0 && !error["msg"].as_str().unwrap().is_empty(), "{error}");
    assert!(call("ADD", "c1", &netns).run(&newest(node)).succeeded);
    delete(node, "c1", &netns);
}

/// What a plugin in front of netloom-cni answered.
fn others(version: &str) -> Value {
    let mut ip = json!({ "address": "198.51.100.9/24", "gateway": "198.51.100.1", "interface": 0 });
    if version < "1.0.0" {
        ip["version"] = json!("4");
    }
    json!({
        "cniVersion": version,
        "interfaces": [{ "name": "net1", "mac": "02:00:00:00:00:09", "sandbox": "/run/netns/other" }],
        "ips": [ip],
        "routes": [{ "dst": "203.0.113.0/24", "gw": "198.51.100.1", "mtu": 1400 }],
        "dns": { "nameservers": ["198.51.100.53"], "search": ["example"] },
    })
}

fn add_answers_behind_others(node: &Node) {
    let netns = Netns::new("container");
    for version in VERSIONS {
        let config = network(node, version);
        // Whatever version the other plugin's result is of.
        let result = call("ADD", "c1", &netns).run(&checked(&config, &others("0.4.0"))).result();
        assert_eq!(result["cniVersion"], *version);
        let theirs = others(version);
        assert_eq!(result["interfaces"][0], theirs["interfaces"][0]);
        let ours = &result["interfaces"][2];
        assert_eq!((&ours["name"], &ours["sandbox"]), (&json!("eth0"), &json!(netns.path())));
        assert_eq!((&result["ips"][0], &result["routes"][0]), (&theirs["ips"][0], &theirs["routes"][0]));
        let ours: Vec<_> = result["ips"].as_array().unwrap()[1..].iter().map(|ip| &ip["interface"]).collect();
        assert_eq!(ours, [2, 2], "ours lead to our interface");
        assert_eq!(result["dns"], theirs["dns"]);
        if WITH_CHECK.contains(&version) {
            call("CHECK", "c1", &netns).run(&checked(&config, &result)).silent();
        }
        call("DEL", "c1", &netns).run(&checked(&config, &result)).silent();
    }
}

fn an_interface_that_is_there(node: &Node) {
    let netns = Netns::new("container");
    netns.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "other"]);
    let (code, message) = call("ADD", "c1", &netns).run(&newest(node)).error();
    assert!(code == 100 && message.contains("eth0"), "{code} {message}");
    delete(node, "c1", &netns);
    assert_eq!(devices(&netns).len(), 3, "it is not ours to delete");
}

fn del_without_result(node: &Node) {
    let netns = Netns::new("container");
    for result in [json!(null), json!({})] {
        call("ADD", "c1", &netns).run(&newest(node)).result();
        call("DEL", "c1", &netns).run(&checked(&newest(node), &result)).silent();
    }
}

fn del_of_what_is_missing(node: &Node) {
    let netns = Netns::new("container");
    let result = call("ADD", "c1", &netns).run(&newest(node)).result();
    node.netns.ip(&["link", "delete", result["interfaces"][0]["name"].as_str().unwrap()]);
    delete(node, "c1", &netns);

    call("ADD", "c1", &netns).run(&newest(node)).result();
    let del = call("DEL", "c1", &netns);
    drop(netns);
    del.run(&newest(node)).silent();
}

fn del_again(node: &Node) {
    let netns = Netns::new("container");
    delete(node, "c1", &netns);
    call("ADD", "c1", &netns).run(&newest(node)).result();
    delete(node, "c1", &netns);
    delete(node, "c1", &netns);
}

#[track_caller]
fn drifted(check: &CniCall, config: &Value, told: &str) {
    let (code, message) = check.run(config).error();
    assert!(code == 101 && message.contains(told), "{code} {message}");
}

fn check_compares(node: &Node) {
    let netns = Netns::new("container");
    let result = call("ADD", "c1", &netns).run(&newest(node)).result();
    let check = call("CHECK", "c1", &netns);
    assert_eq!(check.run(&newest(node)).error().0, 7, "there is nothing to compare with");
    let mut fewer = result.clone();
    fewer["ips"].as_array_mut().unwrap().remove(0);
    drifted(&check, &checked(&newest(node), &fewer), "which prevResult has not");
    let config = checked(&newest(node), &result);
    netns.ip(&["route", "del", "default"]);
    drifted(&check, &config, "the default route of IPv4 inside is gone");
    netns.ip(&["address", "flush", "dev", "eth0"]);
    drifted(&check, &config, "its address");
    netns.ip(&["link", "delete", "eth0"]);
    drifted(&check, &config, "is gone");
    delete(node, "c1", &netns);
}

fn check_lets_others_change(node: &Node) {
    let netns = Netns::new("container");
    let mut result = call("ADD", "c1", &netns).run(&newest(node)).result();
    netns.ip(&["address", "add", "10.99.0.1/32", "dev", "eth0"]);
    netns.ip(&["route", "add", "10.98.0.0/16", "dev", "eth0"]);
    result["ips"].as_array_mut().unwrap().push(json!({ "address": "10.99.0.1/32", "interface": 1 }));
    result["routes"].as_array_mut().unwrap().push(json!({ "dst": "10.98.0.0/16" }));
    call("CHECK", "c1", &netns).run(&checked(&newest(node), &result)).silent();
    delete(node, "c1", &netns);
}

fn check_sees_the_rest(node: &Node) {
    let netns = Netns::new("container");
    let result = call("ADD", "c1", &netns).run(&newest(node)).result();
    let (check, config) = (call("CHECK", "c1", &netns), checked(&newest(node), &result));
    netns.ip(&["link", "set", "lo", "down"]);
    drifted(&check, &config, "lo inside is down");
    node.netns.ip(&["link", "set", result["interfaces"][0]["name"].as_str().unwrap(), "down"]);
    drifted(&check, &config, "is down");
    delete(node, "c1", &netns);
}

fn check_at_once(node: &Node) {
    let netns = Netns::new("container");
    for version in WITH_CHECK {
        let config = network(node, version);
        let result = call("ADD", "c1", &netns).run(&config).result();
        call("CHECK", "c1", &netns).run(&checked(&config, &result)).silent();
        delete(node, "c1", &netns);
    }
    let (code, message) = call("CHECK", "c1", &netns).run(&network(node, "0.3.1")).error();
    assert!(code == 1 && message.contains("0.4.0"), "{code} {message}");
}

fn status_tells_of_add(node: &Node) {
    let (config, status) = (newest(node), call_of_network("STATUS"));
    status.run(&config).silent();
    let containers = ["c1", "c2", "c3", "c4", "c5"].map(|id| (id, Netns::new(id)));
    for (id, netns) in &containers {
        call("ADD", id, netns).run(&config).result();
    }
    let (code, message) = status.run(&config).error();
    assert!(code == 50 && message.contains("10.210.0.0/29 has no free address"), "{code} {message}");
    let late = Netns::new("late");
    assert_eq!(call("ADD", "late", &late).run(&config).error().0, 100);
    let device = node.endpoints().remove(0).endpoint.host_interface;
    node.netns.ip(&["link", "set", &device, "down"]);
    let (code, message) = status.run(&config).error();
    assert!(code == 51 && message.contains("c1_eth0 cannot be reached"), "{code} {message}");

    let (first, netns) = &containers[0];
    delete(node, first, netns);
    status.run(&config).silent();
    call("ADD", "late", &late).run(&config).result();
    delete(node, "late", &late);
    for (id, netns) in &containers[1..] {
        delete(node, id, netns);
    }
}

fn version_lists(_: &Node) {
    for version in VERSIONS {
        let answer = call_of_network("VERSION").run(&json!({ "cniVersion": version })).result();
        assert_eq!(answer, json!({ "cniVersion": version, "supportedVersions": VERSIONS }));
    }
}

fn gc_removes(node: &Node) {
    let containers = ["used", "stale", "gone"].map(|id| (id, Netns::new(id)));
    for (id, netns) in &containers {
        call("ADD", id, netns).run(&newest(node)).result();
    }
    let [(used, kept), (_, stale), (_, gone)] = containers;
    drop(gone);
    let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": used, "ifname": "eth0" }] });
    // What it does not need may be whatever it is.
    let config = with(with(newest(node), valid), json!({ "runtimeConfig": "odd", "ipam": { "subnet": 7 } }));
    call_of_network("GC").run(&config).silent();
    assert_eq!(endpoints(node), ["used_eth0"]);
    assert_eq!(
        (devices(&stale), link(&kept, "eth0")["ifname"].clone()),
        (vec!["lo".to_owned()], json!("eth0"))
    );
    delete(node, used, &kept);
}

fn several_at_once(node: &Node) {
    let config = newest(node);
    thread::scope(|scope| {
        for id in ["c1", "c2", "c3", "c4"] {
            let config = &config;
            scope.spawn(move || {
                let netns = Netns::new(id);
                let result = call("ADD", id, &netns).run(config).result();
                call("CHECK", id, &netns).run(&checked(config, &result)).silent();
                call("DEL", id, &netns).run(config).silent();
            });
        }
    });
}

fn errors_in_each_version(node: &Node) {
    let netns = Netns::new("container");
    for version in VERSIONS {
        let config = with(network(node, version), json!({ "ipam": { "subnet": "10.1.0.0/16" } }));
        let answer = call("ADD", "c1", &netns).run(&config);
        let error: Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!((&error["cniVersion"], &error["code"]), (&json!(version), &json!(2)));
        let told = error["msg"].as_str().unwrap();
        assert!(told.contains("ipam") && told.contains("10.1.0.0/16"), "{told}");
    }
    let unknown = with(newest(node), json!({ "cniVersion": "0.2.0" }));
    assert_eq!(call("ADD", "c1", &netns).run(&unknown).error().0, 1);
}
