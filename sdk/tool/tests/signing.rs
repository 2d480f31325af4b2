//! Signing and verifying, against a real registry; bundles that carry signatures along.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// Each program of tests uses a part of it.
#[allow(dead_code, unreachable_pub)]
mod registry;

use std::os::unix::fs::PermissionsExt as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use netloom_signing::{Digest, Proof, PublicKey, SecretKey, Signer};
use netloom_test_components::{CUSTOM_POLICY, MISBEHAVING};
use registry::{Registry, User};
use serde_json::json;

/// An author with two pairs of keys, acme and other.
fn author() -> User {
    let author = User::new();
    author.ok("keygen acme");
    author.ok("keygen other");
    author.write("policy.wasm", CUSTOM_POLICY);
    author.write("changed.wasm", MISBEHAVING);
    author
}

fn pushed(registry: &Registry, author: &User, file: &str) -> String {
    author.ok(&format!("push {file} {} --plain-http", registry.name("acme/policy:1")))
}

#[test]
fn keys_are_made_once_and_the_secret_one_is_secret() {
    let author = author();
    let mode = std::fs::metadata(author.folder.path().join("acme.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(author.refused("keygen acme").contains("a key is never overwritten"));
    let wrong = author.refused("sign localhost:1/acme/policy:1 --plain-http --key acme.pub");
    assert!(wrong.contains("acme.pub is no private key"), "{wrong}");
}

#[test]
fn who_signed_is_told_and_others_are_refused() {
    let Some(registry) = registry::start() else { return };
    let author = author();
    let pinned = pushed(&registry, &author, "policy.wasm");
    let tagged = registry.name("acme/policy:1");
    let verify = |key: &str| format!("verify {tagged} --plain-http --key {key}");
    let unsigned = author.refused(&verify("acme.pub"));
    assert!(
        unsigned.contains("nobody has signed it") && unsigned.contains("netloom plugin sign"),
        "{unsigned}"
    );

    assert_eq!(author.ok(&format!("sign {tagged} --plain-http --key other.key")), pinned);
    let wrong = author.refused(&verify("acme.pub"));
    assert!(wrong.contains("none of the keys asked for (acme.pub)"), "{wrong}");
    author.ok(&format!("sign {pinned} --plain-http --key acme.key"));
    author.ok(&format!("sign {pinned} --plain-http --key acme.key"));
    assert_eq!(author.ok(&verify("acme.pub")), format!("{pinned} is signed by acme.pub"));
    author.ok(&verify("other.pub"));
}

#[test]
fn a_signature_lies_where_cosign_keeps_its_own() {
    let Some(registry) = registry::start() else { return };
    let author = author();
    let pinned = pushed(&registry, &author, "policy.wasm");
    author.ok(&format!("sign {pinned} --plain-http --key acme.key"));
    let (repository, digest) = pinned.split_once('@').unwrap();
    let tag = registry.tag("acme/policy", &format!("{}.sig", digest.replace(':', "-")));
    let image = std::fs::read_to_string(tag.join("current/link")).unwrap();
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(registry.blob(&image)).unwrap()).unwrap();
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    let [layer] = manifest["layers"].as_array().unwrap().as_slice() else { panic!("{manifest}") };
    assert_eq!(layer["mediaType"], "application/vnd.dev.cosign.simplesigning.v1+json");
    let payload = std::fs::read(registry.blob(layer["digest"].as_str().unwrap())).unwrap();
    let wanted = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"{repository}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    );
    assert_eq!(String::from_utf8(payload.clone()).unwrap(), wanted);
    let pem = String::from_utf8(author.read("acme.pub")).unwrap();
    let key = PublicKey::from_pem("acme.pub", &pem).unwrap();
    let signature = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap();
    assert!(key.verifies(&payload, signature));
}

/// Signs as cosign does from its version 3 on: an artifact that refers to what is signed, with a Sigstore bundle. The
/// registry has no list of what refers to what, so that a tag stands for it.
fn sign_with_bundle(registry: &Registry, author: &User, pinned: &str) {
    const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let (_, digest) = pinned.split_once('@').unwrap();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": digest.strip_prefix("sha256:").unwrap() } }],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    });
    let (kind, statement) = ("application/vnd.in-toto+json", statement.to_string());
    let key = SecretKey::read(&author.folder.path().join("acme.key")).unwrap();
    let signed = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
    let bundle = json!({
        "mediaType": BUNDLE,
        "verificationMaterial": { "publicKey": { "hint": "acme" }, "tlogEntries": [] },
        "dsseEnvelope": {
            "payload": STANDARD.encode(&statement),
            "payloadType": kind,
            "signatures": [{ "sig": key.sign(signed.as_bytes()) }],
        },
    });
    let described = |kind: &str, contents: &str| json!({ "mediaType": kind, "digest": registry.put("acme/policy", contents), "size": contents.len() });
    let oci = |kind: &str| format!("application/vnd.oci.{kind}.v1+json");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": oci("image.manifest"),
        "artifactType": BUNDLE,
        "config": described(&oci("empty"), "{}"),
        "layers": [described(BUNDLE, &bundle.to_string())],
        "subject": { "mediaType": oci("image.manifest"), "digest": digest, "size": 2 },
    })
    .to_string();
    let referrer = registry.put_manifest("acme/policy", &manifest, None);
    // One that was removed is in the list as well.
    let removed = Digest::of(b"removed").to_string();
    let entry = |digest: &str| {
        let kind = oci("image.manifest");
        json!({ "mediaType": kind, "digest": digest, "size": manifest.len(), "artifactType": BUNDLE })
    };
    let index = json!({
        "schemaVersion": 2,
        "mediaType": oci("image.index"),
        "manifests": [entry(&removed), entry(&referrer)],
    });
    registry.put_manifest("acme/policy", &index.to_string(), Some(&digest.replace(':', "-")));
}

#[test]
fn what_cosign_3_signs_is_verified_and_goes_along() {
    let Some(mut registry) = registry::start() else { return };
    let author = author();
    let pinned = pushed(&registry, &author, "policy.wasm");
    sign_with_bundle(&registry, &author, &pinned);
    let verify = |key: &str| format!("verify {pinned} --plain-http --key {key}");
    assert_eq!(author.ok(&verify("acme.pub")), format!("{pinned} is signed by acme.pub"));
    let wrong = author.refused(&verify("other.pub"));
    assert!(wrong.contains("none of those asked for (other.pub: "), "{wrong}");
    let identity = "issuer = \"https://token.actions.githubusercontent.com\"\nidentity_regexp = \".*\"\n";
    author.write("release.toml", identity.as_bytes());
    let wrong = author.refused(&verify("release.toml"));
    assert!(wrong.contains("none of those asked for (release.toml: "), "{wrong}");

    let tagged = registry.name("acme/policy:1");
    author.ok(&format!("bundle create plugins.tar {tagged} --plain-http"));
    registry.end();
    let user = User::new();
    for file in ["plugins.tar", "acme.pub"] {
        user.write(file, &author.read(file));
    }
    user.ok("bundle extract plugins.tar --lock");
    user.ok(&format!("pull {tagged} --verify-key acme.pub --output p.wasm"));
    let proof = Proof::beside(&user.folder.path().join("p.wasm")).unwrap().unwrap();
    proof.verify(CUSTOM_POLICY, &[Signer::read(&user.folder.path().join("acme.pub")).unwrap()]).unwrap();
}

#[test]
fn what_was_changed_after_signing_is_refused() {
    let Some(registry) = registry::start() else { return };
    let author = author();
    let signed = pushed(&registry, &author, "policy.wasm");
    author.ok(&format!("sign {signed} --plain-http --key acme.key"));
    let user = User::new();
    user.write("acme.pub", &author.read("acme.pub"));
    let pull =
        format!("pull {} --plain-http --verify-key acme.pub --output p.wasm", registry.name("acme/policy:1"));

    // The tag goes to another component, which nobody signed.
    let changed = pushed(&registry, &author, "changed.wasm");
    let said = user.refused(&pull);
    assert!(said.contains("nobody has signed it"), "{said}");

    // Whoever rules the registry puts the signature of the old one beside it.
    let tag = |pinned: &str| {
        let digest = pinned.split_once('@').unwrap().1;
        registry.tag("acme/policy", &format!("{}.sig", digest.replace(':', "-")))
    };
    std::fs::create_dir_all(tag(&changed).join("current")).unwrap();
    std::fs::copy(tag(&signed).join("current/link"), tag(&changed).join("current/link")).unwrap();
    let said = user.refused(&pull);
    assert!(said.contains("its signature is about") && said.contains("moved the signature"), "{said}");
    assert!(!user.has("p.wasm"));
}

#[test]
fn a_pulled_file_has_its_proof_beside_it() {
    let Some(registry) = registry::start() else { return };
    let author = author();
    let signed = pushed(&registry, &author, "policy.wasm");
    author.ok(&format!("pull {signed} --plain-http --output p.wasm"));
    assert!(!author.has("p.wasm.sig"));
    // It is in the cache from before it was signed.
    author.ok(&format!("sign {signed} --plain-http --key acme.key"));
    author.ok(&format!("pull {signed} --plain-http --verify-key acme.pub --output p.wasm"));
    let proof = Proof::beside(&author.folder.path().join("p.wasm")).unwrap().unwrap();
    let key = [Signer::read(&author.folder.path().join("acme.pub")).unwrap()];
    proof.verify(CUSTOM_POLICY, &key).unwrap();
    proof.verify(MISBEHAVING, &key).unwrap_err();
    // What is not signed takes the proof of what was there along.
    let other = pushed(&registry, &author, "changed.wasm");
    author.ok(&format!("pull {other} --plain-http --output p.wasm"));
    assert!(!author.has("p.wasm.sig"));
}

#[test]
fn a_bundle_brings_artifacts_and_signatures_to_where_no_registry_is() {
    let Some(mut registry) = registry::start() else { return };
    let author = author();
    let signed = pushed(&registry, &author, "policy.wasm");
    author.ok(&format!("sign {signed} --plain-http --key acme.key"));
    let tagged = registry.name("acme/policy:1");
    author.ok(&format!("bundle create plugins.tar {tagged} --plain-http"));
    registry.end();

    let user = User::new();
    user.write("plugins.tar", &author.read("plugins.tar"));
    user.write("acme.pub", &author.read("acme.pub"));
    user.write("other.pub", &author.read("other.pub"));
    assert_eq!(user.ok("bundle extract plugins.tar --lock"), signed);
    user.ok(&format!("pull {tagged} --verify-key acme.pub --output p.wasm"));
    assert_eq!(user.read("p.wasm"), CUSTOM_POLICY);
    assert!(user.has("p.wasm.sig"));
    let wrong = user.refused(&format!("pull {signed} --plain-http --verify-key other.pub"));
    assert!(wrong.contains("in the cache without a signature by those asked for"), "{wrong}");

    // A bundle that was changed on its way.
    let mut damaged = author.read("plugins.tar");
    let at = damaged.windows(CUSTOM_POLICY.len()).position(|window| window == CUSTOM_POLICY).unwrap();
    damaged[at + 100] ^= 1;
    let user = User::new();
    user.write("plugins.tar", &damaged);
    let said = user.refused("bundle extract plugins.tar --lock");
    assert!(said.contains("plugins.tar is damaged") && said.contains("acme/policy:1"), "{said}");
    assert!(!user.cached(&Digest::of(CUSTOM_POLICY).to_string()).exists() && !user.has("netloom.lock"));
    user.write("plugins.tar", b"no archive");
    assert!(user.refused("bundle extract plugins.tar").contains("plugins.tar"));
}
