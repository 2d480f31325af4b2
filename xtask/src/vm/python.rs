//! A Python for the machine: this machine's interpreter with the modules that the tests' programs import, and no more
//! of its library, which is larger than everything else in there.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::initramfs::Copy;
use crate::process::capture;

/// Where it is in the machine.
pub(crate) const PLACE: &str = "usr/bin/python3";

/// What programs of the tests may import. Another module is missing in the machine, which fails whoever wants it.
const MODULES: [&str; 7] = ["errno", "select", "signal", "socket", "struct", "sys", "time"];

/// Names the interpreter, the folder that it knows its own place by, and each module's file with where it is to be:
/// compiled ones, which start in a quarter of the time, in the place of their source.
const LIST: &str = r#"
import os, sys, site
print(os.path.realpath(sys.executable))
print(os.path.join(os.path.dirname(os.__file__), "lib-dynload"))
for module in list(sys.modules.values()):
    file, compiled = getattr(module, "__file__", None), getattr(module, "__cached__", None)
    if file and compiled and os.path.exists(compiled):
        print(compiled, file + "c", sep="\t")
    elif file and os.path.exists(file):
        print(file, file, sep="\t")
"#;

/// An interpreter and what it needs.
pub(crate) struct Python {
    /// The program.
    pub(crate) executable: PathBuf,
    /// A folder that has to be there, if only empty.
    pub(crate) folder: PathBuf,
    /// The modules, with where they are to be.
    pub(crate) files: Vec<Copy>,
}

impl Python {
    /// This machine's.
    pub(crate) fn find() -> Result<Self> {
        let script = format!("import {}\n{LIST}", MODULES.join(", "));
        // Isolated, and without what this machine's owner has added to it.
        let listed = capture(Command::new("python3").args(["-I", "-S", "-c", &script]))?;
        let mut lines = listed.lines();
        let mut path = || lines.next().map(PathBuf::from).context("python3 does not say what it needs");
        let (executable, folder) = (path()?, path()?);
        let files = lines.filter_map(|line| line.split_once('\t'));
        let files = files.map(|(source, target)| Copy { source: source.into(), target: target.into() });
        Ok(Self { executable, folder, files: files.collect() })
    }
}
