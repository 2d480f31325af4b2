//! A way that datagrams take past a hook, and whether they arrive.

use std::{fs, net::UdpSocket, os::fd::AsRawFd as _, time::Duration};

use netloom_core::model::{DeviceMode, Hook, HookPoint, NetkitPolicy};
use netloom_kernel::{devices::Devices, netns::Netns};
use rtnetlink::packet_route::link::NetkitMode;

use crate::scratch::Scratch;

/// From one socket to another by a hook that nothing else goes by: over the loopback device, or over a netkit pair to
/// another namespace or from there.
pub(crate) struct Road {
    pub(crate) scratch: Scratch,
    pub(crate) hook: Hook,
    far: Option<Netns>,
}

/// The namespace's own end of a netkit pair, and the other one.
const NEAR: &str = "10.9.0.1";
const FAR: &str = "10.9.0.2";

impl Road {
    /// By such a hook of a device of such a kind.
    pub(crate) fn by(point: HookPoint, mode: DeviceMode) -> Self {
        let scratch = Scratch::new();
        if !point.is_netkit() {
            let hook = scratch.hook_on("lo", point);
            return Self { scratch, hook, far: None };
        }
        let far = Netns::create().unwrap();
        for netns in [&scratch.netns, &far] {
            // Its devices would look for neighbours and routers by the same hook.
            netns.run(|| fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")).unwrap().unwrap();
        }
        let l2 = mode == DeviceMode::NetkitL2;
        scratch.make_netkit(if l2 { NetkitMode::L2 } else { NetkitMode::L3 });
        let fd = far.fd();
        scratch.run(&format!("ip link set peer netns /proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()));
        let ends = [(&scratch.netns, "primary", NEAR, 1, FAR, 2), (&far, "peer", FAR, 2, NEAR, 1)];
        for (netns, device, own, number, other, others) in ends {
            let run = |command: &str| run(netns, command);
            run(&format!("ip address add {own}/24 dev {device}"));
            if l2 {
                run(&format!("ip link set {device} address 02:00:00:00:00:0{number}"));
            }
            run(&format!("ip link set {device} up"));
            if l2 {
                let address = format!("{other} lladdr 02:00:00:00:00:0{others}");
                run(&format!("ip neighbour replace {address} dev {device} nud permanent"));
            }
        }
        let hook = scratch.hook_on("primary", point);
        Self { scratch, hook, far: Some(far) }
    }

    /// A sender and a receiver.
    pub(crate) fn sockets(&self) -> (UdpSocket, UdpSocket) {
        let near = &self.scratch.netns;
        let (from, to, address) = match &self.far {
            None => (near, near, "127.0.0.1:0".to_owned()),
            Some(far) if self.hook.point == HookPoint::NetkitPeer => (far, near, format!("{NEAR}:0")),
            Some(far) => (near, far, format!("{FAR}:0")),
        };
        let receiver = to.run(|| UdpSocket::bind(address).unwrap()).unwrap();
        (from.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap(), receiver)
    }

    /// Whether a datagram arrives.
    pub(crate) fn arrives(&self) -> bool {
        let (sender, receiver) = self.sockets();
        receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        // A program that drops on egress is an error to the sender.
        let _ = sender.send_to(b"packet", receiver.local_addr().unwrap());
        receiver.recv(&mut [0; 16]).is_ok()
    }

    /// What becomes of packets that a netkit pair's chain leaves open, on this road.
    pub(crate) fn set_policy(&self, policy: NetkitPolicy) {
        let forward = NetkitPolicy::Forward;
        let (primary, peer) = match self.hook.point {
            HookPoint::NetkitPeer => (forward, policy),
            _ => (policy, forward),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(async {
                let devices = Devices::open(&self.scratch.netns).unwrap();
                devices.set_policies(self.hook.ifindex, primary, peer).await
            })
            .unwrap();
    }
}

fn run(netns: &Netns, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output =
        netns.run(|| std::process::Command::new(words[0]).args(&words[1..]).output()).unwrap().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One test a road: `on_roads!(tcx netkit tc: this_holds, that_holds)`, of functions that take it.
macro_rules! on_roads {
    (@ { $($ways:tt)* } tcx $($more:tt)+) => {
        on_roads!(@ { $($ways)*
            tcx_ingress: [netloom_core::model::Feature::Tcx] => &on_roads!(TcxIngress, Veth),
            tcx_egress: [netloom_core::model::Feature::Tcx] => &on_roads!(TcxEgress, Veth),
        } $($more)+);
    };
    (@ { $($ways:tt)* } netkit $($more:tt)+) => {
        on_roads!(@ { $($ways)*
            netkit_primary: [netloom_core::model::Feature::NetkitLinks] => &on_roads!(NetkitPrimary, Netkit),
            netkit_peer: [netloom_core::model::Feature::NetkitLinks] => &on_roads!(NetkitPeer, Netkit),
            netkit_l2_primary: [netloom_core::model::Feature::NetkitLinks] => &on_roads!(NetkitPrimary, NetkitL2),
            netkit_l2_peer: [netloom_core::model::Feature::NetkitLinks] => &on_roads!(NetkitPeer, NetkitL2),
        } $($more)+);
    };
    (@ { $($ways:tt)* } tc $($more:tt)+) => {
        on_roads!(@ { $($ways)*
            tc_ingress: [netloom_core::model::Feature::LegacyTc] => &on_roads!(TcIngress, Veth),
            tc_egress: [netloom_core::model::Feature::LegacyTc] => &on_roads!(TcEgress, Veth),
        } $($more)+);
    };
    (@ $ways:tt : $($test:ident),+ $(,)?) => { netloom_test_support::each_way!($($test),+; $ways); };
    ($point:ident, $mode:ident) => {
        Road::by(netloom_core::model::HookPoint::$point, netloom_core::model::DeviceMode::$mode)
    };
    ($first:ident $($more:tt)+) => { on_roads!(@ {} $first $($more)+); };
}
pub(crate) use on_roads;
