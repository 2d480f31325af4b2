//! Signatures that others made, and that ours are to be like.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used)]

use netloom_signing::{Digest, Proof, PublicKey, Refusal, SecretKey, Signature, payload};

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

fn public(pem: &str) -> [PublicKey; 1] {
    [PublicKey::from_pem("acme.pub", pem).unwrap()]
}

#[test]
fn the_payload_is_cosigns_to_the_byte() {
    let manifest: Digest = COSIGN_MANIFEST.parse().unwrap();
    let signature =
        Signature { payload: payload(COSIGN_REFERENCE, &manifest), signature: BY_COSIGN.to_owned() };
    assert_eq!(signature.verify(&manifest, &public(COSIGN_PUBLIC)).unwrap().name(), "acme.pub");
}

#[test]
fn what_openssl_signed_is_verified() {
    let manifest = Digest::of(b"manifest");
    let signature =
        Signature { payload: payload("ghcr.io/acme/policy", &manifest), signature: BY_OPENSSL.to_owned() };
    signature.verify(&manifest, &public(PUBLIC)).unwrap();
}

#[test]
fn signing_gives_always_the_same() {
    let key = SecretKey::from_pem("acme.key", SECRET).unwrap();
    assert_eq!((key.to_pem().unwrap(), key.public_pem().unwrap()), (SECRET.to_owned(), PUBLIC.to_owned()));
    let manifest = Digest::of(b"manifest");
    let signature = Signature::make(&key, "ghcr.io/acme/policy", &manifest);
    assert_eq!(signature, Signature::make(&key, "ghcr.io/acme/policy", &manifest));
    assert_eq!(signature.signature, OURS);
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
    let said = Signature { payload: text.to_owned(), signature: key.sign(text.as_bytes()) };
    assert!(matches!(proof(vec![said]).verify(component, &keys).unwrap_err(), Refusal::Payload { .. }));
    let mut bent = signed(&key);
    bent.payload = bent.payload.replace("acme", "evil");
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
