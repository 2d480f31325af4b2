//! Network namespaces: identity, entering, finding all of them.
//!
//! A namespace is its (device, inode), never a path: paths are only ways to it. A [`Netns`] holds the namespace
//! open, so that it cannot go away, or its inode be given to another, while somebody works in it.

mod error;
mod find;
mod index;
mod listed;
mod search;

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, OnceLock},
    thread,
};

use netloom_core::model::{NetnsCookie, NetnsId};
use netloom_sys::ns;

pub use self::{
    error::NetnsError,
    find::{Found, all, by_cookie, by_cookies},
    index::{IndexStatus, keep_up_to_date, knows, refresh, status},
};

/// An open network namespace. Clones share one file descriptor; the namespace lives at least as long as they.
#[derive(Clone)]
pub struct Netns(Arc<Inner>);

struct Inner {
    fd: OwnedFd,
    id: NetnsId,
    cookie: OnceLock<NetnsCookie>,
}

impl Netns {
    /// Opens a path such as `/run/netns/blue` or `/proc/1234/ns/net`.
    ///
    /// # Errors
    /// [`NetnsError::NotFound`], [`NetnsError::NotANamespace`], or [`NetnsError::Open`] with what the kernel said.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        match ns::open(path) {
            Ok(ns::Opened::Net(fd, identity)) => Ok(Self::from_parts(fd, identity)),
            Ok(ns::Opened::Other) => Err(NetnsError::NotANamespace { path: path.to_owned() }),
            Err(source) => Err(NetnsError::open(path, source)),
        }
    }

    /// Takes an open file for a namespace.
    ///
    /// # Errors
    /// [`NetnsError::NotANamespaceFd`] if it is something else.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, NetnsError> {
        if !ns::is_net(fd.as_fd()).unwrap_or(false) {
            return Err(NetnsError::NotANamespaceFd);
        }
        let identity = ns::identity(fd.as_fd()).map_err(|_| NetnsError::NotANamespaceFd)?;
        Ok(Self::from_parts(fd, identity))
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`NetnsError::Open`], most likely because `/proc` is not mounted.
    pub fn current() -> Result<Self, NetnsError> {
        let (fd, identity) = ns::open_current()
            .map_err(|source| NetnsError::open(Path::new("/proc/thread-self/ns/net"), source))?;
        Ok(Self::from_parts(fd, identity))
    }

    /// A new namespace without a name. It goes away with the last clone, unless a process or mount keeps it.
    ///
    /// # Errors
    /// [`NetnsError::Create`].
    pub fn create() -> Result<Self, NetnsError> {
        // A thread of its own: the caller's stays where it is.
        let (fd, identity) = in_thread(ns::enter_new)?.map_err(|source| NetnsError::Create { source })?;
        Ok(Self::from_parts(fd, identity))
    }

    fn from_parts(fd: OwnedFd, identity: ns::Identity) -> Self {
        Self(Arc::new(Inner { fd, id: id(identity), cookie: OnceLock::new() }))
    }

    /// What it is.
    #[must_use]
    pub fn id(&self) -> NetnsId {
        self.0.id
    }

    /// Its file descriptor, for `setns` and `IFLA_NET_NS_FD`.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    /// The kernel's cookie of it: unlike the inode it is never given again. Asked for once, then remembered.
    ///
    /// # Errors
    /// [`NetnsError::Cookie`] before Linux 5.14, [`NetnsError::Enter`] without the right to enter it.
    pub fn cookie(&self) -> Result<NetnsCookie, NetnsError> {
        if let Some(cookie) = self.0.cookie.get() {
            return Ok(*cookie);
        }
        let cookie = self.run(ns::current_cookie)?;
        let cookie = NetnsCookie(cookie.map_err(|source| NetnsError::Cookie { netns: self.id(), source })?);
        Ok(*self.0.cookie.get_or_init(|| cookie))
    }

    /// Runs a closure, which may borrow, on a thread of its own inside the namespace, and waits for it. Blocks the
    /// caller for as long as the closure takes.
    ///
    /// # Errors
    /// [`NetnsError::Enter`], [`NetnsError::Thread`].
    ///
    /// # Panics
    /// If the closure does.
    pub fn run<T: Send>(&self, closure: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        in_thread(|| {
            ns::enter(self.fd()).map_err(|source| NetnsError::Enter { netns: self.id(), source })?;
            Ok(closure())
        })?
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Netns {}

impl fmt::Debug for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Netns({})", self.id())
    }
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

fn id(identity: ns::Identity) -> NetnsId {
    NetnsId { device: identity.device, inode: identity.inode }
}

/// Namespaces are a property of a thread. A pool's thread that changed its own would carry the change on to
/// whoever uses it next, hence a thread that ends with the work.
fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| NetnsError::Thread { source })?;
        thread.join().map_err(|panic| std::panic::resume_unwind(panic))
    })
}
