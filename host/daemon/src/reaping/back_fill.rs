//! Sockets from before netloomd was first started: bound to backends by their peer's address.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use netloom_kernel::{
    datapath::Datapath,
    sockets::{BackFill as Marks, SocketError},
};

use crate::config::Config;

/// The marked sockets, if there can be any.
#[derive(Clone, Default)]
pub(crate) struct BackFill(Option<Arc<Inner>>);

struct Inner {
    /// Held while sockets are marked and while they are bound.
    marks: Mutex<Marks>,
    /// Backends were added since sockets were last bound.
    due: AtomicBool,
}

impl BackFill {
    pub(crate) fn open(config: &Config, datapath: &Datapath) -> Self {
        if !config.sockets.back_fill.unwrap_or(true) {
            return Self::default();
        }
        match Marks::open(&datapath.maps_dir()) {
            Ok(marks) => Self(Some(Arc::new(Inner { marks: Mutex::new(marks), due: AtomicBool::new(true) }))),
            Err(error) => {
                tracing::warn!(%error, "sockets that were connected before netloomd was started are not known");
                Self::default()
            }
        }
    }

    /// Marks every socket of the node. The walk goes on in the background; whoever binds waits for it.
    pub(crate) fn mark(&self) {
        let Some(inner) = self.0.clone() else { return };
        let (started, has_started) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || {
            let marks = inner.marks.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = started.send(());
            let start = std::time::Instant::now();
            match marks.mark() {
                Ok(()) => tracing::info!(elapsed = ?start.elapsed(), "marked the sockets from before"),
                Err(error) => tracing::error!(%error, "not all sockets from before are known"),
            }
        });
        // The lock is taken before anybody else can want it.
        let _ = has_started.recv();
    }

    /// A service has backends that it had not.
    pub(crate) fn backends_were_added(&self) {
        if let Some(inner) = &self.0 {
            inner.due.store(true, Ordering::Release);
        }
    }

    /// Binds what is to be bound; whoever looks for sockets does this first. Blocks. How many were bound.
    pub(crate) fn bind(&self) -> Result<usize, SocketError> {
        let Some(inner) = &self.0 else { return Ok(0) };
        let marks = inner.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.due.swap(false, Ordering::AcqRel) {
            return Ok(0);
        }
        let bound = marks.bind().inspect_err(|_| inner.due.store(true, Ordering::Release))?;
        if bound > 0 {
            tracing::info!(bound, "bound sockets from before to their backends");
        }
        Ok(bound)
    }
}
