use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    path::PathBuf,
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use netloom_core::model::{DeviceMode, PairSpec};
use netloom_kernel::devices::Devices;
use tokio::runtime::Builder;

use crate::{
    BlockedReader, Output, TcpConnection, TcpEcho, UdpConnection, UdpEcho, UdpReceiver, UdpSender,
    at_this_pace,
    command::{self, must},
    until,
};

/// Every namespace made here is called so, then the process and a number.
const PREFIX: &str = "nlt-";

/// A network namespace with a name of its own, gone with this value.
#[derive(Debug)]
pub struct Netns {
    name: String,
    netns: netloom_kernel::netns::Netns,
}

impl Netns {
    /// A new namespace with its loopback device up. The role is for whoever looks at the machine meanwhile.
    ///
    /// # Panics
    /// If it cannot be made, which needs root.
    #[must_use]
    pub fn new(role: &str) -> Self {
        static SWEEP: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(remove_leftovers);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{role}", process::id());
        must(&["ip", "netns", "add", &name]);
        let path = PathBuf::from("/run/netns").join(&name);
        let netns = netloom_kernel::netns::Netns::open(&path).expect("`ip netns add` made the namespace");
        let made = Self { name, netns };
        made.ip(&["link", "set", "lo", "up"]);
        made
    }

    /// A new namespace that is [`quiet`].
    ///
    /// # Panics
    /// As [`Self::new`].
    #[must_use]
    pub fn quiet(role: &str) -> Self {
        let made = Self::new(role);
        quiet(&made.netns);
        made
    }

    /// The name that `ip netns` shows.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path to open it by.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// The namespace as the host's code knows it.
    #[must_use]
    pub const fn handle(&self) -> &netloom_kernel::netns::Netns {
        &self.netns
    }

    /// Does something inside, on a thread of its own.
    ///
    /// # Panics
    /// If the namespace cannot be entered.
    pub fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        self.netns.run(what).unwrap_or_else(|error| panic!("entering {} failed: {error}", self.name))
    }

    /// Runs a program inside to its end, whatever that is.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Output {
        command::command(&[&["ip", "netns", "exec", &self.name], words].concat())
    }

    /// Runs `ip` inside.
    ///
    /// # Panics
    /// If it fails.
    pub fn ip(&self, args: &[&str]) -> String {
        must(&[&["ip", "-n", &self.name], args].concat())
    }

    /// Runs `tc` inside.
    ///
    /// # Panics
    /// If it fails.
    pub fn tc(&self, args: &[&str]) -> String {
        must(&[&["tc", "-n", &self.name], args].concat())
    }

    /// Begins a veth pair: this end's address with its prefix length, as in `10.1.0.1/24`.
    pub fn link(&self, address: &str) -> Link<'_> {
        Link { from: self, address: address.to_owned(), device: "eth0".to_owned(), mode: DeviceMode::Veth }
    }

    /// Adds an address to a device. An IPv6 one can be used at once.
    ///
    /// # Panics
    /// If `ip` fails.
    pub fn add_address(&self, device: &str, address: &str) {
        let no_detection: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        self.ip(&[&["address", "add", address, "dev", device], no_detection].concat());
    }

    /// Whether the address answers to an echo request: to the first one.
    #[must_use]
    pub fn can_ping(&self, address: impl Into<IpAddr>) -> bool {
        let patience = at_this_pace(Duration::from_secs(5)).as_secs().to_string();
        self.command(&["ping", "-c", "1", "-W", &patience, &address.into().to_string()]).ok()
    }

    /// Starts a server that returns what it gets, on every connection.
    ///
    /// # Panics
    /// If the address cannot be listened on.
    #[must_use]
    pub fn tcp_echo(&self, address: &str) -> TcpEcho {
        TcpEcho::start(self, parse(address))
    }

    /// Starts a server that returns each datagram to its sender.
    ///
    /// # Panics
    /// If the address cannot be bound.
    #[must_use]
    pub fn udp_echo(&self, address: &str) -> UdpEcho {
        UdpEcho::start(self, parse(address))
    }

    /// Connects from inside.
    ///
    /// # Panics
    /// If nobody answers within some seconds.
    #[must_use]
    pub fn connect_tcp(&self, address: SocketAddr) -> TcpConnection {
        TcpConnection::open(self, address)
            .unwrap_or_else(|error| panic!("{}: connecting to {address} (TCP) failed: {error}", self.name))
    }

    /// Tries to connect from inside.
    ///
    /// # Errors
    /// What `connect` said.
    pub fn try_connect_tcp(&self, address: SocketAddr) -> std::io::Result<TcpConnection> {
        TcpConnection::open(self, address)
    }

    /// A connected UDP socket inside.
    ///
    /// # Panics
    /// If `connect` fails, most likely for want of a route.
    #[must_use]
    pub fn connect_udp(&self, address: SocketAddr) -> UdpConnection {
        UdpConnection::open(self, address)
            .unwrap_or_else(|error| panic!("{}: connecting to {address} (UDP) failed: {error}", self.name))
    }

    /// Begins to count numbered datagrams that arrive at an address.
    ///
    /// # Panics
    /// If the address cannot be bound.
    #[must_use]
    pub fn count_datagrams(&self, address: &str) -> UdpReceiver {
        UdpReceiver::start(self, parse(address))
    }

    /// Begins to send numbered datagrams, one in each interval, until told to stop.
    ///
    /// # Panics
    /// If there is no route.
    #[must_use]
    pub fn send_datagrams(&self, to: SocketAddr, interval: Duration) -> UdpSender {
        UdpSender::start(self, to, interval, 8)
    }

    /// As [`Self::send_datagrams`], each of so many bytes.
    ///
    /// # Panics
    /// If there is no route.
    #[must_use]
    pub fn send_large_datagrams(&self, to: SocketAddr, interval: Duration, bytes: usize) -> UdpSender {
        UdpSender::start(self, to, interval, bytes)
    }

    /// A thread that reads inside until the connection ends; see [`TcpConnection::blocked_reader`].
    ///
    /// # Panics
    /// If nobody answers.
    #[must_use]
    pub fn blocked_reader(&self, address: SocketAddr) -> BlockedReader {
        self.connect_tcp(address).blocked_reader()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if thread::panicking() {
            if std::env::var_os("NETLOOM_KEEP").is_some_and(|keep| keep != "0") {
                eprintln!("kept; look inside with: ip netns exec {} bash", self.name);
                return;
            }
            eprintln!("{} is removed; NETLOOM_KEEP=1 keeps it for `ip netns exec`", self.name);
        }
        let removed = command::command(&["ip", "netns", "delete", &self.name]);
        if !removed.ok() {
            eprintln!("{} could not be removed: {}", self.name, removed.stderr.trim());
        }
    }
}

/// One end of a pair to be.
#[derive(Debug)]
#[must_use = "a link has two ends: add `.to(…)`"]
pub struct Link<'a> {
    from: &'a Netns,
    address: String,
    device: String,
    mode: DeviceMode,
}

impl Link<'_> {
    /// Names the devices at both ends; `eth0` otherwise.
    pub fn named(mut self, device: &str) -> Self {
        device.clone_into(&mut self.device);
        self
    }

    /// Makes it a pair of another kind than veth. Of a netkit pair, this end is the primary.
    pub const fn of(mut self, mode: DeviceMode) -> Self {
        self.mode = mode;
        self
    }

    /// Makes the pair, with both ends up.
    ///
    /// # Panics
    /// If `ip` fails, or the kernel has no such pair.
    pub fn to(self, other: &Netns, address: &str) {
        let Self { from, address: near, device, mode } = self;
        match mode {
            DeviceMode::Veth => {
                let (from, other) = (&from.name, &other.name);
                let end = ["ip", "link", "add", &device, "netns", from, "type", "veth"];
                must(&[end.as_slice(), &["peer", "name", &device, "netns", other]].concat());
            }
            // Released versions of `ip` know it in part or not at all.
            DeviceMode::Netkit | DeviceMode::NetkitL2 => {
                let spec = PairSpec::plain(mode, &device, &device);
                let runtime =
                    Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
                let made = runtime.block_on(async {
                    Devices::open(&from.netns)
                        .expect("the namespace is there")
                        .create_pair(&spec, &other.netns)
                        .await
                });
                let _pair = made.unwrap_or_else(|error| panic!("no {mode} pair could be made: {error}"));
            }
        }
        for (end, address) in [(from, near.as_str()), (other, address)] {
            end.add_address(&device, address);
            end.ip(&["link", "set", &device, "up"]);
        }
    }
}

/// Has the kernel send hardly anything by itself from the devices that a namespace gets, so that packets can be
/// counted: addresses are not checked for duplicates, routers are not asked for, and membership of multicast groups,
/// which is reported twice, is reported at once.
///
/// # Panics
/// If the namespace cannot be entered, or has no IPv6.
pub fn quiet(netns: &netloom_kernel::netns::Netns) {
    const SETTINGS: [(&str, &str); 6] = [
        ("accept_dad", "0"),
        ("dad_transmits", "0"),
        ("accept_ra", "0"),
        ("router_solicitations", "0"),
        ("mldv1_unsolicited_report_interval", "1"),
        ("mldv2_unsolicited_report_interval", "1"),
    ];
    let set = || {
        for (setting, value) in SETTINGS {
            let path = format!("/proc/sys/net/ipv6/conf/default/{setting}");
            std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path} cannot be set: {error}"));
        }
    };
    netns.run(set).unwrap_or_else(|error| panic!("a namespace cannot be entered: {error}"));
}

/// Waits until an address of a namespace can be reached there: the kernel makes an IPv6 address's route some time after
/// the address. Then a port without a server refuses.
///
/// # Panics
/// If it does not come, or the namespace cannot be entered.
pub fn settle(netns: &netloom_kernel::netns::Netns, address: IpAddr) {
    let connect = || {
        let refused = TcpStream::connect_timeout(&SocketAddr::new(address, 9), Duration::from_millis(200));
        refused.map(drop).map_err(|error| error.kind())
    };
    let run = || netns.run(connect).unwrap_or_else(|error| panic!("a namespace cannot be entered: {error}"));
    until(run, |outcome| *outcome == Err(ErrorKind::ConnectionRefused)).ok();
}

fn parse(address: &str) -> SocketAddr {
    address.parse().unwrap_or_else(|_| panic!("{address:?} is not an address and port, as in 10.1.0.2:7000"))
}

/// Removes namespaces of test runs that were killed.
fn remove_leftovers() {
    let list = command::command(&["ip", "netns", "list"]).stdout;
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
            // Another test may be removing it as well.
            drop(command::command(&["ip", "netns", "delete", name]));
        }
    }
}
