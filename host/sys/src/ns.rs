//! Network namespaces: opening, identity, entering, cookies.
//!
//! Errors are plain [`io::Error`]s: the caller knows what it was about to do and on which path, and says so.

use std::{
    fs::{self, File},
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType},
    process::{Pid, PidfdFlags, PidfdGetfdFlags},
    thread::{LinkNameSpaceType, UnshareFlags},
};

/// `SIOCGSKNS` of `include/uapi/linux/sockios.h`: a namespace fd of a socket's namespace.
const SIOCGSKNS: libc::c_ulong = 0x894C;

/// `listns` of Linux 6.19; the number is the same on every architecture.
const SYS_LISTNS: libc::c_long = 470;

/// `FD_NSFS_ROOT` of `include/uapi/linux/fcntl.h` (Linux 6.18): stands for nsfs, which is mounted nowhere.
const FD_NSFS_ROOT: RawFd = -10_003;

/// `FILEID_NSFS` of `include/linux/exportfs.h`.
const FILEID_NSFS: i32 = 0xf1;

/// `PID_NS_INIT_INO` of `include/uapi/linux/nsfs.h`.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// How often a path is looked up that changes at the same time.
const LOOKS: u32 = 3;

/// The identity of a namespace file: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// `st_dev` of nsfs.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// What an opened file turned out to be.
#[derive(Debug)]
pub enum Opened {
    /// A network namespace.
    Net(OwnedFd, Identity),
    /// A namespace of another type, or no namespace at all.
    Other,
}

/// Opens a path if it is a network namespace. What is something else, such as a FIFO, a device, or a file of storage
/// that does not answer, is looked at and never opened. A path below another process's root (`/proc/PID/root/…`) is
/// that process's to choose, and is taken as [`open_beneath`] takes it.
///
/// # Errors
/// Whatever `open(2)`, `openat2(2)` or `fstat(2)` reports. A file that is no network namespace is [`Opened::Other`], not
/// an error.
pub fn open(path: &Path) -> io::Result<Opened> {
    match beneath_root(path) {
        Some((root, rest)) => open_beneath(&root, rest),
        None => open_found(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?),
    }
}

/// The same for a path beneath a folder: no link leads out of it, or is followed at all, and nobody is asked who is not
/// in the kernel's memory, where every mount point is with all that is above it.
///
/// # Errors
/// As [`open`]; `ELOOP` where there is a link on the way, `EAGAIN` where storage would have to be asked.
pub fn open_beneath(root: &Path, rest: &Path) -> io::Result<Opened> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let how = ResolveFlags::IN_ROOT
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::CACHED;
    let mut tries = 1;
    loop {
        match rustix::fs::openat2(&root, rest, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
            // So it is also where somebody renames or mounts at the same time.
            Err(Errno::AGAIN) if tries < LOOKS => tries += 1,
            found => return open_found(found?),
        }
    }
}

/// `/proc/PID/root` and what is below it, of a path that goes through there.
fn beneath_root(path: &Path) -> Option<(PathBuf, &Path)> {
    let rest = path.strip_prefix("/proc").ok()?;
    let mut parts = rest.components();
    let process = parts.next()?.as_os_str().to_str()?;
    let is_process = process.bytes().all(|byte| byte.is_ascii_digit()) || process == "self";
    let is_root = parts.next()?.as_os_str() == "root";
    let rest = parts.as_path();
    (is_process && is_root && !rest.as_os_str().is_empty())
        .then(|| (Path::new("/proc").join(process).join("root"), rest))
}

/// Opens what was found, if it is a network namespace.
fn open_found(found: OwnedFd) -> io::Result<Opened> {
    if !is_nsfs(found.as_fd())? {
        return Ok(Opened::Other);
    }
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    if !is_net(fd.as_fd())? {
        return Ok(Opened::Other);
    }
    let identity = identity(fd.as_fd())?;
    Ok(Opened::Net(fd, identity))
}

/// Opens the network namespace of the calling thread.
///
/// # Errors
/// Whatever `open(2)` reports; most likely `/proc` is not mounted.
pub fn open_current() -> io::Result<(OwnedFd, Identity)> {
    let fd: OwnedFd = File::open("/proc/thread-self/ns/net")?.into();
    let identity = identity(fd.as_fd())?;
    Ok((fd, identity))
}

/// The identity of an open file.
///
/// # Errors
/// Whatever `fstat(2)` reports.
pub fn identity(fd: BorrowedFd<'_>) -> io::Result<Identity> {
    let stat = rustix::fs::fstat(fd)?;
    Ok(Identity { device: stat.st_dev, inode: stat.st_ino })
}

/// Whether an open file is a network namespace, by `NS_GET_NSTYPE`.
///
/// # Errors
/// What the ioctl reports beyond "this is not a namespace" (`ENOTTY`, and `EINVAL` from drivers).
pub fn is_net(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // Only nsfs gives the ioctl number this meaning; another driver might do something else with it.
    if !is_nsfs(fd)? {
        return Ok(false);
    }
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours; the fd is open.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) };
    match kind {
        libc::CLONE_NEWNET => Ok(true),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(false),
    }
}

fn is_nsfs(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let statfs = rustix::fs::fstatfs(fd)?;
    Ok(statfs.f_type as libc::c_long == libc::NSFS_MAGIC as libc::c_long)
}

/// Moves the calling thread into a network namespace. The other threads stay where they are.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` in the namespace's user namespace, `EINVAL` for another type of namespace.
pub fn enter(fd: BorrowedFd<'_>) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(fd, Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Moves the calling thread into a new, empty network namespace, and opens it.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` at the limit of `user.max_net_namespaces`.
pub fn enter_new() -> io::Result<(OwnedFd, Identity)> {
    // SAFETY: CLONE_NEWNET changes only which network namespace later system calls of this thread use; it
    // leaves memory and the fd table alone (CLONE_FILES is what makes `unshare` unsafe).
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
    open_current()
}

/// The cookie of the calling thread's network namespace.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 5.14.
pub fn current_cookie() -> io::Result<u64> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    socket_cookie(socket.as_fd())
}

/// The cookie of a socket's network namespace (`SO_NETNS_COOKIE`).
///
/// # Errors
/// `ENOTSOCK` for another file, `ENOPROTOOPT` before Linux 5.14.
pub fn socket_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = mem::size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: both pointers are to live locals of the sizes given; the kernel writes at most `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// The network namespace a socket lives in (`SIOCGSKNS`), even if no namespace file of it is open anywhere.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` there, `ENOTTY` for another file.
pub fn of_socket(socket: BorrowedFd<'_>) -> io::Result<(OwnedFd, Identity)> {
    // SAFETY: SIOCGSKNS takes no argument and touches no memory of ours; the fd is open.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this fd for us, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let identity = identity(fd.as_fd())?;
    Ok((fd, identity))
}

/// `struct ns_id_req` of `include/uapi/linux/nsfs.h`.
#[repr(C)]
struct ListRequest {
    size: u32,
    spare: u32,
    after: u64,
    kinds: u32,
    spare2: u32,
    user_ns: u64,
}

/// The ids of the network namespaces that the caller may see, those that only sockets keep excepted, in ascending
/// order (`listns()`).
///
/// # Errors
/// `ENOSYS` before Linux 6.19.
pub fn list() -> io::Result<Vec<u64>> {
    let mut all = Vec::new();
    let mut ids = [0_u64; 256];
    loop {
        let request = ListRequest {
            size: mem::size_of::<ListRequest>() as u32,
            spare: 0,
            after: all.last().copied().unwrap_or(0),
            kinds: libc::CLONE_NEWNET as u32,
            spare2: 0,
            user_ns: 0,
        };
        // SAFETY: the request is a live local of the size it states, and the kernel writes at most `ids.len()` ids.
        let count =
            unsafe { libc::syscall(SYS_LISTNS, &raw const request, ids.as_mut_ptr(), ids.len(), 0_u32) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        all.extend(ids.iter().take(count));
        if count < ids.len() {
            return Ok(all);
        }
    }
}

/// `struct file_handle` of `include/uapi/linux/fcntl.h` with `struct nsfs_file_handle` of `nsfs.h`. An id alone is
/// enough: type and inode are zero together.
#[repr(C)]
struct NamespaceHandle {
    bytes: u32,
    kind: i32,
    id: u64,
    kind_of_namespace: u32,
    inode: u32,
}

/// Opens a namespace by its id, which of a network namespace is its cookie as well.
///
/// # Errors
/// `ESTALE` if there is none, or only sockets keep it; `EBADF` before Linux 6.18, and `ESTALE` in it; `EPERM` without
/// `CAP_SYS_ADMIN`, and outside the first PID namespace for others than one's own.
pub fn open_by_id(id: u64) -> io::Result<Opened> {
    let handle = NamespaceHandle { bytes: 16, kind: FILEID_NSFS, id, kind_of_namespace: 0, inode: 0 };
    // SAFETY: the handle is a live local, as long as it says; the kernel reads it and touches nothing else of ours.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            FD_NSFS_ROOT,
            &raw const handle,
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this fd for us, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if !is_net(fd.as_fd())? {
        return Ok(Opened::Other);
    }
    let identity = identity(fd.as_fd())?;
    Ok(Opened::Net(fd, identity))
}

/// Whether the caller is in the node's first PID namespace, without which it is shown its own namespaces only.
#[must_use]
pub fn in_first_pid_namespace() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|metadata| metadata.ino() == FIRST_PID_NAMESPACE)
}

/// Another process, for taking copies of its fds.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// Opens a process by its id.
    ///
    /// # Errors
    /// `ESRCH` if there is none, `EINVAL` for an id that is no process.
    pub fn open(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// A copy of one of its fds.
    ///
    /// # Errors
    /// `EBADF` if it has no such fd, `EPERM` without `PTRACE_MODE_ATTACH_REALCREDS` over it.
    pub fn fd(&self, number: i32) -> io::Result<OwnedFd> {
        Ok(rustix::process::pidfd_getfd(&self.0, number, PidfdGetfdFlags::empty())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_namespace_is_one_and_has_a_cookie() {
        let (fd, identity) = open_current().unwrap();
        assert!(is_net(fd.as_fd()).unwrap());
        let Opened::Net(_, again) = open(Path::new("/proc/self/ns/net")).unwrap() else {
            panic!("not a network namespace")
        };
        assert_eq!(identity, again);
        assert_ne!(current_cookie().unwrap(), 0);
    }

    #[test]
    fn other_namespaces_and_other_files_are_told_apart() {
        for path in ["/proc/self/ns/mnt", "/proc/self/ns/user", "/dev/null", "/etc/passwd", "/"] {
            assert!(matches!(open(Path::new(path)).unwrap(), Opened::Other), "{path}");
        }
        assert_eq!(open(Path::new("/nonexistent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_no_namespace_is_never_opened() {
        use rustix::fs::inotify;
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, &fifo, inotify::WatchFlags::OPEN).unwrap();
        for path in [fifo.clone(), Path::new("/proc/self/root").join(fifo.strip_prefix("/").unwrap())] {
            assert!(matches!(open(&path).unwrap(), Opened::Other), "{path:?}");
        }
        let mut events = [0; 64];
        assert_eq!(rustix::io::read(&watch, &mut events), Err(Errno::AGAIN), "somebody opened it");
    }

    #[test]
    fn links_below_another_processs_root_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc/self/ns/net", &link).unwrap();
        assert!(matches!(open(&link).unwrap(), Opened::Net(..)), "a name of one's own may be a link");
        let through = Path::new("/proc/self/root").join(link.strip_prefix("/").unwrap());
        let error = open(&through).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{through:?}");
    }
}
