//! A node of the test's own: a namespace for the node and one for each endpoint, gone when the test ends.

use std::net::IpAddr;

use ipnet::IpNet;
use netloom_core::model::{Capabilities, DeviceMode, EndpointRoute, PairSpec};
use netloom_kernel::{
    capabilities::probe,
    devices::{Connected, Devices, Pair},
    netns::Netns,
};
use netloom_test_support::settle;
use tokio::sync::OnceCell;

pub(crate) struct Node {
    pub(crate) netns: Netns,
    pub(crate) devices: Devices,
}

pub(crate) struct Endpoint {
    pub(crate) netns: Netns,
    pub(crate) devices: Devices,
    pub(crate) pair: Pair,
    pub(crate) connected: Connected,
}

impl Node {
    pub(crate) fn new() -> Self {
        let netns = Netns::create().expect("a namespace for the node; these tests need root");
        let devices = Devices::open(&netns).unwrap();
        Self { netns, devices }
    }

    /// An endpoint that is attached and wired.
    pub(crate) async fn endpoint(&self, mode: DeviceMode, name: &str, addresses: &[&str]) -> Endpoint {
        let netns = Netns::create().unwrap();
        let mut spec = spec(mode, name);
        spec.addresses = addresses.iter().map(|address| IpNet::from(ip(address))).collect();
        let pair = self.devices.create_pair(&spec, &netns).await.unwrap();
        let routes = EndpointRoute::defaults(&spec.addresses);
        let connected = self
            .devices
            .connect_endpoint(&pair, &netns, &spec.addresses, &routes, pair.host.mac)
            .await
            .unwrap();
        spec.addresses.iter().for_each(|address| settle(&netns, address.addr()));
        let devices = Devices::open(&netns).unwrap();
        Endpoint { netns, devices, pair, connected }
    }
}

/// A specification without wishes.
pub(crate) fn spec(mode: DeviceMode, host_name: &str) -> PairSpec {
    PairSpec::plain(mode, host_name, "eth0")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What the kernel can do, probed once for all cases.
pub(crate) async fn capabilities() -> &'static Capabilities {
    static PROBED: OnceCell<Capabilities> = OnceCell::const_new();
    PROBED.get_or_init(probe).await
}
