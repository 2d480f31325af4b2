use std::{error::Error, io};

use netloom_sys::diag::DiagError;

use crate::{bindings::BindingsError, netns::NetnsError};

/// Why bound sockets could not be found or destroyed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The maps of bindings cannot be used.
    #[error(transparent)]
    Bindings(#[from] BindingsError),
    /// A binding cannot be looked up.
    #[error("cannot use the socket bindings: they were pinned by another version of Netloom")]
    Binding(#[source] aya::maps::MapError),
    /// No file descriptor is left.
    #[error("cannot duplicate a file descriptor; check the process's open files limit")]
    Descriptor(#[source] io::Error),
    /// The kernel's type information cannot be read.
    #[error("cannot read the kernel's type information, which needs CONFIG_DEBUG_INFO_BTF")]
    Btf(#[source] io::Error),
    /// The iterator's object cannot be loaded.
    #[error("cannot load the socket iterator's maps and program")]
    Object(#[source] aya::EbpfError),
    /// The object lacks a part.
    #[error("the embedded socket iterator has no {0}: this build of Netloom is broken")]
    Incomplete(&'static str),
    /// The kernel refuses the iterator.
    #[error(
        "the kernel does not take a socket iterator (iter/bpf_sk_storage_map, iter/tcp and iter/udp need Linux 5.9 or later)"
    )]
    Program(#[source] aya::programs::ProgramError),
    /// The iterator cannot be attached or started.
    #[error("{command} of the socket iterator failed")]
    Iterator {
        /// The bpf(2) command.
        command: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A filter could not be handed to the iterator.
    #[error("cannot tell the socket iterator what to look for")]
    Filter(#[source] aya::maps::MapError),
    /// A pass broke off.
    #[error("reading the socket iterator failed")]
    Read(#[source] io::Error),
    /// A pass wrote something else than records.
    #[error("the socket iterator wrote {0} bytes that are no whole record")]
    Record(usize),
    /// The kernel has no function to destroy sockets with.
    #[error("the kernel has no bpf_sock_destroy (Linux 6.5)")]
    NoKfunc,
    /// No socket can be destroyed.
    #[error(
        "sockets are reported and not destroyed: {0}; the kernel needs CONFIG_INET_DIAG_DESTROY, or Linux 6.5"
    )]
    ReportOnly(&'static str),
    /// sock_diag cannot be used.
    #[error("sock_diag cannot be used")]
    Diag(#[source] DiagError),
    /// The namespaces cannot be listed, or one not be entered.
    #[error("cannot look for sockets in every network namespace")]
    Netns(#[from] NetnsError),
}

/// An error and its causes, on one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
