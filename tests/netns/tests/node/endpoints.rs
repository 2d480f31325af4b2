use std::{
    collections::{BTreeMap, HashSet},
    os::fd::AsFd,
};

use netloom_core::model::{Chain, DeviceMode, Feature, Hook, HookPoint};
use netloom_sys::bpf::{self, AttachType, Position};
use netloom_test_support::{Netns, require};
use serde_json::json;

use netloom_netns_tests::{Endpoint, Listed, Node, ObjectFile, bpftool_chains, bpftool_links, refusal};

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

/// Of our own programs, foreign ones without a link, and filters of both, on each kind of chain that the kernel has.
#[test]
fn bpftool_lists_each_chain_as_it_is_shown() {
    for mode in ["auto", "tc"] {
        let node = Node::configured(&format!("attachments.mode = \"{mode}\""));
        let (web, _other) = (node.endpoint("web"), node.endpoint("other"));
        let object = ObjectFile::of(netloom_test_programs::OBSERVER);
        for (owner, more) in [("acme/first", json!({})), ("acme/filter", json!({ "mode": "tc" }))] {
            let mut request = json!({ "device": web.device(), "object": object.path(), "owner": owner });
            request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            node.attach(request).unwrap();
        }
        let file = object.path().display().to_string();
        let foreign =
            ["filter", "add", "dev", web.device(), "egress", "bpf", "direct-action", "object-file", &file];
        // Filters of ours may have made the qdisc.
        let _ = node.netns.command(&["tc", "qdisc", "add", "dev", web.device(), "clsact"]);
        node.netns.tc(&[&foreign[..], &["section", "tc"]].concat());
        let mut shown = node.chains(web.device());
        for chain in shown.iter().filter(|chain| !chain.hook.point.is_legacy()) {
            attach_without_link(&node, &chain.hook);
        }
        shown = node.chains(web.device());
        shown.retain(|chain| !chain.entries.is_empty());

        let kind = |point: HookPoint| point.as_str().replace("tc-", "clsact-").replace('-', "/");
        let entries = |chain: &Chain| -> Listed {
            chain.entries.iter().map(|entry| (entry.program.0, entry.link.map(|link| link.0))).collect()
        };
        let ours: BTreeMap<_, _> = shown
            .iter()
            .map(|chain| ((chain.hook.ifindex.0, kind(chain.hook.point)), entries(chain)))
            .collect();
        let mut listed = bpftool_chains(&node);
        listed.retain(|(device, _), _| *device == web.view.endpoint.host_ifindex.0);
        assert_eq!(listed, ours, "{mode}");
        let all: usize = ours.values().map(Vec::len).sum();
        let without_link = shown.iter().filter(|chain| !chain.hook.point.is_legacy()).count();
        assert_eq!(
            all,
            2 + 2 + 1 + without_link,
            "the datapath's two, ours, a foreign filter, and foreign programs"
        );

        for name in ["web", "other"] {
            node.delete(name).unwrap();
        }
        assert_eq!(bpftool_chains(&node), BTreeMap::new(), "{mode}");
    }
}

/// Attaches a program as a tool does that knows nothing of links.
fn attach_without_link(node: &Node, hook: &Hook) {
    let kind = match hook.point {
        HookPoint::TcxIngress => AttachType::TCX_INGRESS,
        HookPoint::TcxEgress => AttachType::TCX_EGRESS,
        HookPoint::NetkitPrimary => AttachType::NETKIT_PRIMARY,
        HookPoint::NetkitPeer => AttachType::NETKIT_PEER,
        other => panic!("{other} has filters"),
    };
    let program = bpf::load_next("foreign").unwrap();
    let attach = || bpf::prog_attach(program.as_fd(), hook.ifindex.0, kind, Position::Head, None, None);
    node.netns.run(attach).unwrap();
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
fn another_default_is_for_new_endpoints_and_old_ones_stay_as_they_are() {
    let mut node = Node::start();
    let add = |node: &Node, name: &str| {
        let netns = Netns::new(name);
        let request = json!({ "name": name, "netns": netns.path(), "runtime_class": "runc" });
        let view = node.add(request).unwrap();
        Endpoint { netns, view }
    };
    let old = add(&node, "old");
    node.daemon.kill9();
    node.daemon.set_config(
        "[endpoints]\nmtu = 1400\n[plugins]\nconfig.datapath-mode.vm_runtime_classes = [\"runc\"]\n",
    );
    node.daemon.restart();
    let new = add(&node, "new");
    let mode = |name: &str| {
        let view =
            node.endpoints().into_iter().find(|view| view.endpoint.spec.name.as_str() == name).unwrap();
        (view.endpoint.mode.device, view.endpoint.mode.mtu)
    };
    let device = old.view.endpoint.mode.device;
    assert_eq!(mode("old"), (device, 1500));
    assert_eq!(mode("new"), (if device.is_netkit() { DeviceMode::NetkitL2 } else { device }, 1400));
    for (from, to) in [(&old, &new), (&new, &old)] {
        assert!(from.netns.can_ping(to.v4()) && from.netns.can_ping(to.v6()));
    }
}

#[test]
fn deleting_takes_everything_and_an_address_can_be_asked_for_again() {
    let node = Node::start();
    let web = node.endpoint("web");
    let address = web.v4();
    assert!(!node.traces().is_empty());
    let done = node.delete("web").unwrap();
    assert_eq!(done.warnings, Vec::<String>::new());
    assert_eq!(node.traces(), Vec::<String>::new());
    assert!(!web.netns.ip(&["-o", "link"]).contains("eth0"));
    let spec = json!({ "name": "other", "netns": web.netns.path(), "addresses": [address] });
    assert_eq!(node.add(spec).unwrap().endpoint.addresses[0].addr(), address);
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

#[test]
fn an_address_rests_before_somebody_else_has_it() {
    let mut node = Node::configured("[endpoints]\nipv4_pool = \"10.77.0.0/29\"\n");
    let given = |endpoint: &Endpoint| endpoint.v4().to_string();
    let first = node.endpoint("first");
    let second = node.endpoint("second");
    assert_eq!((given(&first), given(&second)), ("10.77.0.2".to_owned(), "10.77.0.3".to_owned()));
    node.delete("second").unwrap();
    let third = node.endpoint("third");
    assert_eq!(given(&third), "10.77.0.4");
    node.delete("third").unwrap();
    // Over a restart as well, and a crash.
    node.daemon.kill9();
    node.daemon.restart();
    let fourth = node.endpoint("fourth");
    assert_eq!(given(&fourth), "10.77.0.5");
    let (fifth, sixth) = (node.endpoint("fifth"), node.endpoint("sixth"));
    assert_eq!(given(&fifth), "10.77.0.6");
    assert_eq!(given(&sixth), "10.77.0.3", "from the beginning, without what is in use");
    assert_eq!(sixth.v6().to_string(), "fd6e:6c00::7");
}

#[test]
fn a_pool_passes_over_what_is_excluded_and_tells_how_much_is_given() {
    let pools = "ipv4_pool = \"10.210.0.0/28\"\nipv6_pool = \"fd6e::/64\"";
    let node = Node::configured(&format!(
        "[endpoints]\n{pools}\nexclude = [\"10.210.0.0/30\", \"10.210.0.14/32\", \"fd6e::/65\"]\n"
    ));
    let doctor = || node.daemon.netloom(&["doctor"]).stdout;
    let names: Vec<String> = (0..10).map(|number| format!("web{number}")).collect();
    let mut endpoints: Vec<_> = names.iter().take(8).map(|name| node.endpoint(name)).collect();
    assert_eq!(endpoints[0].v4().to_string(), "10.210.0.4");
    assert_eq!(endpoints[0].v6().to_string(), "fd6e::8000:0:0:0");
    assert!(!doctor().contains("10.210.0.0/28"), "{}", doctor());
    endpoints.push(node.endpoint(&names[8]));
    assert!(doctor().contains("9 of its 10 addresses are given"), "{}", doctor());
    assert!(node.daemon.netloom(&["status"]).stdout.contains("10.210.0.0/28, 9 of 10 given"));
    let metrics = node.daemon.text("/metrics").unwrap();
    for line in ["pool_addresses{pool=\"10.210.0.0/28\"} 9", "pool_size{pool=\"10.210.0.0/28\"} 10"] {
        assert!(metrics.contains(&format!("netloom_{line}\n")), "{metrics}");
    }
    endpoints.push(node.endpoint(&names[9]));
    assert!(doctor().contains("it has no free address"), "{}", doctor());
    let netns = Netns::new("late");
    let (_, message, _) = refusal(node.add(json!({ "name": "late", "netns": netns.path() })));
    assert!(message.contains("10.210.0.0/28 has no free address"), "{message}");
    // Who asks for an address that is excluded gets it.
    let asked = json!({ "name": "late", "netns": netns.path(), "addresses": ["10.210.0.14"] });
    assert_eq!(node.add(asked).unwrap().endpoint.addresses, ["10.210.0.14/32".parse().unwrap()]);
}
