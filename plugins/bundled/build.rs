//! Builds the bundled plugins into components, for the library to embed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use netloom_plugin_build::{Options, build_each};

/// The plugins by name: also their folders' names.
const PLUGINS: [&str; 3] = ["attach-order", "datapath-mode", "socket-reap"];

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={}", error.to_string().replace('\n', "\ncargo::error="));
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), Box<dyn std::error::Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for source in
        ["..", "../../sdk/rust", "../../sdk/macros", "../../wit", "../../Cargo.toml", "../../Cargo.lock"]
    {
        println!("cargo::rerun-if-changed={}", here.join(source).display());
    }

    let dirs = PLUGINS.map(|name| here.join("..").join(name));
    let components = build_each(&dirs.each_ref().map(PathBuf::as_path), &Options::default())?;

    let mut entries = String::new();
    for (name, component) in PLUGINS.iter().zip(components) {
        let embedded: PathBuf = out.join(name).with_extension("wasm");
        copy_if_changed(&component.path, &embedded)?;
        entries += &format!("Bundled {{ name: {name:?}, component: include_bytes!({embedded:?}) }},\n");
    }
    fs::write(out.join("plugins.rs"), format!("&[\n{entries}]\n"))?;
    Ok(())
}

/// What depends on the file is then not compiled again.
fn copy_if_changed(from: &Path, to: &Path) -> std::io::Result<()> {
    let bytes = fs::read(from)?;
    if fs::read(to).is_ok_and(|present| present == bytes) { Ok(()) } else { fs::write(to, bytes) }
}
