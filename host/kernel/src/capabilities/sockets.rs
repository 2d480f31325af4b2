//! Socket translation and destruction.

use std::{
    error::Error,
    fs::File,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, AsRawFd},
};

use netloom_core::model::Support;
use netloom_sys::{
    bpf::{self, AttachType},
    diag::{DiagSocket, SocketId, Transport},
};

use super::{chain, missing, there};
use crate::{mounts, netns::Netns};

/// The attach points of the translation that came last (Linux 5.8).
const HOOKS: [AttachType; 2] = [AttachType::CGROUP_INET4_GETPEERNAME, AttachType::CGROUP_INET6_GETPEERNAME];

pub(super) fn socket_lb() -> Support {
    let Some(cgroup) = mounts::cgroup2_mount() else {
        return missing("cgroup2 is not mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`");
    };
    let hooks = || {
        let cgroup = File::open(&cgroup)?;
        for hook in HOOKS {
            // The kernel's attribute holds an index or, for cgroups, an fd in the same place.
            bpf::prog_query(cgroup.as_raw_fd().cast_unsigned(), hook)?;
        }
        Ok::<_, std::io::Error>(())
    };
    match hooks() {
        Ok(()) => there(format!("cgroup2 is mounted on {}, and has the hooks", cgroup.display())),
        Err(error) => missing(format!("cgroup2 on {}: BPF_PROG_QUERY: {error}", cgroup.display())),
    }
}

/// Destroys a listener of its own.
pub(super) fn destroy() -> Support {
    match Netns::create().map_err(Into::into).and_then(|netns| netns.run(try_destroy)?) {
        Ok(true) => there("SOCK_DESTROY destroyed a listener of the probe's own"),
        Ok(false) => missing("SOCK_DESTROY did not find a listener of the probe's own"),
        Err(error) => missing(chain(error.as_ref())),
    }
}

fn try_destroy() -> Result<bool, Box<dyn Error + Send + Sync>> {
    let mut diag = DiagSocket::open()?;
    diag.probe(Transport::Udp)?;
    diag.probe(Transport::Tcp)?;
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let nobody: SocketAddr = ([0, 0, 0, 0], 0).into();
    let socket = SocketId {
        transport: Transport::Tcp,
        local: listener.local_addr()?,
        remote: nobody,
        device: 0,
        cookie: rustix::net::sockopt::socket_cookie(listener.as_fd())?,
    };
    match diag.destroy(&[socket])?.pop() {
        Some(outcome) => Ok(outcome?),
        None => Ok(false),
    }
}
