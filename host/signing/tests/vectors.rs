//! Signatures that others made, and that ours are to be like.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use netloom_signing::{Digest, Proof, PublicKey, Refusal, SecretKey, Signature, Signer, payload};

/// Made by OpenSSL 3, and the signature with `openssl dgst -sha256 -sign`.
const SECRET: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgnfUKZLRPFK6bLGrY
TgtJ4NwHWLZu9nejVAtsuJvJD2+hRANCAARzDuXN2OkEsXdooUgRkP72y++wME6/
hcMG3f7U4remf7neVGReBUqsLlAM8XfSnRmw6Xe8Fzf8KzyobGLdeEnG
-----END PRIVATE KEY-----
";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEcw7lzdjpBLF3aKFIEZD+9svvsDBO
v4XDBt3+1OK3pn+53lRkXgVKrC5QDPF30p0ZsOl3vBc3/Cs8qGxi3XhJxg==
-----END PUBLIC KEY-----
";
const BY_OPENSSL: &str =
    "MEUCIEOj3r9y0s7ZWtYBRb1pKONFOQSgr3dgqvZ4rBKw6wZ/AiEA52a6u4pbFwdp0sUcIIF/r5uazeaImfnF2bUEQa17Cs4=";

/// By this crate, with the nonce of RFC 6979; OpenSSL verifies it.
const OURS: &str =
    "MEUCICnKrn8chhn7d8I+RXyH0NsHovNWpZub9X8WNAM4QV/PAiEAySezeaI8YB0y1JmTj8GBKMGXEhPiQFqnhy41c8Nl/tg=";

/// What cosign signed, and its signature, as published with the tests of sigstore-rs.
const COSIGN_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENptdY/l3nB0yqkXLBWkZWQwo6+cu
OSWS1X9vPavpiQOoTTGC0xX57OojUadxF1cdQmrsiReWg2Wn4FneJfa8xw==
-----END PUBLIC KEY-----
";
const COSIGN_REFERENCE: &str = "registry-testing.svc.lan/busybox";
const COSIGN_MANIFEST: &str = "sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b";
const BY_COSIGN: &str =
    "MEUCIQD6q/COgzOyW0YH1Dk+CCYSt4uAhm3FDHUwvPI55zwnlwIgE0ZK58ZOWpZw8YVmBapJhBqCfdPekIknimuO0xH8Jh8=";

fn public(pem: &str) -> [Signer; 1] {
    [Signer::Key(PublicKey::from_pem("acme.pub", pem).unwrap())]
}

#[test]
fn the_payload_is_cosigns_to_the_byte() {
    let manifest: Digest = COSIGN_MANIFEST.parse().unwrap();
    let signature =
        Signature::Payload { payload: payload(COSIGN_REFERENCE, &manifest), signature: BY_COSIGN.to_owned() };
    assert_eq!(signature.verify(&manifest, &public(COSIGN_PUBLIC)).unwrap().name(), "acme.pub");
}

#[test]
fn what_openssl_signed_is_verified() {
    let manifest = Digest::of(b"manifest");
    let signature = Signature::Payload {
        payload: payload("ghcr.io/acme/policy", &manifest),
        signature: BY_OPENSSL.to_owned(),
    };
    signature.verify(&manifest, &public(PUBLIC)).unwrap();
}

#[test]
fn signing_gives_always_the_same() {
    let key = SecretKey::from_pem("acme.key", SECRET).unwrap();
    assert_eq!((key.to_pem().unwrap(), key.public_pem().unwrap()), (SECRET.to_owned(), PUBLIC.to_owned()));
    let manifest = Digest::of(b"manifest");
    let signature = Signature::make(&key, "ghcr.io/acme/policy", &manifest);
    assert_eq!(signature, Signature::make(&key, "ghcr.io/acme/policy", &manifest));
    let Signature::Payload { signature: made, .. } = &signature else { panic!("{signature:?}") };
    assert_eq!(made, OURS);
    signature.verify(&manifest, &public(PUBLIC)).unwrap();
}

#[test]
fn a_proof_holds_for_the_component_it_was_made_of() {
    let (key, other) = (SecretKey::generate(), SecretKey::generate());
    let keys = public(&key.public_pem().unwrap());
    let component = b"component";
    let manifest = format!(r#"{{"layers":[{{"digest":"{}"}}]}}"#, Digest::of(component));
    let digest = Digest::of(manifest.as_bytes());
    let signed = |by: &SecretKey| Signature::make(by, "ghcr.io/acme/policy", &digest);
    let proof = |signatures| Proof { manifest: manifest.clone(), signatures };

    let good = proof(vec![signed(&other), signed(&key)]);
    good.verify(component, &keys).unwrap();
    assert_eq!(proof(Vec::new()).verify(component, &keys).unwrap_err(), Refusal::Unsigned);
    let by_other = proof(vec![signed(&other)]).verify(component, &keys).unwrap_err();
    assert!(matches!(by_other, Refusal::OtherKey { .. }), "{by_other}");
    assert!(matches!(good.verify(component, &[]).unwrap_err(), Refusal::OtherKey { .. }));
    let changed = good.verify(b"component, changed", &keys).unwrap_err();
    assert!(matches!(changed, Refusal::OtherComponent { .. }), "{changed}");

    let moved = Proof { manifest: manifest.replace("layers", "Layers"), ..good };
    assert!(matches!(moved.verify(component, &keys).unwrap_err(), Refusal::OtherManifest { .. }));
    let text = "a text that says nothing of components";
    let said = Signature::Payload { payload: text.to_owned(), signature: key.sign(text.as_bytes()) };
    assert!(matches!(proof(vec![said]).verify(component, &keys).unwrap_err(), Refusal::Payload { .. }));
    let Signature::Payload { payload, signature } = signed(&key) else { panic!("ours is a payload") };
    let bent = Signature::Payload { payload: payload.replace("acme", "evil"), signature };
    assert!(matches!(proof(vec![bent]).verify(component, &keys).unwrap_err(), Refusal::OtherKey { .. }));
}

#[test]
fn what_is_no_key_is_named() {
    let public = PublicKey::from_pem("acme.pub", SECRET).unwrap_err().to_string();
    assert!(public.contains("acme.pub is no public key"), "{public}");
    let secret = SecretKey::from_pem("acme.key", PUBLIC).err().unwrap().to_string();
    assert!(secret.contains("acme.key is no private key"), "{secret}");
    let cosign = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n";
    let said = SecretKey::from_pem("cosign.key", cosign).err().unwrap().to_string();
    assert!(
        said.contains("cosign.key is encrypted by cosign") && said.contains("cosign sign --key"),
        "{said}"
    );
}

/// What sigstore-conformance verifies: a text, and bundles about it by a key and by a workflow of GitHub's.
const TEXT: &str = include_str!("vectors/a.txt");
const BY_WORKFLOW: &str = include_str!("vectors/keyless.sigstore.json");
const BY_KEY: &str = include_str!("vectors/key.sigstore.json");
const KEY: &str = include_str!("vectors/key.pub");
const WORKFLOW: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const GITHUB: &str = "https://token.actions.githubusercontent.com";

fn bundle(json: &str) -> Signature {
    Signature::Bundle { bundle: json.to_owned() }
}

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    std::fs::write(folder.join(name), text).unwrap();
    folder.join(name)
}

/// Whoever such a file names.
fn identity(folder: &Path, toml: &str) -> [Signer; 1] {
    [Signer::read(&write(folder, "release.toml", toml)).unwrap()]
}

#[test]
fn what_an_identity_signed_is_verified_against_the_public_root() {
    let folder = tempfile::tempdir().unwrap();
    let text = Digest::of(TEXT.as_bytes());
    let by = |toml: &str| bundle(BY_WORKFLOW).verify(&text, &identity(folder.path(), toml)).map(drop);
    by(&format!("issuer = {GITHUB:?}\nidentity = {WORKFLOW:?}\n")).unwrap();
    by(&format!(
        "issuer = {GITHUB:?}\nidentity_regexp = '.*/extremely-dangerous-oidc-beacon\\.yml@refs/heads/.*'\n"
    ))
    .unwrap();

    // Another name, of which a part would match, and another issuer.
    for toml in [
        format!("issuer = {GITHUB:?}\nidentity = \"https://github.com/acme/policy\"\n"),
        format!("issuer = {GITHUB:?}\nidentity_regexp = 'extremely-dangerous|other'\n"),
        format!("issuer = \"https://accounts.example.org\"\nidentity = {WORKFLOW:?}\n"),
    ] {
        let refusal = by(&toml).unwrap_err();
        assert!(
            matches!(&refusal, Refusal::OtherBundle { reasons } if reasons.contains("release.toml: ")),
            "{refusal}"
        );
    }
    let other = by(&format!("issuer = {GITHUB:?}\nidentity = \"acme\"\n")).unwrap_err().to_string();
    assert!(other.contains(&format!("it is by {WORKFLOW}")), "{other}");

    let workflow = identity(folder.path(), &format!("issuer = {GITHUB:?}\nidentity = {WORKFLOW:?}\n"));
    // Another text; a root that trusts others; a key; and what is no bundle.
    assert!(bundle(BY_WORKFLOW).verify(&Digest::of(b"other"), &workflow).is_err());
    let nobody = r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[],"certificateAuthorities":[],"ctlogs":[],"timestampAuthorities":[]}"#;
    write(folder.path(), "root.json", nobody);
    by(&format!("issuer = {GITHUB:?}\nidentity = {WORKFLOW:?}\ntrusted_root = \"root.json\"\n")).unwrap_err();
    assert!(bundle(BY_WORKFLOW).verify(&text, &public(PUBLIC)).is_err());
    let garbage = bundle("{}").verify(&text, &workflow).unwrap_err();
    assert!(matches!(garbage, Refusal::NoBundle(_)), "{garbage}");
    // The log's promise is another's: without it nothing says when it was signed.
    let mut json: serde_json::Value = serde_json::from_str(BY_WORKFLOW).unwrap();
    json["verificationMaterial"]["tlogEntries"] = serde_json::json!([]);
    assert!(bundle(&json.to_string()).verify(&text, &workflow).is_err());
}

#[test]
fn a_bundle_by_a_key_is_verified_with_the_key_alone() {
    let text = Digest::of(TEXT.as_bytes());
    assert_eq!(bundle(BY_KEY).verify(&text, &public(KEY)).unwrap().name(), "acme.pub");
    assert!(bundle(BY_KEY).verify(&text, &public(PUBLIC)).is_err());
    assert!(bundle(BY_KEY).verify(&Digest::of(b"other"), &public(KEY)).is_err());
    // Among several signatures the right one is found.
    let proof = Proof {
        manifest: TEXT.to_owned(),
        signatures: vec![
            Signature::make(&SecretKey::generate(), "ghcr.io/acme/policy", &text),
            bundle(BY_KEY),
        ],
    };
    proof.signed_by(&public(KEY)).unwrap();
    let kept: Proof = serde_json::from_str(&serde_json::to_string(&proof).unwrap()).unwrap();
    assert_eq!(kept, proof);
}

/// A statement about a digest, signed as a DSSE envelope.
fn statement(key: &SecretKey, digest: &Digest, predicate: &str) -> Signature {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let kind = "application/vnd.in-toto+json";
    let statement = serde_json::json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": digest.hex() } }],
        "predicateType": predicate,
        "predicate": {},
    })
    .to_string();
    let signed = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
    bundle(
        &serde_json::json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": { "publicKey": { "hint": "acme" }, "tlogEntries": [] },
            "dsseEnvelope": {
                "payload": STANDARD.encode(&statement),
                "payloadType": kind,
                "signatures": [{ "sig": key.sign(signed.as_bytes()) }],
            },
        })
        .to_string(),
    )
}

#[test]
fn of_statements_only_a_signature_counts() {
    let (key, manifest) = (SecretKey::generate(), Digest::of(b"manifest"));
    let keys = public(&key.public_pem().unwrap());
    let signed = statement(&key, &manifest, "https://sigstore.dev/cosign/sign/v1");
    signed.verify(&manifest, &keys).unwrap();
    assert!(signed.verify(&Digest::of(b"other"), &keys).is_err());
    assert!(signed.verify(&manifest, &public(PUBLIC)).is_err());
    let built = statement(&key, &manifest, "https://slsa.dev/provenance/v1").verify(&manifest, &keys);
    assert!(
        built
            .unwrap_err()
            .to_string()
            .contains("a statement of another kind, https://slsa.dev/provenance/v1")
    );
}

#[test]
fn what_names_no_signer_says_what_would() {
    let folder = tempfile::tempdir().unwrap();
    let said =
        |text: &str| Signer::read(&write(folder.path(), "release.toml", text)).unwrap_err().to_string();
    for (text, complaint) in [
        ("no signer", "release.toml is neither a public key (PEM) nor an identity (TOML"),
        ("identity = \"acme\"", "missing field `issuer`"),
        ("issuer = \"i\"", "one of `identity` and `identity_regexp`"),
        (
            "issuer = \"i\"\nidentity = \"a\"\nidentity_regexp = \"a\"",
            "one of `identity` and `identity_regexp`",
        ),
        ("issuer = \"i\"\nidentity_regexp = \"(\"", "regex parse error"),
        (
            "issuer = \"i\"\nidentity = \"a\"\ntrusted_root = \"none.json\"",
            "none.json, which is no trusted root",
        ),
        ("issuer = \"i\"\nidentity = \"a\"\ntrusted_root = \"release.toml\"", "cosign trusted-root create"),
        (SECRET, "release.toml is no public key"),
    ] {
        let said = said(text);
        assert!(said.contains(complaint), "{text}: {said}");
    }
    let missing = Signer::read(&folder.path().join("none.pub")).unwrap_err().to_string();
    assert!(missing.contains("none.pub cannot be read"), "{missing}");
}
