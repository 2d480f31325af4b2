//! What is done without Netloom: in each namespace, walk all sockets, and destroy those of the dead backend.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, bail};
use aya::{Btf, EbpfLoader, programs::Iter};
use netloom_core::model::Protocol;
use netloom_kernel::netns::Netns;
use netloom_sys::{
    bpf,
    diag::{DiagSocket, Transport},
};
use netloom_test_support::command;

/// The iterators over a namespace's sockets, for one dead backend.
pub(crate) struct Iterators {
    find: OwnedFd,
    destroy: OwnedFd,
}

impl Iterators {
    pub(crate) fn new(dead: SocketAddr, protocol: Protocol) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (source, object) = (folder.path().join("known.bpf.c"), folder.path().join("known.bpf.o"));
        std::fs::write(&source, include_str!("known.bpf.c"))?;
        netloom_ebpf::compile::compile(&source, &object)?;
        let btf = Btf::from_sys_fs()?;
        let function = btf.id_by_type_name_kind("bpf_sock_destroy", aya_obj::btf::BtfKind::Func)?;
        let object = netloom_ebpf::calling(&std::fs::read(object)?, function)?;
        let SocketAddr::V4(dead) = dead else { bail!("{dead} is not IPv4") };
        let address = u32::from_ne_bytes(dead.ip().octets());
        let port = dead.port().to_be();
        let mut loaded = EbpfLoader::new()
            .btf(Some(&btf))
            .override_global("dead_address", &address, true)
            .override_global("dead_port", &port, true)
            .load(&object)?;
        let mut link = |name: String| -> anyhow::Result<OwnedFd> {
            let program: &mut Iter = loaded.program_mut(&name).context("the program is there")?.try_into()?;
            program.load(&protocol.to_string(), &btf)?;
            Ok(bpf::iter_link(program.fd()?.as_fd(), None)?)
        };
        Ok(Self { find: link(format!("find_{protocol}"))?, destroy: link(format!("destroy_{protocol}"))? })
    }

    /// How many are found in these namespaces.
    pub(crate) fn find(&self, namespaces: &[Netns]) -> anyhow::Result<usize> {
        walk(&self.find, namespaces)
    }

    /// How many are destroyed in these namespaces.
    pub(crate) fn destroy(&self, namespaces: &[Netns]) -> anyhow::Result<usize> {
        walk(&self.destroy, namespaces)
    }
}

fn walk(link: &OwnedFd, namespaces: &[Netns]) -> anyhow::Result<usize> {
    each(namespaces, || {
        let mut iterator = File::from(bpf::iter_create(link.as_fd())?);
        let mut buffer = vec![0; 1 << 16];
        let mut bytes = 0;
        loop {
            match iterator.read(&mut buffer) {
                Ok(0) => return Ok(bytes / 8),
                Ok(length) => bytes += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    })
}

/// A sock_diag dump in each namespace with a filter in the kernel, and SOCK_DESTROY of what it gives.
pub(crate) fn sock_diag(namespaces: &[Netns], dead: SocketAddr, protocol: Protocol) -> anyhow::Result<usize> {
    let transport = match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
    };
    each(namespaces, || {
        let mut socket = DiagSocket::open()?;
        let mut found = Vec::new();
        // Bit 1: established.
        socket.dump(transport, 1 << 1, &[dead], &[], |socket, _| found.push(socket.id(transport)))?;
        Ok(socket.destroy(&found)?.into_iter().filter(|done| matches!(done, Ok(true))).count())
    })
}

/// `ss -K` in each namespace.
pub(crate) fn ss(names: &[&str], dead: SocketAddr, protocol: Protocol) -> anyhow::Result<usize> {
    let mut destroyed = 0;
    let (address, port) = (dead.ip().to_string(), format!(":{}", dead.port()));
    let option = if protocol == Protocol::Tcp { "-tnKH" } else { "-unKH" };
    for name in names {
        let words = ["ip", "netns", "exec", name, "ss", option, "dst", &address, "dport", "=", &port];
        destroyed += command(&words).expect_ok().lines().count();
    }
    Ok(destroyed)
}

/// Enters each namespace in turn, on one thread.
fn each(
    namespaces: &[Netns],
    mut work: impl FnMut() -> anyhow::Result<usize> + Send,
) -> anyhow::Result<usize> {
    let Some(first) = namespaces.first() else { return Ok(0) };
    first.run(|| {
        let mut sum = 0;
        for netns in namespaces {
            netloom_sys::ns::enter(netns.as_fd())?;
            sum += work()?;
        }
        Ok(sum)
    })?
}

/// Whether the kernel has what the known way needs.
pub(crate) fn is_possible() -> bool {
    std::fs::read_to_string(Path::new("/proc/kallsyms"))
        .is_ok_and(|symbols| symbols.lines().any(|line| line.ends_with(" bpf_sock_destroy")))
}
