//! Addresses from another plugin: Debian's host-local, and a script where an older release of it cannot answer.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use netloom_netns_tests::{
    Node,
    shown::{addresses, default_routes, devices},
};
use netloom_test_support::{CniCall, Netns};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    chained::OTHERS,
    runtime::{call, call_of_network, checked, endpoints, network, with},
};

/// A network whose addresses host-local gives, of these ranges.
struct HostLocal {
    config: Value,
    given: TempDir,
}

impl HostLocal {
    fn new(node: &Node, ranges: &[&str]) -> Self {
        let given = tempfile::tempdir().unwrap();
        let ranges: Vec<Value> = ranges.iter().map(|range| json!([{ "subnet": range }])).collect();
        let ipam = json!({
            "type": "host-local", "ranges": ranges, "dataDir": given.path(),
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "10.8.0.0/16" }],
        });
        Self { config: with(network(node, "1.0.0"), json!({ "ipam": ipam })), given }
    }

    /// The addresses that it takes for used.
    fn used(&self) -> Vec<String> {
        let entries = fs::read_dir(self.given.path().join("pods")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut used: Vec<String> = names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
        used.sort();
        used
    }
}

fn with_others(call: CniCall) -> CniCall {
    call.with("CNI_PATH", &format!("/nowhere:{OTHERS}"))
}

#[test]
fn host_local_gives_the_addresses_and_gets_them_back() {
    let node = Node::start();
    let network = HostLocal::new(&node, &["10.77.0.0/24", "fd77::/64"]);
    let (web, db) = (Netns::new("web"), Netns::new("db"));
    let add = |id, netns| with_others(call("ADD", id, netns)).run(&network.config).result();
    let result = add("web", &web);
    add("db", &db);
    let wanted = ["10.77.0.2/32", "fd77::2/128"];
    let answered: Vec<&str> =
        result["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap()).collect();
    assert_eq!((answered, addresses(&web, "eth0")), (wanted.to_vec(), wanted.map(str::to_owned).to_vec()));
    assert_eq!(network.used(), ["10.77.0.2", "10.77.0.3", "fd77::2", "fd77::3"]);
    assert_eq!(default_routes(&web), [["eth0"], ["eth0"]]);
    assert!(web.ip(&["route", "show", "10.8.0.0/16"]).contains("dev eth0"));
    for address in ["10.77.0.3", "fd77::3"] {
        assert!(web.can_ping(address.parse::<std::net::IpAddr>().unwrap()), "{address}");
    }
    with_others(call("CHECK", "web", &web)).run(&checked(&network.config, &result)).silent();

    with_others(call("DEL", "web", &web)).run(&network.config).silent();
    assert_eq!(
        (devices(&web), network.used()),
        (vec!["lo".to_owned()], vec!["10.77.0.3".into(), "fd77::3".into()])
    );
    let (_, message) =
        with_others(call("CHECK", "web", &web)).run(&checked(&network.config, &result)).error();
    assert!(message.contains("host-local"), "{message}");
    // Once more, as runtimes do.
    with_others(call("DEL", "web", &web)).run(&network.config).silent();
    with_others(call("DEL", "db", &db)).run(&network.config).silent();
    assert_eq!(network.used(), Vec::<String>::new());
}

#[test]
fn an_address_that_nobody_got_is_given_back() {
    let node = Node::start();
    let network = HostLocal::new(&node, &["10.77.0.0/29"]);
    let web = Netns::new("web");
    // netloomd refuses what is no namespace.
    let refused = with_others(call("ADD", "web", &web)).with("CNI_NETNS", "/dev/null").run(&network.config);
    assert_eq!((refused.error().0, network.used()), (100, Vec::new()));

    // The first is the gateway's by host-local's rule, the last the broadcast address: one more than it has.
    let containers = [2, 3, 4, 5, 6].map(|number| (format!("c{number}"), Netns::new("full")));
    for (id, netns) in &containers {
        with_others(call("ADD", id, netns)).run(&network.config).result();
    }
    let (_, message) = with_others(call("ADD", "web", &web)).run(&network.config).error();
    assert!(message.contains("host-local") && message.contains("no IP addresses available"), "{message}");
    assert_eq!((endpoints(&node).len(), network.used().len()), (5, 5));

    let mut node = node;
    node.daemon.stop();
    for (id, netns) in &containers {
        with_others(call("DEL", id, netns)).run(&network.config).silent();
    }
    assert_eq!(network.used(), Vec::<String>::new());
    node.daemon.restart();
    assert_eq!(endpoints(&node), Vec::<String>::new(), "their deletions waited for netloomd");
}

#[test]
fn a_plugin_that_is_nowhere_is_named_with_where_it_was_looked_for() {
    let node = Node::start();
    let network = HostLocal::new(&node, &["10.77.0.0/24"]);
    let web = Netns::new("web");
    let (code, message) = call("ADD", "web", &web).run(&network.config).error();
    assert_eq!(code, 7);
    assert!(message.contains("host-local") && message.contains("/opt/cni/bin"), "{message}");
    assert_eq!(endpoints(&node), Vec::<String>::new());
}

/// A plugin that notes the commands it gets, and answers with what lies beside it.
struct Scripted(TempDir);

impl Scripted {
    fn new(answer: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let script = format!(
            "#!/bin/sh\nread -r config\necho \"$CNI_COMMAND $config\" >> {at}/commands\n\
             [ -e {at}/refuse-$CNI_COMMAND ] && {{ echo '{{\"code\": 123, \"msg\": \"not today\", \"details\": \"tomorrow\"}}'; exit 1; }}\n\
             [ \"$CNI_COMMAND\" = ADD ] && echo '{answer}'\nexit 0\n"
        );
        let path = folder.path().join("scripted");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn run(&self, call: &CniCall, config: &Value) -> netloom_test_support::CniAnswer {
        call.clone().with("CNI_PATH", &self.path().display().to_string()).run(config)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What it was asked, from the last time on.
    fn commands(&self) -> Vec<String> {
        let file = self.path().join("commands");
        let commands = fs::read_to_string(&file).unwrap_or_default();
        drop(fs::remove_file(&file));
        commands.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }
}

/// Rows of the specification's table.
pub(crate) fn every_command_is_passed_on_and_so_is_its_error(node: &Node) {
    let answer = json!({
        "cniVersion": "1.1.0", "ips": [{ "address": "10.77.0.9/24", "gateway": "10.77.0.1" }], "routes": null,
        "dns": { "nameservers": ["10.77.0.53"] },
    });
    let plugin = Scripted::new(&answer);
    let ipam = json!({ "type": "scripted" });
    let ranges = json!({ "ipRanges": [[{ "subnet": "10.77.0.0/24" }]] });
    let config = with(network(node, "1.1.0"), json!({ "ipam": ipam, "runtimeConfig": ranges }));
    let web = Netns::new("web");
    plugin.run(&call_of_network("STATUS"), &config).silent();
    let result = plugin.run(&call("ADD", "web", &web), &config).result();
    assert_eq!(
        (&result["ips"][0]["address"], &result["dns"]["nameservers"]),
        (&json!("10.77.0.9/32"), &json!(["10.77.0.53"]))
    );
    plugin.run(&call("CHECK", "web", &web), &checked(&config, &result)).silent();
    let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": "web", "ifname": "eth0" }] });
    plugin.run(&call_of_network("GC"), &with(config.clone(), valid.clone())).silent();
    assert_eq!(plugin.commands(), ["STATUS", "ADD", "CHECK", "GC"]);

    for command in ["STATUS", "CHECK", "GC", "DEL", "ADD"] {
        let refuses = plugin.path().join(format!("refuse-{command}"));
        fs::write(&refuses, "").unwrap();
        let call = match command {
            "STATUS" | "GC" => call_of_network(command),
            _ => call(command, "web", &web),
        };
        let answer = plugin.run(&call, &with(checked(&config, &result), valid.clone()));
        assert!(answer.stdout.contains("tomorrow"), "{command}: {}", answer.stdout);
        assert_eq!(
            answer.error(),
            (123, "the IPAM plugin scripted failed: not today".to_owned()),
            "{command}"
        );
        fs::remove_file(refuses).unwrap();
    }
    assert_eq!(plugin.commands(), ["STATUS", "CHECK", "GC", "DEL", "ADD", "DEL"], "a failed ADD is undone");
    assert_eq!(endpoints(node), Vec::<String>::new());
}

pub(crate) fn what_cannot_be_honoured_is_refused_and_given_back(node: &Node) {
    let web = Netns::new("web");
    let config = with(network(node, "1.1.0"), json!({ "ipam": { "type": "scripted" } }));
    for (answer, said) in [
        (json!({ "ips": [] }), "it gave no address"),
        (json!({ "ips": [{ "address": "nowhere" }] }), "is not understood"),
        (json!("odd"), "is not understood"),
        (
            json!({ "ips": [{ "address": "10.77.0.9/24" }], "routes": [{ "dst": "10.8.0.0/16", "gw": "10.77.0.1" }] }),
            "gateway for 10.8.0.0/16",
        ),
    ] {
        let plugin = Scripted::new(&answer);
        let (code, message) = plugin.run(&call("ADD", "web", &web), &config).error();
        assert!(code == 103 && message.contains(said), "{code} {message}");
        assert_eq!(plugin.commands(), ["ADD", "DEL"]);
        assert_eq!(endpoints(node), Vec::<String>::new());
    }
}
