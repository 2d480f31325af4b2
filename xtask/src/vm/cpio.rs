//! Writes the "newc" cpio archives that the kernel unpacks into its first root file system.
//! Format: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's sources.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_777;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_600;

/// An archive being written. Parents are created as they are needed, and a path is written once only.
pub(crate) struct Archive<W> {
    out: W,
    inode: u32,
    written: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub(crate) const fn new(out: W) -> Self {
        Self { out, inode: 1, written: BTreeSet::new() }
    }

    /// Says that a path is there already, in an archive unpacked before this one.
    pub(crate) fn assume(&mut self, path: impl Into<PathBuf>) {
        self.written.insert(path.into());
    }

    /// A directory, with its parents. Paths are relative to the root.
    pub(crate) fn directory(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() || self.written.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    /// A file with this content.
    pub(crate) fn file(&mut self, path: &Path, permissions: u32, content: &[u8]) -> Result<()> {
        self.parent(path)?;
        self.entry(path, REGULAR | (permissions & 0o7777), (0, 0), content)
    }

    /// A symbolic link.
    pub(crate) fn symlink(&mut self, path: &Path, target: &str) -> Result<()> {
        self.parent(path)?;
        self.entry(path, SYMLINK, (0, 0), target.as_bytes())
    }

    /// A character device.
    pub(crate) fn device(&mut self, path: &Path, major: u32, minor: u32) -> Result<()> {
        self.parent(path)?;
        self.entry(path, CHARACTER, (major, minor), &[])
    }

    /// A file, directory (with all below it) or symbolic link of this machine.
    pub(crate) fn copy(&mut self, source: &Path, path: &Path) -> Result<()> {
        let reading = || format!("reading {}", source.display());
        let metadata = fs::symlink_metadata(source).with_context(reading)?;
        if metadata.is_dir() {
            self.parent(path)?;
            self.entry(path, DIRECTORY | (metadata.permissions().mode() & 0o7777), (0, 0), &[])?;
            let mut names = Vec::new();
            for entry in fs::read_dir(source).with_context(reading)? {
                names.push(entry.with_context(reading)?.file_name());
            }
            names.sort();
            for name in names {
                self.copy(&source.join(&name), &path.join(&name))?;
            }
            return Ok(());
        }
        if metadata.is_symlink() {
            let target = fs::read_link(source).with_context(reading)?;
            return self.symlink(path, &target.to_string_lossy());
        }
        if metadata.is_file() {
            let content = fs::read(source).with_context(reading)?;
            return self.file(path, metadata.permissions().mode(), &content);
        }
        // Sockets and the like mean nothing in another machine.
        Ok(())
    }

    /// Ends the archive and hands the writer back.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.raw("TRAILER!!!", 0, (0, 0), &[]).context("writing the end of the archive")?;
        self.out.flush().context("writing the end of the archive")?;
        Ok(self.out)
    }

    fn parent(&mut self, path: &Path) -> Result<()> {
        path.parent().map_or(Ok(()), |parent| self.directory(parent))
    }

    fn entry(&mut self, path: &Path, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        if !self.written.insert(path.to_path_buf()) {
            return Ok(());
        }
        self.raw(&path.to_string_lossy(), mode, device, content)
            .with_context(|| format!("adding {} to the archive", path.display()))
    }

    fn raw(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::other("a file of 4 GiB or more does not fit into a cpio archive"))?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        // inode, mode, uid, gid, links, mtime, size, device (2), rdev (2), length of the name, checksum
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.inode += 1;
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let zeros = [0; 3];
        self.out.write_all(zeros.get(..written.next_multiple_of(4) - written).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn cpio_lists_what_was_written() {
        if !netloom_test_support::require_tool("cpio", "`cargo xtask setup` installs it") {
            return;
        }
        let mut archive = Archive::new(Vec::new());
        archive.file(Path::new("a/b/file"), 0o755, b"hello").unwrap();
        archive.symlink(Path::new("a/link"), "b/file").unwrap();
        archive.device(Path::new("dev/console"), 5, 1).unwrap();
        archive.file(Path::new("a/b/file"), 0o755, b"a second time").unwrap();
        let bytes = archive.finish().unwrap();
        let mut child = Command::new("cpio")
            .args(["-itv", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let listing = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let names: Vec<&str> = listing.lines().map(|line| line.rsplit("  ").next().unwrap()).collect();
        assert_eq!(listing.lines().count(), 6, "{listing}");
        assert!(listing.contains("a/link -> b/file"), "{listing}");
        assert!(listing.contains("-rwxr-xr-x"), "{listing}");
        assert_eq!(names.iter().filter(|name| name.ends_with("a/b/file")).count(), 1, "{listing}");
    }
}
