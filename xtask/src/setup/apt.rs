//! The packages of Debian and what comes from it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{capture, quiet},
    progress::step,
    workspace,
};

/// Fetches apt's package lists.
pub(crate) fn update_package_lists() -> Result<()> {
    if !workspace::is_root() {
        bail!("apt's package lists are missing or old; run `sudo apt-get update`, then try again");
    }
    step("updating apt's package lists");
    quiet(Command::new("apt-get").args(["update", "-q"]))
}

/// Whether nobody has fetched them yet.
pub(super) fn lists_are_missing() -> bool {
    fs::read_dir("/var/lib/apt/lists").map_or(true, |mut entries| {
        !entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
    })
}

/// Installs packages, as root.
pub(super) fn install(packages: &[String]) -> Result<()> {
    quiet(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            // Another process may be installing.
            .args(["-o", "DPkg::Lock::Timeout=300"])
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(packages),
    )
}

/// Downloads a package without installing it, into an empty folder.
pub(super) fn download(name: &str, folder: &Path) -> Result<PathBuf> {
    if !known(name)? {
        update_package_lists()?;
        if !known(name)? {
            bail!("no package source of this machine offers {name}");
        }
    }
    quiet(Command::new("apt-get").args(["download", "-q", name]).current_dir(folder))?;
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get downloaded {name}, but left no .deb file"))
}

/// Whether a package source of this machine offers it.
pub(super) fn known(package: &str) -> Result<bool> {
    let shown = capture(Command::new("apt-cache").args(["policy", package]))?;
    Ok(shown.lines().any(|line| line.contains("Candidate:") && !line.contains("(none)")))
}

/// The newest of the packages `<name>-<version>`, or `<name>` where there is none.
pub(super) fn newest(name: &str) -> Result<String> {
    let prefix = format!("{name}-");
    let names = capture(Command::new("apt-cache").args(["pkgnames", &prefix]))?;
    let newest = names.lines().filter_map(|package| package.strip_prefix(&prefix)?.parse::<u32>().ok()).max();
    Ok(newest.map_or_else(|| name.to_owned(), |version| format!("{name}-{version}")))
}
