//! A node with many sockets: a daemon, a hundred namespaces, services with their backends on the loopback device.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

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

/// How long the end of a reap is waited for on a machine under load.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// Connections to living backends.
    held: usize,
    /// What the tables of all namespaces have, once there are stale sockets.
    count: usize,
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
            count: 0,
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

    /// Opens connections until the namespaces have so many sockets with the stale ones, spread evenly over namespaces
    /// and living backends.
    pub(crate) fn fill(&mut self, count: usize) -> anyhow::Result<()> {
        let connections = connections(self.protocol, count);
        let step = 100.min(connections / NAMESPACES).max(1);
        let mut room = 0;
        let mut turn = 0;
        while self.held < connections {
            let step = step.min(connections - self.held);
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
        self.count = count;
        Ok(())
    }

    /// Whether the tables that others walk have exactly the sockets that they are said to have.
    pub(crate) fn check_tables(&self) -> anyhow::Result<()> {
        let mut sockets = 0;
        for netns in &self.namespaces {
            let shown = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/sockstat"))?;
            sockets += in_use(&shown, self.protocol).with_context(|| format!("not a sockstat: {shown}"))?;
        }
        ensure!(sockets == self.count, "{sockets} sockets in the tables instead of {}", self.count);
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

    /// Has a client wait in a read of each stale socket.
    pub(crate) fn read_stale(&mut self) -> anyhow::Result<()> {
        self.stale.as_mut().context("there is a holder")?.command("read")
    }

    /// When the last of these reads returned.
    pub(crate) fn stale_returned(&mut self) -> anyhow::Result<Duration> {
        self.stale.as_mut().context("there is a holder")?.returned()
    }

    /// The namespaces' names.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.namespaces.iter().map(Netns::name).collect()
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

    /// How often the daemon looked for sockets so far.
    pub(crate) fn passes(&self) -> anyhow::Result<u64> {
        passes(&self.daemon.text("/metrics")?)
    }

    /// Waits until a reap is through that began when there had been so many passes. It looks once more after its answer,
    /// and would take sockets for late ones that are made stale for the next measurement.
    pub(crate) fn wait_for_second_pass(&self, before: u64) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.passes()? < before + 2 {
            ensure!(began.elapsed() < PATIENCE, "a reap does not look once more");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
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

/// The times that sockets were looked for, of the text of `/metrics`: none if there is no such line yet.
fn passes(metrics: &str) -> anyhow::Result<u64> {
    const NAME: &str = "netloom_reap_phase_seconds_count{phase=\"find\"} ";
    match metrics.lines().find_map(|line| line.strip_prefix(NAME)) {
        Some(count) => count.parse().with_context(|| format!("not a count: {count}")),
        None => Ok(0),
    }
}

/// Connections to living backends, where there are to be so many sockets in all, the stale ones included. A backend
/// of TCP is in the client's namespace: it has a socket too for each connection, and one in each namespace that listens.
const fn connections(protocol: Protocol, sockets: usize) -> usize {
    match protocol {
        Protocol::Udp => sockets - STALE,
        Protocol::Tcp => (sockets - NAMESPACES) / 2 - STALE,
    }
}

/// The sockets of a protocol in a namespace, of its `/proc/net/sockstat`.
fn in_use(sockstat: &str, protocol: Protocol) -> Option<usize> {
    let name = match protocol {
        Protocol::Udp => "UDP: inuse ",
        Protocol::Tcp => "TCP: inuse ",
    };
    let rest = sockstat.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_connection_and_its_listener_are_among_the_sockets() {
        assert_eq!(connections(Protocol::Udp, 10_000) + STALE, 10_000);
        let clients = connections(Protocol::Tcp, 10_000) + STALE;
        assert_eq!(2 * clients + NAMESPACES, 10_000);
    }

    #[test]
    fn passes_are_counted_from_none_on() {
        let shown = "netloom_reap_phase_seconds_sum{phase=\"find\"} 0.1\nnetloom_reap_phase_seconds_count{phase=\"find\"} 4\n";
        assert_eq!((passes("").unwrap(), passes(shown).unwrap()), (0, 4));
    }

    #[test]
    fn sockets_in_use_are_those_of_the_protocol() {
        let shown = "sockets: used 9\nTCP: inuse 12 orphan 0 tw 3 alloc 14 mem 1\nUDP: inuse 5 mem 0\nUDPLITE: inuse 1\n";
        assert_eq!(in_use(shown, Protocol::Tcp), Some(12));
        assert_eq!(in_use(shown, Protocol::Udp), Some(5));
        assert_eq!(in_use("", Protocol::Udp), None);
    }
}
