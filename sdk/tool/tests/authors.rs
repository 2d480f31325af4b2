//! The tool as a plugin's author uses it, beyond the first page of the book.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod languages;

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use languages::can_build;

fn tool(folder: &Path, arguments: &[&str]) -> Output {
    // The standard library for Wasm is built once for all runs of these tests.
    Command::new(env!("CARGO_BIN_EXE_netloom-plugin"))
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

fn ok(folder: &Path, arguments: &[&str]) -> String {
    let output = tool(folder, arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = tool(folder, arguments);
    assert!(!output.status.success(), "{arguments:?}");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_folder_that_is_there_or_holds_no_plugin_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("there")).unwrap();
    assert!(refused(folder.path(), &["new", "there"]).contains("there already"));
    assert!(refused(folder.path(), &["new", "Not A Name"]).contains("name"));
    assert!(refused(folder.path(), &["build", "there"]).contains("netloom plugin new"));
    assert!(refused(folder.path(), &["test", "missing.wasm"]).contains("missing.wasm"));
}

fn write(folder: &Path, file: &str, bytes: &[u8]) {
    std::fs::write(folder.join(file), bytes).unwrap();
}

#[test]
fn a_reader_that_has_had_enough_is_no_reason_to_panic() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let tool = Command::new(env!("CARGO_BIN_EXE_netloom-plugin"))
        .args(["new", "policy"])
        .current_dir(folder.path())
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&tool.stderr), "");
    assert!(folder.path().join("policy").is_dir());
}

#[test]
fn the_bundled_plugins_conform() {
    let folder = tempfile::tempdir().unwrap();
    for plugin in netloom_bundled::PLUGINS {
        let file = format!("{}.wasm", plugin.name);
        write(folder.path(), &file, plugin.component);
        let said = ok(folder.path(), &["test", &file]);
        assert!(said.contains(" 0 failed"), "{said}");
    }
}

#[test]
fn the_examples_build_and_conform() {
    let folder = tempfile::tempdir().unwrap();
    // A clock, for the example that takes one.
    write(folder.path(), "since_epoch", b"1700000000\n");
    let clock = format!("[files.directories]\nclock = {{ path = {:?} }}\n", folder.path());
    write(folder.path(), "business-hours-grants.toml", clock.as_bytes());
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for entry in std::fs::read_dir(&examples).unwrap() {
        let example = entry.unwrap().path();
        if !example.join("Cargo.toml").exists() {
            continue;
        }
        let name = example.file_name().unwrap().to_str().unwrap().to_owned();
        let component = format!("{name}.wasm");
        ok(folder.path(), &["build", example.to_str().unwrap(), "--out", &component]);
        let mut arguments = vec!["test", component.as_str()];
        let grants = format!("{name}-grants.toml");
        if folder.path().join(&grants).exists() {
            arguments.extend(["--grant", &grants]);
        }
        let conforms = |arguments: &[&str]| {
            let said = ok(folder.path(), arguments);
            assert!(said.contains(" 0 failed"), "{name}: {said}");
        };
        let Ok(schema) = std::fs::read(example.join("config.schema.json")) else {
            conforms(&arguments);
            continue;
        };
        let schema: serde_json::Value = serde_json::from_slice(&schema).unwrap();
        arguments.extend(["--config", "config.json"]);
        for config in schema["examples"].as_array().unwrap() {
            write(folder.path(), "config.json", config.to_string().as_bytes());
            conforms(&arguments);
            let mut misspelt = config.clone();
            misspelt["misspelt"] = true.into();
            write(folder.path(), "config.json", misspelt.to_string().as_bytes());
            let said = refused(folder.path(), &arguments);
            assert!(
                said.contains("its configuration is wrong") && said.contains("misspelt"),
                "{name}: {said}"
            );
        }
    }
}

#[test]
fn a_schema_that_cannot_be_used_is_said_where_it_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let sdk = concat!(env!("CARGO_MANIFEST_DIR"), "/../rust");
    ok(folder.path(), &["new", "policy", "--sdk", sdk]);
    for (schema, complaint) in [
        ("{ \"type\": ", "config.schema.json is not JSON"),
        ("{ \"type\": \"tabel\" }", "cannot be used: at `type`"),
        ("{ \"properties\": { \"a\": { \"$ref\": \"#\" } } }", "it has a `$ref`"),
    ] {
        write(folder.path(), "policy/config.schema.json", schema.as_bytes());
        let said = refused(folder.path(), &["build", "policy"]);
        assert!(said.contains(complaint), "{said}");
    }
    write(
        folder.path(),
        "policy/config.schema.json",
        b"{ \"properties\": { \"first\": true, \"last\": true } }",
    );
    let said = ok(folder.path(), &["build", "policy"]);
    assert!(said.contains("configured with first, last"), "{said}");
}

/// Builds an example that has scenarios beside it, and runs it through them.
fn example_conforms(folder: &Path, name: &str) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    let (component, scenarios) = (format!("{name}.wasm"), example.join("scenarios"));
    ok(folder, &["build", example.to_str().unwrap(), "--out", &component]);
    let said = ok(folder, &["test", &component, "--scenarios", scenarios.to_str().unwrap()]);
    let each = std::fs::read_dir(&scenarios).unwrap().count();
    assert_eq!(said.matches("/scenarios/").count(), each, "{said}");
    assert!(said.contains(" 0 failed"), "{said}");
}

#[test]
fn the_example_in_c_builds_and_conforms_and_is_the_same_bytes_each_time() {
    if !can_build("c") {
        return;
    }
    let (folder, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&folder, &again] {
        example_conforms(folder.path(), "database-grace");
    }
    let bytes = |folder: &Path| std::fs::read(folder.join("database-grace.wasm")).unwrap();
    assert_eq!(bytes(folder.path()), bytes(again.path()));
}

#[test]
fn what_is_wrong_with_a_plugin_in_c_is_said_by_its_compiler() {
    if !can_build("c") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    ok(folder.path(), &["new", "broken", "--lang", "c"]);
    let source = folder.path().join("broken/plugin.c");
    let whole = std::fs::read_to_string(&source).unwrap();
    for (from, to, complaint) in [
        ("node_free(node)", "node_free(nodes)", "undeclared identifier 'nodes'"),
        ("attach_order_rebalance(", "attach_order_balance(", "exports_netloom_policy_attach_order_rebalance"),
        ("ret->tag =", "printf(\"hello\"); ret->tag =", "imports wasi_snapshot_preview1"),
    ] {
        let text = format!("#include <stdio.h>\n{}", whole.replacen(from, to, 1));
        std::fs::write(&source, text).unwrap();
        let said = refused(folder.path(), &["build", "broken"]);
        assert!(said.contains(complaint), "{said}");
    }
}

#[test]
fn the_example_in_python_builds_and_conforms() {
    if !can_build("python") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    example_conforms(folder.path(), "no-twins");
}

#[test]
fn the_example_in_javascript_builds_and_conforms_and_reads_its_configuration() {
    if !can_build("javascript") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    example_conforms(folder.path(), "storage-mtu");
    write(folder.path(), "wrong.toml", b"mut = 9000\n");
    let said = refused(folder.path(), &["test", "storage-mtu.wasm", "--config", "wrong.toml"]);
    assert!(said.contains("its configuration is wrong") && said.contains("'mut' was unexpected"), "{said}");
}

#[test]
fn a_plugin_in_go_is_the_same_bytes_each_time_and_its_mistakes_are_told() {
    if !can_build("go") {
        return;
    }
    let (folder, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [built, built_again] = [&folder, &again].map(|folder| {
        ok(folder.path(), &["new", "policy", "--lang", "go"]);
        ok(folder.path(), &["build", "policy"]);
        std::fs::read(folder.path().join("policy/policy.wasm")).unwrap()
    });
    assert!(built == built_again, "{} and {} bytes", built.len(), built_again.len());

    let source = folder.path().join("policy/export_netloom_policy_attach_order/plugin.go");
    let whole = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, whole.replace("candidate.Labels", "candidate.Label")).unwrap();
    let said = refused(folder.path(), &["build", "policy"]);
    assert!(said.contains("candidate.Label undefined"), "{said}");
    // What the runtime does not have is not there for the plugin either: a file is not found, and no more.
    let opens = whole.replace("import (", "import (\n\t\"os\"").replace(
        "for _, label",
        "if _, err := os.Open(\"/etc/passwd\"); err == nil {\n\t\tpanic(\"a file\")\n\t}\n\tfor _, label",
    );
    std::fs::write(&source, opens).unwrap();
    ok(folder.path(), &["build", "policy"]);
    let said = ok(folder.path(), &["test", "policy/policy.wasm"]);
    assert!(said.contains(" 0 failed"), "{said}");
}

#[test]
fn the_files_beside_an_example_are_those_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/business-hours");
    ok(folder.path(), &["build", example.to_str().unwrap(), "--out", "business-hours.wasm"]);
    let (config, grants) = (example.join("config.toml"), folder.path().join("grants.toml"));
    let with = |arguments: &[&str]| {
        let config = ["--config", config.to_str().unwrap()];
        tool(folder.path(), &[&["run", "business-hours.wasm"], arguments, &config].concat())
    };
    // Tuesday, 22:13: in the hours, connections are cut at once; at noon they have half an hour.
    let question = serde_json::json!({ "plan": { "event": {
        "reason": "removed",
        "backends": [{ "address": "10.0.0.7:443", "protocol": "tcp", "service": "web" }],
    } } });
    write(folder.path(), "question.json", question.to_string().as_bytes());
    let committed = std::fs::read_to_string(example.join("grants.toml")).unwrap();
    let here = folder.path().to_str().unwrap();
    write(folder.path(), "grants.toml", committed.replace("/sys/class/rtc/rtc0", here).as_bytes());
    for (seconds, grace) in [("1700000000", 0), ("1699963200", 1_800_000)] {
        write(folder.path(), "since_epoch", seconds.as_bytes());
        let asked = ["--question", "question.json", "--grant", grants.to_str().unwrap()];
        let output = with(&asked);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.contains(&format!("\"grace_ms\": {grace}")),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let without = with(&["--question", "question.json"]);
    let why = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(!without.status.success() && why.contains("grant the directory `clock`"), "{why}");
}

#[test]
fn a_plugin_that_misbehaves_does_not_conform() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "bad.wasm", netloom_test_components::MISBEHAVING);
    for what in ["unknown-entry", "trap", "loop"] {
        let config = format!("in = \"place\"\ndo = \"{what}\"\n");
        write(folder.path(), "config.toml", config.as_bytes());
        let said = refused(folder.path(), &["test", "bad.wasm", "--config", "config.toml"]);
        assert!(said.contains("FAIL  conformance: place in a chain of 8"), "{what}: {said}");
    }
}

#[test]
fn where_a_plugin_trapped_is_said_if_it_kept_its_names() {
    let folder = tempfile::tempdir().unwrap();
    ok(folder.path(), &["new", "scenarios-of", "--lang", "javascript"]);
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/misbehaving");
    ok(folder.path(), &["build", guest, "--names", "--out", "named.wasm"]);
    write(folder.path(), "stripped.wasm", netloom_test_components::MISBEHAVING);
    let question = "scenarios-of/scenarios/observer.json";
    let run = |component: &str, what: &str| {
        write(folder.path(), "config.toml", format!("in = \"place\"\ndo = \"{what}\"\n").as_bytes());
        refused(folder.path(), &["run", component, "--config", "config.toml", "--question", question])
    };
    let said = run("named.wasm", "recurse");
    assert!(said.contains("in misbehaving::behaviour::recurse\""), "{said}");
    assert!(said.contains("where it failed") && said.contains("recurse < misbehaving::"), "{said}");
    let said = run("named.wasm", "panic");
    assert!(said.contains("(unreachable code), in misbehaving::"), "not the panic's own functions: {said}");
    let said = run("stripped.wasm", "recurse");
    assert!(said.contains("where it failed") && said.contains("function "), "{said}");
}

#[test]
fn a_question_is_answered_and_replayed_against_another_configuration() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "policy.wasm", netloom_test_components::CUSTOM_POLICY);
    write(folder.path(), "first.toml", b"first = \"acme/flows\"\n");
    ok(folder.path(), &["new", "scenarios-of", "--lang", "javascript"]);
    let scenario = std::fs::read(folder.path().join("scenarios-of/scenarios/observer.json")).unwrap();
    let mut scenario: serde_json::Value = serde_json::from_slice(&scenario).unwrap();
    write(folder.path(), "question.json", scenario["question"].to_string().as_bytes());
    let run = |more: &[&str]| {
        ok(folder.path(), &[&["run", "policy.wasm", "--question", "question.json"], more].concat())
    };
    assert!(run(&[]).contains("abstain"));
    let said = run(&["--config", "first.toml"]);
    assert!(said.contains("head"), "{said}");

    let reply: serde_json::Value = serde_json::from_str(&said).unwrap();
    let recording = serde_json::json!([{
        "node": scenario["node"].take(),
        "question": scenario["question"].take(),
        "replies": [{ "plugin": "policy", "reply": reply }],
    }]);
    write(folder.path(), "recordings.json", recording.to_string().as_bytes());
    let same = ok(folder.path(), &["replay", "policy.wasm", "recordings.json", "--config", "first.toml"]);
    assert!(same.contains("1 decisions, 0 answered otherwise"), "{same}");
    let other = refused(folder.path(), &["replay", "policy.wasm", "recordings.json", "--against", "policy"]);
    assert!(other.contains("1 decisions, 1 answered otherwise") && other.contains("abstain"), "{other}");
}

#[test]
fn a_plugin_is_compiled_once_and_few_are_kept() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let compiled = cache.path().join("compiled");
    std::fs::create_dir(&compiled).unwrap();
    std::fs::set_permissions(&compiled, Permissions::from_mode(0o700)).unwrap();
    for old in 0..20 {
        write(&compiled, &format!("{old}.cwasm"), b"of another version");
        write(&compiled, &format!("{old}.crc32"), b"");
    }
    write(folder.path(), "policy.wasm", netloom_test_components::CUSTOM_POLICY);
    let test = || {
        let tested = Command::new(env!("CARGO_BIN_EXE_netloom-plugin"))
            .args(["test", "policy.wasm"])
            .current_dir(folder.path())
            .env("NETLOOM_CACHE", cache.path())
            .output()
            .unwrap();
        assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
        let files = std::fs::read_dir(&compiled).unwrap().map(|entry| entry.unwrap());
        let files = files.filter(|file| file.path().extension().unwrap() == "cwasm");
        let files: Vec<_> = files
            .map(|file| (file.metadata().unwrap(), file.file_name()))
            .map(|(metadata, name)| (metadata.len(), metadata.modified().unwrap(), name))
            .collect();
        let ours = files.iter().max().unwrap().clone();
        (files.len(), ours)
    };
    let (kept, ours) = test();
    assert_eq!(kept, 8);
    assert!(ours.0 > 10_000, "{ours:?}");
    assert_eq!(test().1, ours, "it was compiled again");

    // What somebody else could have written is not run: the plugin is compiled, and nothing is kept.
    std::fs::remove_file(compiled.join(&ours.2)).unwrap();
    std::fs::set_permissions(&compiled, Permissions::from_mode(0o777)).unwrap();
    assert!(test().1.0 < 10_000);
}

#[test]
fn a_plugin_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "policy.wasm", netloom_test_components::CUSTOM_POLICY);
    let said = ok(folder.path(), &["bench", "policy.wasm", "--rounds", "3"]);
    assert!(said.contains("place in a chain of 8") && said.contains("judge 4096 sockets, packed"), "{said}");
}
