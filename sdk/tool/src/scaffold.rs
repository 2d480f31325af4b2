//! Beginnings of plugins: a policy that works, with what it takes to build and test it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use netloom_core::{
    answer::{Answer, RawPlacement},
    model::Name,
};
use netloom_runtime::{Question, Reply};

use crate::{
    conformance,
    files::{self, Scenario},
    languages::Language,
};

/// The interfaces as published, for languages whose compilers read them.
const WIT: [(&str, &str); 5] = [
    ("wit/deps/kernel/types.wit", include_str!("../../../wit/kernel/types.wit")),
    ("wit/deps/kernel/ambient.wit", include_str!("../../../wit/kernel/ambient.wit")),
    ("wit/deps/kernel/operations.wit", include_str!("../../../wit/kernel/operations.wit")),
    ("wit/deps/policy/hooks.wit", include_str!("../../../wit/policy/hooks.wit")),
    ("wit/deps/policy/worlds.wit", include_str!("../../../wit/policy/worlds.wit")),
];

const WORLD: &str = "package acme:plugin;

/// The hooks this plugin serves: add datapath-mode-plugin, socket-reap-plugin or lifecycle-plugin for more.
world plugin {
    include netloom:policy/attach-order-plugin@0.1.0;
}
";

/// Makes the folder.
pub(crate) fn new(path: &Path, language: Language, sdk: Option<&Path>) -> anyhow::Result<ExitCode> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = Name::new(name).with_context(|| format!("{} cannot be a plugin's name", path.display()))?;
    if path.exists() {
        bail!("{} is there already", path.display());
    }
    let mut contents: Vec<(PathBuf, String)> = Vec::new();
    let mut add =
        |file: &str, text: &str| contents.push((path.join(file), text.replace("PLUGIN_NAME", name.as_str())));
    match language {
        Language::Rust => {
            let sdk = match sdk {
                Some(folder) => {
                    let folder = folder
                        .canonicalize()
                        .with_context(|| format!("there is no SDK at {}", folder.display()))?;
                    format!("{{ path = {:?} }}", folder.display().to_string())
                }
                None => format!("{{ git = {:?} }}", env!("CARGO_PKG_REPOSITORY")),
            };
            add(
                "Cargo.toml",
                &include_str!("../../templates/rust/Cargo.toml.in").replace("NETLOOM_SDK", &sdk),
            );
            add("src/lib.rs", include_str!("../../templates/rust/lib.rs.in"));
            add(".gitignore", "/target\n*.wasm\n");
        }
        Language::Python => {
            add("plugin.py", include_str!("../../templates/python/plugin.py"));
            add(".gitignore", "*.wasm\n");
        }
        Language::Javascript => {
            add("plugin.js", include_str!("../../templates/javascript/plugin.js"));
            add(".gitignore", "*.wasm\n");
        }
        Language::C => {
            add("plugin.c", include_str!("../../templates/c/plugin.c"));
            add(".gitignore", "/bindings\n*.wasm\n");
        }
        Language::Go => {
            add("go.mod", include_str!("../../templates/go/go.mod.in"));
            add("export_netloom_policy_attach_order/plugin.go", include_str!("../../templates/go/plugin.go"));
            add(".gitignore", "/bindings\n/netloom_*\n/wit_exports.go\n*.wasm\n");
        }
    }
    if language != Language::Rust {
        add("wit/world.wit", WORLD);
        for (file, text) in WIT {
            add(file, text);
        }
    }
    let observer = scenario(Some("observer"), Answer::Decide(RawPlacement::Head))?;
    add("scenarios/observer.json", &observer);
    add("scenarios/other.json", &scenario(None, Answer::Abstain)?);
    for (file, text) in contents {
        let folder = file.parent().unwrap_or(path);
        std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        std::fs::write(&file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    let shown = path.display();
    println!("{shown} is a plugin that puts programs which only look in front of all others. Next:");
    println!("  netloom plugin build {shown}");
    println!("  netloom plugin test {shown}/{name}.wasm");
    println!("  netloom plugin load {shown}/{name}.wasm");
    Ok(ExitCode::SUCCESS)
}

fn scenario(role: Option<&str>, answer: Answer<RawPlacement>) -> anyhow::Result<String> {
    let question =
        Question::Place { chain: conformance::chain(3)?, candidate: conformance::candidate(role)? };
    let scenario = Scenario { node: files::node(), question, expect: Reply::Place(answer) };
    Ok(serde_json::to_string_pretty(&scenario)? + "\n")
}
