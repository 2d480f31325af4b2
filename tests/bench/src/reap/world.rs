//! A node with many sockets: a daemon, a hundred namespaces, services with their backends on the loopback device.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, ensure};
use netloom_api::types::{ReapReport, Service};
use netloom_core::model::{Protocol, SocketFilter};
use netloom_kernel::{
    mounts,
    netns::Netns as Handle,
    sockets::{Sockets, Ways},
};
use netloom_test_support::{Daemon, DaemonOptions, Netns};
use serde_json::json;

use super::holder::{Holder, MAX, PORT};

pub(crate) const NAMESPACES: usize = 100;
pub(crate) const STALE: usize = 50;
/// Backends that live, and that all sockets but the stale ones are bound to.
const LIVING: usize = 100;

pub(crate) struct World {
    pub(crate) protocol: Protocol,
    pub(crate) namespaces: Vec<Netns>,
    pub(crate) handles: Vec<Handle>,
    pub(crate) sockets: Sockets,
    daemon: Daemon,
    cgroup: PathBuf,
    holders: Vec<Holder>,
    /// Holds the stale sockets.
    stale: Option<Holder>,
    /// Holds the backends' sockets, for TCP: UDP does not ask whether anybody is there.
    listeners: Option<Holder>,
    held: usize,
}

impl World {
    pub(crate) fn new(protocol: Protocol) -> anyhow::Result<Self> {
        let root = mounts::ensure_cgroup2("/sys/fs/cgroup/unified".as_ref())?;
        let cgroup = root.join(format!("netloom-bench-{}-{protocol}", std::process::id()));
        std::fs::create_dir(&cgroup)?;
        let namespaces: Vec<Netns> = (0..NAMESPACES).map(|_| Netns::new("reap")).collect();
        let handles: Vec<Handle> = namespaces.iter().map(|netns| netns.handle().clone()).collect();
        let config = format!("[datapath]\ncgroup = \"{}\"\n[log]\nfilter = \"warn\"\n", cgroup.display());
        let daemon = Daemon::start(DaemonOptions { config: Some(config), ..DaemonOptions::default() });
        let sockets = Sockets::open(&daemon.paths().bpffs.join("maps"))?;
        let stale = Some(Holder::start(&cgroup)?);
        let mut world = Self {
            protocol,
            namespaces,
            handles,
            sockets,
            daemon,
            cgroup,
            holders: Vec::new(),
            stale,
            listeners: None,
            held: 0,
        };
        for number in 0..LIVING {
            world.serve(&format!("live{number}"), living_vip(number), &[living(number)])?;
        }
        world.serve("dead", dead_vip(), &[dead()])?;
        if protocol == Protocol::Tcp {
            let mut listeners = Holder::start(&world.cgroup)?;
            for netns in &world.namespaces {
                listeners.command(&format!("listen {}", netns.path().display()))?;
            }
            world.listeners = Some(listeners);
        }
        Ok(world)
    }

    fn serve(&self, name: &str, vip: SocketAddr, backends: &[SocketAddr]) -> anyhow::Result<()> {
        let body = json!({ "name": name, "vip": vip, "protocol": self.protocol, "backends": backends });
        self.daemon.post::<Service>("/v1/services", &body)?;
        Ok(())
    }

    /// As [`Self::sockets`], by other ways.
    pub(crate) fn by(&self, ways: Ways) -> anyhow::Result<Sockets> {
        Ok(Sockets::open_with(&self.daemon.paths().bpffs.join("maps"), ways)?)
    }

    /// Opens sockets until there are so many, spread evenly over namespaces and living backends.
    pub(crate) fn fill(&mut self, count: usize) -> anyhow::Result<()> {
        let step = 100.min(count / NAMESPACES).max(1);
        let mut room = 0;
        let mut turn = 0;
        while self.held < count {
            if room < step {
                self.holders.push(Holder::start(&self.cgroup)?);
                room = MAX;
            }
            let netns = self.namespaces.get(turn % NAMESPACES).context("there are a hundred namespaces")?;
            let path = netns.path();
            let vip = living_vip((turn / NAMESPACES + turn) % LIVING);
            let holder = self.holders.last_mut().context("there is a holder")?;
            holder.command(&format!("{} {} {vip} {step}", self.protocol, path.display()))?;
            room -= step;
            self.held += step;
            turn += 1;
        }
        Ok(())
    }

    /// Binds so many sockets to the dead backend, which is made alive for that, evenly over the namespaces.
    pub(crate) fn make_stale(&mut self, count: usize) -> anyhow::Result<()> {
        let stale = self.stale.as_mut().context("there is a holder")?;
        let each = count.div_ceil(NAMESPACES);
        for turn in 0..count / each {
            let netns = self.namespaces.get(turn * NAMESPACES / (count / each)).context("a namespace")?;
            stale.command(&format!("{} {} {} {each}", self.protocol, netns.path().display(), dead_vip()))?;
        }
        let found = self.sockets.find(&self.stale())?.len();
        ensure!(found == count, "{found} sockets are stale instead of {count}");
        Ok(())
    }

    /// Closes the stale sockets.
    pub(crate) fn drop_stale(&mut self) -> anyhow::Result<()> {
        drop(self.stale.take());
        self.stale = Some(Holder::start(&self.cgroup)?);
        Ok(())
    }

    /// What is looked for when the dead backend dies.
    pub(crate) fn stale(&self) -> SocketFilter {
        SocketFilter {
            backends: vec![(dead(), self.protocol)],
            connected_only: true,
            ..SocketFilter::default()
        }
    }

    /// Lets the backend die, and waits for what became of its sockets.
    pub(crate) fn kill_backend(&self) -> anyhow::Result<ReapReport> {
        Ok(self.daemon.delete(&format!("/v1/services/dead/backends/{}", dead()))?)
    }

    /// The backend is there again.
    pub(crate) fn revive_backend(&self) -> anyhow::Result<()> {
        self.daemon.post::<Service>("/v1/services/dead/backends", &json!({ "address": dead() }))?;
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.holders.clear();
        drop((self.stale.take(), self.listeners.take()));
        let _ = std::fs::remove_dir(&self.cgroup);
    }
}

pub(crate) fn dead() -> SocketAddr {
    SocketAddr::from(([127, 1, 0, 1], PORT))
}

pub(crate) fn dead_vip() -> SocketAddr {
    SocketAddr::from(([10, 251, 0, 1], 80))
}

fn living(number: usize) -> SocketAddr {
    SocketAddr::from(([127, 2, 0, low(number)], PORT))
}

fn living_vip(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 251, 1, low(number)], 80))
}

fn low(number: usize) -> u8 {
    u8::try_from(number % 250 + 1).unwrap_or(1)
}
