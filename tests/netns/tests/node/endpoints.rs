use std::collections::{BTreeSet, HashSet};

use netloom_core::model::{DeviceMode, Feature};
use netloom_test_support::{Netns, require};
use serde_json::json;

use netloom_netns_tests::{Node, ObjectFile, bpftool_knows_links, bpftool_links, bpftool_programs, refusal};

#[test]
fn two_endpoints_reach_each_other_and_the_node_through_the_datapath() {
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    for address in [server.v4(), server.v6()] {
        assert!(client.netns.can_ping(address), "{address}");
        assert!(node.netns.can_ping(address), "the node does not reach {address}");
    }
    let view = &node.endpoints()[1];
    assert_eq!(view.endpoint.spec.name.as_str(), "server");
    assert!(view.counters.received_packets >= 4, "{:?}", view.counters);
    assert!(view.counters.sent_packets >= 4, "{:?}", view.counters);
}

#[test]
fn the_kernel_and_the_status_agree() {
    let node = Node::start();
    let web = node.endpoint("web");
    let status = node.status();
    let links = bpftool_links();
    let own = status.attachments.iter().filter_map(|attachment| attachment.link).map(|link| link.0);
    for link in own.chain(status.socket_lb_links.iter().copied()) {
        assert!(links.contains(&link), "link {link} is not in {links:?}");
    }
    let shown = node.netns.ip(&["-o", "link", "show", web.device()]);
    let index = format!("{}: {}", web.view.endpoint.host_ifindex, web.device());
    assert!(shown.starts_with(&index), "{shown}");
    assert!(
        shown.contains("endpoint web")
            || node.netns.ip(&["link", "show", web.device()]).contains("endpoint web")
    );
}

#[test]
fn bpftool_lists_the_programs_that_the_status_lists() {
    let mut configurations = vec!["attachments.mode = \"tc\""];
    if bpftool_knows_links() {
        configurations.push("");
    }
    for configuration in configurations {
        let node = Node::configured(configuration);
        let (web, _other) = (node.endpoint("web"), node.endpoint("other"));
        let observer = ObjectFile::of(netloom_test_programs::OBSERVER);
        node.attach(json!({ "device": web.device(), "object": observer.path(), "owner": "acme/observer" }))
            .unwrap();
        let attachments = node.status().attachments;
        assert_eq!(attachments.len(), 5, "{attachments:?}");
        // The datapath is on netkit links wherever the device is netkit.
        let shown = attachments.iter().filter(|own| own.hook.point.is_legacy() || bpftool_knows_links());
        let own: BTreeSet<_> = shown.map(|own| (own.hook.ifindex.0, own.program.0)).collect();
        assert_eq!(bpftool_programs(&node), own, "with {configuration:?}");
        node.delete("web").unwrap();
        assert!(
            bpftool_programs(&node).iter().all(|(device, _)| *device != web.view.endpoint.host_ifindex.0)
        );
        node.delete("other").unwrap();
        assert_eq!(bpftool_programs(&node), BTreeSet::new(), "with {configuration:?}");
    }
}

#[test]
fn netkit_is_chosen_where_the_kernel_has_it_and_l2_for_who_asks_for_a_mac() {
    if !require(Feature::NetkitLinks) {
        return;
    }
    let node = Node::start();
    let web = node.endpoint("web");
    assert_eq!(web.view.endpoint.mode.device, DeviceMode::Netkit);
    assert_eq!(web.view.endpoint.decided_by, "datapath-mode");
    let netns = Netns::new("machine");
    let spec = json!({ "name": "machine", "netns": netns.path(), "mac": "02:00:00:00:00:42" });
    let machine = node.add(spec).unwrap();
    assert_eq!(machine.endpoint.mode.device, DeviceMode::NetkitL2);
    assert!(netns.ip(&["link", "show", "eth0"]).contains("02:00:00:00:00:42"));
    let address = machine.endpoint.addresses[0].addr();
    assert!(web.netns.can_ping(address), "from L3 to L2");
    assert!(netns.can_ping(web.v4()) && netns.can_ping(web.v6()), "from L2 to L3");
}

#[test]
fn deleting_takes_everything_and_addresses_are_given_out_again() {
    let node = Node::start();
    let web = node.endpoint("web");
    let address = web.v4();
    assert!(!node.traces().is_empty());
    let done = node.delete("web").unwrap();
    assert_eq!(done.warnings, Vec::<String>::new());
    assert_eq!(node.traces(), Vec::<String>::new());
    assert!(!web.netns.ip(&["-o", "link"]).contains("eth0"));
    assert_eq!(node.endpoint("other").v4(), address);
}

#[test]
fn what_is_taken_is_refused_and_says_by_whom() {
    let node = Node::start();
    let web = node.endpoint("web");
    let other = Netns::new("other");

    let (status, error, _) = refusal(node.add(json!({ "name": "web", "netns": other.path() })));
    assert!(status == 409 && error.contains("web"), "{error}");

    let spec = json!({ "name": "thief", "netns": other.path(), "addresses": [web.v4()] });
    let (status, error, _) = refusal(node.add(spec));
    assert!(status == 409 && error.contains("endpoint web"), "{error}");

    let (_, error, _) = refusal(node.add(json!({ "name": "again", "netns": web.netns.path() })));
    assert!(error.contains("eth0"), "{error}");
    assert_eq!(node.endpoints().len(), 1);
    assert_eq!(other.ip(&["-o", "link"]).lines().count(), 1, "something was left in the endpoint");
}

#[test]
fn a_path_that_is_no_other_namespace_is_refused() {
    let node = Node::start();
    for (path, word) in [
        ("/run/netns/nowhere", "/run/netns/nowhere"),
        ("/etc/hostname", "/etc/hostname"),
        (node.netns.path().to_str().unwrap(), "node's own"),
    ] {
        let (status, error, _) = refusal(node.add(json!({ "name": "web", "netns": path })));
        assert!(status == 400 && error.contains(word), "{status} {error}");
    }
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[test]
fn an_endpoint_whose_namespace_is_gone_is_reported_and_can_be_deleted() {
    let node = Node::start();
    let web = node.endpoint("web");
    drop(web);
    let doctor = node.daemon.netloom(&["doctor"]);
    assert!(doctor.stdout.contains("endpoint web"), "{}", doctor.stdout);
    node.delete("web").unwrap();
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[test]
fn a_spoofed_source_address_is_dropped_and_counted() {
    let node = Node::start();
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    client.netns.add_address("lo", "10.99.99.99/32");
    let spoofed =
        client.netns.command(&["ping", "-c", "1", "-W", "1", "-I", "10.99.99.99", &server.v4().to_string()]);
    assert!(!spoofed.ok());
    assert!(node.endpoints()[0].counters.dropped_spoofed > 0);
    assert!(client.netns.can_ping(server.v4()), "its own address is cut off too");
}

#[test]
fn endpoints_added_at_the_same_moment_share_nothing() {
    let node = Node::start();
    let namespaces: Vec<Netns> = (0..6).map(|number| Netns::new(&format!("ep{number}"))).collect();
    std::thread::scope(|scope| {
        for (number, netns) in namespaces.iter().enumerate() {
            let node = &node;
            scope.spawn(move || {
                let name = format!("ep{number}");
                let path = netns.path();
                let words = ["endpoint", "add", &name, "--netns", path.to_str().unwrap()];
                assert!(node.daemon.netloom(&words).expect_ok().contains(&name));
            });
        }
    });
    let endpoints = node.endpoints();
    let addresses: HashSet<_> =
        endpoints.iter().flat_map(|view| &view.endpoint.addresses).map(|net| net.addr()).collect();
    let ids: HashSet<_> = endpoints.iter().map(|view| view.endpoint.id).collect();
    assert_eq!((endpoints.len(), ids.len(), addresses.len()), (6, 6, 12));
    let last = endpoints[5].endpoint.addresses[0].addr();
    assert!(namespaces[0].can_ping(last));
}
