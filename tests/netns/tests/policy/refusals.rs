//! Requests that are no requests, and configurations that are none.

use std::{
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt as _},
    process::Command,
    time::Duration,
};

use netloom_test_support::{Netns, binary, command};
use serde_json::json;

use netloom_netns_tests::{Node, refusal};

/// The answer to some bytes, after which the connection stays open or not.
fn send(node: &Node, bytes: &[u8], hang_up: bool) -> String {
    let mut stream = UnixStream::connect(node.daemon.paths().socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(bytes).unwrap();
    if hang_up {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut answer = Vec::new();
    // A server that hangs up on garbage has answered as well.
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn garbage_on_the_socket_costs_nothing() {
    let node = Node::start();
    for garbage in [&b"\0\xff\xfe garbage \r\n\r\n"[..], b"", b"GET", &[0x16; 4096]] {
        send(&node, garbage, true);
    }
    let unknown = send(&node, b"GET /v1/nonsense HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", false);
    assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains("/v1/nonsense"), "{unknown}");
    let half = b"POST /v1/services HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: close\r\n\r\n{\"a";
    assert!(send(&node, half, false).starts_with("HTTP/1.1 400"));
    assert_eq!(node.status().services.len(), 0);
}

#[test]
fn the_socket_is_for_root_alone() {
    let node = Node::start();
    let mode = std::fs::metadata(node.daemon.paths().socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_wrong_configuration_names_the_key_and_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("netloom.toml");
    std::fs::write(&file, "[endpoints]\nmut = 1\n").unwrap();
    let output = command(&[
        binary("netloomd").to_str().unwrap(),
        "--instance",
        "nlt-config",
        "--config",
        file.to_str().unwrap(),
    ]);
    assert!(!output.ok());
    assert!(
        output.stderr.contains("mut") && output.stderr.contains(file.to_str().unwrap()),
        "{}",
        output.stderr
    );
}

#[test]
fn without_rights_it_says_which_are_missing_and_what_still_works() {
    // Where it was built another user may not look.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = folder.path().join("netloomd");
    std::fs::copy(binary("netloomd"), &program).unwrap();
    let output = Command::new(program).uid(65_534).gid(65_534).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("CAP_NET_ADMIN") && stderr.contains("netloomd config"), "{stderr}");
}

#[test]
fn metrics_are_openmetrics_and_count() {
    let node = Node::start();
    let _web = node.endpoint("web");
    let metrics = node.daemon.netloom(&["metrics"]).expect_ok();
    assert!(metrics.contains("netloom_objects{what=\"endpoints\"} 1"), "{metrics}");
    assert!(
        metrics.contains("netloom_decisions_total{hook=\"datapath-mode\",by=\"datapath-mode\"} 1"),
        "{metrics}"
    );
    for line in [
        "netloom_endpoint_dropped_packets_total{endpoint=\"web\",reason=\"spoofed\"} 0",
        "netloom_service_refusals_total{service=\"\"} 0",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert!(metrics.trim_end().ends_with("# EOF"), "{metrics}");
}

#[test]
fn an_address_of_another_node_is_refused() {
    let node = Node::configured("[endpoints]\nprefixes = [\"10.5.0.0/24\", \"fd05::/64\"]\n");
    let netns = Netns::new("web");
    let spec = |address: &str| json!({ "name": "web", "netns": netns.path(), "addresses": [address] });
    let (status, error, hint) = refusal(node.add(spec("10.6.0.9")));
    assert_eq!(status, 400);
    assert!(error.contains("10.6.0.9") && error.contains("10.5.0.0/24"), "{error}");
    assert!(hint.contains("endpoints.prefixes"), "{hint}");
    node.add(spec("10.5.0.9")).unwrap();
}
