//! Where socket-LB is attached: the programs that translate services' addresses.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use netloom_kernel::{
    datapath::Datapath,
    mounts::{self, MountError},
};

use crate::opened::Opened;

/// Attaches the programs, and knows where they are.
pub(crate) struct SocketLb {
    datapath: Arc<Datapath>,
    cgroup: Result<PathBuf, Arc<MountError>>,
    attached: Mutex<Attached>,
}

/// Where it is attached, and by which links.
#[derive(Clone, Default)]
pub(crate) struct Attached {
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) links: Vec<u32>,
}

impl SocketLb {
    pub(crate) fn new(opened: &Opened) -> Self {
        let cgroup = match &opened.config.datapath.cgroup {
            Some(cgroup) => Ok(cgroup.clone()),
            None => mounts::ensure_cgroup2(&opened.paths.run.join("cgroup2")),
        };
        Self {
            datapath: Arc::clone(&opened.datapath),
            cgroup: cgroup.map_err(Arc::new),
            attached: Mutex::default(),
        }
    }

    /// Attaches to the cgroup of the configuration, or to the root of all.
    pub(crate) fn attach(&self) -> anyhow::Result<()> {
        let cgroup = self.cgroup.clone()?;
        let links = self
            .datapath
            .attach_socket_lb(&cgroup)
            .with_context(|| format!("socket-LB cannot be attached to {}", cgroup.display()))?;
        let links = links.into_iter().map(|link| link.0).collect();
        *self.state() = Attached { cgroup: Some(cgroup), links };
        Ok(())
    }

    /// Where it is attached.
    pub(crate) fn attached(&self) -> Attached {
        self.state().clone()
    }

    fn state(&self) -> MutexGuard<'_, Attached> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
