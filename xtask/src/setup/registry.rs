//! A registry for tests. Debian's package would run it as a service of the machine, on a port that others may want:
//! only the program is taken out of it.

use std::process::Command;

use anyhow::{Context, Result};

use super::{apt, keep};
use crate::{
    process::{find, quiet},
    progress::step,
};

const PACKAGE: &str = "docker-registry";

/// Gets it, where there are packages to get it from.
pub(super) fn fetch() -> Result<()> {
    if ["apt-get", "dpkg-deb"].iter().any(|program| find(program).is_none()) {
        return Ok(());
    }
    step(&format!("taking {PACKAGE} out of its package"));
    let scratch = tempfile::tempdir().context("creating a folder for a package")?;
    let package = apt::download(PACKAGE, scratch.path())?;
    quiet(Command::new("dpkg-deb").arg("--extract").arg(package).arg(scratch.path()))?;
    keep(&scratch.path().join("usr/bin").join(PACKAGE), PACKAGE)
}
