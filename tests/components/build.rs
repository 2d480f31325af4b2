//! Builds the components.

use std::{env, error::Error, fs, path::PathBuf, process::ExitCode};

use netloom_plugin_build::{Options, build};

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={}", error.to_string().replace('\n', "\ncargo::error="));
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for source in [
        "../../examples/custom-policy",
        "../../examples/node-operator",
        "../guests/misbehaving",
        "../guests/operating",
        "../../sdk/rust",
        "../../sdk/macros",
        "../../wit",
    ] {
        println!("cargo::rerun-if-changed={}", here.join(source).display());
    }
    for (name, crate_dir) in [
        ("custom-policy", "../../examples/custom-policy"),
        ("node-operator", "../../examples/node-operator"),
        ("misbehaving", "../guests/misbehaving"),
        ("operating", "../guests/operating"),
    ] {
        let component = build(&here.join(crate_dir), &Options::default())?;
        fs::copy(&component.path, out.join(name).with_extension("wasm"))?;
    }
    Ok(())
}
