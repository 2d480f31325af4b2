//! A plugin's way from its author by a real registry to a node that takes signed ones only.

use std::{
    path::Path,
    process::{Command, Output},
};

use netloom_api::types::{AttachAnswer, PluginView};
use netloom_netns_tests::{Node, ObjectFile};
use serde_json::json;

use crate::{patient_node, reloading::other_version};

// The part of the tool's own tests that starts a registry.
#[allow(dead_code, unreachable_pub)]
#[path = "../../../../sdk/tool/tests/registry/server.rs"]
mod server;

/// Somebody at a terminal of the node: a folder to work in, and a cache of their own.
struct Terminal<'a> {
    node: &'a Node,
    folder: tempfile::TempDir,
}

impl<'a> Terminal<'a> {
    fn on(node: &'a Node) -> Self {
        Self { node, folder: tempfile::tempdir().unwrap() }
    }

    fn command(&self, line: &str) -> Command {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = self.node.daemon.netloom_command(&words);
        command
            .current_dir(self.folder.path())
            .env("NETLOOM_CACHE", self.folder.path().join("cache"))
            .env("DOCKER_CONFIG", self.folder.path());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    fn ok(&self, line: &str) -> String {
        let Output { status, stdout, stderr } = self.run(line);
        assert!(status.success(), "netloom {line}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap().trim().to_owned()
    }

    fn refused(&self, line: &str) -> String {
        let Output { status, stdout, stderr } = self.run(line);
        assert!(!status.success(), "netloom {line}: {}", String::from_utf8_lossy(&stdout));
        String::from_utf8(stderr).unwrap()
    }

    fn write(&self, name: &str, contents: &[u8]) {
        std::fs::write(self.folder.path().join(name), contents).unwrap();
    }
}

/// A node whose configuration names a key, which its author has at the same terminal.
fn node_for_signed(keys: &Path) -> Node {
    let key = keys.join("acme.pub");
    Node::configured(&format!("[plugins]\ndeadline_ms = 60000\nsigned_by = [{key:?}]\n"))
}

fn decided_by(node: &Node, device: &str, owner: &str) -> String {
    let object = ObjectFile::of(netloom_test_programs::PASS);
    let request = json!({ "device": device, "object": object.path(), "owner": owner });
    let answer: AttachAnswer = node.attach(request).unwrap();
    answer.decided_by
}

const PATIENT: &str = "--limit deadline_ms=60000 --limit init_deadline_ms=60000";

#[test]
fn a_plugin_is_loaded_from_a_registry_and_decides_also_after_a_restart() {
    let Some(mut registry) = server::start() else { return };
    let mut node = patient_node();
    let web = node.endpoint("web");
    let reference = registry.name("acme/policy:1");
    let digest = {
        let terminal = Terminal::on(&node);
        terminal.write("policy.wasm", netloom_test_components::CUSTOM_POLICY);
        let pinned = terminal.ok(&format!("plugin push policy.wasm {reference} --plain-http"));
        let load = "--config first=acme/firewall --plain-http";
        terminal.ok(&format!("plugin load oci://{reference} --name policy {load} {PATIENT}"));
        let view: PluginView = node.daemon.get("/v1/plugins/policy").unwrap();
        assert_eq!(view.digest, netloom_runtime::hex_digest(netloom_test_components::CUSTOM_POLICY));
        assert_eq!(decided_by(&node, web.device(), "acme/firewall"), "policy");

        // Another version, by its tag, then back by what the first one was pinned by.
        let second = other_version(netloom_test_components::CUSTOM_POLICY);
        terminal.write("policy.wasm", &second);
        terminal.ok(&format!("plugin push policy.wasm {reference} --plain-http"));
        terminal.ok(&format!("plugin reload policy oci://{reference} --plain-http"));
        let serving = || node.daemon.get::<PluginView>("/v1/plugins/policy").unwrap().digest;
        assert_eq!(serving(), netloom_runtime::hex_digest(&second));
        // What is pinned and was pulled before is there without the registry.
        registry.end();
        terminal.refused(&format!("plugin reload policy oci://{reference} --plain-http"));
        assert_eq!(serving(), netloom_runtime::hex_digest(&second));
        terminal.ok(&format!("plugin reload policy oci://{pinned} --plain-http"));
        assert_eq!(serving(), view.digest);
        view.digest
    };
    // Neither the registry is there, nor the cache.
    node.daemon.kill9();
    node.daemon.restart();
    assert_eq!(node.daemon.get::<PluginView>("/v1/plugins/policy").unwrap().digest, digest);
    let _: netloom_api::types::Done = {
        let status = node.status();
        let other = status.attachments.iter().find(|attachment| attachment.id.contains("firewall")).unwrap();
        node.daemon.delete(&format!("/v1/attachments/{}", other.id)).unwrap()
    };
    assert_eq!(decided_by(&node, web.device(), "acme/firewall"), "policy");
}

#[test]
fn a_node_for_signed_plugins_takes_from_a_registry_what_its_key_signed_and_nothing_else() {
    let Some(registry) = server::start() else { return };
    let keys = tempfile::tempdir().unwrap();
    let mut node = {
        // The key is there before the node is.
        let made = Command::new(netloom_test_support::binary("netloom-plugin"))
            .args(["keygen", "acme"])
            .current_dir(keys.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        node_for_signed(keys.path())
    };
    {
        let terminal = Terminal::on(&node);
        terminal.write("policy.wasm", netloom_test_components::CUSTOM_POLICY);
        let reference = registry.name("acme/policy:1");
        let load = format!("plugin load oci://{reference} --name policy --plain-http {PATIENT}");
        terminal.ok(&format!("plugin push policy.wasm {reference} --plain-http"));
        let unsigned = terminal.refused(&load);
        assert!(unsigned.contains("nobody has signed it"), "{unsigned}");

        terminal.ok("plugin keygen other");
        terminal.ok(&format!("plugin sign {reference} --key other.key --plain-http"));
        let other = terminal.refused(&load);
        assert!(other.contains("none of the keys asked for"), "{other}");
        let key = keys.path().join("acme.key");
        terminal.ok(&format!("plugin sign {reference} --key {} --plain-http", key.display()));
        terminal.ok(&load);
        let public = keys.path().join("acme.pub");
        terminal.ok(&format!("{load} --verify-key {}", public.display()));
        assert_eq!(node.daemon.get::<PluginView>("/v1/plugins/policy").unwrap().state, "active");

        // A version that nobody signed does not take its place.
        terminal.write("policy.wasm", &other_version(netloom_test_components::CUSTOM_POLICY));
        let next = registry.name("acme/policy:2");
        terminal.ok(&format!("plugin push policy.wasm {next} --plain-http"));
        let unsigned = terminal.refused(&format!("plugin reload policy oci://{next} --plain-http"));
        assert!(unsigned.contains("nobody has signed it"), "{unsigned}");
    }
    drop(registry);
    // Its proof was kept with it.
    node.daemon.kill9();
    node.daemon.restart();
    let view: PluginView = node.daemon.get("/v1/plugins/policy").unwrap();
    assert_eq!(
        (view.state.as_str(), view.digest),
        ("active", netloom_runtime::hex_digest(netloom_test_components::CUSTOM_POLICY))
    );
}
