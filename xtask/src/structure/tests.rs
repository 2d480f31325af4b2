//! The checks on small made-up crates.

use super::*;

/// A folder with a crate `host/a` of these sources.
fn workspace(sources: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in sources {
        let path = folder.path().join("host/a/src").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// What is found in a crate, with a list of exceptions.
fn found_with(list: &str, sources: &[(&str, &str)]) -> Vec<String> {
    let exceptions: Exceptions = toml::from_str(list).unwrap();
    let krate = Crate::read(workspace(sources).path(), "host/a").unwrap();
    let mut findings = cycles::check(&krate, &exceptions.cycles);
    findings.extend(impls::check(&krate, &exceptions.impls));
    findings
}

fn found(sources: &[(&str, &str)]) -> Vec<String> {
    found_with("", sources)
}

/// The modules of the only finding, which is a cycle.
fn cycle(sources: &[(&str, &str)]) -> String {
    let findings = found(sources);
    let [finding] = findings.as_slice() else { panic!("{findings:#?}") };
    finding.split(" import each other").next().unwrap().to_owned()
}

#[test]
fn modules_that_do_not_import_each_other_are_no_finding() {
    let findings = found(&[
        ("lib.rs", "mod x; mod y; mod z; use x::X;"),
        ("x.rs", "use crate::y::Y; use crate::z; pub struct X;"),
        ("y.rs", "use crate::z::Z; use std::fmt; pub struct Y;"),
        ("z.rs", "pub struct Z; impl Z { pub fn new() -> Self { Self } }"),
    ]);
    assert_eq!(findings, [""; 0]);
}

#[test]
fn a_cycle_is_reported_with_a_place_for_each_import() {
    let findings = found(&[
        ("lib.rs", "mod x; mod y; mod z; mod beside;"),
        ("x.rs", "use crate::y::Y;\npub struct X;"),
        ("y.rs", "\n\nuse crate::z::Z;\npub struct Y;"),
        ("z.rs", "pub struct Z(crate::x::X);"),
        ("beside.rs", "use crate::x::X;"),
    ]);
    let expected = "host/a: x, y, z import each other in a cycle:\n    \
                    x → y  host/a/src/x.rs:1\n    \
                    y → z  host/a/src/y.rs:3\n    \
                    z → x  host/a/src/z.rs:1";
    assert_eq!(findings, [expected]);
}

#[test]
fn a_re_export_by_the_root_counts_as_an_import_of_the_module() {
    let sources = |root| {
        [
            ("lib.rs", root),
            ("x.rs", "use crate::Renamed; pub struct X;"),
            ("y.rs", "use crate::x::X; pub struct Y;"),
        ]
    };
    assert_eq!(cycle(&sources("mod x; mod y; pub use y::Y as Renamed;")), "host/a: x, y");
    // One that the root itself defines is of no sibling.
    assert_eq!(found(&sources("mod x; mod y; pub struct Renamed;")), [""; 0]);
}

#[test]
fn a_re_export_of_everything_is_looked_through() {
    let name = cycle(&[
        ("lib.rs", "mod x; mod y; pub use x::*; pub use y::*;"),
        // That it imports it itself does not export it.
        ("x.rs", "use crate::Y; pub struct X;"),
        ("y.rs", "use crate::x::X; pub struct Y;"),
    ]);
    assert_eq!(name, "host/a: x, y");
}

#[test]
fn imports_in_groups_are_seen() {
    let name = cycle(&[
        ("lib.rs", "mod x; mod y; mod z;"),
        ("x.rs", "use crate::{y::{self, Y}, z::Z}; pub struct X;"),
        ("y.rs", "pub struct Y;"),
        ("z.rs", "use {std::fmt, crate::{x::{X}}}; pub struct Z;"),
    ]);
    assert_eq!(name, "host/a: x, z");
}

#[test]
fn paths_that_are_written_out_are_seen_in_types_expressions_and_macros() {
    let sources =
        |text| [("lib.rs", "mod x; mod y;"), ("x.rs", "use crate::y::Y; pub struct X;"), ("y.rs", text)];
    for text in [
        "fn y(_: Vec<crate::x::X>) {}",
        "fn y() { let _ = crate::x::X; }",
        "fn y() { println!(\"{}\", [crate::x::number::<u8>()]); }",
        "fn y() { use super::x::X; }",
        "#[arg(value_parser = crate::x::parse)] struct Y;",
        "macro_rules! y { () => { $crate::x::X } }",
    ] {
        assert_eq!(cycle(&sources(text)), "host/a: x, y", "{text}");
    }
    assert_eq!(found(&sources("fn y() { println!(\"crate::x::X\") }")), [""; 0]);
}

#[test]
fn siblings_in_a_folder_are_compared_and_parents_with_their_children_are_not() {
    let name = cycle(&[
        ("lib.rs", "mod x;"),
        ("x.rs", "mod one; mod two; use one::One; pub struct X;"),
        ("x/one.rs", "use super::{X, two::Two}; pub struct One;"),
        ("x/two.rs", "mod deep; pub struct Two;"),
        ("x/two/deep.rs", "use super::super::One;"),
    ]);
    assert_eq!(name, "host/a: x::one, x::two");
}

#[test]
fn a_path_that_leaves_a_folder_is_an_import_by_the_folder() {
    let name = cycle(&[
        ("lib.rs", "mod x; mod y;"),
        ("x/mod.rs", "mod deep;"),
        ("x/deep.rs", "use super::super::y::Y; pub struct Deep;"),
        ("y.rs", "use crate::x::deep::Deep; pub struct Y;"),
    ]);
    assert_eq!(name, "host/a: x, y");
}

#[test]
fn what_is_for_tests_only_is_left_out() {
    let findings = found(&[
        ("lib.rs", "mod x; mod y;"),
        ("x.rs", "use crate::y::Y; pub struct X;"),
        (
            "y.rs",
            "pub struct Y; #[cfg(test)] mod tests; #[cfg(test)] use crate::x::X; #[cfg(test)] impl crate::x::X {} \
             impl Y { #[cfg(test)] fn y(_: crate::x::X) {} }
             #[cfg(test)] mod more { use crate::x::X; }",
        ),
    ]);
    assert_eq!(findings, [""; 0]);
}

const TWO: [(&str, &str); 3] = [
    ("lib.rs", "mod x; mod y;"),
    ("x.rs", "use crate::y::Y; pub struct X;"),
    ("y.rs", "use crate::x::X; pub struct Y;"),
];

#[test]
fn a_cycle_that_is_listed_is_allowed() {
    let list = "[[cycle]]\ncrate = 'a'\nmodules = ['y', 'x']\nwhy = '…'";
    assert_eq!(found_with(list, &TWO), [""; 0]);
}

#[test]
fn a_listed_cycle_that_is_gone_is_reported() {
    let list = "[[cycle]]\ncrate = 'a'\nmodules = ['x', 'y']\nwhy = '…'";
    let findings = found_with(list, &[("lib.rs", "mod x; mod y;"), ("x.rs", "use crate::y;"), ("y.rs", "")]);
    let expected =
        "tests/structure.toml: the cycle of x, y in host/a is gone: delete that from the list".to_owned();
    assert_eq!(findings, [expected]);
}

#[test]
fn a_listed_cycle_that_is_smaller_now_is_reported_with_what_is_left() {
    let list = "[[cycle]]\ncrate = 'a'\nmodules = ['x', 'y', 'z']\nwhy = '…'";
    let findings = found_with(list, &TWO);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].ends_with("\n    modules = [\"x\", \"y\"]"), "{}", findings[0]);
}

#[test]
fn a_cycle_that_grew_is_reported_once() {
    let list = "[[cycle]]\ncrate = 'a'\nmodules = ['x', 'y']\nwhy = '…'";
    let findings = found_with(
        list,
        &[
            ("lib.rs", "mod x; mod y; mod z;"),
            ("x.rs", "use crate::{y, z};"),
            ("y.rs", "use crate::x;"),
            ("z.rs", "use crate::y;"),
        ],
    );
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].starts_with("host/a: x, y, z import"), "{}", findings[0]);
}

const AWAY: [(&str, &str); 4] = [
    ("lib.rs", "mod x; mod y; pub use x::X;"),
    ("x.rs", "mod deep; pub struct X;"),
    ("x/deep.rs", "use super::X; impl X { fn below() {} }"),
    ("y.rs", "use crate::X as Other;\nimpl Other {}\nimpl Default for Other {}\nstruct Y; impl Y {}"),
];

#[test]
fn methods_away_from_their_type_are_reported_and_traits_are_not() {
    let expected =
        "host/a/src/y.rs:2: methods of x::X in y; they belong to where the type is, or are functions";
    assert_eq!(found(&AWAY), [expected]);
}

#[test]
fn methods_elsewhere_can_be_listed_for_each_module() {
    let list = "[[impls]]\ncrate = 'a'\ntype = 'x::X'\nmodules = ['y', 'z']\nwhy = '…'";
    let expected =
        "tests/structure.toml: z in host/a has no methods of x::X: delete that from the list".to_owned();
    assert_eq!(found_with(list, &AWAY), [expected]);
}

#[test]
fn a_source_that_is_missing_is_an_error() {
    let folder = workspace(&[("lib.rs", "mod x;")]);
    let error = Crate::read(folder.path(), "host/a").err().unwrap();
    assert_eq!(error.to_string(), "there is no host/a/src/x.rs and no host/a/src/x/mod.rs");
}

#[test]
fn names_that_are_imported_round_and_round_lead_nowhere() {
    let findings = found(&[
        ("lib.rs", "mod x; mod y; pub use x::*;"),
        ("x.rs", "pub use crate::y::*; use log::log; use crate::Nothing;"),
        ("y.rs", "pub use crate::x::*; use crate::Nothing;"),
    ]);
    assert_eq!(findings.len(), 1, "{findings:#?}");
}
