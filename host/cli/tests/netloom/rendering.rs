//! Given an answer, what people and programs see: each noun as table, wide table and JSON.

use netloom_api::types::{
    AttachmentMoved, Done, EndpointMigrated, ReapReport, Rebalanced, ServiceView, ServicesApplied,
};
use netloom_core::model::DeviceMode;
use serde::Serialize;

use crate::{
    daemon::{Answers, Ran},
    values::*,
};

fn run(route: &str, answer: &impl Serialize, arguments: &[&str]) -> Ran {
    Answers::default().ok(route, answer).serve().netloom(arguments)
}

/// Runs the command in each format and compares stdout with `snapshots/NAME.FORMAT.snap`.
#[track_caller]
fn lists(name: &str, route: &str, answer: &impl Serialize, arguments: &[&str]) {
    snapshots(name, route, answer, arguments, &["table", "wide", "json"]);
}

/// The same for what is not a table, and so the same when wide.
#[track_caller]
fn details(name: &str, route: &str, answer: &impl Serialize, arguments: &[&str]) {
    snapshots(name, route, answer, arguments, &["table", "json"]);
    let run = |format| run(route, answer, &[arguments, &["--output", format]].concat()).stdout;
    assert_eq!(run("table"), run("wide"));
}

#[track_caller]
fn snapshots(name: &str, route: &str, answer: &impl Serialize, arguments: &[&str], formats: &[&str]) {
    for format in formats {
        let ran = run(route, answer, &[arguments, &["--output", *format]].concat());
        insta::assert_snapshot!(format!("{name}.{format}"), ran.stdout);
    }
}

/// The same in the format that is the default.
#[track_caller]
fn snapshot(name: &str, route: &str, answer: &impl Serialize, arguments: &[&str]) {
    insta::assert_snapshot!(name, run(route, answer, arguments).stdout);
}

#[test]
fn status_has_a_section_a_noun() {
    lists("status", "GET /v1/status", &status(), &["status"]);
    snapshot("status-idle", "GET /v1/status", &idle_status(), &["status"]);
}

#[test]
fn endpoints() {
    let route = "GET /v1/endpoints";
    lists("endpoint-list", route, &[endpoint(), lost_endpoint()], &["endpoint", "list"]);
    snapshot("endpoint-list-empty", route, &[(); 0], &["endpoint", "list"]);
    details("endpoint-show", "GET /v1/endpoints/web", &endpoint(), &["endpoint", "show", "web"]);
    snapshot("endpoint-show-lost", "GET /v1/endpoints/vm1", &lost_endpoint(), &["endpoint", "show", "vm1"]);
    snapshot(
        "endpoint-add",
        "POST /v1/endpoints",
        &endpoint(),
        &["endpoint", "add", "web", "--netns", "blue"],
    );
}

#[test]
fn a_migration_says_how_long_there_was_no_path() {
    let migrated = EndpointMigrated {
        from: DeviceMode::Veth,
        gap_us: 4_130,
        attachments: vec![AttachmentMoved { was: "acme-watch-1".into(), id: "acme-watch-2".into() }],
        endpoint: endpoint(),
        warnings: Vec::new(),
    };
    let words = ["endpoint", "migrate", "web", "--mode", "netkit"];
    details("endpoint-migrate", "POST /v1/endpoints/web/migrate", &migrated, &words);
}

#[test]
fn events_of_the_datapath() {
    let lines: Vec<String> = monitored().iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    let watch = |format: &str, query: &str, arguments: &[&str]| {
        let route = format!("GET /v1/monitor{query}");
        let daemon = Answers::default().raw(&route, 200, lines.join("\n") + "\n").serve();
        daemon.netloom(&[&["monitor", "--count", "4", "--output", format], arguments].concat())
    };
    for format in ["table", "wide", "json"] {
        insta::assert_snapshot!(format!("monitor.{format}"), watch(format, "", &[]).stdout);
    }
    let filtered = watch(
        "json",
        "?endpoint=web&kind=drop&reason=spoofed",
        &["--endpoint", "web", "--drops", "--reason", "spoofed"],
    );
    assert_eq!(filtered.stdout.lines().collect::<Vec<_>>(), lines);
    let connects = watch("json", "?service=shop&kind=connect", &["--service", "shop", "--connects"]);
    assert_eq!(connects.stdout.lines().count(), lines.len());
    let daemon = Answers::default().raw("GET /v1/monitor", 200, lines.join("\n") + "\n").serve();
    let ended = daemon.netloom(&["monitor"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("netloomd has ended"), "{}", ended.stderr);
}

#[test]
fn devices() {
    let route = "GET /v1/devices";
    lists("device-list", route, &[pair(), dummy()], &["device", "list"]);
    details("device-show", "GET /v1/devices/uplink0", &pair(), &["device", "show", "uplink0"]);
    let route = "GET /v1/devices/dummy0?netns=%2Frun%2Fnetns%2Fblue";
    snapshot("device-show-single", route, &dummy(), &["device", "show", "dummy0", "--netns", "blue"]);
    let mut lost = pair();
    lost.peer = None;
    snapshot("device-show-lost", "GET /v1/devices/uplink0", &lost, &["device", "show", "uplink0"]);
}

#[test]
fn deletions() {
    details("done", "DELETE /v1/endpoints/web", &Done::default(), &["endpoint", "delete", "web"]);
}

#[test]
fn chains() {
    let chains = [chain(), legacy_chain(), empty_chain()];
    lists("chain-show", "GET /v1/chains?device=nl7", &chains, &["chain", "show", "nl7"]);
    let rebalanced =
        [Rebalanced { chain: chain(), moved: vec!["fw-2".into()], decided_by: Some("attach-order".into()) }];
    snapshot("chain-rebalance", "POST /v1/chains/rebalance", &rebalanced, &["chain", "rebalance", "nl7"]);
    snapshot("chain-show-none", "GET /v1/chains?device=nl7", &[(); 0], &["chain", "show", "nl7"]);
}

#[test]
fn attachments() {
    let attach = ["attach", "count.o", "--device", "nl7", "--owner", "monitoring"];
    lists("attach", "POST /v1/attachments", &attach_answer(), &attach);
    let route = "GET /v1/attachments";
    lists("attachment-list", route, &[attachment(), legacy_attachment()], &["attachment", "list"]);
    snapshot("attachment-list-empty", route, &[(); 0], &["attachments"]);
}

#[test]
fn services_and_backends() {
    let route = "GET /v1/services";
    let both = [service(), idle_service()];
    lists("service-list", route, &both, &["service", "list"]);
    snapshot("service-list-empty", route, &[(); 0], &["service", "list"]);
    let view = |service| ServiceView { service, connected: 7, refused: 2, unbound: 0 };
    details("service-show", "GET /v1/services/shop", &view(service()), &["service", "show", "shop"]);
    let idle = view(idle_service());
    snapshot("service-show-idle", "GET /v1/services/dns", &idle, &["service", "show", "dns"]);
    let applied = ServicesApplied {
        dry_run: false,
        added: vec![name("a"), name("b")],
        changed: vec![name("shop")],
        removed: vec![],
        unchanged: 9,
        reap: ReapReport::default(),
    };
    std::fs::write(std::env::temp_dir().join("netloom-cli-services.json"), "[]").unwrap();
    let file = std::env::temp_dir().join("netloom-cli-services.json");
    snapshot("service-apply", "PUT /v1/services", &applied, &["service", "apply", file.to_str().unwrap()]);
    details("backend-list", route, &both, &["backend", "list"]);
    snapshot("backend-list-empty", route, &both, &["backend", "list", "dns"]);
}

#[test]
fn reaps() {
    let route = "POST /v1/reap";
    let reap_command = ["reap", "10.200.0.2:8080"];
    lists("reap", route, &reap(), &reap_command);
    snapshot("reap-failed", route, &failed_reap(), &reap_command);
    snapshot("reap-dry", route, &dry_reap(), &["reap", "10.200.0.2:8080", "--dry-run"]);
    snapshot("reap-undecided", route, &undecided_reap(), &reap_command);
    snapshot("service-remove", "DELETE /v1/services/shop", &idle_reap(), &["service", "remove", "shop"]);
    let route = "DELETE /v1/services/shop/backends/10.200.0.2%3A8080";
    snapshot("backend-remove", route, &reap(), &["backend", "remove", "shop", "10.200.0.2:8080"]);
}

#[test]
fn sockets() {
    lists("sockets-list", "GET /v1/sockets", &[socket(5001)], &["sockets", "list"]);
    snapshot("sockets-list-empty", "GET /v1/sockets", &[(); 0], &["sockets"]);
}

#[test]
fn plugins() {
    let route = "GET /v1/plugins";
    lists("plugin-list", route, &[plugin(), ill_plugin()], &["plugin", "list"]);
    snapshot("plugin-list-empty", route, &[(); 0], &["plugin", "list"]);
    details("plugin-show", "GET /v1/plugins/custom", &ill_plugin(), &["plugin", "inspect", "custom"]);
    let route = "POST /v1/plugins/inspect";
    details("plugin-inspect", route, &inspection(), &["plugin", "inspect", "./custom.wasm"]);
}

#[test]
fn decisions_show_each_step() {
    lists("explain", "GET /v1/decisions", &decisions(), &["explain"]);
    snapshot("explain-none", "GET /v1/decisions", &[(); 0], &["explain"]);
}

#[test]
fn doctor() {
    details("doctor", "GET /v1/doctor", &ill(), &["doctor"]);
    snapshot("doctor-healthy", "GET /v1/doctor", &healthy(), &["doctor"]);
}
