//! DEL and GC: what goes, and what stays.

use netloom_netns_tests::{Node, shown::devices};
use netloom_test_support::{Netns, until};
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
fn a_deletion_while_the_daemon_is_away_is_carried_out_when_it_is_back() {
    let mut node = Node::start();
    let (netns, other) = (Netns::new("container"), Netns::new("other"));
    let config = network(&node, "1.0.0");
    call("ADD", "c1", &netns).run(&config).result();
    call("ADD", "c2", &other).run(&config).result();
    node.daemon.kill9();
    call("DEL", "c1", &netns).run(&config).silent();
    call("DEL", "c1", &netns).without("CNI_NETNS").run(&config).silent();
    assert_eq!(devices(&netns).len(), 2, "nobody has done it yet");
    let queued = node.daemon.paths().run.join("deletions/c1_eth0");
    let kept = std::fs::read(&queued).unwrap();
    node.daemon.restart();
    assert_eq!((endpoints(&node), devices(&netns)), (vec!["c2_eth0".to_owned()], vec!["lo".to_owned()]));
    assert!(!queued.exists());
    let recovered = node.status().adoption.recovered;
    assert!(recovered.iter().any(|line| line.contains("c1_eth0")), "{recovered:?}");

    // One of before is not about what was added later, whether it is found at once or only afterwards.
    std::fs::write(&queued, &kept).unwrap();
    call("ADD", "c1", &netns).run(&config).result();
    assert!(!queued.exists());
    std::fs::write(&queued, &kept).unwrap();
    until(|| queued.exists(), |exists| !exists);
    assert_eq!(endpoints(&node), ["c1_eth0", "c2_eth0"]);
    // Nor about another endpoint that has the name.
    let foreign = String::from_utf8(kept).unwrap().replace("c1_eth0", "c2_eth0");
    std::fs::write(queued.with_file_name("c2_eth0"), foreign).unwrap();
    until(|| queued.with_file_name("c2_eth0").exists(), |exists| !exists);
    assert_eq!(endpoints(&node), ["c1_eth0", "c2_eth0"]);
    // Nobody is asked, and nothing is waited for, if netloomd comes to look by itself.
    std::fs::write(&queued, labelled("c1", netloom_api::Asked::now().0)).unwrap();
    until(|| endpoints(&node), |left| *left == ["c2_eth0"]);
}

/// A deletion as netloom-cni writes it.
fn labelled(container: &str, asked_ns: u64) -> String {
    let labels = json!({ "cni.netloom/container": container, "cni.netloom/interface": "eth0" });
    json!({ "endpoint": format!("{container}_eth0"), "labels": labels, "asked_ns": asked_ns }).to_string()
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
