//! A node of the test's own: a namespace for the node, one for each endpoint, and a folder for the pins.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use ipnet::IpNet;
use netloom_core::model::{
    AttachmentKind, Chain, DeviceMode, EndpointRoute, EntryId, Hook, HookPoint, IfIndex, MacAddress,
    NetkitPolicy, PairSpec, Placement, ProgramId,
};
use netloom_kernel::{
    datapath::{Datapath, EndpointConfig, EndpointCounters, MapSizes},
    devices::{Devices, Pair},
    links::{self, Attached},
    mounts,
    netns::Netns,
    programs::Program,
};
use netloom_test_support::{at_this_pace, quiet, settle, until};

/// A folder for pins in the bpf filesystem.
pub(crate) struct Pins(pub(crate) PathBuf);

impl Pins {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = PathBuf::from("/sys/fs/bpf");
        mounts::ensure_bpffs(&root).expect("a bpf filesystem; these tests need root");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(root.join(format!("netloom-test-datapath-{}-{number}", std::process::id())))
    }

    pub(crate) fn datapath(&self) -> Datapath {
        Datapath::open(&self.0, SIZES).unwrap()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir_all(&self.0);
        if !std::thread::panicking() {
            removed.expect("nothing of the test is left behind");
        }
    }
}

/// Small, so that a test can fill it.
pub(crate) const SIZES: MapSizes =
    MapSizes { endpoints: 8, services: 4, backends: 16, affinities: 16, udp_exchanges: 64, local_flows: 64 };

pub(crate) struct Node {
    pub(crate) netns: Netns,
    pub(crate) datapath: Datapath,
    devices: Devices,
    _pins: Pins,
}

pub(crate) struct Endpoint {
    pub(crate) netns: Netns,
    pub(crate) config: EndpointConfig,
    /// Attached as long as these live.
    attached: [(Attached, Hook, ProgramId); 2],
}

/// How a test's endpoint is attached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind(pub(crate) DeviceMode, pub(crate) AttachmentKind);

impl Kind {
    pub(crate) const VETH_TC: Self = Self(DeviceMode::Veth, AttachmentKind::Tc);
    pub(crate) const VETH_TCX: Self = Self(DeviceMode::Veth, AttachmentKind::Tcx);
    pub(crate) const NETKIT: Self = Self(DeviceMode::Netkit, AttachmentKind::Netkit);
    pub(crate) const NETKIT_L2: Self = Self(DeviceMode::NetkitL2, AttachmentKind::Netkit);

    /// From the endpoint, and to it.
    fn points(self) -> [HookPoint; 2] {
        match self.1 {
            AttachmentKind::Netkit => [HookPoint::NetkitPeer, HookPoint::NetkitPrimary],
            AttachmentKind::Tcx => [HookPoint::TcxIngress, HookPoint::TcxEgress],
            AttachmentKind::Tc => [HookPoint::TcIngress, HookPoint::TcEgress],
        }
    }
}

/// One test a kind of endpoint: `of_kinds!(veth netkit netkit_l2: this_holds, that_holds)`, of functions that take it.
macro_rules! of_kinds {
    (@ { $($ways:tt)* } veth $($more:tt)+) => {
        of_kinds!(@ { $($ways)*
            veth_tc: [netloom_core::model::Feature::LegacyTc] => crate::node::Kind::VETH_TC,
            veth_tcx: [netloom_core::model::Feature::Tcx] => crate::node::Kind::VETH_TCX,
        } $($more)+);
    };
    (@ { $($ways:tt)* } netkit $($more:tt)+) => {
        of_kinds!(@ { $($ways)*
            netkit: [netloom_core::model::Feature::NetkitLinks] => crate::node::Kind::NETKIT,
        } $($more)+);
    };
    (@ { $($ways:tt)* } netkit_l2 $($more:tt)+) => {
        of_kinds!(@ { $($ways)*
            netkit_l2: [netloom_core::model::Feature::NetkitLinks] => crate::node::Kind::NETKIT_L2,
        } $($more)+);
    };
    (@ $ways:tt : $($test:ident),+ $(,)?) => {
        netloom_test_support::each_way!(async $($test),+; $ways);
    };
    ($first:ident $($more:tt)+) => { of_kinds!(@ {} $first $($more)+); };
}
pub(crate) use of_kinds;

/// Has the kernel take the neighbours behind a device for reachable as long as a test lasts: on a busy machine it would
/// ask for them again, which counts as a packet.
fn keep_neighbours(netns: &Netns, device: &str) {
    let set = || {
        for family in ["ipv4", "ipv6"] {
            for (setting, value) in [("delay_first_probe_time", "600"), ("base_reachable_time_ms", "3600000")]
            {
                let path = format!("/proc/sys/net/{family}/neigh/{device}/{setting}");
                std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path} cannot be set: {error}"));
            }
        }
    };
    netns.run(set).unwrap();
}

impl Node {
    pub(crate) fn new() -> Self {
        let netns = Netns::create().expect("a namespace for the node; these tests need root");
        quiet(&netns);
        let pins = Pins::new();
        let devices = Devices::open(&netns).unwrap();
        Self { netns, datapath: pins.datapath(), devices, _pins: pins }
    }

    /// An endpoint in the datapath, which the node itself does not forward to or from.
    pub(crate) async fn endpoint(&self, kind: Kind, id: u32) -> Endpoint {
        self.endpoint_with_mtu(kind, id, 1500).await
    }

    pub(crate) async fn endpoint_with_mtu(&self, kind: Kind, id: u32, mtu: u32) -> Endpoint {
        let netns = Netns::create().unwrap();
        quiet(&netns);
        let addresses = [v4(id), v6(id)];
        let prefixes = addresses.map(IpNet::from);
        let spec = spec(kind.0, &format!("lxc{id}"), prefixes.to_vec(), mtu);
        let pair = self.devices.create_pair(&spec, &netns).await.unwrap();
        self.devices
            .connect_endpoint(
                &pair,
                &netns,
                &prefixes,
                &EndpointRoute::defaults(&prefixes),
                pair.gateway_mac(),
            )
            .await
            .unwrap();
        keep_neighbours(&netns, &pair.peer.name);
        keep_neighbours(&self.netns, &pair.host.name);
        addresses.into_iter().for_each(|address| settle(&netns, address));
        // Whoever gets through now does so by the datapath alone.
        self.forward(false);
        let config = EndpointConfig {
            id,
            mode: kind.0,
            attachment: kind.1,
            mtu,
            host_ifindex: pair.host.ifindex,
            mac: pair.peer.mac,
            gateway_mac: pair.gateway_mac(),
            addresses: addresses.to_vec(),
        };
        self.datapath.set_endpoint(&config).unwrap();
        let programs = self.datapath.endpoint_programs(&config).unwrap();
        let [from, to] = kind.points();
        let attached = [
            self.attach(&pair, from, &programs.from_endpoint),
            self.attach(&pair, to, &programs.to_endpoint),
        ];
        Endpoint { netns, config, attached }
    }

    fn attach(&self, pair: &Pair, point: HookPoint, program: &Program) -> (Attached, Hook, ProgramId) {
        let hook = Hook {
            netns: self.netns.id(),
            device: pair.host.name.clone(),
            ifindex: pair.host.ifindex,
            point,
        };
        let chain: Chain = links::query(&hook, &self.netns).unwrap();
        assert!(chain.entry(EntryId(0)).is_none());
        let attached = links::attach(&chain, &self.netns, program, Placement::Tail).unwrap();
        (attached, hook, program.id())
    }

    /// What somebody else may do to an endpoint's programs.
    pub(crate) fn take_programs_off(&self, endpoint: &Endpoint) {
        for (attached, hook, program) in &endpoint.attached {
            attached.detach(hook, &self.netns, *program).unwrap();
        }
    }

    /// Gives the node an address of each family, which endpoints reach through its stack.
    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        let addresses = [v4(254), v6(254)];
        self.ip("link set lo up");
        self.ip(&format!("address add {}/32 dev lo", addresses[0]));
        self.ip(&format!("address add {}/128 dev lo nodad", addresses[1]));
        addresses.into_iter().for_each(|address| settle(&self.netns, address));
        addresses
    }

    /// Lets the node's own stack forward, or not.
    pub(crate) fn forward(&self, on: bool) {
        let value = if on { "1" } else { "0" };
        self.netns
            .run(|| {
                for family in ["ipv4", "ipv6"] {
                    for device in std::fs::read_dir(format!("/proc/sys/net/{family}/conf")).unwrap() {
                        let device = device.unwrap().path();
                        // Of these, older kernels have the first only.
                        for setting in ["forwarding", "force_forwarding"] {
                            if device.join(setting).exists() {
                                std::fs::write(device.join(setting), value).unwrap();
                            }
                        }
                    }
                }
            })
            .unwrap();
    }

    /// A device's index and hardware address.
    pub(crate) fn device(&self, name: &str) -> (IfIndex, MacAddress) {
        let show = || Command::new("ip").args(["-o", "link", "show", "dev", name]).output().unwrap();
        let shown = self.netns.run(show).unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let index = shown.split(':').next().unwrap().parse().unwrap();
        let mac = shown.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
        (IfIndex(index), mac.parse().unwrap())
    }

    pub(crate) fn counters(&self, endpoint: &Endpoint) -> EndpointCounters {
        self.datapath.counters(endpoint.config.id).unwrap()
    }

    /// The same once nothing has been counted for a while: on a busy machine the kernel reports the groups of a new
    /// device late.
    pub(crate) fn settled_counters(&self, endpoint: &Endpoint) -> EndpointCounters {
        let look = || {
            let before = self.counters(endpoint);
            std::thread::sleep(at_this_pace(Duration::from_millis(300)));
            (before, self.counters(endpoint))
        };
        until(look, |(before, after)| before == after).1
    }

    pub(crate) fn ip(&self, arguments: &str) {
        ip(&self.netns, arguments);
    }
}

impl Endpoint {
    pub(crate) fn ip(&self, arguments: &str) {
        ip(&self.netns, arguments);
    }

    pub(crate) fn receiver(&self, address: IpAddr) -> UdpSocket {
        let socket = self.netns.run(|| UdpSocket::bind((address, 7000)).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }
}

/// Sends datagrams of 100 bytes from an address of a namespace.
pub(crate) fn send(from: &Netns, source: IpAddr, to: IpAddr, count: usize) {
    send_sized(from, source, to, 100, count);
}

pub(crate) fn send_sized(from: &Netns, source: IpAddr, to: IpAddr, bytes: usize, count: usize) {
    from.run(|| {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        for _ in 0..count {
            socket.send_to(&vec![7; bytes], SocketAddr::new(to, 7000)).unwrap();
        }
    })
    .unwrap();
}

/// Datagrams that arrive within a moment after the last one.
pub(crate) fn arrivals(receiver: &UdpSocket) -> usize {
    receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut buffer = [0; 2000];
    (0..).take_while(|_| receiver.recv(&mut buffer).is_ok()).count()
}

fn ip(netns: &Netns, arguments: &str) {
    let status = netns.run(|| Command::new("ip").args(arguments.split(' ')).status().unwrap()).unwrap();
    assert!(status.success(), "ip {arguments}");
}

pub(crate) fn v4(id: u32) -> IpAddr {
    IpAddr::from([10, 1, 0, u8::try_from(id).unwrap()])
}

pub(crate) fn v6(id: u32) -> IpAddr {
    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::try_from(id).unwrap()])
}

fn spec(mode: DeviceMode, host_name: &str, addresses: Vec<IpNet>, mtu: u32) -> PairSpec {
    PairSpec {
        addresses,
        mtu,
        // What netloomd sets: nothing leaves before a program is there.
        peer_policy: NetkitPolicy::Blackhole,
        ..PairSpec::plain(mode, host_name, "eth0")
    }
}
