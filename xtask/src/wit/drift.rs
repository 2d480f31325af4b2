//! What was published stays: components that were built against it are on somebody's nodes.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::{
    wit::{self, Form, Item, Published},
    workspace,
};

/// Everything by its name, with what it is made of. All documentation may change.
fn items(published: &Published) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for interface in &published.interfaces {
        all.insert(format!("interface {}", interface.id), String::new());
        for item in &interface.items {
            all.insert(format!("{} of {}", item.title, interface.id), made_of(item));
        }
    }
    for world in &published.worlds {
        all.insert(format!("world {}", world.id), String::new());
        for (way, names) in [("import", &world.imports), ("export", &world.exports)] {
            for name in names {
                all.insert(format!("{way} {name} of world {}", world.id), String::new());
            }
        }
    }
    all
}

fn made_of(item: &Item) -> String {
    match &item.form {
        Form::Function { signature, .. } => signature.to_string(),
        Form::Alias { of } => of.to_string(),
        Form::Resource => String::new(),
        Form::Parts { parts, .. } => {
            let parts = parts.iter().map(|part| match &part.of {
                Some(of) => format!("{}: {of}", part.name),
                None => part.name.clone(),
            });
            format!("{{ {} }}", parts.collect::<Vec<_>>().join(", "))
        }
    }
}

/// What of the published is gone or another, in sentences.
fn drift(published: &Published, present: &Published) -> Vec<String> {
    let present = items(present);
    let way_out = "what is published never changes: put it back, and add a new version beside it";
    let mut found = Vec::new();
    for (name, was) in items(published) {
        match present.get(&name) {
            Some(is) if *is == was => {}
            Some(is) => {
                found.push(format!("{name} has changed from `{was}` to `{is}`; {way_out}"));
            }
            None => found.push(format!("{name} is gone; {way_out}")),
        }
    }
    found
}

fn present() -> Published {
    wit::read(&workspace::root().join("wit")).unwrap()
}

fn published() -> Vec<PathBuf> {
    let frozen = workspace::root().join("tests/plugins/frozen");
    let versions = fs::read_dir(&frozen).unwrap().map(|entry| entry.unwrap().path().join("wit"));
    versions.filter(|wit| wit.is_dir()).collect()
}

#[test]
fn what_was_published_is_there_unchanged() {
    let versions = published();
    assert!(!versions.is_empty(), "no published version is kept");
    for version in versions {
        let drift = drift(&wit::read(&version).unwrap(), &present());
        assert!(drift.is_empty(), "against {}:\n{}", version.display(), drift.join("\n"));
    }
}

/// The present interfaces with one text in the place of another.
fn altered(from: &str, to: &str) -> Published {
    let folder = tempfile::tempdir().unwrap();
    let mut replaced = 0;
    for package in ["kernel", "policy"] {
        fs::create_dir(folder.path().join(package)).unwrap();
        for entry in fs::read_dir(workspace::root().join("wit").join(package)).unwrap() {
            let entry = entry.unwrap();
            let text = fs::read_to_string(entry.path()).unwrap();
            replaced += text.matches(from).count();
            let target = folder.path().join(package).join(entry.file_name());
            fs::write(target, text.replace(from, to)).unwrap();
        }
    }
    assert_eq!(replaced, 1, "{from:?} is there {replaced} times");
    wit::read(folder.path()).unwrap()
}

#[test]
fn a_change_is_named_with_the_way_out() {
    let cases = [
        // A field more.
        ("virtual-machine: bool,", "virtual-machine: bool,\n        cpu-set: u64,", "record endpoint of"),
        // A case less.
        ("        /// Behind everything.\n        tail,\n", "", "variant placement of"),
        // Cases in another order are other numbers.
        ("enum protocol { tcp, udp }", "enum protocol { udp, tcp }", "enum protocol of"),
        ("health: func() -> result<_, string>;", "health: func();", "function health of"),
        ("set-mtu: func(mtu: u32)", "set-mtu: func(mtu: u64)", "function device.set-mtu of"),
        ("type entry-id = u32;", "type entry-id = u64;", "type entry-id of"),
        ("import netloom:kernel/files@0.1.0;", "", "import netloom:kernel/files@0.1.0 of world"),
    ];
    for (from, to, named) in cases {
        let drift = drift(&present(), &altered(from, to));
        let found = drift.iter().find(|line| line.starts_with(named));
        let line = found.unwrap_or_else(|| panic!("{named:?} is not in {drift:?}"));
        assert!(line.contains("@0.1.0") && line.contains("add a new version"), "{line}");
    }
}

#[test]
fn what_is_added_or_said_differently_is_no_change() {
    for (from, to) in [
        ("/// Deletes the device, and with it its peer.", "/// Removes the device and its peer."),
        ("list-devices: func()", "count: func() -> u32;\n    list-devices: func()"),
        ("world ambient {", "world more {\n    export lifecycle;\n}\n\nworld ambient {"),
    ] {
        assert_eq!(drift(&present(), &altered(from, to)), Vec::<String>::new(), "{to:?}");
    }
}
