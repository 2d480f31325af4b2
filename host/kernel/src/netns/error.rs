use std::{io, path::PathBuf};

use netloom_core::model::NetnsId;

/// Why a network namespace could not be opened, entered or listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetnsError {
    /// The path is not there.
    #[error(
        "no network namespace at {}: the path does not exist; `ip netns list` shows the named ones, and \
         /proc/PID/ns/net is the one of a process",
        path.display()
    )]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// The path is something else.
    #[error(
        "{} is not a network namespace; name a file such as /run/netns/NAME or /proc/PID/ns/net (a named namespace \
         whose mount is gone leaves an empty file behind)",
        path.display()
    )]
    NotANamespace {
        /// The path.
        path: PathBuf,
    },
    /// The file descriptor is something else.
    #[error("the file descriptor is not one of a network namespace")]
    NotANamespaceFd,
    /// The path is there but cannot be opened.
    #[error("cannot open the network namespace {}; this needs root (CAP_SYS_PTRACE for other processes)", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is open but cannot be entered.
    #[error("cannot enter network namespace {netns}; this needs root (CAP_SYS_ADMIN)")]
    Enter {
        /// Which.
        netns: NetnsId,
        /// What the kernel said.
        source: io::Error,
    },
    /// No new one can be made.
    #[error(
        "cannot create a network namespace; this needs root (CAP_SYS_ADMIN), and room in the sysctl \
         user.max_net_namespaces"
    )]
    Create {
        /// What the kernel said.
        source: io::Error,
    },
    /// Its cookie cannot be read.
    #[error("cannot read the cookie of network namespace {netns} (SO_NETNS_COOKIE, Linux 5.14 or later)")]
    Cookie {
        /// Which.
        netns: NetnsId,
        /// What the kernel said.
        source: io::Error,
    },
    /// No thread to work on.
    #[error(
        "cannot start a thread to enter a network namespace; check the process's task limit (pids cgroup)"
    )]
    Thread {
        /// What the kernel said.
        source: io::Error,
    },
    /// The list of processes cannot be read.
    #[error("cannot list the processes in /proc to find their network namespaces; is /proc mounted?")]
    Proc {
        /// What the kernel said.
        source: io::Error,
    },
}

impl NetnsError {
    pub(super) fn open(path: &std::path::Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NotFound { path },
            _ => Self::Open { path, source },
        }
    }
}
