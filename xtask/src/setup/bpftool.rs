//! A bpftool that knows tcx and netkit (7.3 or newer). Where the distribution's is older, as Debian 12's is, it is built
//! from the sources of a newer kernel that the distribution has as well.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{
    apt::{download, known},
    keep,
};
use crate::{
    process::{capture, find, quiet},
    progress::step,
};

/// The first version that lists what is attached to tcx and netkit.
const WANTED: (u32, u32) = (7, 3);

/// The newest kernel whose sources Debian 12 has.
const SOURCES: &str = "linux-source-6.12";

/// What of the sources it is built from.
const PARTS: [&str; 10] = [
    "Makefile",
    "include/uapi/linux/*",
    "kernel/bpf/disasm.*",
    "scripts/*",
    "tools/arch/*",
    "tools/bpf/*",
    "tools/build/*",
    "tools/include/*",
    "tools/lib/*",
    "tools/scripts/*",
];

/// Parts of bpftool that Netloom does not use, and that take compilers and libraries of their own.
const LEFT_OUT: [&str; 4] =
    ["feature-clang-bpf-co-re=0", "feature-libbfd=0", "feature-libcap=0", "feature-llvm=0"];

/// Whether there is one that is new enough.
pub(super) fn is_there() -> bool {
    let Some(program) = find("bpftool") else { return false };
    capture(Command::new(program).arg("version")).is_ok_and(|shown| version(&shown) >= WANTED)
}

/// The packages that have it, or that it takes to build it.
pub(super) fn packages() -> Result<Vec<String>> {
    let names: &[&str] = if packaged()? {
        &["bpftool"]
    } else if known("linux-tools-generic")? {
        // Ubuntu keeps it with the kernel's tools.
        &["linux-tools-common", "linux-tools-generic"]
    } else {
        &["gcc", "libelf-dev", "make", "xz-utils", "zlib1g-dev"]
    };
    Ok(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Whether the distribution's own is new enough.
fn packaged() -> Result<bool> {
    let shown = capture(Command::new("apt-cache").args(["policy", "bpftool"]))?;
    let candidate = shown.lines().find_map(|line| line.trim().strip_prefix("Candidate:"));
    Ok(candidate.is_some_and(|candidate| version(candidate) >= WANTED))
}

/// Builds it, where no package has it and the packages for it are there.
pub(super) fn build() -> Result<()> {
    let needed = ["apt-get", "gcc", "make", "xz"];
    let libraries = ["/usr/include/libelf.h", "/usr/include/zlib.h"];
    if needed.iter().any(|program| find(program).is_none())
        || libraries.iter().any(|header| !Path::new(header).is_file())
        || packaged()?
    {
        return Ok(());
    }
    step(&format!("building bpftool from {SOURCES}"));
    let scratch = tempfile::tempdir().context("creating a folder for bpftool's sources")?;
    let package = download(SOURCES, scratch.path())?;
    unpack(&package, &scratch.path().join(SOURCES), scratch.path())?;
    let sources = scratch.path().join(SOURCES).join("tools/bpf/bpftool");
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    quiet(Command::new("make").arg("-C").arg(&sources).arg(format!("-j{jobs}")).args(LEFT_OUT))?;
    keep(&sources.join("bpftool"), "bpftool")
}

/// Takes the parts out of the archive in the package, without writing either whole.
fn unpack(package: &Path, root: &Path, folder: &Path) -> Result<()> {
    let archive = format!("./usr/src/{SOURCES}.tar.xz");
    let mut data =
        Command::new("dpkg-deb").arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn()?;
    let data_out = data.stdout.take().context("dpkg-deb has no output")?;
    let mut inner =
        Command::new("tar").args(["-xO", &archive]).stdin(data_out).stdout(Stdio::piped()).spawn()?;
    let inner_out = inner.stdout.take().context("tar has no output")?;
    let parts = PARTS.iter().map(|part| format!("{SOURCES}/{part}"));
    let unpacked = Command::new("tar")
        .args(["-xJ", "--wildcards", "-C"])
        .arg(folder)
        .args(parts)
        .stdin(inner_out)
        .status()
        .context("`tar` cannot be started")?;
    let others = [data.wait()?, inner.wait()?];
    if !unpacked.success() || others.iter().any(|status| !status.success()) || !root.is_dir() {
        bail!("the sources in {} cannot be unpacked", package.display());
    }
    Ok(())
}

/// The version in `bpftool v7.5.0`, `7.1.0+6.1.192-2` and the like: the first two numbers.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_where_they_are_written() {
        assert_eq!(version("bpftool v7.5.0\nusing libbpf v1.5\n"), (7, 5));
        assert!(version(" 7.1.0+6.1.192-2") < WANTED);
        assert!(version("(none)") < WANTED);
    }
}
