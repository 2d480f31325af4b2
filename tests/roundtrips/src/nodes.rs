//! Nodes with Netloom's datapath, as netloomd sets them up, and endpoints on them.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use ipnet::IpNet;
use netloom_core::{
    model::{
        AttachmentKind, AttachmentMode, Capabilities, DeviceMode, EndpointRoute, Feature, Hook, HookPoint,
        Name, NetkitPolicy, PairSpec, Placement, Protocol, Service, ServiceId,
    },
    validate::best_attachment,
};
use netloom_kernel::{
    datapath::{Datapath, EndpointConfig, EndpointCounters, MapSizes},
    devices::{Devices, Pair},
    links::{self, Attached},
    mounts,
    programs::Program,
};
use netloom_test_support::{Netns, settle};
use tokio::runtime::Runtime;

/// A node with Netloom's datapath, as netloomd sets it up.
pub struct Node {
    /// The namespace that is the node.
    pub netns: Netns,
    datapath: Datapath,
    devices: Devices,
    links: Vec<Attached>,
    pins: PathBuf,
    next: u32,
    capabilities: Capabilities,
}

impl Node {
    /// A node without endpoints. Programs are attached as netloomd does it where nobody says how: to legacy tc where
    /// the kernel has no tcx.
    ///
    /// # Panics
    /// Without a bpf filesystem, or the rights to make maps and namespaces.
    #[must_use]
    pub fn new(role: &str, capabilities: &Capabilities) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = PathBuf::from("/sys/fs/bpf");
        mounts::ensure_bpffs(&root).expect("a bpf filesystem");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pins = root.join(format!("netloom-roundtrips-{}-{number}", std::process::id()));
        let datapath = Datapath::open(&pins, MapSizes::default()).expect("the maps can be made");
        let netns = Netns::quiet(role);
        let devices = Devices::open(netns.handle()).expect("the namespace is there");
        let capabilities = capabilities.clone();
        Self { netns, datapath, devices, links: Vec::new(), pins, next: 1, capabilities }
    }

    /// An endpoint with these addresses.
    ///
    /// # Panics
    /// If the kernel refuses anything of it.
    pub fn endpoint(&mut self, runtime: &Runtime, mode: DeviceMode, addresses: &[IpAddr]) -> Endpoint {
        let netns = Netns::quiet("endpoint");
        let prefixes: Vec<IpNet> = addresses.iter().copied().map(IpNet::from).collect();
        let id = self.next;
        self.next += 1;
        let spec = pair(mode, format!("lxc{id}"), prefixes.clone());
        let pair = runtime.block_on(self.devices.create_pair(&spec, netns.handle())).expect("a pair");
        runtime
            .block_on(self.devices.connect_endpoint(
                &pair,
                netns.handle(),
                &prefixes,
                &EndpointRoute::defaults(&prefixes),
                pair.gateway_mac(),
            ))
            .expect("an endpoint can be wired");
        addresses.iter().for_each(|address| settle(netns.handle(), *address));
        let attachment = self.attachment(mode);
        let config = EndpointConfig {
            id,
            mode,
            attachment,
            mtu: spec.mtu,
            host_ifindex: pair.host.ifindex,
            mac: pair.peer.mac,
            gateway_mac: pair.gateway_mac(),
            addresses: addresses.to_vec(),
        };
        self.datapath.set_endpoint(&config).expect("a map has room");
        let programs = self.datapath.endpoint_programs(&config).expect("the programs load");
        let [from, to] = hook_points(attachment);
        self.attach(&pair, from, &programs.from_endpoint);
        self.attach(&pair, to, &programs.to_endpoint);
        Endpoint { netns, mode, id, addresses: addresses.to_vec(), device: pair.host.name }
    }

    /// What the datapath counted of an endpoint.
    ///
    /// # Panics
    /// If its map cannot be read.
    #[must_use]
    pub fn counters(&self, endpoint: &Endpoint) -> EndpointCounters {
        self.datapath.counters(endpoint.id).expect("an endpoint's counters can be read")
    }

    /// What both the datapath and its own device counted of an endpoint, in this order.
    ///
    /// # Panics
    /// If either cannot be read.
    #[must_use]
    pub fn traffic(&self, endpoint: &Endpoint) -> [Traffic; 2] {
        let counters = self.counters(endpoint);
        let ours = Traffic {
            sent: [counters.sent_packets, counters.sent_bytes],
            received: [counters.received_packets, counters.received_bytes],
        };
        let text = endpoint.netns.ip(&["-s", "-j", "link", "show", "eth0"]);
        let json: serde_json::Value = serde_json::from_str(&text).expect("ip writes JSON");
        let number = |path: &str| {
            let value = json.pointer(&format!("/0/stats64/{path}")).and_then(serde_json::Value::as_u64);
            value.expect("ip shows what a device counted")
        };
        let device = Traffic {
            sent: [number("tx/packets"), number("tx/bytes")],
            received: [number("rx/packets"), number("rx/bytes")],
        };
        [ours, device]
    }

    /// Takes an endpoint out of the datapath; its devices stay.
    ///
    /// # Panics
    /// If a map cannot be written.
    pub fn withdraw(&self, endpoint: &Endpoint) {
        self.datapath.remove_endpoint(endpoint.id, &endpoint.addresses).expect("a map can be written");
    }

    fn attachment(&self, mode: DeviceMode) -> AttachmentKind {
        best_attachment(mode, &self.capabilities, AttachmentMode::Auto)
    }

    fn attach(&mut self, pair: &Pair, point: HookPoint, program: &Program) {
        let hook = Hook {
            netns: self.netns.handle().id(),
            device: pair.host.name.clone(),
            ifindex: pair.host.ifindex,
            point,
        };
        let chain = links::query(&hook, self.netns.handle()).expect("a chain can be read");
        let attached = links::attach(&chain, self.netns.handle(), program, Placement::Tail);
        self.links.push(attached.expect("a program can be attached"));
    }

    /// Tells the datapath of a device to outside.
    ///
    /// # Panics
    /// If it is not there, or the kernel refuses the program.
    pub fn uplink(&mut self, runtime: &Runtime, device: &str) {
        let device = runtime.block_on(self.devices.get(device)).expect("devices can be read");
        let device = device.expect("the device is there");
        let hook = Hook {
            netns: self.netns.handle().id(),
            device: device.name,
            ifindex: device.ifindex,
            point: hook_points(self.attachment(DeviceMode::Veth))[0],
        };
        let program = self.datapath.uplink_program().expect("the program loads");
        let chain = links::query(&hook, self.netns.handle()).expect("a chain can be read");
        let attached = links::attach(&chain, self.netns.handle(), &program, Placement::Tail);
        self.links.push(attached.expect("a program can be attached"));
        self.datapath.set_uplinks(&[device.ifindex]).expect("a map can be written");
    }

    /// Translates a service, and none but it, for every process of the machine.
    ///
    /// # Panics
    /// Without a cgroup2 hierarchy.
    pub fn service(&self, vip: SocketAddr, protocol: Protocol, backend: SocketAddr) {
        let cgroup = mounts::ensure_cgroup2(&PathBuf::from("/run/netloom-roundtrips")).expect("cgroup2");
        self.datapath.attach_socket_lb(&cgroup).expect("socket-LB can be attached");
        let mut service = Service::new(Name::new("service").expect("a name"), vip, protocol);
        service.backends.push(backend);
        self.datapath.remove_service(ServiceId(1)).expect("the last one can go");
        self.datapath.set_service(ServiceId(1), &service).expect("a service can be made");
    }
}

/// Packets and bytes, sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the endpoint.
    pub sent: [u64; 2],
    /// To it.
    pub received: [u64; 2],
}

impl Traffic {
    /// What came since an earlier look.
    ///
    /// # Panics
    /// If the earlier one has more.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let less = |[packets, bytes]: [u64; 2], [before, bytes_before]: [u64; 2]| {
            [packets.checked_sub(before), bytes.checked_sub(bytes_before)]
                .map(|more| more.expect("counters grow"))
        };
        Self { sent: less(self.sent, before.sent), received: less(self.received, before.received) }
    }
}

/// From a device, and to it.
const fn hook_points(attachment: AttachmentKind) -> [HookPoint; 2] {
    match attachment {
        AttachmentKind::Netkit => [HookPoint::NetkitPeer, HookPoint::NetkitPrimary],
        AttachmentKind::Tcx => [HookPoint::TcxIngress, HookPoint::TcxEgress],
        AttachmentKind::Tc => [HookPoint::TcIngress, HookPoint::TcEgress],
    }
}

/// An endpoint of a node.
pub struct Endpoint {
    /// Its namespace.
    pub netns: Netns,
    /// Its device pair.
    pub mode: DeviceMode,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The node's end of the pair.
    pub device: String,
    id: u32,
}

/// The device modes of this kernel.
#[must_use]
pub fn modes(capabilities: &Capabilities) -> Vec<DeviceMode> {
    let has = |feature| capabilities.features.get(&feature).is_some_and(|support| support.available);
    let mut modes = vec![DeviceMode::Veth];
    if has(Feature::Netkit) && has(Feature::NetkitLinks) {
        modes.extend([DeviceMode::NetkitL2, DeviceMode::Netkit]);
    }
    modes
}

/// Joins two hosts, or nodes, by a wire with an address of each family at both ends; both forward.
///
/// # Panics
/// If `ip` does.
pub fn wire(near: &Netns, far: &Netns) {
    near.link("198.51.100.1/24").named("wire").to(far, "198.51.100.2/24");
    for (host, address) in [(near, "2001:db8:1::1/64"), (far, "2001:db8:1::2/64")] {
        host.add_address("wire", address);
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let set = host.command(&["sh", "-c", &format!("echo 1 >/proc/sys/net/{setting}")]);
            assert!(set.ok(), "{}", set.stderr);
        }
    }
}

/// Tells each of two nodes where the other's endpoints are: the near one's in 10.1.1.0/24 and fd00:1::/64, the far
/// one's in 10.1.2.0/24 and fd00:2::/64.
///
/// # Panics
/// If `ip` does.
pub fn route_between(near: &Netns, far: &Netns) {
    near.ip(&["route", "replace", "10.1.2.0/24", "via", "198.51.100.2"]);
    far.ip(&["route", "replace", "10.1.1.0/24", "via", "198.51.100.1"]);
    near.ip(&["route", "replace", "fd00:2::/64", "via", "2001:db8:1::2"]);
    far.ip(&["route", "replace", "fd00:1::/64", "via", "2001:db8:1::1"]);
}

impl Drop for Node {
    fn drop(&mut self) {
        self.links.clear();
        // Of a node without services there is nothing to detach.
        drop(self.datapath.detach_socket_lb());
        std::fs::remove_dir_all(&self.pins).expect("the pins can be removed");
    }
}

fn pair(mode: DeviceMode, host_name: String, addresses: Vec<IpNet>) -> PairSpec {
    PairSpec { addresses, peer_policy: NetkitPolicy::Blackhole, ..PairSpec::plain(mode, host_name, "eth0") }
}
