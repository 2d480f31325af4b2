use std::fmt;

use rustix::io::Errno;

use super::{SocketId, Transport};

/// What sock_diag was asked to do with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiagAction {
    /// `SOCK_DESTROY`.
    Destroy,
    /// `SOCK_DIAG_BY_FAMILY` for one socket.
    Lookup,
}

impl fmt::Display for DiagAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Destroy => "SOCK_DESTROY",
            Self::Lookup => "SOCK_DIAG_BY_FAMILY",
        })
    }
}

/// A sock_diag request failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// No socket.
    #[error(
        "opening a sock_diag socket failed: {0}; the kernel needs CONFIG_INET_DIAG, and the process a free file \
         descriptor"
    )]
    Open(#[source] Errno),
    /// The request did not reach the kernel.
    #[error("sending a sock_diag request failed: {0}")]
    Send(#[source] Errno),
    /// The answer did not reach us.
    #[error("reading a sock_diag answer failed: {0}")]
    Receive(#[source] Errno),
    /// The kernel has no handler for the transport.
    #[error(
        "the kernel cannot look up {transport} sockets: load the modules inet_diag and {transport}_diag, or \
         enable CONFIG_INET_DIAG"
    )]
    Unsupported {
        /// Of which sockets.
        transport: Transport,
    },
    /// The kernel refused a dump.
    #[error("walking the {transport} sockets through sock_diag failed: {errno}")]
    Refused {
        /// Of which sockets.
        transport: Transport,
        /// Why.
        errno: Errno,
    },
    /// The kernel dropped answers.
    #[error("{missing} of {asked} sock_diag requests were not answered: the receive buffer is too small")]
    Unanswered {
        /// Without an answer.
        missing: usize,
        /// Sent.
        asked: usize,
    },
    /// The answer cannot be understood.
    #[error("sock_diag answered with {0}")]
    Malformed(&'static str),
}

/// The kernel refused an action on one socket.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{action} of {socket} failed: {errno}{}", self.hint())]
pub struct DiagFailure {
    /// What was attempted.
    pub action: DiagAction,
    /// On what.
    pub socket: SocketId,
    /// Why not.
    pub errno: Errno,
}

impl DiagFailure {
    pub(super) fn new(action: DiagAction, socket: SocketId, errno: i32) -> Self {
        Self { action, socket, errno: Errno::from_raw_os_error(errno) }
    }

    fn hint(&self) -> &'static str {
        match (self.action, self.errno) {
            (DiagAction::Destroy, Errno::OPNOTSUPP) => "; the kernel needs CONFIG_INET_DIAG_DESTROY",
            (DiagAction::Destroy, Errno::PERM) => {
                "; it takes CAP_NET_ADMIN in the user namespace that owns the socket's network namespace"
            }
            _ => "",
        }
    }
}
