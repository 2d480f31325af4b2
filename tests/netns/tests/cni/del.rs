//! DEL and GC: what goes, and what stays.

use netloom_netns_tests::{Node, shown::devices};
use netloom_test_support::Netns;
use serde_json::json;

use crate::runtime::{VERSIONS, call, call_of_network, endpoints, network, with};

#[test]
fn a_container_is_deleted_once_again_and_when_its_namespace_is_gone() {
    let node = Node::start();
    for version in VERSIONS {
        let config = network(&node, version);
        let netns = Netns::new("container");
        call("ADD", "c1", &netns).run(&config).result();
        let del = call("DEL", "c1", &netns).without("CNI_NETNS");
        del.run(&config).silent();
        assert_eq!((devices(&netns), node.traces()), (vec!["lo".to_owned()], vec![]), "{version}");
        del.run(&config).silent();

        call("ADD", "c1", &netns).run(&config).result();
        let del = call("DEL", "c1", &netns);
        drop(netns);
        del.run(&config).silent();
        assert_eq!((node.traces(), endpoints(&node)), (vec![], vec![]), "{version}");
    }
}

#[test]
fn what_is_anothers_stays() {
    let node = Node::start();
    let netns = Netns::new("container");
    let config = network(&node, "1.1.0");
    call("ADD", "c1", &netns).with("CNI_IFNAME", "eth1").run(&config).result();
    // One that an operator made, with the name that the container's other interface would have.
    let operators = node.endpoint("c1_eth0");
    let (code, message) = call("ADD", "c1", &netns).run(&config).error();
    assert!(code == 100 && message.contains("c1_eth0"), "{code} {message}");
    // As runtimes do after a failed ADD.
    call("DEL", "c1", &netns).run(&config).silent();
    assert_eq!(endpoints(&node), ["c1_eth0", "c1_eth1"]);
    assert_eq!((devices(&netns).len(), devices(&operators.netns).len()), (2, 2));

    let id = "3f2a9c".repeat(11);
    let long = Netns::new("long");
    call("ADD", &id, &long).run(&config).result();
    assert!(endpoints(&node)[0].starts_with("3f2a9c3f2a9c_"), "{:?}", endpoints(&node));
    call("DEL", &id, &long).run(&config).silent();
    assert_eq!((endpoints(&node).len(), devices(&long)), (2, vec!["lo".to_owned()]));
}

#[test]
fn gc_deletes_what_this_network_no_longer_uses() {
    let node = Node::start();
    let pods = network(&node, "1.1.0");
    let other = with(pods.clone(), json!({ "name": "other" }));
    let added =
        [(&pods, "used"), (&pods, "stale-1"), (&pods, "stale-2"), (&other, "others")].map(|(config, id)| {
            let netns = Netns::new(id);
            call("ADD", id, &netns).run(config).result();
            (id, netns)
        });
    let gc = call_of_network("GC");
    let valid = |containers: &[&str]| {
        let valid: Vec<_> =
            containers.iter().map(|id| json!({ "containerID": id, "ifname": "eth0" })).collect();
        json!({ "cni.dev/valid-attachments": valid })
    };
    assert_eq!(gc.run(&pods).error().0, 7, "without the list, nothing may be deleted");
    assert_eq!(gc.run(&with(pods.clone(), valid(&[""]))).error().0, 7, "nor with one that is not understood");
    assert_eq!(endpoints(&node).len(), 4);

    gc.run(&with(pods, valid(&["used"]))).silent();
    assert_eq!(endpoints(&node), ["others_eth0", "used_eth0"]);
    for (id, netns) in &added {
        assert_eq!(devices(netns).len(), if id.starts_with("stale") { 1 } else { 2 }, "{id}");
    }
    gc.run(&with(other, valid(&[]))).silent();
    assert_eq!(endpoints(&node), ["used_eth0"]);
}
