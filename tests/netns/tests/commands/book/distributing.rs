//! The chapter on distributing plugins, with a registry of this machine in place of the one it names.

use netloom_test_components::{CUSTOM_POLICY, MISBEHAVING};
use netloom_test_support::Registry;

use super::lab::Lab;

const REGISTRY: &str = "ghcr.io";

#[test]
fn distributing() {
    let Some(registry) = Registry::start("", &[]) else { return };
    let mut lab = Lab::of("docs/plugins/distributing.md");
    let cache = tempfile::tempdir().unwrap();
    for name in ["NETLOOM_CACHE", "DOCKER_CONFIG"] {
        lab.set(name, cache.path().to_str().unwrap());
    }
    lab.replace(REGISTRY, &registry.address);
    lab.file("policy.wasm", CUSTOM_POLICY);
    lab.file("guard.wasm", MISBEHAVING);
    lab.prepare(&format!("netloom plugin push guard.wasm {REGISTRY}/acme/guard:3 --plain-http"));

    for command in lab.commands() {
        if command.starts_with("netloom plugin load") {
            // Each is loaded on a node that does not have it.
            drop(lab.run("netloom plugin unload policy"));
            let said = lab.command_with(&command, "--plain-http --limit init_deadline_ms=60000");
            assert!(said.contains("active"), "{said}");
        } else if command.contains(REGISTRY) {
            // A registry of this machine has no certificate.
            lab.command_with(&command, "--plain-http");
        } else {
            lab.command(&command);
        }
    }
}
