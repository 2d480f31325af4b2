//! rtnetlink's announcements: of one network namespace, and of every other that it has a number for.
//!
//! A socket of one namespace hears of the others without keeping them: whoever opens a socket in a namespace holds it.
//! The kernel's side: `do_one_broadcast` and `netlink_cmsg_listen_all_nsid` of `net/netlink/af_netlink.c`.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, sockopt};

/// `NETLINK_LISTEN_ALL_NSID` of `include/uapi/linux/netlink.h`: an option of the socket, and the kind of the control
/// message with a namespace's number.
const LISTEN_ALL_NSID: libc::c_int = 8;

/// Bytes of announcements that wait to be read.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Room for one control message with a number, and some to spare; aligned as the kernel's `cmsghdr` is.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// A listening socket. It never blocks.
#[derive(Debug)]
pub struct AnnouncementSocket {
    fd: OwnedFd,
}

impl AnnouncementSocket {
    /// Begins to listen in the calling thread's network namespace, to groups given as a mask (`RTMGRP_…`), and to the
    /// same of every namespace that this one has a number for.
    ///
    /// # Errors
    /// What the kernel says: no more descriptors or memory, or a kernel before 4.2.
    pub fn open(groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // NETLINK_ROUTE is protocol 0, which stands for none.
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        // Refused to a process without CAP_NET_ADMIN, whose default buffer has to do.
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER);
        listen_to_all(fd.as_fd())?;
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, groups))?;
        Ok(Self { fd })
    }

    /// Reads what the kernel sent at once, as netlink messages: how many bytes of the buffer they take, and the number of
    /// the namespace that they are of, if it is another than the socket's own.
    ///
    /// # Errors
    /// `EAGAIN` if nothing waits; `ENOBUFS` once if some were lost; anything else that `recvmsg(2)` says.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<i32>)> {
        let mut control = Control([0; 64]);
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: `msghdr` is plain data, for which zeroes are a valid value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        // SAFETY: the header points to one part, which is the caller's buffer with its length, and to the control buffer
        // with its length; both live until the call is over, and nobody else has them.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        Ok((length, number(&header)))
    }
}

/// The namespace's number that came with a message.
fn number(header: &libc::msghdr) -> Option<i32> {
    // SAFETY: the kernel has filled in the header, whose control buffer is alive; the macro looks at its length first.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !control.is_null() {
        // SAFETY: not null, so that a whole `cmsghdr` lies there, aligned as the buffer is.
        let found = unsafe { &*control };
        if (found.cmsg_level, found.cmsg_type) == (libc::SOL_NETLINK, LISTEN_ALL_NSID) {
            // SAFETY: a control message of this kind carries an `int`, which may lie anywhere.
            return Some(unsafe { libc::CMSG_DATA(control).cast::<i32>().read_unaligned() });
        }
        // SAFETY: both are of the same message, as above.
        control = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    None
}

fn listen_to_all(fd: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is an `int` that lives until the call is over, and its size is given.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            LISTEN_ALL_NSID,
            (&raw const on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl AsFd for AnnouncementSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::os::fd::AsRawFd for AnnouncementSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}
