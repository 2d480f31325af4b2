//! The machine's file system: a compressed part that is made once for a kernel, and an uncompressed one with the
//! files of this run. The kernel unpacks both, one after the other.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{
    cpio::Archive,
    elf,
    image::Image,
    python::{self, Python},
};
use crate::{
    process::{capture, find, quote},
    progress::step,
    workspace,
};

const INIT: &str = include_str!("init.sh");

/// Tools of this machine that are copied in. busybox has its own `sh`, `ip`, `ping`, `setpriv` and `modprobe`, which
/// know less: those are kept out of the way.
const TOOLS: [&str; 12] =
    ["dash", "bash", "ip", "tc", "ss", "bridge", "ping", "bpftool", "nft", "nsenter", "setpriv", "unshare"];

/// Directories that are links on a machine with a merged /usr.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// A file to bring into the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    /// Where it is here.
    pub(crate) source: PathBuf,
    /// Where it will be there, absolute.
    pub(crate) target: PathBuf,
}

/// What is run inside, and with what around it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    /// The command's words; a shell on the console if empty.
    pub(crate) command: Vec<String>,
    /// Variables set for it.
    pub(crate) env: Vec<(String, String)>,
    /// Files it needs.
    pub(crate) copies: Vec<Copy>,
}

/// The compressed part for this kernel, from an earlier run or made now.
pub(crate) fn base(image: &Image) -> Result<PathBuf> {
    let (tools, python) = (tools(), Python::find()?);
    let dir = workspace::target().join("vm");
    let path =
        dir.join(format!("base-{}-{:016x}.cpio.zst", image.package, fingerprint(image, &tools, &python)));
    if path.is_file() {
        return Ok(path);
    }
    step(&format!("making the initramfs for {}", image.package));
    let scratch = tempfile::NamedTempFile::new_in(&dir).context("creating the initramfs")?;
    let mut zstd = Command::new("zstd")
        .args(["-q", "-6", "-T0", "-c"])
        .stdin(Stdio::piped())
        .stdout(scratch.reopen().context("creating the initramfs")?)
        .spawn()
        .context("`zstd` cannot be started")?;
    let input = zstd.stdin.take().context("zstd has no input")?;
    let written = write_base(image, &tools, &python, input);
    let status = zstd.wait().context("waiting for `zstd`")?;
    written?;
    if !status.success() {
        bail!("`zstd -6` failed on the initramfs");
    }
    // The next archive must start at a multiple of four, and the kernel skips zeros between archives.
    let length = scratch.path().metadata().context("reading the initramfs")?.len();
    scratch.as_file().set_len(length.next_multiple_of(4)).context("padding the initramfs")?;
    scratch.persist(&path).with_context(|| format!("saving {}", path.display()))?;
    Ok(path)
}

fn tools() -> Vec<PathBuf> {
    let mut tools: Vec<PathBuf> = TOOLS.iter().filter_map(|name| program(name)).collect();
    tools.extend(find("busybox"));
    tools.extend(find("kmod"));
    tools
}

/// A program that can be copied. Some distributions have a script that looks for the running kernel's bpftool.
fn program(name: &str) -> Option<PathBuf> {
    let path = fs::canonicalize(find(name)?).ok()?;
    if elf::is_elf(&path) {
        return find(name);
    }
    let mut dirs: Vec<PathBuf> = fs::read_dir("/usr/lib/linux-tools")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join(name)))
        .filter(|path| elf::is_elf(path))
        .collect();
    dirs.sort();
    dirs.pop()
}

fn fingerprint(image: &Image, tools: &[PathBuf], python: &Python) -> u64 {
    let mut hasher = DefaultHasher::new();
    (INIT, &image.package, env!("CARGO_PKG_VERSION")).hash(&mut hasher);
    let modules = python.files.iter().map(|file| &file.source);
    for tool in tools.iter().chain([&python.executable]).chain(modules) {
        let metadata = fs::metadata(tool).ok();
        let seen = metadata.map(|metadata| (metadata.len(), metadata.modified().ok()));
        (tool, seen).hash(&mut hasher);
    }
    hasher.finish()
}

fn write_base(image: &Image, tools: &[PathBuf], python: &Python, out: impl Write) -> Result<()> {
    let mut archive = Archive::new(std::io::BufWriter::new(out));
    for name in MERGED {
        archive.directory(&Path::new("usr").join(name))?;
        archive.symlink(Path::new(name), &format!("usr/{name}"))?;
    }
    for dir in ["proc", "sys", "dev", "run", "tmp", "root", "out", "etc", "var/lib", "var/log", "var/tmp"] {
        archive.directory(Path::new(dir))?;
    }
    archive.device(Path::new("dev/console"), 5, 1)?;
    archive.device(Path::new("dev/null"), 1, 3)?;
    archive.file(Path::new("init"), 0o755, INIT.as_bytes())?;
    for (path, content) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        ("etc/hostname", "netloom-vm\n"),
    ] {
        archive.file(Path::new(path), 0o644, content.as_bytes())?;
    }
    for tool in tools {
        let name = tool.file_name().unwrap_or_default();
        add_program(&mut archive, &fs::canonicalize(tool)?, &Path::new("usr/sbin").join(name))?;
    }
    archive.symlink(Path::new("usr/bin/sh"), "../sbin/dash")?;
    archive.symlink(Path::new("usr/bin/bash"), "../sbin/bash")?;
    for name in ["modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod"] {
        archive.symlink(&Path::new("usr/sbin").join(name), "kmod")?;
    }
    for name in busybox_applets()? {
        archive.symlink(&Path::new("usr/bin").join(name), "../sbin/busybox")?;
    }
    add_python(&mut archive, python)?;
    archive.copy(&image.root.join("lib/modules"), Path::new("usr/lib/modules"))?;
    drop(archive.finish()?);
    Ok(())
}

fn busybox_applets() -> Result<Vec<String>> {
    const BETTER: [&str; 19] = [
        "sh", "ash", "bash", "hush", "ip", "ipaddr", "iplink", "ipneigh", "iproute", "iprule", "iptunnel",
        "ping", "ping6", "setpriv", "modprobe", "insmod", "rmmod", "lsmod", "depmod",
    ];
    let list = capture(Command::new("busybox").arg("--list"))?;
    Ok(list
        .lines()
        .filter(|name| {
            !BETTER.contains(name) && !["modinfo", "busybox", "init", "linuxrc", "tc", "ss"].contains(name)
        })
        .map(str::to_owned)
        .collect())
}

/// The uncompressed part: this run's command and files.
pub(crate) fn overlay(job: &Job, scratch: &Path, out: impl Write) -> Result<()> {
    let mut archive = Archive::new(std::io::BufWriter::new(out));
    for name in MERGED {
        // Links since the first part: a directory entry here would take their place.
        archive.assume(name);
    }
    for dir in ["usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "root", "etc", "var", "var/lib"] {
        archive.assume(dir);
    }
    for copy in &job.copies {
        let source = fs::canonicalize(&copy.source)
            .with_context(|| format!("{} cannot be copied into the machine", copy.source.display()))?;
        let target = merged(&copy.target);
        if elf::is_elf(&source) {
            let scratch = tempfile::tempdir_in(scratch).context("creating a scratch folder")?;
            add_libraries(&mut archive, &source)?;
            archive.copy(&elf::stripped(&source, scratch.path()), &target)?;
        } else {
            archive.copy(&source, &target)?;
        }
    }
    let mut script = String::from("#!/bin/sh\n");
    for (name, value) in &job.env {
        script.push_str(&format!("export {name}={}\n", quote(value)));
    }
    let words: Vec<String> = job.command.iter().map(|word| quote(word)).collect();
    let name = if words.is_empty() { "environment" } else { "command" };
    if !words.is_empty() {
        script.push_str(&format!("exec {}\n", words.join(" ")));
    }
    archive.file(&Path::new("vm").join(name), 0o755, script.as_bytes())?;
    drop(archive.finish()?);
    Ok(())
}

fn add_program(archive: &mut Archive<impl Write>, program: &Path, target: &Path) -> Result<()> {
    add_libraries(archive, program)?;
    archive.copy(program, target)
}

fn add_libraries(archive: &mut Archive<impl Write>, program: &Path) -> Result<()> {
    for library in elf::libraries(program)? {
        let source = fs::canonicalize(&library).with_context(|| format!("reading {}", library.display()))?;
        archive.copy(&source, &merged(&library))?;
    }
    Ok(())
}

fn add_python(archive: &mut Archive<impl Write>, python: &Python) -> Result<()> {
    let scratch = tempfile::tempdir().context("creating a scratch folder")?;
    // Some bring debugging information, which is more than all else of them.
    for library in elf::libraries(&python.executable)? {
        let source = fs::canonicalize(&library).with_context(|| format!("reading {}", library.display()))?;
        archive.copy(&elf::stripped(&source, scratch.path()), &merged(&library))?;
    }
    let place = merged(&python.executable);
    archive.copy(&python.executable, &place)?;
    if place != Path::new(python::PLACE) {
        archive.symlink(Path::new(python::PLACE), &python.executable.to_string_lossy())?;
    }
    archive.directory(&merged(&python.folder))?;
    for Copy { source, target } in &python.files {
        let source = fs::canonicalize(source).with_context(|| format!("reading {}", source.display()))?;
        if elf::is_elf(&source) {
            add_libraries(archive, &source)?;
            archive.copy(&elf::stripped(&source, scratch.path()), &merged(target))?;
        } else {
            archive.copy(&source, &merged(target))?;
        }
    }
    Ok(())
}

/// The path inside, relative to the root, with /usr merged.
fn merged(path: &Path) -> PathBuf {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let first = relative.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
    match first {
        Some(first) if MERGED.contains(&first.as_str()) => Path::new("usr").join(relative),
        _ => relative.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_land_in_a_merged_usr() {
        assert_eq!(merged(Path::new("/lib64/ld.so")), Path::new("usr/lib64/ld.so"));
        assert_eq!(merged(Path::new("/library/x")), Path::new("library/x"));
        assert_eq!(merged(Path::new("/usr/bin/x")), Path::new("usr/bin/x"));
    }

    #[test]
    fn a_program_brings_its_libraries() {
        let dir = tempfile::tempdir().unwrap();
        let source = std::env::current_exe().unwrap();
        let job = Job {
            command: vec!["/opt/program".into(), "an argument".into()],
            env: vec![("WHO".into(), "it's me".into())],
            copies: vec![Copy { source, target: "/opt/program".into() }],
        };
        let mut bytes = Vec::new();
        overlay(&job, dir.path(), &mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("opt/program"));
        assert!(text.contains("libc.so.6"));
        assert!(text.contains("exec /opt/program 'an argument'"));
        assert!(text.contains(r"export WHO='it'\''s me'"));
    }
}
