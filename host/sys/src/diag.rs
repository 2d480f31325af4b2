//! sock_diag: finding and destroying sockets by exact tuple and cookie.
//!
//! A [`DiagSocket`] speaks for the network namespace it was opened in, for as long as it lives, whatever namespace
//! the thread that uses it is in. Requests are sent in batches and their answers matched by sequence number, so
//! that each socket has its own outcome.
//!
//! The kernel's side: `net/core/sock_diag.c`, `net/ipv4/inet_diag.c`, `net/ipv4/udp_diag.c`.

mod bytecode;
mod error;
mod message;
mod socket;

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt},
};

use self::{
    bytecode::remote_filter,
    message::{Request, canonical, parse_found, stored},
};
pub use self::{
    error::{DiagAction, DiagError, DiagFailure},
    message::Found,
    socket::{Family, SocketId, Transport},
};

/// Requests in one send. Each is 72 bytes and is answered by at most about 1.5 KB of socket buffer, so that the
/// answers to a full batch fit the receive buffer of any kernel.
const BATCH: usize = 64;

/// Remote addresses in one dump's filter: the kernel runs the filter over every socket, and checks it in time
/// that grows with the square of its length.
const FILTER: usize = 128;

/// Enough for the largest message the kernel builds for a dump (32 KiB).
const RECEIVE_BUFFER: usize = 64 * 1024;

/// A socket for which sock_diag has an outcome of its own.
pub type DiagOutcome<T> = Result<T, DiagFailure>;

/// A NETLINK_SOCK_DIAG socket, bound to the namespace it was opened in.
#[derive(Debug)]
pub struct DiagSocket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl DiagSocket {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`DiagError::Open`] if the kernel has no sock_diag, or no more sockets.
    pub fn open() -> Result<Self, DiagError> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )
        .map_err(DiagError::Open)?;
        // Refused to a process without CAP_NET_ADMIN, whose default buffer has to do.
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, 1 << 20);
        Ok(Self { fd, sequence: 0, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// Asks whether the kernel can look up sockets of a transport at all.
    ///
    /// Both "no such socket" and "no such module" are ENOENT, so a caller that takes ENOENT for "gone" asks this
    /// once first. It has the kernel load the module where it can.
    ///
    /// # Errors
    /// [`DiagError::Unsupported`] if `inet_diag` or the transport's module is missing, others if asking fails.
    pub fn probe(&mut self, transport: Transport) -> Result<(), DiagError> {
        // No state asked for: the kernel walks nothing, or next to nothing.
        let request = Request::dump(Family::V4, transport, 0, &[], &[]);
        match self.run_dump(&request, &mut |_, _| ()) {
            Err(DiagError::Refused { errno: Errno::NOENT, .. }) => Err(DiagError::Unsupported { transport }),
            other => other,
        }
    }

    /// Destroys sockets, each by its exact addresses, ports and cookie (`SOCK_DESTROY`).
    ///
    /// The kernel compares the cookie, so a socket that took over the addresses of one that is gone is safe.
    /// `Ok(true)` means destroyed, `Ok(false)` that there is no such socket. The answers are in the order of the
    /// sockets.
    ///
    /// # Errors
    /// [`DiagError`] if the batch could not be sent or its answers not be read: then the fate of the sockets is
    /// unknown, and [`Self::lookup`] tells it.
    pub fn destroy(&mut self, sockets: &[SocketId]) -> Result<Vec<DiagOutcome<bool>>, DiagError> {
        let mut outcomes = Vec::with_capacity(sockets.len());
        for batch in sockets.chunks(BATCH) {
            let answers = self.exchange(batch, DiagAction::Destroy)?;
            outcomes.extend(batch.iter().zip(answers).map(|(socket, answer)| match answer {
                Answer::Error(0) => Ok(true),
                Answer::Error(errno) if is_absent(errno) => Ok(false),
                Answer::Error(errno) => Err(DiagFailure::new(DiagAction::Destroy, *socket, errno)),
                Answer::Found(_) => Err(DiagFailure::new(DiagAction::Destroy, *socket, libc::EBADMSG)),
            }));
        }
        Ok(outcomes)
    }

    /// Looks sockets up, each by its exact addresses, ports and cookie.
    ///
    /// A UDP socket whose port was chosen by `bind` stays in the kernel's table after it was destroyed, without
    /// its remote address: it is found here, in state CLOSE.
    ///
    /// # Errors
    /// [`DiagError`] if the batch could not be sent or its answers not be read.
    pub fn lookup(&mut self, sockets: &[SocketId]) -> Result<Vec<DiagOutcome<Option<Found>>>, DiagError> {
        let mut outcomes = Vec::with_capacity(sockets.len());
        for batch in sockets.chunks(BATCH) {
            let answers = self.exchange(batch, DiagAction::Lookup)?;
            outcomes.extend(batch.iter().zip(answers).map(|(socket, answer)| match answer {
                Answer::Found(found) => Ok(Some(found)),
                Answer::Error(errno) if is_absent(errno) => Ok(None),
                Answer::Error(errno) => Err(DiagFailure::new(DiagAction::Lookup, *socket, errno)),
            }));
        }
        Ok(outcomes)
    }

    /// Walks the sockets of a transport whose remote address is one of `remotes` (any, if there are none), in the
    /// states of `states` (a mask: bit n for the kernel's state n). The kernel filters. Sockets of both families
    /// are walked where a remote is IPv4, because an IPv6 socket may hold a v4-mapped one.
    ///
    /// With each TCP socket comes what one of the socket-storage maps `storages` holds for it, if any does; the
    /// kernel leaves that out for UDP.
    /// A socket may be seen twice if the table changes meanwhile.
    ///
    /// # Errors
    /// [`DiagError`] if the walk could not be asked for or its answers not be read.
    pub fn dump(
        &mut self,
        transport: Transport,
        states: u32,
        remotes: &[SocketAddr],
        storages: &[BorrowedFd<'_>],
        mut each: impl FnMut(Found, Option<&[u8]>),
    ) -> Result<(), DiagError> {
        if remotes.is_empty() {
            for family in [Family::V4, Family::V6] {
                self.run_dump(&Request::dump(family, transport, states, &[], storages), &mut each)?;
            }
            return Ok(());
        }
        let remotes: Vec<SocketAddr> = remotes.iter().copied().map(canonical).collect();
        for chunk in remotes.chunks(FILTER) {
            for family in [Family::V4, Family::V6] {
                let wanted: Vec<SocketAddr> =
                    chunk.iter().copied().filter(|remote| family == Family::V6 || remote.is_ipv4()).collect();
                if wanted.is_empty() {
                    continue;
                }
                let filter = remote_filter(&wanted);
                let request = Request::dump(family, transport, states, &filter, storages);
                self.run_dump(&request, &mut each)?;
            }
        }
        Ok(())
    }

    /// Sends one request for each socket and gives back the answers in the same order.
    fn exchange(&mut self, sockets: &[SocketId], action: DiagAction) -> Result<Vec<Answer>, DiagError> {
        let first = self.sequence.wrapping_add(1);
        let mut out = Vec::with_capacity(sockets.len() * message::REQUEST_LEN);
        for socket in sockets {
            self.sequence = self.sequence.wrapping_add(1);
            Request::exact(socket, action).encode(self.sequence, &mut out);
        }
        rustix::net::send(&self.fd, &out, SendFlags::empty()).map_err(DiagError::Send)?;

        let mut answers = HashMap::with_capacity(sockets.len());
        while answers.len() < sockets.len() {
            // The kernel has answered before send returns, so there is nothing to wait for.
            let len = self.receive(RecvFlags::DONTWAIT).map_err(|error| match error {
                DiagError::Receive(Errno::AGAIN) => DiagError::Unanswered {
                    missing: sockets.len().saturating_sub(answers.len()),
                    asked: sockets.len(),
                },
                other => other,
            })?;
            for part in message::parts(self.buffer.get(..len).unwrap_or_default()) {
                let part = part?;
                let index = part.sequence.wrapping_sub(first) as usize;
                if index >= sockets.len() {
                    continue; // Left over from an exchange that failed half-way.
                }
                match part.kind {
                    message::Kind::Error(errno) => {
                        // A lookup's answer is the socket; the acknowledgement that may follow says nothing new.
                        answers.entry(index).or_insert(Answer::Error(errno));
                    }
                    message::Kind::Socket(body) => {
                        answers.insert(index, Answer::Found(parse_found(body)?));
                    }
                    message::Kind::Done(_) | message::Kind::Other => {}
                }
            }
        }
        Ok((0..sockets.len())
            .map(|index| answers.remove(&index).unwrap_or(Answer::Error(libc::EBADMSG)))
            .collect())
    }

    fn run_dump(
        &mut self,
        request: &Request<'_>,
        each: &mut dyn FnMut(Found, Option<&[u8]>),
    ) -> Result<(), DiagError> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let mut out = Vec::new();
        request.encode(sequence, &mut out);
        rustix::net::send(&self.fd, &out, SendFlags::empty()).map_err(DiagError::Send)?;
        loop {
            let len = self.receive(RecvFlags::empty())?;
            for part in message::parts(self.buffer.get(..len).unwrap_or_default()) {
                let part = part?;
                if part.sequence != sequence {
                    continue;
                }
                match part.kind {
                    message::Kind::Socket(body) => each(parse_found(body)?, stored(body)),
                    message::Kind::Done(0) | message::Kind::Error(0) => return Ok(()),
                    message::Kind::Done(errno) | message::Kind::Error(errno) => {
                        return Err(DiagError::Refused {
                            transport: request.transport,
                            errno: Errno::from_raw_os_error(errno),
                        });
                    }
                    message::Kind::Other => {}
                }
            }
        }
    }

    fn receive(&mut self, flags: RecvFlags) -> Result<usize, DiagError> {
        loop {
            match rustix::net::recv(&self.fd, self.buffer.as_mut_slice(), flags | RecvFlags::TRUNC) {
                Ok((len, full)) if full > len => return Err(DiagError::Malformed("a truncated message")),
                Ok((len, _)) => return Ok(len),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(DiagError::Receive(errno)),
            }
        }
    }
}

/// One answer of the kernel.
enum Answer {
    /// An errno, positive; 0 is an acknowledgement.
    Error(i32),
    Found(Found),
}

/// Whether an errno means that no socket has these addresses, or the one that has them another cookie.
const fn is_absent(errno: i32) -> bool {
    matches!(errno, libc::ENOENT | libc::ESTALE)
}

#[cfg(test)]
mod tests;
