//! Given a daemon that is well, what each command does and answers.

use netloom_api::types::EndpointSpec;
use netloom_core::model::Name;
use serde_json::{Value, json};

use crate::{
    daemon::Daemon,
    runtime::{Call, config},
};

fn merged(mut config: Value, more: &Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

#[test]
fn add_answers_in_the_version_that_was_asked_for() {
    let daemon = Daemon::start();
    let netns = daemon.netns();
    for version in ["1.1.0", "1.0.0", "0.4.0"] {
        let config = config(version, &daemon.socket());
        let result = Call::new("ADD", &netns).run(&config).result();
        let mut expected = json!({
            "cniVersion": version,
            "interfaces": [{"name": "nl7"}, {"name": "eth0", "sandbox": netns}],
            "ips": [{"address": "10.200.0.2/32", "interface": 1}, {"address": "fd00::2/128", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            "dns": {},
        });
        match version {
            "1.1.0" => {
                expected["interfaces"][0]["mtu"] = json!(1450);
                expected["interfaces"][1]["mtu"] = json!(1450);
            }
            "0.4.0" => {
                expected["ips"][0]["version"] = json!("4");
                expected["ips"][1]["version"] = json!("6");
            }
            _ => {}
        }
        assert_eq!(result, expected);
        Call::new("DEL", &netns).run(&config).silent();
    }
}

#[test]
fn add_asks_for_what_the_runtime_and_the_user_want() {
    let daemon = Daemon::start();
    let config = merged(
        config("1.1.0", &daemon.socket()),
        &json!({
            "runtimeClass": "kata",
            "virtualMachine": true,
            "runtimeConfig": {"ips": ["10.9.0.7/16", "fd00::7"], "mac": "02:00:00:00:00:01"},
            "args": {"cni": {"ips": ["10.9.0.8"], "labels": [{"key": "app", "value": "shop"}]}},
            "capabilities": {"ips": true, "mac": true},
            "ipam": {},
        }),
    );
    let call = Call::new("ADD", &daemon.netns())
        .with("CNI_IFNAME", "net1")
        .with("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;IP=10.9.0.9");
    let result = call.run(&config).result();
    assert_eq!(result["interfaces"][0]["mac"], "02:00:00:00:00:ff");
    assert_eq!(result["interfaces"][1]["mac"], "02:00:00:00:00:01");
    assert_eq!(result["interfaces"][1]["name"], "net1");

    let spec = daemon.endpoint().endpoint.spec;
    assert_eq!(spec.name.as_str(), "c1_net1");
    assert_eq!(spec.netns, daemon.netns());
    let addresses: Vec<String> = spec.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.9.0.7", "fd00::7"]);
    assert_eq!(spec.runtime_class.as_deref(), Some("kata"));
    assert!(spec.virtual_machine);
    let expected = json!({
        "app": "shop",
        "cni.netloom/container": "c1",
        "cni.netloom/interface": "net1",
        "cni.netloom/network": "pods",
        "io.kubernetes.pod.name": "web-0",
        "io.kubernetes.pod.namespace": "default",
    });
    assert_eq!(json!(spec.labels), expected);
}

#[test]
fn addresses_may_come_by_the_older_ways() {
    let daemon = Daemon::start();
    let call = Call::new("ADD", &daemon.netns()).with("CNI_ARGS", "IP=10.9.0.9/24;MAC=02:00:00:00:00:03");
    call.run(&config("1.0.0", &daemon.socket())).result();
    let spec = daemon.endpoint().endpoint.spec;
    assert_eq!((json!(spec.addresses), json!(spec.mac)), (json!(["10.9.0.9"]), json!("02:00:00:00:00:03")));
}

#[test]
fn del_may_be_called_again() {
    let daemon = Daemon::start();
    let config = config("1.1.0", &daemon.socket());
    Call::new("ADD", &daemon.netns()).run(&config).result();
    // The namespace may be gone by then.
    let del = Call::new("DEL", &daemon.netns()).without("CNI_NETNS");
    del.run(&config).silent();
    assert!(daemon.names().is_empty());
    del.run(&config).silent();
}

#[test]
fn del_leaves_another_containers_interface_and_an_operators_endpoint_alone() {
    let daemon = Daemon::start();
    let config = config("1.1.0", &daemon.socket());
    Call::new("ADD", &daemon.netns()).with("CNI_IFNAME", "eth1").run(&config).result();
    let spec = EndpointSpec {
        name: Name::new("c1_eth0").unwrap(),
        netns: daemon.netns(),
        interface: "eth0".to_owned(),
        addresses: Vec::new(),
        mac: None,
        runtime_class: None,
        virtual_machine: false,
        labels: [].into(),
    };
    daemon.add(spec);
    let (code, message) = Call::new("ADD", &daemon.netns()).run(&config).error();
    assert_eq!((code, message.as_str()), (100, "c1_eth0 is there already"));
    // As runtimes do after a failed ADD.
    Call::new("DEL", &daemon.netns()).run(&config).silent();
    assert_eq!(daemon.names(), ["c1_eth0", "c1_eth1"]);
}

#[test]
fn a_container_with_a_long_id_comes_and_goes() {
    let daemon = Daemon::start();
    let config = config("1.1.0", &daemon.socket());
    let id = "3f2a9c".repeat(11);
    Call::new("ADD", &daemon.netns()).with("CNI_CONTAINERID", &id).run(&config).result();
    assert!(daemon.names()[0].starts_with("3f2a9c3f2a9c_"));
    Call::new("DEL", &daemon.netns()).with("CNI_CONTAINERID", &id).run(&config).silent();
    assert!(daemon.names().is_empty());
}

#[test]
fn check_finds_what_has_changed() {
    let daemon = Daemon::start();
    let config = config("1.1.0", &daemon.socket());
    let result = Call::new("ADD", &daemon.netns()).run(&config).result();
    let check = Call::new("CHECK", &daemon.netns());
    let with_result = merged(config.clone(), &json!({"prevResult": result}));
    check.run(&with_result).silent();

    let mut fewer = result;
    fewer["ips"].as_array_mut().unwrap().pop();
    let fewer = merged(config.clone(), &json!({"prevResult": fewer}));
    let problem = |answer: crate::runtime::Answer| {
        let (code, message) = answer.error();
        assert_eq!(code, 101, "{message}");
        message
    };
    assert!(problem(check.run(&fewer)).contains("fd00::2/128"));
    let elsewhere = Call::new("CHECK", &daemon.socket());
    assert!(problem(elsewhere.run(&with_result)).contains("and it is in net:["));
    daemon.change(|view| view.device.as_mut().unwrap().up = false);
    assert!(problem(check.run(&with_result)).contains("its device nl7 is down"));
    daemon.change(|view| view.device = None);
    assert!(problem(check.run(&with_result)).contains("its device nl7 is gone"));
    Call::new("DEL", &daemon.netns()).run(&config).silent();
    assert!(problem(check.run(&with_result)).contains("netloomd knows no endpoint c1_eth0"));
    assert_eq!(check.run(&config).error().0, 7, "without prevResult");
}

#[test]
fn gc_deletes_what_this_network_no_longer_uses() {
    let daemon = Daemon::start();
    let pods = config("1.1.0", &daemon.socket());
    let other = merged(pods.clone(), &json!({"name": "other"}));
    for (config, id) in [(&pods, "used"), (&pods, "stale-1"), (&pods, "stale-2"), (&other, "others")] {
        Call::new("ADD", &daemon.netns()).with("CNI_CONTAINERID", id).run(config).result();
    }
    daemon.make_stuck("stale-1_eth0");
    let used = json!([{"containerID": "used", "ifname": "eth0"}]);
    let gc = Call::new("GC", &daemon.netns())
        .without("CNI_CONTAINERID")
        .without("CNI_NETNS")
        .without("CNI_IFNAME");
    let (code, message) = gc.run(&merged(pods.clone(), &json!({"cni.dev/valid-attachments": used}))).error();
    assert_eq!(code, 102);
    assert!(message.contains("stale-1_eth0: its device is busy"), "{message}");
    assert_eq!(daemon.names(), ["others_eth0", "stale-1_eth0", "used_eth0"]);

    assert_eq!(gc.run(&pods).error().0, 7, "without the list, nothing may be deleted");
    let nonsense = json!({"cni.dev/valid-attachments": [{"containerID": "", "ifname": "eth0"}]});
    assert_eq!(gc.run(&merged(pods, &nonsense)).error().0, 7, "nor with one that is not understood");
    gc.run(&merged(other, &json!({"cni.dev/valid-attachments": []}))).silent();
    assert_eq!(daemon.names(), ["stale-1_eth0", "used_eth0"]);
}

#[test]
fn status_says_whether_add_would_work() {
    let daemon = Daemon::start();
    let config = config("1.1.0", &daemon.socket());
    let status = Call::new("STATUS", &daemon.netns()).without("CNI_CONTAINERID").without("CNI_IFNAME");
    status.run(&config).silent();
    daemon.start_over();
    assert_eq!(status.run(&config).error(), (50, "netloomd is not ready: netloomd is starting".to_owned()));
}

#[test]
fn version_tells_every_version() {
    let call = Call::new("VERSION", std::path::Path::new("/")).without("CNI_NETNS");
    let expected = json!({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]});
    assert_eq!(call.run(&json!({"cniVersion": "1.0.0"})).result(), expected);
    assert_eq!(call.run_text("").result()["cniVersion"], "1.1.0");
}
