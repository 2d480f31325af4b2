//! Builds a real plugin and looks at the component.

use std::{fs, path::Path};

use netloom_plugin_build::{Options, build, interfaces};

#[test]
fn a_plugin_exports_the_hooks_it_names_and_imports_what_it_calls() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let component = build(&repository.join("plugins/attach-order"), &Options::default()).unwrap();
    assert_eq!(component.name, "netloom-plugin-attach-order");

    let bytes = fs::read(&component.path).unwrap();
    let interfaces = interfaces(&bytes).unwrap();
    assert_eq!(interfaces.exports, ["netloom:policy/attach-order@0.1.0", "netloom:policy/lifecycle@0.1.0"]);
    assert_eq!(interfaces.imports, ["netloom:kernel/log@0.1.0", "netloom:kernel/types@0.1.0"]);
    println!("{} bytes", bytes.len());
}
