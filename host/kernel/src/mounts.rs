//! The file systems the datapath needs: cgroup2 to attach socket programs to, bpffs to pin links in.

use std::{
    ffi::{CStr, OsString},
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use rustix::mount::MountFlags;

/// Why a file system is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The mount table cannot be read.
    #[error("cannot read /proc/self/mountinfo; is /proc mounted?")]
    Table {
        /// What the kernel said.
        source: io::Error,
    },
    /// The mount point cannot be made.
    #[error("cannot create the directory {} to mount {kind} on", path.display())]
    Directory {
        /// `cgroup2` or `bpf`.
        kind: &'static str,
        /// The mount point.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The mount failed.
    #[error(
        "cannot mount {kind} on {}; this needs root (CAP_SYS_ADMIN) and a kernel with {option}",
        path.display()
    )]
    Mount {
        /// `cgroup2` or `bpf`.
        kind: &'static str,
        /// The mount point.
        path: PathBuf,
        /// The kernel's option for it.
        option: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// One line of `mountinfo`: see `proc(5)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Which part of the file system is mounted: for nsfs, the namespace.
    pub(crate) root: String,
    /// Where.
    pub(crate) point: PathBuf,
    /// The file system's type.
    pub(crate) kind: String,
}

/// Parses a mount table such as `/proc/self/mountinfo`. Lines it cannot make sense of are left out.
pub(crate) fn parse(table: &str) -> impl Iterator<Item = Mount> {
    table.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let root = fields.next()?.to_owned();
        let point = unescape(fields.next()?);
        // Optional fields of any number end in a lone dash.
        let kind = fields.skip_while(|field| *field != "-").nth(1)?.to_owned();
        Some(Mount { root, point, kind })
    })
}

/// The kernel writes space, tab, newline and backslash of a path as `\ooo`.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let value = octal.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn mounted(kind: &str, magic: libc::c_long) -> Result<Vec<PathBuf>, MountError> {
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(|source| MountError::Table { source })?;
    // Only a mount of the whole: below a part of a hierarchy, programs would miss the other processes. The table
    // also has mounts that a later one covers.
    Ok(parse(&table)
        .filter(|mount| mount.kind == kind && mount.root == "/" && has_magic(&mount.point, magic))
        .map(|mount| mount.point)
        .collect())
}

fn has_magic(path: &Path, magic: libc::c_long) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type as libc::c_long == magic)
}

/// Where the root of the cgroup2 hierarchy is mounted; none if it is not, or the mount table cannot be read.
#[must_use]
pub fn cgroup2_mount() -> Option<PathBuf> {
    mounted("cgroup2", libc::CGROUP2_SUPER_MAGIC as libc::c_long).ok()?.into_iter().next()
}

/// The root of the cgroup2 hierarchy: where it is mounted already, or else mounted at `path`, which is created.
///
/// # Errors
/// [`MountError`].
pub fn ensure_cgroup2(path: &Path) -> Result<PathBuf, MountError> {
    if let Some(point) = mounted("cgroup2", libc::CGROUP2_SUPER_MAGIC as libc::c_long)?.into_iter().next() {
        return Ok(point);
    }
    mount("cgroup2", "CONFIG_CGROUPS", path, None)?;
    Ok(path.to_owned())
}

/// Makes `path`, most often `/sys/fs/bpf`, a BPF file system, unless it lies in one already.
///
/// # Errors
/// [`MountError`].
pub fn ensure_bpffs(path: &Path) -> Result<(), MountError> {
    if is_bpffs(path) {
        return Ok(());
    }
    // The kernel's default lets everybody pin there.
    mount("bpf", "CONFIG_BPF_SYSCALL", path, Some(c"mode=0700"))
}

/// Whether a path lies in a BPF file system.
#[must_use]
pub fn is_bpffs(path: &Path) -> bool {
    has_magic(path, libc::BPF_FS_MAGIC as libc::c_long)
}

fn mount(
    kind: &'static str,
    option: &'static str,
    path: &Path,
    data: Option<&CStr>,
) -> Result<(), MountError> {
    fs::create_dir_all(path).map_err(|source| MountError::Directory {
        kind,
        path: path.to_owned(),
        source,
    })?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(kind, path, kind, flags, data).map_err(|errno| MountError::Mount {
        kind,
        path: path.to_owned(),
        option,
        source: errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:5 master:1 - cgroup2 cgroup2 rw
510 31 0:4 net:[4026532614] /run/netns/with\\040space rw shared:1 - nsfs nsfs rw
nonsense
";

    #[test]
    fn a_mount_table_is_read() {
        let mounts: Vec<_> = parse(TABLE).collect();
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[1].kind, "cgroup2");
        assert_eq!(mounts[1].point, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(mounts[2].point, Path::new("/run/netns/with space"));
        assert_eq!(mounts[2].root, "net:[4026532614]");
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescape("/a\\134b\\"), Path::new("/a\\b\\"));
        assert_eq!(unescape("/a\\9"), Path::new("/a\\9"));
    }
}
