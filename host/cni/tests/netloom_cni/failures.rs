//! Where nobody is asked, the specification's error codes.

use std::path::Path;

use netloom_test_support::CniCall;
use serde_json::{Value, json};

/// A network's configuration of a version.
pub(crate) fn config(version: &str, socket: &Path) -> Value {
    json!({"cniVersion": version, "name": "pods", "type": "netloom-cni", "socket": socket})
}

/// A socket that nobody listens on.
fn nobody() -> &'static Path {
    Path::new("/nonexistent/netloomd.sock")
}

fn add() -> CniCall {
    CniCall::new("ADD", Path::new("/run/netns/blue"))
}

#[track_caller]
fn code_of(config: &Value) -> u64 {
    add().run(config).error().0
}

#[test]
fn no_daemon_is_try_again_later() {
    for command in ["ADD", "DEL"] {
        let (code, message) =
            CniCall::new(command, Path::new("/run/netns/blue")).run(&config("1.0.0", nobody())).error();
        assert_eq!(code, 11, "{command}");
        assert!(message.starts_with("no netloomd answers on /nonexistent/netloomd.sock"), "{message}");
    }
    let gc = CniCall::new("GC", Path::new("/"));
    let mut valid = config("1.1.0", nobody());
    valid["cni.dev/valid-attachments"] = json!([]);
    assert_eq!(gc.run(&valid).error().0, 11);
    assert_eq!(CniCall::new("STATUS", Path::new("/")).run(&config("1.1.0", nobody())).error().0, 50);
}

#[test]
fn a_wrong_environment_names_every_variable() {
    let config = config("1.1.0", nobody());
    let (code, message) =
        add().without("CNI_CONTAINERID").without("CNI_NETNS").without("CNI_IFNAME").run(&config).error();
    assert_eq!(code, 4);
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
        assert!(message.contains(name), "{message}");
    }
    for (name, value) in [
        ("CNI_COMMAND", "add"),
        ("CNI_COMMAND", ""),
        ("CNI_CONTAINERID", "../c1"),
        ("CNI_CONTAINERID", "-c1"),
        ("CNI_NETNS", "blue"),
        ("CNI_IFNAME", "eth0/1"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a-name-too-long-"),
        ("CNI_ARGS", "IP=nonsense"),
        ("CNI_ARGS", "MAC=02:00"),
    ] {
        let (code, message) = add().with(name, value).run(&config).error();
        assert_eq!(code, 4, "{name}={value}");
        assert!(message.contains(name), "{message}");
    }
    assert_eq!(CniCall::new("DEL", Path::new("/")).without("CNI_IFNAME").run(&config).error().0, 4);
}

#[test]
fn stdin_must_be_json() {
    for text in ["", "{", "netloom"] {
        assert_eq!(add().run_text(text).error().0, 6, "{text:?}");
    }
    assert_eq!(CniCall::new("VERSION", Path::new("/")).run_text("{").error().0, 6);
}

#[test]
fn a_configuration_must_be_usable() {
    for (field, value) in [
        ("name", Value::Null),
        ("name", json!("")),
        ("name", json!("a/b")),
        ("socket", json!(3)),
        ("instance", json!("Not A Name")),
        ("runtimeConfig", json!({"ips": ["10.0.0"]})),
        ("runtimeConfig", json!({"mac": "02"})),
        ("prevResult", json!({"ips": [{"address": "nowhere"}]})),
        ("dns", json!("10.0.0.53")),
        ("mtu", json!(60)),
        ("mtu", json!("1500")),
        ("defaultRoute", json!("last")),
        ("routes", json!([{"dst": "10.0.0"}])),
        ("ipMasq", json!("no")),
    ] {
        let mut config = config("1.1.0", nobody());
        config[field] = value.clone();
        assert_eq!(code_of(&config), 7, "{field} = {value}");
    }
}

#[test]
fn what_would_be_ignored_is_refused_with_its_key_and_value() {
    for (key, config_key, value, shown) in [
        ("ipam", "ipam", json!({"subnet": "10.1.0.0/16"}), "10.1.0.0/16"),
        ("ipam", "ipam", json!({"type": "../host-local"}), "../host-local"),
        ("ipam", "ipam", json!({"type": "netloom-cni"}), "netloom-cni"),
        (
            "runtimeConfig.portMappings",
            "runtimeConfig",
            json!({"portMappings": [{"hostPort": 8080, "containerPort": 80}]}),
            "8080",
        ),
        ("routes", "routes", json!([{"dst": "10.1.0.0/16", "gw": "10.1.0.1"}]), "10.1.0.1"),
        ("runtimeConfig.bandwidth", "runtimeConfig", json!({"bandwidth": {"ingressRate": 4096}}), "4096"),
        (
            "runtimeConfig.ipRanges",
            "runtimeConfig",
            json!({"ipRanges": [[{"subnet": "10.1.0.0/16"}]]}),
            "10.1",
        ),
        ("runtimeConfig.aliases", "runtimeConfig", json!({"aliases": ["shop"]}), "shop"),
    ] {
        let mut config = config("1.1.0", nobody());
        config[config_key] = value;
        let (code, message) = add().run(&config).error();
        assert_eq!(code, 2, "{key}");
        assert!(message.contains(&format!("{key} = ")) && message.contains(shown), "{message}");
    }
    // Where they say nothing, they are not there.
    let mut config = config("1.1.0", nobody());
    config["runtimeConfig"] = json!({"portMappings": [], "bandwidth": {"ingressRate": 0, "egressRate": 0}});
    assert_eq!(code_of(&config), 11);
}

#[test]
fn another_version_is_refused() {
    for version in [json!("0.2.0"), json!("2.0.0"), Value::Null] {
        let mut config = config("1.1.0", nobody());
        config["cniVersion"] = version.clone();
        assert_eq!(code_of(&config), 1, "{version}");
    }
    for (command, version) in [("GC", "1.0.0"), ("STATUS", "1.0.0"), ("CHECK", "0.3.1")] {
        let (code, message) = CniCall::new(command, Path::new("/")).run(&config(version, nobody())).error();
        assert_eq!(code, 1, "{command}");
        assert!(message.contains(version), "{message}");
    }
}
