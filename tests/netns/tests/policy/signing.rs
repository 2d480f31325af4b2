//! A node that takes signed plugins only.

use std::path::{Path, PathBuf};

use netloom_api::types::{PluginView, ReloadReport};
use netloom_signing::{Digest, Proof, SecretKey, Signature};
use netloom_test_components::{CUSTOM_POLICY, MISBEHAVING};
use serde_json::json;

use netloom_netns_tests::{Node, refusal};

use crate::{patient_limits, plugins::load};

/// Files of an author, who has a key that the node trusts and one that it does not.
struct Author {
    folder: tempfile::TempDir,
    trusted: SecretKey,
    other: SecretKey,
}

impl Author {
    fn new() -> Self {
        let author = Self {
            folder: tempfile::tempdir().unwrap(),
            trusted: SecretKey::generate(),
            other: SecretKey::generate(),
        };
        std::fs::write(author.key(), author.trusted.public_pem().unwrap()).unwrap();
        author
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("acme.pub")
    }

    fn node(&self) -> Node {
        Node::configured(&format!("[plugins]\ndeadline_ms = 60000\nsigned_by = [{:?}]\n", self.key()))
    }

    /// A component's file, with its proof beside it if somebody signs it.
    fn file(&self, name: &str, component: &[u8], by: Option<&SecretKey>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, component).unwrap();
        if let Some(key) = by {
            std::fs::write(Proof::path(&path), proof(component, key)).unwrap();
        }
        path
    }
}

fn proof(component: &[u8], key: &SecretKey) -> Vec<u8> {
    let manifest = json!({ "schemaVersion": 2, "layers": [{ "digest": Digest::of(component) }] }).to_string();
    let signature = Signature::make(key, "ghcr.io/acme/policy", &Digest::of(manifest.as_bytes()));
    serde_json::to_vec(&Proof { manifest, signatures: vec![signature] }).unwrap()
}

fn refused(node: &Node, path: &Path) -> String {
    let (status, error, hint) = refusal(load(node, json!({ "path": path })));
    assert_eq!(status, 422, "{error}");
    assert!(error.contains(path.to_str().unwrap()) && error.contains("plugins.signed_by"), "{error}");
    assert!(hint.contains("oci://"));
    error
}

#[test]
fn only_what_a_trusted_key_signed_is_loaded() {
    let author = Author::new();
    let node = author.node();
    let bundled: Vec<PluginView> = node.daemon.get("/v1/plugins").unwrap();
    assert!(bundled.iter().all(|plugin| plugin.bundled) && !bundled.is_empty());

    let unsigned = author.file("unsigned.wasm", CUSTOM_POLICY, None);
    assert!(refused(&node, &unsigned).contains("nobody has signed it"));
    let other = author.file("other.wasm", CUSTOM_POLICY, Some(&author.other));
    assert!(refused(&node, &other).contains("none of the keys asked for"));
    let changed = author.file("changed.wasm", MISBEHAVING, None);
    std::fs::write(Proof::path(&changed), proof(CUSTOM_POLICY, &author.trusted)).unwrap();
    assert!(refused(&node, &changed).contains("changed after it was signed"));
    std::fs::write(Proof::path(&changed), "no proof").unwrap();
    assert!(refused(&node, &changed).contains("is not understood"));

    let signed = author.file("signed.wasm", CUSTOM_POLICY, Some(&author.trusted));
    assert_eq!(load(&node, json!({ "path": signed, "limits": patient_limits() })).unwrap().state, "active");
    // Another version has to be signed as well.
    let reload =
        |path: &Path| node.daemon.post::<ReloadReport>("/v1/plugins/signed/reload", &json!({ "path": path }));
    let (status, error, _) = refusal(reload(&unsigned));
    assert!(status == 422 && error.contains("nobody has signed it"), "{error}");
    reload(&signed).unwrap();
}

#[test]
fn a_signed_plugin_survives_a_restart_and_one_whose_copy_was_changed_does_not() {
    let author = Author::new();
    let mut node = author.node();
    let signed = author.file("signed.wasm", CUSTOM_POLICY, Some(&author.trusted));
    let digest = load(&node, json!({ "path": signed, "limits": patient_limits() })).unwrap().digest;
    std::fs::remove_file(&signed).unwrap();
    node.daemon.kill9();
    node.daemon.restart();
    assert_eq!(node.daemon.get::<PluginView>("/v1/plugins/signed").unwrap().state, "active");

    let copy = node.daemon.paths().state.join("plugins").join(format!("{digest}.wasm"));
    std::fs::write(&copy, MISBEHAVING).unwrap();
    node.daemon.expect_error("a plugin of before was not loaded plugin=\"signed\"");
    node.daemon.kill9();
    node.daemon.restart();
    let (status, _, _) = refusal(node.daemon.get::<PluginView>("/v1/plugins/signed"));
    assert_eq!(status, 404);
}
