//! `docs/plugins/first.md` as a new user goes through it, up to where it needs root, in each language.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod languages;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use netloom_test_support::{Page, typed};

use languages::can_build;

/// The sections whose commands need neither root nor a node.
const SECTIONS: [&str; 3] = ["Begin, build, test", "Ask and measure", "Publish"];

/// A folder with a `netloom` that has the plugin author's commands: the operator's are a crate of their own, which
/// hands these over in the same way.
fn programs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let netloom = folder.path().join("netloom");
    let tool = env!("CARGO_BIN_EXE_netloom-plugin");
    fs::write(&netloom, format!("#!/bin/sh\n[ \"$1\" = plugin ] && shift && exec {tool} \"$@\"\n")).unwrap();
    fs::set_permissions(&netloom, Permissions::from_mode(0o755)).unwrap();
    folder
}

fn gone_through(language: &str) {
    if !can_build(language) {
        return;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = Page::read(&here.join("../../docs/plugins/first.md"));
    assert_eq!(page.sections(), [&["What it takes"], SECTIONS.as_slice(), &["On a node"]].concat());
    let commands = SECTIONS.iter().flat_map(|section| page.section(section));
    let commands: Vec<_> =
        commands.map(|command| command.replace("--lang rust", &format!("--lang {language}"))).collect();
    assert!(commands[0].contains(language), "{}", commands[0]);

    let (folder, programs) = (tempfile::tempdir().unwrap(), programs());
    let sdk = here.join("../rust");
    let env = [
        ("NETLOOM_SDK", sdk.to_str().unwrap()),
        // The standard library for Wasm is built once for all runs of these tests.
        ("CARGO_TARGET_DIR", env!("CARGO_TARGET_TMPDIR")),
        ("GIT_AUTHOR_NAME", "A new user"),
        ("GIT_AUTHOR_EMAIL", "user@example.org"),
        ("GIT_COMMITTER_NAME", "A new user"),
        ("GIT_COMMITTER_EMAIL", "user@example.org"),
    ];
    let run = |commands: &[String]| typed(commands, folder.path(), programs.path(), &env);
    let said = run(&commands).expect_ok();
    assert!(said.contains("netloom:policy/attach-order@0.1.0") && !said.contains("wasi:"), "{said}");
    assert!(said.contains("ok    first/scenarios/observer.json"), "{said}");
    assert!(said.contains("conformance: place in a chain of 62") && said.contains(" 0 failed"), "{said}");
    assert!(said.contains("\"head\""), "the question is answered: {said}");
    assert!(said.contains("start an instance"), "it is measured: {said}");
    let tracked = run(&["git -C first ls-files".to_owned()]).expect_ok();
    assert!(tracked.contains("scenarios/observer.json") && !tracked.contains(".wasm"), "{tracked}");
    let release = run(&["cd release && sha256sum --check SHA256SUMS".to_owned()]).expect_ok();
    assert!(release.contains("first-0.1.0.wasm: OK"), "{release}");

    // The tests can fail.
    let file = folder.path().join("first/scenarios/other.json");
    let scenario = fs::read_to_string(&file).unwrap().replace("\"abstain\"", "{ \"decide\": \"tail\" }");
    fs::write(&file, scenario).unwrap();
    let failed = run(&["netloom plugin test first/first.wasm".to_owned()]);
    assert!(!failed.ok() && failed.stdout.contains("FAIL  first/scenarios/other.json"), "{}", failed.stdout);
    assert!(failed.stdout.contains("1 failed"), "{}", failed.stdout);
}

#[test]
fn the_way_to_a_published_plugin_works_in_rust() {
    gone_through("rust");
}

#[test]
fn the_way_to_a_published_plugin_works_in_c() {
    gone_through("c");
}

#[test]
fn the_way_to_a_published_plugin_works_in_python() {
    gone_through("python");
}

#[test]
fn the_way_to_a_published_plugin_works_in_javascript() {
    gone_through("javascript");
}

#[test]
fn the_way_to_a_published_plugin_works_in_go() {
    gone_through("go");
}
