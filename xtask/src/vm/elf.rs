//! Programs and the libraries they need.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::process::capture;

/// Whether a file is an ELF file of any kind.
pub(crate) fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// The shared libraries a program loads, its interpreter included; none for a static one.
pub(crate) fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    // ldd exits with 1 for a static program, which is not a failure here.
    let mut command = Command::new("ldd");
    let output = command.arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        anyhow::bail!("{} cannot run: {}", program.display(), missing.trim());
    }
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect())
}

/// A copy of a program without debugging information, which is most of a debug build; the program itself where
/// it cannot be had.
pub(crate) fn stripped(program: &Path, scratch: &Path) -> PathBuf {
    let name = program.file_name().unwrap_or_default();
    let copy = scratch.join(name);
    let made = capture(Command::new("strip").args(["--strip-debug", "-o"]).arg(&copy).arg(program));
    if made.is_ok() { copy } else { program.to_path_buf() }
}
