//! `cargo xtask structure`: how the sources of `host/` hang together.

mod cycles;
mod exceptions;
mod impls;
mod imports;
mod modules;
mod resolve;
mod sizes;
#[cfg(test)]
mod tests;

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result};

use self::{exceptions::Exceptions, modules::Crate};
use crate::workspace;

/// Looks in host/ for modules that import each other, methods away from their type, and files past their limit
///
/// What is known and allowed for now is listed in tests/structure.toml.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Report what the list allows as well
    #[arg(long)]
    all: bool,
}

/// `cargo xtask structure`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let root = workspace::root();
    let exceptions = if args.all { Exceptions::default() } else { Exceptions::read(&root)? };
    let findings = check(&root, &exceptions)?;
    findings.iter().for_each(|finding| println!("{finding}\n"));
    println!("{} findings", findings.len());
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything that is not as it should be, and not listed.
///
/// # Errors
/// If a source or the list cannot be read.
pub(crate) fn findings() -> Result<Vec<String>> {
    let root = workspace::root();
    check(&root, &Exceptions::read(&root)?)
}

fn check(workspace: &Path, exceptions: &Exceptions) -> Result<Vec<String>> {
    let folders = crates(workspace)?;
    let mut findings = sizes::check(workspace, &exceptions.sizes)?;
    for folder in &folders {
        let krate = Crate::read(workspace, &format!("host/{folder}"))?;
        findings.extend(cycles::check(&krate, &exceptions.cycles));
        findings.extend(impls::check(&krate, &exceptions.impls));
    }
    let unknown = exceptions.crates().filter(|name| !folders.iter().any(|folder| folder == name));
    findings.extend(unknown.map(|name| exceptions::stale(&format!("there is no host/{name}"))));
    Ok(findings)
}

/// The folders of the crates in `host/`.
fn crates(workspace: &Path) -> Result<Vec<String>> {
    let host = workspace.join("host");
    let mut folders = Vec::new();
    for entry in fs::read_dir(&host).with_context(|| format!("reading {}", host.display()))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            folders.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    folders.sort();
    Ok(folders)
}
