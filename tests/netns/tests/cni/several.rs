//! Several interfaces in one namespace, as Multus and podman make them, and what else a network says of its containers.

use netloom_netns_tests::{
    Node,
    shown::{addresses, default_routes, devices, link},
};
use netloom_test_support::{Netns, until};
use serde_json::{Value, json};

use crate::runtime::{call, endpoints, network, with};

#[test]
fn each_interface_of_a_namespace_has_the_routes_that_its_network_says() {
    let node = Node::start();
    let (netns, other) = (Netns::new("container"), Netns::new("other"));
    let pods = network(&node, "1.1.0");
    let second = |more: Value| with(with(pods.clone(), json!({ "name": "second" })), more);
    let storage = second(
        json!({ "mtu": 1400, "routes": [{ "dst": "10.8.0.0/16" }], "runtimeConfig": { "ips": ["10.8.0.7"] } }),
    );
    let spare = second(json!({ "defaultRoute": "always" }));
    let on = |command: &str, interface: &str| call(command, "c1", &netns).with("CNI_IFNAME", interface);
    let add = |config: &Value, interface: &str| on("ADD", interface).run(config).result();

    let eth0 = add(&pods, "eth0");
    assert_eq!(eth0["routes"], json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]));
    let net1 = add(&storage, "net1");
    assert_eq!(net1["routes"], json!([{ "dst": "10.8.0.0/16" }]));
    assert_eq!(default_routes(&netns), [["eth0"], ["eth0"]]);
    let net2 = add(&spare, "net2");
    let later = json!([{ "dst": "0.0.0.0/0", "priority": 2048 }, { "dst": "::/0", "priority": 2048 }]);
    assert_eq!(net2["routes"], later);
    assert_eq!(default_routes(&netns), [["eth0", "net2"], ["eth0", "net2"]]);

    // The MTU is that of both ends.
    for (at, device) in [(&node.netns, net1["interfaces"][0]["name"].as_str().unwrap()), (&netns, "net1")] {
        assert_eq!(link(at, device)["mtu"], 1400);
    }
    assert_eq!(net1["interfaces"][1]["mtu"], 1400);
    let small = second(json!({ "mtu": 1200 }));
    let (code, message) = on("ADD", "net3").run(&small).error();
    assert!(code == 100 && message.contains("1200") && message.contains("IPv6"), "{code} {message}");

    // Each goes its own way.
    let there = second(
        json!({ "defaultRoute": "never", "routes": [{ "dst": "10.8.0.0/16" }], "runtimeConfig": { "ips": ["10.8.0.8"] } }),
    );
    let peer = call("ADD", "c2", &other).run(&there).result();
    assert_eq!(
        (peer["routes"].clone(), default_routes(&other)),
        (json!([{ "dst": "10.8.0.0/16" }]), [vec![], vec![]])
    );
    assert!(netns.can_ping([10, 8, 0, 8]) && other.can_ping([10, 8, 0, 7]));
    assert!(netns.can_ping([192, 0, 2, 1]));

    // What is lost is mended as it was.
    netns.ip(&["route", "flush", "dev", "net2"]);
    netns.ip(&["route", "flush", "dev", "net1"]);
    until(|| default_routes(&netns), |routes| routes[0] == ["eth0", "net2"]);
    let checks = [(&pods, "eth0", &eth0), (&storage, "net1", &net1), (&spare, "net2", &net2)];
    let check = |(config, interface, result): (&Value, &str, &Value)| {
        let config = with(config.clone(), json!({ "prevResult": result }));
        until(|| on("CHECK", interface).run(&config), |answer| answer.succeeded);
    };
    checks.into_iter().for_each(check);

    // Each goes alone.
    on("DEL", "eth0").run(&pods).silent();
    assert_eq!(default_routes(&netns), [["net2"], ["net2"]]);
    assert!(netns.can_ping([192, 0, 2, 1]) && netns.can_ping([10, 8, 0, 8]));
    checks[1..].iter().copied().for_each(check);
    on("DEL", "net1").run(&storage).silent();
    check(checks[2]);
    assert_eq!(addresses(&netns, "net2").len(), 2);
    on("DEL", "net2").run(&spare).silent();
    assert_eq!((devices(&netns), endpoints(&node)), (vec!["lo".to_owned()], vec!["c2_eth0".to_owned()]));
}
