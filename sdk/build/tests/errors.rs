//! What cannot be built, and what the author is told.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not recognised as tests")]

use std::{fs, path::Path};

use netloom_plugin_build::{BuildError, EncodeError, Options, build, encode, interfaces};
use tempfile::TempDir;

const CDYLIB: &str =
    "[package]\nname = \"NAME\"\nedition = \"2024\"\n[workspace]\n[lib]\ncrate-type = [\"cdylib\"]\n";

/// The name is one of its own in the target directory that all share.
fn crate_of(name: &str, manifest: &str, source: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("src")).unwrap();
    fs::write(dir.path().join("Cargo.toml"), manifest.replace("NAME", name)).unwrap();
    fs::write(dir.path().join("src/lib.rs"), source).unwrap();
    dir
}

fn build_error(dir: &Path) -> BuildError {
    build(dir, &Options::default()).unwrap_err()
}

#[test]
fn a_folder_without_a_package() {
    let dir = tempfile::tempdir().unwrap();
    let error = build_error(dir.path());
    assert!(matches!(error, BuildError::NoPackage { .. }), "{error}");
}

#[test]
fn a_manifest_that_does_not_parse_is_quoted() {
    let dir = crate_of("unquoted", "[package]\nname = NAME", "");
    let error = build_error(dir.path());
    assert!(
        matches!(&error, BuildError::Metadata { message, .. } if message.contains("name = unquoted")),
        "{error}"
    );
}

#[test]
fn a_library_that_is_no_cdylib() {
    let dir = crate_of("no-cdylib", &CDYLIB.replace("cdylib", "rlib"), "");
    let error = build_error(dir.path()).to_string();
    assert!(error.contains("crate-type = [\"cdylib\"]"), "{error}");
}

#[test]
fn the_compilers_own_words_are_passed_on() {
    let dir = crate_of("mismatched", CDYLIB, "pub fn f() -> u32 { \"text\" }");
    let error = build_error(dir.path()).to_string();
    assert!(error.contains("mismatched types"), "{error}");
}

#[test]
fn a_library_that_exports_no_hook() {
    let dir = crate_of("no-hook", CDYLIB, "#[unsafe(no_mangle)]\npub extern \"C\" fn f() {}");
    let error = build_error(dir.path());
    let BuildError::Encode { source: EncodeError::NoComponentType, .. } = &error else { panic!("{error}") };
    assert!(error.to_string().contains("#[plugin(…)]"), "{error}");
}

#[test]
fn bytes_that_are_no_module() {
    let core = wat::parse_str("(module (func (export \"f\")))").unwrap();
    let component = wat::parse_str("(component (core module (func)))").unwrap();
    for bytes in [&b"ELF"[..], &core[..core.len() - 1], &component] {
        let error = encode(bytes).unwrap_err();
        assert!(matches!(error, EncodeError::Refused { .. }), "{error}");
    }
    for bytes in [&core, &component[..component.len() - 1]] {
        let error = interfaces(bytes).unwrap_err();
        assert!(matches!(error, EncodeError::Refused { .. }), "{error}");
    }
}

#[test]
fn a_module_that_brings_wasi_in() {
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve
        .push_str(
            "test.wit",
            "package test:plugin;
             world plugin { import wasi:cli/environment@0.2.0; }
             package wasi:cli@0.2.0 { interface environment { get-pid: func() -> u32; } }",
        )
        .unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    let module = r#"(module
        (import "wasi:cli/environment@0.2.0" "get-pid" (func $pid (result i32)))
        (memory (export "memory") 1)
        (func (export "use") (drop (call $pid))))"#;
    let mut module = wat::parse_str(module).unwrap();
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, utf8).unwrap();

    let error = encode(&module).unwrap_err();
    assert!(matches!(&error, EncodeError::Wasi(name) if name == "wasi:cli/environment@0.2.0"), "{error}");
}
