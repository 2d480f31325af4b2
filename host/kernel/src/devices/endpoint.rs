//! Wiring an endpoint: what its namespace and the node need for packets to flow by the host's own stack.
//!
//! The endpoint has one way out, its device. In L3 mode nothing is resolved; in the modes with MACs its gateway is
//! a link-local address that no device has: a permanent neighbour entry stands for it, so that neither side ever
//! asks. The node has one route for each address. All of it goes away with the pair.

use ipnet::IpNet;
use netloom_core::{
    model::{EndpointRoute, IfIndex, MacAddress},
    reserved::{GATEWAY_V4, GATEWAY_V6},
};

use super::{DeviceError, Devices, IpFamily, Pair, Route, Sysctl};
use crate::netns::Netns;

/// `lo`, in every namespace.
const LOOPBACK: IfIndex = IfIndex(1);

/// What came of wiring an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// What the node's own settings keep from working, each with the way out. The BPF datapath may not need it.
    pub warnings: Vec<String>,
}

impl Devices {
    /// Wires an endpoint's pair, whose node end is in this namespace: in the endpoint, `lo` up and its routes, such as
    /// [`EndpointRoute::defaults`]; on the node, a route to each address, forwarding to and from this one device, no
    /// reverse-path filter on it, and neighbour entries where there are MACs. No setting of the whole node is
    /// touched. Doing it twice is fine.
    ///
    /// `gateway_mac` is where the endpoint sends its frames to, in the modes with MACs. With [`Pair::gateway_mac`] the
    /// node's stack takes none that no program made its own; with that of the node's end it takes all.
    ///
    /// # Errors
    /// [`DeviceError::RouteTaken`] if an address is in use elsewhere; [`DeviceError::Sysctl`];
    /// [`DeviceError::Netlink`]. What was done until then goes away with the pair.
    pub async fn connect_endpoint(
        &self,
        pair: &Pair,
        endpoint: &Netns,
        addresses: &[IpNet],
        routes: &[EndpointRoute],
        gateway_mac: Option<MacAddress>,
    ) -> Result<Connected, DeviceError> {
        let inside = Self::open(endpoint)?;
        inside.set_up(LOOPBACK, true).await?;
        let v4 = addresses.iter().any(|address| address.addr().is_ipv4());
        let v6 = addresses.iter().any(|address| address.addr().is_ipv6());
        self.set_sysctls(&node_sysctls(&pair.host.name, v4, v6))?;

        for route in routes_inside(pair.peer.ifindex, routes, gateway_mac.is_some()) {
            if let Some((gateway, mac)) = route.via.zip(gateway_mac) {
                inside.add_neighbour(pair.peer.ifindex, gateway, mac).await?;
            }
            inside.add_route(&route).await?;
        }

        for address in addresses {
            let address = address.addr();
            if let Some(mac) = pair.peer.mac {
                self.add_neighbour(pair.host.ifindex, address, mac).await?;
            }
            let single = IpNet::from(address);
            self.add_route(&Route::on_link(single, pair.host.ifindex)).await?;
        }
        Ok(Connected { warnings: self.warnings(&pair.host.name, v4, v6)? })
    }

    fn warnings(&self, device: &str, v4: bool, v6: bool) -> Result<Vec<String>, DeviceError> {
        let mut warnings = Vec::new();
        let off = |value: Option<String>| value.as_deref() == Some("0");
        if v4 && off(self.sysctl(IpFamily::V4, "all", "forwarding")?) {
            warnings.push(
                "the node does not forward IPv4 for its other devices: packets to and from outside depend on the \
                 BPF datapath (or set net.ipv4.ip_forward=1)"
                    .to_owned(),
            );
        }
        if v6 && off(self.sysctl(IpFamily::V6, "all", "forwarding")?) {
            let own = self.sysctl(IpFamily::V6, device, "force_forwarding")?;
            warnings.push(if own.as_deref() == Some("1") {
                "the node does not forward IPv6 for its other devices: packets to and from outside depend on the \
                 BPF datapath (or set net.ipv6.conf.all.forwarding=1)"
                    .to_owned()
            } else {
                "the node does not forward IPv6, and its kernel cannot do so for one device (Linux 6.17): IPv6 \
                 between endpoints and outside depends on the BPF datapath (or set \
                 net.ipv6.conf.all.forwarding=1)"
                    .to_owned()
            });
        }
        Ok(warnings)
    }
}

/// The routes of an endpoint through its device: by a gateway where it has MACs.
#[must_use]
pub fn routes_inside(device: IfIndex, routes: &[EndpointRoute], by_gateway: bool) -> Vec<Route> {
    let through = |route: &EndpointRoute| {
        let gateway = if route.destination.addr().is_ipv4() { GATEWAY_V4 } else { GATEWAY_V6 };
        let through = match by_gateway {
            true => Route::via(route.destination, gateway, device),
            false => Route::on_link(route.destination, device),
        };
        Route { metric: route.metric, ..through }
    };
    routes.iter().map(through).collect()
}

/// What the node's end of an endpoint with addresses of these families needs for packets to be forwarded.
#[must_use]
pub fn node_sysctls(device: &str, v4: bool, v6: bool) -> Vec<Sysctl> {
    let mut sysctls = Vec::new();
    if v4 {
        sysctls.push(Sysctl::new(IpFamily::V4, device, "forwarding", 1));
        sysctls.push(Sysctl::new(IpFamily::V4, device, "rp_filter", 0));
    }
    if v6 {
        sysctls.push(Sysctl::new(IpFamily::V6, device, "disable_ipv6", 0));
        sysctls.push(Sysctl::new(IpFamily::V6, device, "forwarding", 1));
        // IPv6 forwards for the whole node or, from 6.17 on, for one device that is told so.
        sysctls.push(Sysctl::new(IpFamily::V6, device, "force_forwarding", 1).optional());
    }
    sysctls
}
