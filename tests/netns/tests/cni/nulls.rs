//! Runtimes in Go write what is empty as null or as an empty text.

use netloom_netns_tests::{Node, shown::devices};
use netloom_test_support::Netns;
use serde_json::{Value, json};

use crate::runtime::{call, call_of_network, endpoints, network, with};

/// Everything that a runtime adds to a configuration, empty as Go writes it.
fn empty() -> Value {
    json!({
        "socket": "",
        "runtimeClass": "",
        "virtualMachine": null,
        "ipam": null,
        "capabilities": null,
        "runtimeConfig": { "ips": null, "mac": "", "portMappings": null },
        "args": { "cni": { "ips": null, "mac": "", "labels": null } },
        "prevResult": null,
        "dns": { "nameservers": null },
    })
}

#[test]
fn nulls_and_empty_texts_are_what_is_not_there() {
    let node = Node::start();
    let netns = Netns::new("container");
    let config = with(network(&node, "1.1.0"), empty());
    for more in
        [json!({}), json!({ "runtimeConfig": null, "args": null }), json!({ "args": { "cni": null } })]
    {
        let config = with(config.clone(), more);
        let result = call("ADD", "c1", &netns).run(&config).result();
        let spec = node.endpoints().remove(0).endpoint.spec;
        assert_eq!((spec.mac, spec.runtime_class, spec.addresses), (None, None, vec![]));
        call("CHECK", "c1", &netns).run(&with(config.clone(), json!({ "prevResult": result }))).silent();
        // A result without addresses is one, and not what was added.
        let none = json!({ "prevResult": { "cniVersion": "1.1.0", "ips": null, "interfaces": null } });
        let (code, message) = call("CHECK", "c1", &netns).run(&with(config.clone(), none.clone())).error();
        assert!(code == 101 && message.contains("which prevResult has not"), "{code} {message}");
        call("DEL", "c1", &netns).run(&with(config, none)).silent();
        assert_eq!(devices(&netns), ["lo"]);
    }

    // DEL looks at nothing that it does not need.
    call("ADD", "c1", &netns).run(&config).result();
    let odd = json!({
        "cniVersion": "9.9.9",
        "name": null,
        "virtualMachine": "yes",
        "ipam": { "subnet": 7 },
        "dns": 7,
        "ipMasq": "no",
        "runtimeConfig": [],
        "args": "",
        "prevResult": { "ips": [{ "address": "nowhere" }] },
    });
    call("DEL", "c1", &netns).with("CNI_ARGS", "IP=nowhere").run(&with(config.clone(), odd)).silent();
    assert_eq!(devices(&netns), ["lo"]);

    call("ADD", "c1", &netns).run(&config).result();
    let unused = json!({ "cni.dev/valid-attachments": null });
    call_of_network("GC").run(&with(config, unused)).silent();
    assert_eq!(endpoints(&node), Vec::<String>::new());
}
