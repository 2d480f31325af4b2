//! Builds the guests the host is tested with.

use std::{collections::BTreeMap, fs, path::Path};

use netloom_plugin_build::{Options, build_all, interfaces};

#[test]
fn a_workspace_of_guests_is_built_in_one_go() {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests");
    let components = build_all(&guests, &Options::default()).unwrap();
    let imports: BTreeMap<&str, Vec<String>> = components
        .iter()
        .map(|guest| (guest.name.as_str(), interfaces(&fs::read(&guest.path).unwrap()).unwrap().imports))
        .collect();
    let ambient = ["netloom:kernel/log@0.1.0", "netloom:kernel/types@0.1.0"];
    let with = |more: &str| {
        let mut names: Vec<String> = ambient.iter().map(|name| (*name).to_owned()).collect();
        names.push(more.to_owned());
        names.sort();
        names
    };
    let wanted = BTreeMap::from([
        ("imports-operations", with("netloom:kernel/sockets@0.1.0")),
        ("misbehaving", with("netloom:kernel/kv@0.1.0")),
        (
            "operating",
            ["datapath", "devices", "files", "links", "log", "sockets", "types"]
                .map(|name| format!("netloom:kernel/{name}@0.1.0"))
                .to_vec(),
        ),
        ("unknown-import", with("acme:cloud/metadata@1.0.0")),
    ]);
    assert_eq!(imports, wanted);
}
