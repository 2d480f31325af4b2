//! What a connect costs with the translation and its binding, and what a bound socket takes of the kernel's memory.

use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context as _;
use netloom_api::types::Service;
use netloom_core::model::Protocol;
use netloom_kernel::mounts;
use netloom_test_support::{Daemon, DaemonOptions, Netns};
use serde_json::json;

use crate::{measure::Samples, report::Report};

/// Connects of one sample.
const BATCH: u32 = 500;
const ROUNDS: usize = 60;

/// Both figures. The process enters and leaves the cgroup that the translation is attached to.
pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let root = mounts::ensure_cgroup2("/sys/fs/cgroup/unified".as_ref())?;
    let cgroup = Inside::new(&root)?;
    let config = format!("[datapath]\ncgroup = \"{}\"\n[log]\nfilter = \"warn\"\n", cgroup.path.display());
    let daemon = Daemon::start(DaemonOptions { config: Some(config), ..DaemonOptions::default() });
    let netns = Netns::new("connect");
    let vip = SocketAddr::from(([10, 252, 0, 1], 80));
    let backend = SocketAddr::from(([127, 3, 0, 1], 7001));
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let body =
            json!({ "name": protocol.to_string(), "vip": vip, "protocol": protocol, "backends": [backend] });
        daemon.post::<Service>("/v1/services", &body)?;
    }
    netns.run(|| -> anyhow::Result<()> {
        let listener = TcpListener::bind(backend)?;
        let tcp = |to| tcp(&listener, to);
        let (ours, plain) = cgroup.in_turn(|| tcp(vip), || tcp(backend))?;
        report.compare("connect_overhead_tcp", "µs", &ours, &plain)?;
        let (ours, plain) = cgroup.in_turn(|| udp(vip), || udp(backend))?;
        report.compare("connect_overhead_udp", "µs", &ours, &plain)?;
        let (bound, unbound) = cgroup.in_turn(|| memory(vip), || memory(backend))?;
        let difference = bound.median() - unbound.median();
        report.state("bound_socket_bytes", "B", &[difference].into_iter().collect());
        Ok(())
    })
}

/// The microseconds of a TCP connect.
fn tcp(listener: &TcpListener, to: SocketAddr) -> anyhow::Result<f64> {
    let mut spent = 0.0;
    for _ in 0..BATCH {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        // A reset instead of a connection that waits out its time and its port.
        socket.set_linger(Some(std::time::Duration::ZERO))?;
        let start = Instant::now();
        socket.connect(&to.into())?;
        spent += start.elapsed().as_secs_f64();
        drop((TcpStream::from(socket), listener.accept()?));
    }
    Ok(spent * 1e6 / f64::from(BATCH))
}

/// The microseconds of a UDP connect.
fn udp(to: SocketAddr) -> anyhow::Result<f64> {
    let mut spent = 0.0;
    for _ in 0..BATCH {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let start = Instant::now();
        socket.connect(to)?;
        spent += start.elapsed().as_secs_f64();
    }
    Ok(spent * 1e6 / f64::from(BATCH))
}

/// How much the kernel's general caches grow by a connected UDP socket, in bytes.
fn memory(to: SocketAddr) -> anyhow::Result<f64> {
    const SOCKETS: u32 = 10_000;
    let sockets: Vec<UdpSocket> =
        (0..SOCKETS).map(|_| UdpSocket::bind("0.0.0.0:0")).collect::<Result<_, _>>()?;
    let before = general_caches()?;
    for socket in &sockets {
        socket.connect(to)?;
    }
    Ok((general_caches()? - before) / f64::from(SOCKETS))
}

/// The bytes in use of the kmalloc caches: bindings are of no cache of their own.
fn general_caches() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/slabinfo")?;
    let lines = text.lines().filter(|line| line.starts_with("kmalloc-"));
    let bytes = lines.map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let active: f64 = words.next()?.parse().ok()?;
        let size: f64 = words.nth(1)?.parse().ok()?;
        Some(active * size)
    });
    bytes.sum::<Option<f64>>().context("/proc/slabinfo is laid out differently")
}

/// A cgroup that this process is in for a while.
struct Inside {
    path: PathBuf,
    before: PathBuf,
}

impl Inside {
    fn new(root: &Path) -> anyhow::Result<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let path = root.join(format!("netloom-bench-{}-connect", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self { path, before: root.join(own) })
    }

    /// Ours inside, theirs outside.
    fn in_turn(
        &self,
        ours: impl Fn() -> anyhow::Result<f64>,
        theirs: impl Fn() -> anyhow::Result<f64>,
    ) -> anyhow::Result<(Samples, Samples)> {
        let moved = |to: &Path| std::fs::write(to.join("cgroup.procs"), std::process::id().to_string());
        crate::measure::in_turn(
            ROUNDS,
            || {
                moved(&self.path)?;
                let sample = ours();
                moved(&self.before)?;
                sample
            },
            theirs,
        )
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.path);
    }
}
