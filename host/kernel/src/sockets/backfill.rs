//! Sockets from before: those that were connected when the service translation was attached first, and so have no
//! binding.
//!
//! They are marked once, right after that. Whenever backends were numbered, the marked sockets that are connected to
//! one are bound to it, as if they had come through its service: their peer's address is all that is known of them.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use super::{
    SocketError,
    everywhere::{enter, side_by_side},
    iterator::{Object, run},
    namespaces::Links,
};
use crate::netns;

/// The marks and the iterators that set and read them.
pub struct BackFill {
    files: OwnedFd,
    rest: Links,
    bind: OwnedFd,
}

impl BackFill {
    /// Opens the marks pinned beside the bindings in a folder of a bpf filesystem, or makes them.
    ///
    /// # Errors
    /// [`SocketError`] if this kernel lacks an iterator.
    pub fn open(pins: &Path) -> Result<Self, SocketError> {
        let mut object = Object::load(netloom_ebpf::BACKFILL, pins)?;
        let files = object.link("nl_mark_files", "task_file", None)?;
        let rest = Links::open(&mut object, "nl_mark_tcp", "nl_mark_udp")?;
        let marks = object.descriptor("nl_before")?;
        let bind = object.link("nl_bind_marked", "bpf_sk_storage_map", Some(marks.as_fd()))?;
        Ok(Self { files, rest, bind })
    }

    /// Marks every connected TCP and UDP socket of every namespace: first those that a process has a descriptor of,
    /// in one pass, then the others, a namespace at a time.
    ///
    /// # Errors
    /// [`SocketError`] if a pass breaks off. What was marked until then stays marked.
    pub fn mark(&self) -> Result<(), SocketError> {
        run(&self.files)?;
        let namespaces = netns::all()?;
        let marked = side_by_side(&namespaces, |found| {
            enter(&found.netns)?;
            for protocol in super::PROTOCOLS {
                run(self.rest.of(protocol))?;
            }
            Ok(())
        });
        marked.into_iter().collect()
    }

    /// Binds the marked sockets that are connected to a backend and not bound; how many.
    ///
    /// # Errors
    /// [`SocketError`] if a pass breaks off.
    pub fn bind(&self) -> Result<usize, SocketError> {
        let mut bound = 0;
        loop {
            // Each is written as its cookie. Sockets that come and go can hide others from one pass.
            let new = run(&self.bind)? / size_of::<u64>();
            bound += new;
            if new == 0 {
                return Ok(bound);
            }
        }
    }
}

impl std::fmt::Debug for BackFill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackFill").finish_non_exhaustive()
    }
}
