//! ADD, and VERSION and STATUS, which say whether it would work.

use std::net::IpAddr;

use netloom_netns_tests::{
    Node,
    shown::{addresses, default_routes, devices, link},
};
use netloom_test_support::Netns;
use serde_json::{Value, json};

use crate::runtime::{VERSIONS, call, call_of_network, endpoints, network, with};

/// What ADD should have answered, read from the kernel.
fn expected(node: &Node, version: &str, netns: &Netns, host: &str) -> Value {
    let interface = |link: Value, sandbox: Option<&Netns>| {
        let mut interface = json!({ "name": link["ifname"] });
        // A device without a link layer has none.
        if link["link_type"] == "ether" && link["address"] != "00:00:00:00:00:00" {
            interface["mac"] = link["address"].clone();
        }
        if version == "1.1.0" {
            interface["mtu"] = link["mtu"].clone();
        }
        if let Some(netns) = sandbox {
            interface["sandbox"] = json!(netns.path());
        }
        interface
    };
    let ip = |address: String| {
        let mut ip = json!({ "address": address, "interface": 1 });
        if version < "1.0.0" {
            ip["version"] = json!(if address.contains(':') { "6" } else { "4" });
        }
        ip
    };
    json!({
        "cniVersion": version,
        "interfaces": [
            interface(link(&node.netns, host), None),
            interface(link(netns, "eth0"), Some(netns)),
        ],
        "ips": addresses(netns, "eth0").into_iter().map(ip).collect::<Vec<_>>(),
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        "dns": {},
    })
}

fn ips(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn each_version_gets_what_the_kernel_has_and_containers_reach_each_other_and_the_node() {
    let node = Node::start();
    let containers = VERSIONS.map(|version| (version, Netns::new("container")));
    let mut answers = Vec::new();
    for (version, netns) in &containers {
        let config = network(&node, version);
        let container = format!("c-{}", version.replace('.', ""));
        let result = call("ADD", &container, netns).run(&config).result();
        let host = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
        assert_eq!(result, expected(&node, version, netns, &host));
        assert_eq!(ips(&result).len(), 2, "both families");
        assert_eq!(default_routes(netns), [["eth0"], ["eth0"]]);
        answers.push((container, config, result, host));
    }

    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        for address in ips(&answers[to].2) {
            assert!(containers[from].1.can_ping(address), "{from} does not reach {to} at {address}");
            assert!(node.netns.can_ping(address), "the node does not reach {to} at {address}");
        }
        let echo = containers[to].1.tcp_echo(&format!("{}:8080", ips(&answers[to].2)[0]));
        assert_eq!(containers[from].1.connect_tcp(echo.address()).exchange("hello"), "hello");
        assert!(containers[from].1.can_ping([192, 0, 2, 1]), "{from} does not reach the node");
    }

    for ((_, netns), (container, config, _, host)) in containers.iter().zip(&answers) {
        call("DEL", container, netns).run(config).silent();
        assert_eq!(devices(netns), ["lo"]);
        assert!(!devices(&node.netns).contains(host));
    }
    assert_eq!((node.traces(), endpoints(&node)), (vec![], vec![]));
}

#[test]
fn what_the_runtime_and_the_user_want_is_what_the_container_has() {
    let node = Node::start();
    let (netns, older) = (Netns::new("container"), Netns::new("older"));
    let config = with(
        network(&node, "1.1.0"),
        json!({
            "runtimeClass": "kata",
            "virtualMachine": true,
            "runtimeConfig": {
                "ips": ["10.9.0.7/16", "fd09::7"],
                "mac": "02:00:00:00:00:01",
                "dns": { "servers": ["10.0.0.54"], "searches": ["example"], "options": null },
            },
            "args": { "cni": { "ips": ["10.9.0.8"], "labels": [{ "key": "app", "value": "shop" }] } },
            "ipam": {},
            "dns": { "nameservers": ["10.0.0.53"], "domain": "shop.example", "options": ["ndots:2"] },
        }),
    );
    let arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;IP=10.9.0.9";
    let add = call("ADD", "c1", &netns).with("CNI_IFNAME", "net1").with("CNI_ARGS", arguments);
    let result = add.run(&config).result();
    assert_eq!(result["interfaces"][1]["name"], "net1");
    assert_eq!(result["interfaces"][1]["mac"], "02:00:00:00:00:01");
    assert_eq!(link(&netns, "net1")["address"], "02:00:00:00:00:01");
    assert_eq!(addresses(&netns, "net1"), ["10.9.0.7/32", "fd09::7/128"]);
    let dns = json!({
        "nameservers": ["10.0.0.54"],
        "domain": "shop.example",
        "search": ["example"],
        "options": ["ndots:2"],
    });
    assert_eq!(result["dns"], dns);

    let spec = node.endpoints().remove(0).endpoint.spec;
    assert_eq!((spec.name.as_str(), spec.runtime_class.as_deref()), ("c1_net1", Some("kata")));
    assert!(spec.virtual_machine);
    let labels = json!({
        "app": "shop",
        "cni.netloom/container": "c1",
        "cni.netloom/interface": "net1",
        "cni.netloom/network": "pods",
        "io.kubernetes.pod.name": "web-0",
        "io.kubernetes.pod.namespace": "default",
    });
    assert_eq!(json!(spec.labels), labels);

    // The ways from before `runtimeConfig`.
    let add = call("ADD", "c2", &older).with("CNI_ARGS", "IP=10.9.0.9/24;MAC=02:00:00:00:00:03");
    add.run(&network(&node, "1.0.0")).result();
    assert_eq!(addresses(&older, "eth0"), ["10.9.0.9/32"]);
    assert_eq!(link(&older, "eth0")["address"], "02:00:00:00:00:03");
    assert!(older.can_ping([10, 9, 0, 7]));
    // As the node does, or not at all.
    let masqueraded = with(network(&node, "1.1.0"), json!({ "ipMasq": true }));
    call("ADD", "c3", &Netns::new("masqueraded")).run(&masqueraded).result();
    let (code, message) =
        call("ADD", "c4", &older).run(&with(masqueraded, json!({ "ipMasq": false }))).error();
    assert!(code == 2 && message.contains("ipMasq = false: the node masquerades"), "{code} {message}");
}

#[test]
fn version_and_status_tell_what_works() {
    let mut node = Node::start();
    let expected = json!({ "cniVersion": "1.0.0", "supportedVersions": VERSIONS });
    assert_eq!(call_of_network("VERSION").run(&json!({ "cniVersion": "1.0.0" })).result(), expected);
    assert_eq!(call_of_network("VERSION").run_text("").result()["cniVersion"], "1.1.0");

    let config = network(&node, "1.1.0");
    call_of_network("STATUS").run(&config).silent();
    node.daemon.stop();
    let (code, message) = call_of_network("STATUS").run(&config).error();
    assert_eq!(code, 50);
    assert!(message.starts_with("netloomd is not ready: no netloomd answers on"), "{message}");
    node.daemon.restart();
    call_of_network("STATUS").run(&config).silent();
}
