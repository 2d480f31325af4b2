//! Given a command line, what netloomd is asked.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
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
fn a_namespace_name_becomes_its_path() {
    let request = asked(&["endpoint", "add", "web", "--netns", "blue"]);
    assert_eq!(request.route, "POST /v1/endpoints");
    assert_eq!(request.body["netns"], "/run/netns/blue");
    assert_eq!(request.body["interface"], "eth0");
    assert_eq!(request.body["addresses"], json!([]));
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
fn a_change_of_an_endpoint_names_what_changes_and_nothing_else() {
    let request = asked(&["endpoint", "set", "web", "--mtu", "9000", "--peer-policy", "forward"]);
    assert_eq!(request.route, "PATCH /v1/endpoints/web");
    let given: Vec<_> =
        request.body.as_object().unwrap().iter().filter(|(_, value)| !value.is_null()).collect();
    assert_eq!(given, [(&"mtu".to_owned(), &json!(9_000)), (&"peer_policy".to_owned(), &json!("forward"))]);
}

#[test]
fn a_migration_names_the_mode_and_the_mac() {
    let request = asked(&["endpoint", "migrate", "vm1", "--mode", "netkit-l2", "--mac", "02:00:00:00:00:01"]);
    assert_eq!(request.route, "POST /v1/endpoints/vm1/migrate");
    assert_eq!(request.body, json!({ "mode": "netkit-l2", "mac": "02:00:00:00:00:01" }));
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
fn an_attachment_is_updated_migrated_and_brought_into_order() {
    let update = asked(&["attachment", "update", "fw-1", "/x/f2.o", "--global", "rate=hex:00ff"]);
    assert_eq!(update.route, "POST /v1/attachments/fw-1/update");
    let expected = json!({"object": "/x/f2.o", "program": null, "globals": {"rate": "hex:00ff"}});
    assert_eq!(update.body, expected);
    let migrate = asked(&["attachment", "migrate", "web:from", "--to", "tc"]);
    assert_eq!(migrate.route, "POST /v1/attachments/web%3Afrom/migrate");
    assert_eq!(migrate.body, json!({"to": "tc"}));
    let rebalance = asked(&["chain", "rebalance", "eth0", "--point", "tcx-ingress", "--dry-run"]);
    assert_eq!(rebalance.route, "POST /v1/chains/rebalance");
    let expected =
        json!({"device": "eth0", "netns": null, "endpoint": null, "point": "tcx-ingress", "dry_run": true});
    assert_eq!(rebalance.body, expected);
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
fn services_and_backends() {
    let add = asked(&["service", "add", "shop", "10.96.0.10:80/tcp", "--backend", "10.0.0.2:8080"]);
    assert_eq!(add.route, "POST /v1/services");
    let expected =
        json!({"name": "shop", "vip": "10.96.0.10:80", "protocol": "tcp", "backends": ["10.0.0.2:8080"]});
    assert_eq!(add.body, expected);
    let backend = asked(&["backend", "add", "shop", "10.0.0.3:8080"]);
    assert_eq!(backend.route, "POST /v1/services/shop/backends");
    assert_eq!(backend.body, json!({"address": "10.0.0.3:8080", "weight": 1}));
    let arguments = [
        "service",
        "add",
        "shop",
        "10.96.0.10:80/tcp",
        "--backend",
        "10.0.0.2:80=3",
        "--backend",
        "10.0.0.3:80",
    ];
    let add = asked(&arguments);
    assert_eq!(add.body["backends"], json!(["10.0.0.2:80", "10.0.0.3:80"]));
    assert_eq!(add.body["weights"], json!({"10.0.0.2:80": 3}));
    let weight = asked(&["backend", "weight", "shop", "10.0.0.3:8080", "0"]);
    assert_eq!(weight.route, "PATCH /v1/services/shop/backends/10.0.0.3%3A8080");
    assert_eq!(weight.body, json!({"weight": 0}));
    assert_eq!(asked(&["service", "remove", "shop"]).route, "DELETE /v1/services/shop");
}

#[test]
fn a_reap_may_be_dry_and_of_one_service() {
    let request = asked(&["reap", "10.0.0.2:8080", "--service", "shop", "--dry-run"]);
    assert_eq!(request.route, "POST /v1/reap");
    assert_eq!(request.body, json!({"service": "shop", "backend": "10.0.0.2:8080", "dry_run": true}));
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

#[test]
fn plugins_are_inspected_by_file_or_by_name() {
    assert_eq!(asked(&["plugin", "inspect", "attach-order"]).route, "GET /v1/plugins/attach-order");
    assert_eq!(asked(&["plugin", "inspect", "./x"]).route, "POST /v1/plugins/inspect");
    let daemon = Answers::default().serve();
    std::fs::write(daemon.folder().join("x.wasm"), "").unwrap();
    daemon.netloom(&["plugin", "inspect", "x.wasm"]);
    assert_eq!(daemon.request().body["path"], json!(daemon.folder().join("x.wasm")));
    assert_eq!(asked(&["plugin", "unload", "custom"]).route, "DELETE /v1/plugins/custom");
}

/// A netloom with a netloom-plugin beside it that is this script.
fn with_tool(folder: &Path, script: &str) -> PathBuf {
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::copy(BINARY, bin.join("netloom")).unwrap();
    std::fs::write(bin.join("netloom-plugin"), format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(bin.join("netloom-plugin"), Permissions::from_mode(0o755)).unwrap();
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
