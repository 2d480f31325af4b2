//! A registry for tests. Debian's package would run it as a service of the machine, on a port that others may want:
//! only the program is taken out of it.

use std::process::Command;

use anyhow::{Context, Result};

use super::download;
use crate::{
    process::{find, quiet},
    progress::step,
    workspace,
};

const PACKAGE: &str = "docker-registry";

/// Gets it, where there are packages to get it from.
pub(super) fn fetch() -> Result<()> {
    if ["apt-get", "dpkg-deb"].iter().any(|program| find(program).is_none()) {
        return Ok(());
    }
    step(&format!("taking {PACKAGE} out of its package"));
    let scratch = tempfile::tempdir().context("creating a folder for a package")?;
    let package = download(PACKAGE, scratch.path())?;
    quiet(Command::new("dpkg-deb").arg("--extract").arg(package).arg(scratch.path()))?;
    let folder = workspace::tools();
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    // Renamed into place: whoever runs it meanwhile goes on with the one there was.
    let (new, place) = (folder.join(".docker-registry"), folder.join(PACKAGE));
    std::fs::copy(scratch.path().join("usr/bin").join(PACKAGE), &new).context("keeping docker-registry")?;
    std::fs::rename(&new, &place).with_context(|| format!("keeping {}", place.display()))
}
