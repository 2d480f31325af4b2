//! Given a command line, what netloomd is asked, where what comes of it on a real node (tests/netns/tests/commands) does
//! not tell: options that a kernel may lack, what is encoded, completed or fetched on the way.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::{
    daemon::{Answers, BINARY, Request},
    values::*,
};

/// The request that a command makes; its answer does not matter.
#[track_caller]
fn asked(arguments: &[&str]) -> Request {
    let daemon = Answers::default().serve();
    daemon.netloom(arguments);
    daemon.request()
}

#[test]
fn an_endpoint_is_asked_for_in_full() {
    let request = asked(&[
        "endpoint",
        "add",
        "vm1",
        "--netns",
        "/proc/4242/ns/net",
        "--address",
        "10.0.0.7",
        "--address",
        "fd00::7",
        "--mac",
        "02:00:00:00:00:01",
        "--vm",
        "--runtime-class",
        "kata",
        "--label",
        "app=db",
        "--label",
        "tier=1",
        "--interface",
        "net1",
    ]);
    let expected = json!({
        "name": "vm1", "netns": "/proc/4242/ns/net", "interface": "net1", "addresses": ["10.0.0.7", "fd00::7"],
        "mac": "02:00:00:00:00:01", "runtime_class": "kata", "virtual_machine": true,
        "labels": {"app": "db", "tier": "1"},
    });
    assert_eq!(request.body, expected);
}

#[test]
fn a_pair_is_asked_for_in_full() {
    let words = "device create up0 --mode netkit-l2 --peer eth0 --peer-netns blue --address 10.0.0.2/24 \
         --mac 02:00:00:00:00:01 --peer-mac 02:00:00:00:00:02 --mtu 9000 --policy forward --peer-policy blackhole \
         --scrub none --peer-scrub default --headroom 64 --tailroom 32 --gso-max-size 100000 --gro-max-size 100001 \
         --gso-ipv4-max-size 100002 --gro-ipv4-max-size 100003 --tx-queues 4 --rx-queues 2 --alias text";
    let request = asked(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(request.route, "POST /v1/devices");
    let expected = json!({
        "name": "up0", "mode": "netkit-l2", "peer": "eth0", "peer_netns": "/run/netns/blue",
        "addresses": ["10.0.0.2/24"], "mac": "02:00:00:00:00:01", "peer_mac": "02:00:00:00:00:02", "mtu": 9000,
        "primary_policy": "forward", "peer_policy": "blackhole", "scrub": "none", "peer_scrub": "default",
        "headroom": 64, "tailroom": 32, "gso_max_size": 100_000, "gro_max_size": 100_001,
        "gso_ipv4_max_size": 100_002, "gro_ipv4_max_size": 100_003, "tx_queues": 4, "rx_queues": 2, "alias": "text",
    });
    assert_eq!(request.body, expected);
    let request = asked(&["device", "set", "up0", "--down"]);
    assert_eq!((request.route.as_str(), &request.body["up"]), ("PATCH /v1/devices/up0", &json!(false)));
}

#[test]
fn relative_paths_become_absolute() {
    let daemon = Answers::default().ok("POST /v1/attachments", &attach_answer()).serve();
    daemon
        .netloom(&["attach", "obj/count.o", "--device", "nl7", "--netns", "./ns", "--owner", "monitoring"])
        .success();
    let request = daemon.request();
    assert_eq!(request.body["object"], json!(daemon.folder().join("obj/count.o")));
    assert_eq!(request.body["netns"], json!(daemon.folder().join("ns")));
}

#[test]
fn an_attachment_is_asked_for_in_full() {
    let request = asked(&[
        "attach",
        "/x/f.o",
        "--endpoint",
        "web",
        "--point",
        "netkit-peer",
        "--owner",
        "sec/fw",
        "--priority",
        "-10",
        "--program",
        "from_pod",
        "--program",
        "to_pod",
        "--global",
        "rate=1000",
        "--mode",
        "tcx",
        "--share-maps",
        "--label",
        "role=filter",
        "--required",
    ]);
    assert_eq!(request.route, "POST /v1/attachments");
    let expected = json!({
        "device": "", "netns": null, "endpoint": "web", "point": "netkit-peer", "object": "/x/f.o",
        "program": "from_pod", "owner": "sec/fw", "priority": -10, "labels": {"role": "filter"}, "required": true,
        "more_programs": ["to_pod"], "all_programs": false, "mode": "tcx", "globals": {"rate": "1000"},
        "shared_maps": true,
    });
    assert_eq!(request.body, expected);
}

#[test]
fn chains_are_those_of_a_device_or_an_endpoint() {
    assert_eq!(asked(&["chain", "show", "eth0"]).route, "GET /v1/chains?device=eth0");
    let chains = [chain(), empty_chain()];
    let daemon = Answers::default().ok("GET /v1/chains?endpoint=web", &chains).serve();
    let all = daemon.netloom(&["chain", "show", "--endpoint", "web"]).success();
    assert!(all.contains("tcx-ingress of nl7") && all.contains("tcx-egress of nl7"), "{all}");
    let one = daemon.netloom(&["chain", "show", "--endpoint", "web", "--point", "tcx-egress"]).success();
    assert!(!one.contains("tcx-ingress of nl7") && one.contains("tcx-egress of nl7"), "{one}");
}

#[test]
fn words_in_routes_are_encoded() {
    let device = asked(&["chain", "show", "a&b", "--netns", "/run/netns/b c"]);
    assert_eq!(device.route, "GET /v1/chains?device=a%26b&netns=%2Frun%2Fnetns%2Fb%20c");
    assert_eq!(asked(&["detach", "../status"]).route, "DELETE /v1/attachments/..%2Fstatus");
    let backend = asked(&["backend", "remove", "dns", "[fd00::1]:53"]);
    assert_eq!(backend.route, "DELETE /v1/services/dns/backends/%5Bfd00%3A%3A1%5D%3A53");
}

#[test]
fn a_plugins_configuration_comes_from_files_and_values() {
    let daemon = Answers::default().ok("POST /v1/plugins", &plugin()).serve();
    let toml = "limit = 1\nsince = 2026-01-02\n[nested]\nlist = [1, 'a']\n";
    std::fs::write(daemon.folder().join("a.toml"), toml).unwrap();
    std::fs::write(daemon.folder().join("b.json"), r#"{"limit": 2, "mode": "b"}"#).unwrap();
    let grants = "[sockets]\naccess = 'mutate'\nnamespaces = ['node']\nports = ['80-90']\n";
    std::fs::write(daemon.folder().join("grants.toml"), grants).unwrap();
    daemon
        .netloom(&[
            "plugin",
            "load",
            "x.wasm",
            "--name",
            "first-aid",
            "--last",
            "--config",
            "a.toml",
            "--config",
            "b.json",
            "--config",
            "limit=3",
            "--config",
            "text=a=b",
            "--config",
            "strict=true",
            "--grant",
            "links",
            "--grant",
            "grants.toml",
            "--limit",
            "deadline_ms=200",
        ])
        .success();
    let expected = json!({
        "name": "first-aid", "path": daemon.folder().join("x.wasm"), "last": true, "watch": false, "limits": {"deadline_ms": 200},
        "grants": {
            "links": {"access": "read", "interfaces": ["*"], "namespaces": ["*"], "owners": ["*"], "programs": {}},
            "sockets": {"access": "mutate", "namespaces": ["node"], "ports": ["80-90"]},
        },
        "config": {
            "limit": 3, "mode": "b", "since": "2026-01-02", "nested": {"list": [1, "a"]}, "text": "a=b",
            "strict": true,
        },
    });
    assert_eq!(daemon.request().body, expected);
}

/// A netloom with a netloom-plugin beside it that is this script. Another process puts both into place: a file that
/// this one has open for writing is open for a moment in whatever another test starts just then, and cannot be run.
fn with_tool(folder: &Path, script: &str) -> PathBuf {
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(folder.join("script"), format!("#!/bin/sh\n{script}\n")).unwrap();
    for (from, to) in [(Path::new(BINARY), "netloom"), (&folder.join("script"), "netloom-plugin")] {
        let installed = Command::new("install").arg("-m755").arg(from).arg(bin.join(to)).status().unwrap();
        assert!(installed.success());
    }
    bin.join("netloom")
}

#[test]
fn a_component_in_a_registry_is_fetched_and_loaded_as_a_file() {
    let daemon = Answers::default().ok("POST /v1/plugins", &plugin()).serve();
    let netloom =
        with_tool(daemon.folder(), "echo \"$@\" > asked; echo 'pulled' >&2; echo cache/policy.wasm");
    let load = ["plugin", "load", "oci://ghcr.io/acme/policy:1", "--verify-key", "acme.pub", "--plain-http"];
    daemon.run(&netloom, &load).success();
    let asked = std::fs::read_to_string(daemon.folder().join("asked")).unwrap();
    assert_eq!(asked, "pull --verify-key acme.pub --plain-http -- ghcr.io/acme/policy:1\n");
    assert_eq!(daemon.request().body["path"], json!(daemon.folder().join("cache/policy.wasm")));
}

#[test]
fn a_component_that_cannot_be_fetched_is_not_loaded() {
    let daemon = Answers::default().serve();
    let netloom = with_tool(daemon.folder(), "echo 'error: nobody has signed it' >&2; exit 1");
    let said = daemon.run(&netloom, &["plugin", "load", "oci://ghcr.io/acme/policy:1"]).failure(1);
    assert_eq!(said, "error: cannot fetch ghcr.io/acme/policy:1: nobody has signed it\n");
    let said = daemon.run(&netloom, &["plugin", "load", "./p.wasm", "--verify-key", "acme.pub"]).failure(1);
    assert!(said.contains("p.wasm is a file") && said.contains("plugins.signed_by"), "{said}");
    assert_eq!(daemon.requests(), []);
}
