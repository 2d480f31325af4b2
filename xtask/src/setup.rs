//! What building and testing need of the machine: found missing, and installed.
//!
//! - `needs`: what is needed for which purpose, and how it is found
//! - `apt`: the distribution's packages
//! - `rust`: what rustup adds to its compiler
//! - `cargo_deny`, `cargo_mutants`, `bpftool`, `registry`: programs that are kept in `target/tools`

mod apt;
mod bpftool;
mod cargo_deny;
mod cargo_mutants;
mod needs;
mod registry;
mod rust;

use std::path::Path;

use anyhow::{Context, Result, bail};

pub(crate) use self::{apt::update_package_lists, cargo_mutants::cargo_mutants, needs::Need, rust::clippy};

use self::needs::Requirement;
use crate::{
    process::{find, quiet},
    progress::step,
    workspace,
};

/// Installs what building and testing need
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// `cargo xtask setup`.
pub(crate) fn main(_: &Args) -> Result<()> {
    ensure(&Need::ALL)?;
    step("everything needed to build and test is here");
    Ok(())
}

/// Installs what can be had of this, one need after the other, and says what cannot: for work that can be done in
/// part.
pub(crate) fn offer(needs: &[Need]) {
    // All packages in one go, which is faster, and one need at a time where that fails.
    if ensure(needs).is_ok() {
        return;
    }
    for need in needs {
        if let Err(reason) = ensure(&[*need]) {
            step(&format!("this machine cannot {}: {reason:#}", need.purpose()));
        }
    }
}

/// Installs what is missing of all this; instant if nothing is.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    if missing(needs).is_empty() {
        return Ok(());
    }
    make(needs)?;
    let absent = missing(needs);
    if absent.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = absent.iter().map(|requirement| requirement.name).collect();
    let names = names.join(", ");
    if find("apt-get").is_none() {
        bail!("missing: {names}. Install them with this system's package tool, then try again.{}", works());
    }
    if workspace::is_root() && apt::lists_are_missing() {
        update_package_lists()?;
    }
    let packages = packages(&absent)?;
    if packages.is_empty() {
        bail!("missing: {names}, of which no package is known here.{}", works());
    }
    if !workspace::is_root() {
        let packages = packages.join(" ");
        bail!("missing: {names}. Install them with\n\n    sudo apt-get install {packages}\n{}", works());
    }
    step(&format!("installing {} (for: {names})", packages.join(", ")));
    if apt::install(&packages).is_err() {
        // The lists may be older than the archive.
        update_package_lists()?;
        apt::install(&self::packages(&absent)?)?;
    }
    make(needs)?;
    let still: Vec<&str> = missing(needs).iter().map(|requirement| requirement.name).collect();
    if !still.is_empty() {
        bail!("installed {}, but still missing: {}.{}", packages.join(", "), still.join(", "), works());
    }
    Ok(())
}

/// Gets what no package has.
fn make(needs: &[Need]) -> Result<()> {
    let wanted = |need: Need| needs.contains(&need) && !missing(&[need]).is_empty();
    if wanted(Need::Guest) {
        rust::add_target();
    }
    if wanted(Need::Lint) {
        rust::add_components();
    }
    if missing(needs).iter().any(|requirement| requirement.name == needs::BPFTOOL.name) {
        bpftool::build()?;
    }
    if wanted(Need::Registry) {
        registry::fetch()?;
    }
    if wanted(Need::Licences) {
        cargo_deny::fetch()?;
    }
    Ok(())
}

/// Keeps a program of which nobody needs the rest. It is renamed into place: whoever runs it meanwhile goes on with
/// the one there was.
fn keep(program: &Path, name: &str) -> Result<()> {
    let folder = workspace::tools();
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let (new, place) = (folder.join(format!(".{name}")), folder.join(name));
    std::fs::copy(program, &new).with_context(|| format!("keeping {name}"))?;
    std::fs::rename(&new, &place).with_context(|| format!("keeping {}", place.display()))
}

/// Makes a Python environment in a folder, with nothing in it but pip.
fn python_environment(folder: &Path) -> Result<()> {
    quiet(std::process::Command::new("python3").args(["-m", "venv"]).arg(folder))
}

fn missing(needs: &[Need]) -> Vec<&'static Requirement> {
    let mut missing: Vec<&'static Requirement> = Vec::new();
    for requirement in needs.iter().flat_map(|need| need.requirements()) {
        let known = missing.iter().any(|other| other.name == requirement.name);
        if !known && !requirement.is_met() {
            missing.push(requirement);
        }
    }
    missing
}

/// What can be done without what is missing.
fn works() -> String {
    let works: Vec<&str> =
        Need::ALL.iter().filter(|need| missing(&[**need]).is_empty()).map(|need| need.purpose()).collect();
    if works.is_empty() {
        "\nUntil then, only `cargo xtask test --tier unit` can do a part of its work.".to_owned()
    } else {
        format!("\nUntil then this machine can {}.", works.join(", "))
    }
}

fn packages(requirements: &[&Requirement]) -> Result<Vec<String>> {
    let mut packages = Vec::new();
    for requirement in requirements {
        packages.extend(requirement.packages.names()?);
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}
