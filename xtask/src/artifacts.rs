//! BPF objects and plugin components, as files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    build::{self, Profile},
    process::run,
    progress::step,
    setup::{self, Need},
    workspace,
};

/// Compiles the BPF programs, and shows where their objects are
#[derive(Debug, clap::Args)]
pub(crate) struct EbpfArgs {}

/// Compiles the bundled plugins and the examples, and shows where their components are
#[derive(Debug, clap::Args)]
pub(crate) struct PluginsArgs {}

/// `cargo xtask build-ebpf`.
pub(crate) fn ebpf_main(_: &EbpfArgs) -> Result<()> {
    let dir = ebpf()?;
    list(&dir, "o")
}

/// `cargo xtask build-plugins`.
pub(crate) fn plugins_main(_: &PluginsArgs) -> Result<()> {
    let dir = plugins()?;
    list(&dir, "wasm")
}

/// Compiles the datapath's programs and those of the tests: the folder with the objects `<name>.bpf.o`.
pub(crate) fn ebpf() -> Result<PathBuf> {
    setup::ensure(&[Need::Bpf])?;
    step("building the BPF programs");
    let dir = workspace::target().join("bpf");
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    for folder in build::script_outputs(&["netloom-ebpf".to_owned(), "netloom-test-programs".to_owned()])? {
        for object in files(&folder, "o")? {
            copy_into(&object, &dir)?;
        }
    }
    Ok(dir)
}

/// Compiles every plugin of the workspace: the folder with the components `<name>.wasm`.
pub(crate) fn plugins() -> Result<PathBuf> {
    setup::ensure(&[Need::Guest])?;
    step("building the plugins");
    let dir = workspace::target().join("plugins");
    // A program of its own, because the encoder of components would make this one slow to compile; built with all
    // others, because alone it would have its dependencies compiled anew, with other features.
    let programs = build::programs(Profile::Dev)?;
    let mut command = Command::new(build::named(&programs, "netloom-build-plugins")?);
    run(command.arg(workspace::root()).arg(&dir))?;
    Ok(dir)
}

fn copy_into(file: &Path, dir: &Path) -> Result<()> {
    let target = dir.join(file.file_name().unwrap_or_default());
    fs::copy(file, &target).with_context(|| format!("copying {} to {}", file.display(), target.display()))?;
    Ok(())
}

fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn list(dir: &Path, extension: &str) -> Result<()> {
    for file in files(dir, extension)? {
        println!("{}", file.display());
    }
    Ok(())
}
