//! Pushing, pulling and locking plugins, against a real registry and against one that lies.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// Each program of tests uses a part of it.
#[allow(dead_code, unreachable_pub)]
mod registry;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
};

use netloom_signing::Digest;
use netloom_test_components::{CUSTOM_POLICY, MISBEHAVING};
use registry::{Registry, User};

/// The digest at the end of `REPOSITORY@DIGEST`.
fn digest(pinned: &str) -> &str {
    pinned.split_once('@').unwrap().1
}

fn push(registry: &Registry, component: &[u8], name: &str) -> String {
    let author = User::new();
    author.write("policy.wasm", component);
    author.ok(&format!("push policy.wasm {} --plain-http", registry.name(name)))
}

#[test]
fn what_is_pushed_is_pulled_by_somebody_else() {
    let Some(registry) = registry::start() else { return };
    let pinned = push(&registry, CUSTOM_POLICY, "acme/policy:1");
    assert!(pinned.starts_with(&registry.name("acme/policy@sha256:")), "{pinned}");
    // The same component is the same artifact, whoever pushes it and whenever.
    assert_eq!(push(&registry, CUSTOM_POLICY, "acme/policy:2"), pinned);

    let user = User::new();
    let tagged = registry.name("acme/policy:1");
    user.ok(&format!("pull {tagged} --plain-http --output first.wasm"));
    assert_eq!(user.read("first.wasm"), CUSTOM_POLICY);
    let cached = user.ok(&format!("pull oci://{pinned} --plain-http"));
    assert!(cached.ends_with("/policy.wasm"), "{cached}");
    assert_eq!(std::fs::read(&cached).unwrap(), CUSTOM_POLICY);
    assert!(user.ok(&format!("test {cached}")).contains(" 0 failed"));
    assert!(!user.has("netloom.lock"));
}

#[test]
fn what_the_registry_has_is_an_artifact_that_other_tools_read() {
    let Some(registry) = registry::start() else { return };
    let pinned = push(&registry, CUSTOM_POLICY, "acme/policy:1");
    let json = |digest: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(registry.blob(digest)).unwrap()).unwrap()
    };
    let manifest = json(digest(&pinned));
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    let layer = Digest::of(CUSTOM_POLICY).to_string();
    assert_eq!(manifest["layers"][0]["digest"], layer.as_str());
    let config = json(manifest["config"]["digest"].as_str().unwrap());
    assert_eq!((&config["architecture"], &config["os"]), (&"wasm".into(), &"wasip2".into()));
    assert_eq!(config["layerDigests"], serde_json::json!([layer]));
    assert!(config["component"]["exports"].is_array() && config["component"]["imports"].is_array());
}

#[test]
fn what_is_no_component_or_no_reference_is_refused() {
    let user = User::new();
    user.write("text.wasm", b"no component");
    assert!(user.refused("push text.wasm localhost:1/acme/policy:1 --plain-http").contains("no component"));
    assert!(user.refused("push missing.wasm localhost:1/acme/policy:1").contains("missing.wasm"));
    assert!(user.refused("pull acme/policy:1").contains("names no registry"));
    let said = user.refused("pull registry.example.org/acme/policy:1 --plain-http");
    assert!(said.contains("--plain-http is for registries on this machine"), "{said}");
}

#[test]
fn a_missing_artifact_and_a_registry_that_is_down_are_told_apart() {
    let Some(mut registry) = registry::start() else { return };
    push(&registry, CUSTOM_POLICY, "acme/policy:1");
    let user = User::new();
    let absent = user.refused(&format!("pull {} --plain-http", registry.name("acme/policy:9")));
    assert!(absent.contains("has no such artifact"), "{absent}");
    let no_tls = user.refused(&format!("pull {}", registry.name("acme/policy:1")));
    assert!(no_tls.contains("--plain-http"), "{no_tls}");
    registry.end();
    let down = user.refused(&format!("pull {} --plain-http", registry.name("acme/policy:1")));
    assert!(down.contains("cannot be reached") && down.contains(&registry.address), "{down}");
    assert!(down.contains("netloom.lock"), "{down}");
}

#[test]
fn a_pinned_or_locked_reference_needs_no_registry() {
    let Some(mut registry) = registry::start() else { return };
    let pinned = push(&registry, CUSTOM_POLICY, "acme/policy:1");
    let tagged = registry.name("acme/policy:1");
    let user = User::new();
    user.ok(&format!("pull {tagged} --plain-http --lock"));
    let lock = String::from_utf8(user.read("netloom.lock")).unwrap();
    assert!(lock.contains(&format!("\"{tagged}\" = \"{}\"", digest(&pinned))), "{lock}");
    registry.end();
    user.ok(&format!("pull {tagged} --output locked.wasm"));
    user.ok(&format!("pull {pinned} --output pinned.wasm"));
    assert_eq!(
        (user.read("locked.wasm"), user.read("pinned.wasm")),
        (CUSTOM_POLICY.into(), CUSTOM_POLICY.into())
    );

    // What is in the cache is what its name says, or it is not there.
    let layer = user.cached(&Digest::of(CUSTOM_POLICY).to_string());
    std::fs::write(layer, MISBEHAVING).unwrap();
    assert!(user.refused(&format!("pull {pinned} --plain-http")).contains("cannot be reached"));
}

#[test]
fn a_tag_that_moved_is_refused_until_it_is_told_to_be_right() {
    let Some(registry) = registry::start() else { return };
    let before = push(&registry, CUSTOM_POLICY, "acme/policy:1");
    let tagged = registry.name("acme/policy:1");
    let user = User::new();
    user.ok(&format!("pull {tagged} --plain-http --lock"));
    let after = push(&registry, MISBEHAVING, "acme/policy:1");

    // Somebody else with the same lock file, and nothing in the cache.
    let colleague = User::new();
    colleague.write("netloom.lock", &user.read("netloom.lock"));
    let said = colleague.refused(&format!("pull {tagged} --plain-http --output policy.wasm"));
    assert!(said.contains("somebody moved the tag") && said.contains("--update"), "{said}");
    assert!(said.contains(digest(&before)) && said.contains(digest(&after)), "{said}");
    assert!(!colleague.has("policy.wasm"));
    colleague.ok(&format!("pull {before} --plain-http --output policy.wasm"));
    assert_eq!(colleague.read("policy.wasm"), CUSTOM_POLICY);
    colleague.ok(&format!("pull {tagged} --plain-http --update --output policy.wasm"));
    assert_eq!(colleague.read("policy.wasm"), MISBEHAVING);
    let lock = String::from_utf8(colleague.read("netloom.lock")).unwrap();
    assert!(lock.contains(digest(&after)) && !lock.contains(digest(&before)), "{lock}");
}

#[test]
fn contents_changed_in_the_registry_are_refused() {
    let Some(registry) = registry::start() else { return };
    let pinned = push(&registry, CUSTOM_POLICY, "acme/policy:1");
    let layer = Digest::of(CUSTOM_POLICY).to_string();
    let mut changed = CUSTOM_POLICY.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(registry.blob(&layer), &changed).unwrap();
    let user = User::new();
    for name in [&pinned, &registry.name("acme/policy:1")] {
        let said = user.refused(&format!("pull {name} --plain-http --output policy.wasm"));
        assert!(said.contains(&layer) && said.contains("somebody changed it"), "{said}");
        assert!(!user.has("policy.wasm") && !user.cached(&layer).exists());
    }
    // More than was said.
    changed.extend_from_slice(&[0; 100_000]);
    std::fs::write(registry.blob(&layer), &changed).unwrap();
    let said = user.refused(&format!("pull {pinned} --plain-http"));
    assert!(said.contains("nothing of it was kept"), "{said}");
}

/// A registry that answers every question for a manifest with this one, and says it has the digest.
fn liar(manifest: String, claimed: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            drop(answer(stream, &manifest, &claimed));
        }
    });
    address
}

fn answer(mut stream: TcpStream, manifest: &str, claimed: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap()?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let (status, body) =
        if request.contains("/manifests/") { ("200 OK", manifest) } else { ("200 OK", "{}") };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nConnection: close\r\n\
         Docker-Content-Digest: {claimed}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_registry_that_lies_about_digests_is_not_believed() {
    let config = Digest::of(b"{}");
    let layer = Digest::of(MISBEHAVING);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.wasm.config.v0+json","digest":"{config}","size":2}},
        "layers":[{{"mediaType":"application/wasm","digest":"{layer}","size":{}}}]}}"#,
        MISBEHAVING.len()
    );
    let asked = Digest::of(b"the manifest that was reviewed");
    let user = User::new();
    // It claims to have sent what was asked for.
    let registry = liar(manifest.clone(), asked.to_string());
    let said = user.refused(&format!("pull {registry}/acme/policy@{asked} --plain-http"));
    assert!(said.contains(&asked.to_string()) && said.contains("nothing of it was kept"), "{said}");
    // It is honest about having sent something else.
    let registry = liar(manifest.clone(), Digest::of(manifest.as_bytes()).to_string());
    let said = user.refused(&format!("pull {registry}/acme/policy@{asked} --plain-http"));
    assert!(said.contains(&asked.to_string()), "{said}");
    // Of a tag, it claims another digest than what it sent has: the lock would name what nobody has.
    let registry = liar(manifest, asked.to_string());
    let said = user.refused(&format!("pull {registry}/acme/policy:1 --plain-http --lock"));
    assert!(said.contains("nothing of it was kept"), "{said}");
    assert!(!user.has("netloom.lock"));
}

#[test]
fn a_registry_that_asks_who_we_are_is_told_what_docker_login_left() {
    let Some(registry) = registry::start_with_login() else { return };
    let user = User::new();
    user.write("policy.wasm", CUSTOM_POLICY);
    let name = registry.name("acme/policy:1");
    let said = user.refused(&format!("push policy.wasm {name} --plain-http"));
    assert!(said.contains(&format!("docker login {}", registry.address)), "{said}");
    user.log_in(&registry);
    let pinned = user.ok(&format!("push policy.wasm {name} --plain-http"));
    user.ok("keygen acme");
    user.ok(&format!("sign {pinned} --plain-http --key acme.key"));
    let user = User::new();
    assert!(user.refused(&format!("pull {pinned} --plain-http")).contains("docker login"));
    user.log_in(&registry);
    user.ok(&format!("pull {pinned} --plain-http --output p.wasm"));
    assert_eq!(user.read("p.wasm"), CUSTOM_POLICY);
}

#[test]
fn a_registry_with_a_certificate_of_its_own_is_believed_by_who_trusts_that() {
    let Some((registry, certificate)) = registry::start_with_tls() else { return };
    let user = User::new();
    user.write("policy.wasm", CUSTOM_POLICY);
    user.write("ca.pem", certificate.as_bytes());
    let push = format!("push policy.wasm {}", registry.name("acme/policy:1"));
    let said = user.refused(&push);
    assert!(said.contains("certificate"), "{said}");
    let trusting = user.command(&push).env("SSL_CERT_FILE", "ca.pem").output().unwrap();
    assert!(trusting.status.success(), "{}", String::from_utf8_lossy(&trusting.stderr));
    let pinned = String::from_utf8(trusting.stdout).unwrap();
    let pull = format!("pull {} --output p.wasm", pinned.trim());
    let trusting = user.command(&pull).env("SSL_CERT_FILE", "ca.pem").output().unwrap();
    assert!(trusting.status.success(), "{}", String::from_utf8_lossy(&trusting.stderr));
    assert_eq!(user.read("p.wasm"), CUSTOM_POLICY);
}
