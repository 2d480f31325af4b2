//! ELF objects, good and bad.

use std::{error::Error, path::Path};

use aya::maps::{Array, Map, MapData};
use netloom_kernel::programs::{self, LoadError, LoadOptions, Program};
use netloom_test_programs as objects;

use crate::scratch::Bpffs;

fn load(object: &[u8]) -> Result<Program, LoadError> {
    programs::load("thing.o", object, &LoadOptions::default())
}

fn named(program: &str) -> LoadOptions {
    LoadOptions { program: Some(program.to_owned()), ..LoadOptions::default() }
}

/// The whole chain of causes, as people get it.
fn text(error: &LoadError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

#[test]
fn each_section_name_for_programs_on_devices_is_known() {
    // tc, tcx/ingress, classifier
    for (object, name) in [(objects::OBSERVER, "observer"), (objects::PASS, "pass"), (objects::DROP, "drop")]
    {
        let program = load(object).unwrap();
        assert_eq!(program.name(), name);
        assert!(program.is_classifier());
        assert_eq!(program.tag().len(), 16);
    }
    assert_eq!(load(objects::OBSERVER).unwrap().maps().len(), 1);
}

#[test]
fn an_object_with_maps_globals_and_relocations_loads() {
    let bpffs = Bpffs::new();
    let folder = bpffs.path().join("maps");
    for name in ["castor", "pollux"] {
        let mut options = named(name);
        options.pin_maps = Some(folder.clone());
        options.globals.insert("verdict".to_owned(), 2_i32.to_ne_bytes().to_vec());
        let program = programs::load("twins.o", objects::TWINS, &options).unwrap();
        assert_eq!(program.name(), name);
    }
    // Both programs share the map that is pinned by its name.
    let map = MapData::from_pin(folder.join("twin_packets")).unwrap();
    let packets: Array<_, u64> = Map::Array(map).try_into().unwrap();
    assert_eq!(packets.len(), 2);
}

#[test]
fn several_programs_and_none_named_are_listed() {
    let error = load(objects::TWINS).expect_err("two programs");
    assert!(matches!(error, LoadError::Several { .. }), "{error}");
    assert!(error.to_string().ends_with("say which of castor, pollux"), "{error}");
}

#[test]
fn a_program_that_is_not_there_is_answered_with_those_that_are() {
    let error = programs::load("twins.o", objects::TWINS, &named("helena")).expect_err("no such program");
    assert!(matches!(error, LoadError::NoSuchProgram { .. }), "{error}");
    assert!(error.to_string().contains("castor (netkit/primary), pollux (netkit/peer)"), "{error}");
}

#[test]
fn a_program_of_another_type_is_refused() {
    let error = load(objects::PLAIN).expect_err("an xdp program");
    assert!(matches!(error, LoadError::NoProgram { .. }), "{error}");
    assert!(error.to_string().contains("plain (xdp)"), "{error}");
    let error = programs::load("plain.o", objects::PLAIN, &named("plain")).expect_err("an xdp program");
    assert!(matches!(error, LoadError::WrongType { .. }), "{error}");
    assert!(error.to_string().contains("\"tc\""), "{error}");
}

#[test]
fn what_the_verifier_says_is_shown() {
    let error = load(objects::UNVERIFIABLE).expect_err("it reads past the packet");
    assert!(matches!(error, LoadError::Rejected { .. }), "{error}");
    let text = text(&error);
    assert!(text.contains("\"unverifiable\" of thing.o"), "{text}");
    assert!(text.contains("invalid access to packet"), "{text}");
    // With the line of C, which needs the records of the renamed section.
    assert!(text.contains("data[40] == 6"), "{text}");
}

#[test]
fn globals_are_set_by_name_and_size() {
    let bpffs = Bpffs::new();
    for (name, value) in [("missing", vec![0; 4]), ("verdict", vec![0; 3])] {
        let mut options = named("castor");
        options.pin_maps = Some(bpffs.path().to_owned());
        options.globals.insert(name.to_owned(), value);
        let error = programs::load("twins.o", objects::TWINS, &options).expect_err(name);
        assert!(matches!(error, LoadError::Global { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn maps_to_be_pinned_need_a_folder() {
    let error = programs::load("twins.o", objects::TWINS, &named("castor")).expect_err("no folder");
    assert!(matches!(error, LoadError::NoPinFolder { .. }), "{error}");
    assert!(error.to_string().contains("twin_packets"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let path = Path::new("/nonexistent/thing.o");
    let error = programs::load_file(path, &LoadOptions::default()).expect_err("no file");
    assert!(matches!(error, LoadError::Read { .. }), "{error}");
    assert!(text(&error).contains("/nonexistent/thing.o"), "{error}");
    let error = programs::load_file(Path::new("/"), &LoadOptions::default()).expect_err("a folder");
    assert!(matches!(error, LoadError::Read { .. }), "{error}");
}

#[test]
fn what_is_no_bpf_object_is_refused() {
    let machine_code = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut other_order = objects::OBSERVER.to_vec();
    other_order[5] = 3 - other_order[5];
    for (object, why) in [
        (b"".as_slice(), "does not begin like an ELF file"),
        (b"#!/bin/sh\necho a script\n", "does not begin like an ELF file"),
        (&machine_code, "another machine's code"),
        (&objects::OBSERVER[..64], "cut short"),
        (&objects::OBSERVER[..objects::OBSERVER.len() / 2], "cut short"),
        (&other_order, "byte order"),
    ] {
        let error = load(object).expect_err(why);
        assert!(matches!(error, LoadError::NotBpf { .. }), "{why}: {error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert!(error.to_string().contains("clang -target bpf"), "{error}");
    }
}

/// Damage in any place is an answer, never a crash, whoever of the two parsers notices.
#[test]
fn a_damaged_object_does_not_bring_the_process_down() {
    let mut refused = 0;
    for at in (0..objects::TWINS.len()).step_by(331) {
        let mut damaged = objects::TWINS.to_vec();
        for byte in damaged.iter_mut().skip(at).take(24) {
            *byte = !*byte;
        }
        refused += usize::from(programs::load("damaged.o", &damaged, &named("castor")).is_err());
    }
    assert!(refused > 0);
}
