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
        ("prevResult", json!({"cniVersion": "1.1.0", "ips": []})),
    ] {
        let mut config = config("1.1.0", nobody());
        config[field] = value.clone();
        assert_eq!(code_of(&config), 7, "{field} = {value}");
    }
}

#[test]
fn addresses_are_not_anothers_to_give() {
    let mut config = config("1.1.0", nobody());
    config["ipam"] = json!({"type": "host-local"});
    let (code, message) = add().run(&config).error();
    assert_eq!(code, 2);
    assert!(message.contains("ipam") && message.contains("host-local"), "{message}");
}

#[test]
fn another_version_is_refused() {
    for version in [json!("0.3.1"), json!("2.0.0"), Value::Null] {
        let mut config = config("1.1.0", nobody());
        config["cniVersion"] = version.clone();
        assert_eq!(code_of(&config), 1, "{version}");
    }
    for command in ["GC", "STATUS"] {
        assert_eq!(
            CniCall::new(command, Path::new("/")).run(&config("1.0.0", nobody())).error().0,
            1,
            "{command}"
        );
    }
}
