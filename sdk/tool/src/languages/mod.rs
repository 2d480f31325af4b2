//! The languages a plugin can be written in, and how each is built.
//!
//! - `c`, `go`: what these take, whose own tools make no components
//! - `compilers`: those that are fetched

mod c;
mod compilers;
mod go;

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use netloom_plugin_build::{Options, Toolchain, interfaces, with_config_schema};
use netloom_runtime::config_schema;
use wit_bindgen_core::wit_parser::{Resolve, WorldId};

/// What a plugin is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Rust, with the SDK: small, fast, tested without Wasm
    Rust,
    /// Python, by componentize-py: 18 MB, needs 128 MB to run
    Python,
    /// JavaScript, by componentize-qjs: 1.6 MB
    #[value(alias = "js")]
    Javascript,
    /// C, by clang: some kilobytes
    C,
    /// Go, by its own compiler: 2 MB
    Go,
}

impl Language {
    /// The file that tells a folder's language.
    const fn marker(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Python => "plugin.py",
            Self::Javascript => "plugin.js",
            Self::C => "plugin.c",
            Self::Go => "go.mod",
        }
    }

    fn of(folder: &Path) -> anyhow::Result<Self> {
        let each = [Self::Rust, Self::Python, Self::Javascript, Self::C, Self::Go];
        let found = each.into_iter().find(|language| folder.join(language.marker()).is_file());
        found.with_context(|| {
            format!(
                "{} has no plugin: neither Cargo.toml nor plugin.py, plugin.js, plugin.c or go.mod; begin one with `netloom plugin new`",
                folder.display()
            )
        })
    }
}

/// Makes sure that plugins in a language can be built here: fetches its compiler, or says what the system lacks.
pub(crate) fn setup(language: Language) -> anyhow::Result<ExitCode> {
    let compiler = match language {
        Language::Rust => Toolchain::find()?.rustc,
        Language::Python => compilers::python()?,
        Language::Javascript => compilers::javascript()?,
        Language::C => c::compiler()?.0,
        Language::Go => compilers::go()?,
    };
    println!("{}", compiler.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds a folder's plugin.
pub(crate) fn build(folder: &Path, out: Option<&Path>, names: bool) -> anyhow::Result<ExitCode> {
    let folder = folder.canonicalize().with_context(|| format!("there is no folder {}", folder.display()))?;
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("plugin").to_owned();
    let language = Language::of(&folder)?;
    let out = match out {
        Some(out) => std::path::absolute(out)?,
        None => folder.join(format!("{name}.wasm")),
    };
    match language {
        Language::Rust => {
            let options = Options { progress: true, names, ..Options::default() };
            let built = netloom_plugin_build::build(&folder, &options)?;
            std::fs::copy(&built.path, &out)
                .with_context(|| format!("{} cannot be written", out.display()))?;
        }
        Language::Python => {
            let mut command = Command::new(compilers::python()?);
            command.args([
                "-d",
                "wit",
                "-w",
                "acme:plugin/plugin",
                "componentize",
                "--stub-wasi",
                "plugin",
                "-o",
            ]);
            run(command.arg(&out).current_dir(&folder), "compile the Python")?;
        }
        Language::Javascript => {
            let mut command = Command::new("node");
            command.arg(compilers::javascript()?).args([
                "--wit",
                "wit",
                "--world",
                "plugin",
                "--js",
                "plugin.js",
                "--stub-wasi",
                "--sync",
                "-o",
            ]);
            run(command.arg(&out).current_dir(&folder), "compile the JavaScript")?;
        }
        Language::C => c::build(&folder, &out, names)?,
        Language::Go => go::build(&folder, &out, names)?,
    }
    if language != Language::Rust {
        // Of Rust, its builder has done this.
        let component = std::fs::read(&out).with_context(|| format!("{} was not written", out.display()))?;
        write(&out, &with_config_schema(component, &folder)?)?;
    }
    let bytes = std::fs::read(&out).with_context(|| format!("{} was not written", out.display()))?;
    let interfaces = interfaces(&bytes)?;
    if let Some(wasi) = interfaces.imports.iter().find(|name| name.starts_with("wasi:")) {
        bail!("the component imports {wasi}, which no plugin may have");
    }
    println!("{} ({} KiB)", out.display(), bytes.len() / 1_024);
    println!("  exports {}", interfaces.exports.join(", "));
    println!("  imports {}", interfaces.imports.join(", "));
    if let Some(schema) = config_schema(&bytes)? {
        let keys = schema.get("properties").and_then(serde_json::Value::as_object);
        let keys: Vec<&str> = keys.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        println!("  configured with {}", keys.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

fn run(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("{program} cannot be started, to {what}: is it installed?"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{program} failed to {what}:\n{}", String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

/// The world of a plugin's own folder.
fn world(folder: &Path) -> anyhow::Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let wit = folder.join("wit");
    let (package, _) = resolve.push_dir(&wit).with_context(|| format!("reading {}", wit.display()))?;
    let world = resolve
        .select_world(&[package], Some("plugin"))
        .with_context(|| format!("{} has no `world plugin`", wit.display()))?;
    Ok((resolve, world))
}

fn write(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let cannot = || format!("{} cannot be written", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(cannot)?;
    }
    std::fs::write(path, contents).with_context(cannot)
}
