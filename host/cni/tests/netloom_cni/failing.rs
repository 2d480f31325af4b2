//! Given a daemon that fails in ways in which the real one cannot be made to fail, what a runtime is told.

use std::path::Path;

use netloom_api::types::{AttachmentKind, Done, Endpoint, EndpointCounters, EndpointSpec, EndpointView};
use netloom_core::model::{DeviceMode, EndpointMode, IfIndex, Name, NetnsCookie, NetnsId};
use netloom_test_support::CniCall;
use serde_json::{Value, json};

use crate::{daemon::Answers, failures::config};

#[test]
fn a_daemon_that_is_starting_is_try_again_later() {
    let daemon = Answers::default().starting().serve();
    let call = |command| CniCall::new(command, Path::new("/run/netns/blue"));
    let answer = call("ADD").run(&config("1.0.0", &daemon.socket()));
    let error: Value = serde_json::from_str(&answer.stdout).unwrap();
    let expected =
        json!({"cniVersion": "1.0.0", "code": 11, "msg": "netloomd is starting", "details": "try again"});
    assert_eq!(error, expected);
    let status = call("STATUS").run(&config("1.1.0", &daemon.socket())).error();
    assert_eq!(status, (50, "netloomd is not ready: netloomd is starting".to_owned()));
}

/// An endpoint of the network `pods`.
fn endpoint(name: &str) -> EndpointView {
    let spec = EndpointSpec {
        labels: [("cni.netloom/network".to_owned(), "pods".to_owned())].into(),
        ..EndpointSpec::plain(Name::new(name).unwrap(), "/run/netns/blue")
    };
    let endpoint = Endpoint {
        id: 7,
        netns: NetnsId { device: 4, inode: 4_026_531_840 },
        netns_cookie: NetnsCookie(4097),
        mode: EndpointMode::plain(DeviceMode::Netkit, AttachmentKind::Netkit),
        decided_by: "datapath-mode".to_owned(),
        addresses: Vec::new(),
        host_interface: "nl7".to_owned(),
        host_ifindex: IfIndex(12),
        peer_ifindex: IfIndex(2),
        mac: None,
        host_mac: None,
        attachments: Vec::new(),
        routes: None,
        spec,
    };
    EndpointView { endpoint, device: None, counters: EndpointCounters::default(), untranslated: None }
}

#[test]
fn gc_goes_on_behind_an_endpoint_that_cannot_be_deleted() {
    let endpoints = ["stale-1_eth0", "stale-2_eth0", "used_eth0"].map(endpoint);
    let daemon = Answers::default()
        .ok("GET /v1/endpoints", json!(endpoints))
        .refused("DELETE /v1/endpoints/stale-1_eth0", "its device is busy", "look at the log")
        .ok("DELETE /v1/endpoints/stale-2_eth0", json!(Done::default()))
        .serve();
    let mut pods = config("1.1.0", &daemon.socket());
    pods["cni.dev/valid-attachments"] = json!([{"containerID": "used", "ifname": "eth0"}]);
    let (code, message) = CniCall::new("GC", Path::new("/")).run(&pods).error();
    assert_eq!(code, 102);
    assert!(message.contains("stale-1_eth0: its device is busy"), "{message}");
    let deleted: Vec<String> = daemon.asked().into_iter().filter(|it| it.starts_with("DELETE")).collect();
    assert_eq!(deleted, ["DELETE /v1/endpoints/stale-1_eth0", "DELETE /v1/endpoints/stale-2_eth0"]);
}
