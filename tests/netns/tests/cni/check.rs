//! CHECK: what has changed since ADD is found.

use netloom_netns_tests::Node;
use netloom_test_support::{CniAnswer, Netns};
use serde_json::json;

use crate::runtime::{WITH_CHECK, call, network, with};

#[track_caller]
fn drift(answer: CniAnswer) -> String {
    let (code, message) = answer.error();
    assert_eq!(code, 101, "{message}");
    message
}

#[test]
fn what_is_as_it_was_added_passes_and_what_has_changed_is_named() {
    // What is mended is not there to be found.
    let node = Node::configured("endpoints.mend = \"none\"");
    let (netns, other) = (Netns::new("container"), Netns::new("other"));
    let config = network(&node, "1.1.0");
    let result = call("ADD", "c1", &netns).run(&config).result();
    let device = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
    let check = call("CHECK", "c1", &netns);
    for version in WITH_CHECK {
        check.run(&with(network(&node, version), json!({ "prevResult": result }))).silent();
    }
    let (code, _) = check.run(&config).error();
    assert_eq!(code, 7, "without prevResult");

    let mut fewer = result.clone();
    let missing = fewer["ips"].as_array_mut().unwrap().pop().unwrap()["address"].as_str().unwrap().to_owned();
    let message = drift(check.run(&with(config.clone(), json!({ "prevResult": fewer }))));
    assert!(message.contains(&missing), "{message}");
    let with_result = with(config.clone(), json!({ "prevResult": result }));
    let message = drift(call("CHECK", "c1", &other).run(&with_result));
    assert!(message.contains("and it is in net:["), "{message}");

    let v6 = result["ips"][1]["address"].as_str().unwrap();
    for (broken, told, mended) in [
        (
            ["link", "set", "eth0", "mtu", "1400"].as_slice(),
            "the MTU of its device inside is 1400 instead of 1500",
            ["link", "set", "eth0", "mtu", "1500"].as_slice(),
        ),
        (
            &["-6", "address", "del", v6, "dev", "eth0"],
            "its address fd",
            &["-6", "address", "add", v6, "dev", "eth0", "nodad"],
        ),
        (&["link", "set", "lo", "down"], "lo inside is down", &["link", "set", "lo", "up"]),
    ] {
        netns.ip(broken);
        let message = drift(check.run(&with_result));
        assert!(message.contains(told), "{message}");
        netns.ip(mended);
        check.run(&with_result).silent();
    }
    netns.ip(&["route", "del", "default"]);
    let message = drift(check.run(&with_result));
    assert!(message.contains("the default route of IPv4 inside is gone"), "{message}");

    node.netns.ip(&["link", "set", &device, "down"]);
    let message = drift(check.run(&with_result));
    assert!(message.contains(&format!("its device {device} is down")), "{message}");
    // Its routes went with that.
    node.netns.ip(&["link", "set", &device, "up"]);
    let message = drift(check.run(&with_result));
    assert!(message.contains("the route to 10.210.0.2 on the node is gone"), "{message}");
    node.netns.ip(&["link", "delete", &device]);
    let message = drift(check.run(&with_result));
    assert!(message.contains(&format!("its device {device} is gone")), "{message}");
    call("DEL", "c1", &netns).run(&config).silent();
    let message = drift(check.run(&with_result));
    assert!(message.contains("netloomd knows no endpoint c1_eth0"), "{message}");
}
