//! Socket translation and destruction.

use std::{error::Error, fs::File, net::UdpSocket, os::fd::AsFd};

use netloom_core::model::{IfIndex, Support};
use netloom_sys::{
    bpf::{self, AttachType},
    diag::{DiagSocket, SocketId, Transport},
};

use super::{chain, kernel_types::KernelTypes, missing, there};
use crate::{devices::Devices, kernel_types::PATH, mounts, netns::Netns};

type Failure = Box<dyn Error + Send + Sync>;

/// The loopback device is the first of each namespace.
const LOOPBACK: IfIndex = IfIndex(1);

/// The attach points of the translation that came last (Linux 5.8).
const HOOKS: [AttachType; 2] = [AttachType::CGROUP_INET4_GETPEERNAME, AttachType::CGROUP_INET6_GETPEERNAME];

pub(super) fn socket_lb() -> Support {
    let Some(cgroup) = mounts::cgroup2_mount() else {
        return missing("cgroup2 is not mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`");
    };
    let hooks = || {
        let cgroup = File::open(&cgroup)?;
        for hook in HOOKS {
            bpf::cgroup_query(cgroup.as_fd(), hook)?;
        }
        Ok::<_, std::io::Error>(())
    };
    match hooks() {
        Ok(()) => there(format!("cgroup2 is mounted on {}, and has the hooks", cgroup.display())),
        Err(error) => missing(format!("cgroup2 on {}: BPF_PROG_QUERY: {error}", cgroup.display())),
    }
}

/// Loads an iterator that would destroy each TCP socket; it is never run.
pub(super) fn destroy_kfunc(types: &KernelTypes) -> Support {
    const FUNCTION: &str = "bpf_sock_destroy";
    let (Some(iterator), Some(function)) = (types.function("bpf_iter_tcp"), types.function(FUNCTION)) else {
        return Support { available: false, ..types.has(FUNCTION) };
    };
    match bpf::load_tcp_iterator("netloom_probe", iterator, function) {
        Ok(_) => there("an iterator that calls it was loaded"),
        Err(error) => missing(format!(
            "{FUNCTION} is in {PATH}, but BPF_PROG_LOAD of an iterator that calls it: {error}"
        )),
    }
}

/// Loads an iterator of this kind; it is never run. Some kernels have one and refuse it.
pub(super) fn iterator(types: &KernelTypes, function: &str) -> Support {
    let Some(iterator) = types.function(function) else {
        return types.has(function);
    };
    match bpf::load_iterator("netloom_probe", iterator) {
        Ok(_) => there(format!("an iterator was loaded: {function}")),
        Err(error) => {
            missing(format!("{function} is in {PATH}, but BPF_PROG_LOAD of such an iterator: {error}"))
        }
    }
}

/// Opens an AF_XDP socket.
pub(super) fn af_xdp() -> Support {
    use rustix::net::{AddressFamily, SocketType, socket};
    match socket(AddressFamily::XDP, SocketType::RAW, None) {
        Ok(_) => there("an AF_XDP socket was opened"),
        Err(error) => missing(format!("socket(AF_XDP): {error}")),
    }
}

/// Destroys a connected socket of its own.
pub(super) async fn destroy() -> Support {
    match prepare_and_destroy().await {
        Ok(true) => there("SOCK_DESTROY destroyed a connected socket of the probe's own"),
        Ok(false) => missing("SOCK_DESTROY did not find a connected socket of the probe's own"),
        Err(error) => missing(chain(error.as_ref())),
    }
}

async fn prepare_and_destroy() -> Result<bool, Failure> {
    let netns = Netns::create()?;
    Devices::open(&netns)?.set_up(LOOPBACK, true).await?;
    netns.run(try_destroy)?
}

fn try_destroy() -> Result<bool, Failure> {
    let mut diag = DiagSocket::open()?;
    diag.probe(Transport::Tcp)?;
    diag.probe(Transport::Udp)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect("127.0.0.1:9")?;
    let id = SocketId {
        transport: Transport::Udp,
        local: socket.local_addr()?,
        remote: socket.peer_addr()?,
        device: 0,
        cookie: rustix::net::sockopt::socket_cookie(socket.as_fd())?,
    };
    match diag.destroy(&[id])?.pop() {
        Some(outcome) => Ok(outcome?),
        None => Ok(false),
    }
}
