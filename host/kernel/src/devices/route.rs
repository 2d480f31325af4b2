//! Routes and neighbours.

use std::net::IpAddr;

use futures::TryStreamExt as _;
use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use netloom_core::model::{IfIndex, MacAddress};
use rtnetlink::RouteMessageBuilder;

use super::{DeviceError, Devices, error};

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// Through which gateway; none if the destination is on the link.
    pub via: Option<IpAddr>,
    /// Through which device.
    pub device: IfIndex,
    /// Take the gateway for reachable through the device, whatever the addresses say.
    pub onlink: bool,
    /// The source address of the namespace's own packets to there.
    pub source: Option<IpAddr>,
    /// Its metric, if it is not the kernel's own: of two to the same destination, the lower one is taken.
    pub metric: Option<u32>,
}

impl Route {
    /// To a destination on the link of a device.
    #[must_use]
    pub fn on_link(destination: IpNet, device: IfIndex) -> Self {
        Self { destination, via: None, device, onlink: false, source: None, metric: None }
    }

    /// To a destination behind a gateway that is on the link of a device, though no address says so.
    #[must_use]
    pub fn via(destination: IpNet, gateway: IpAddr, device: IfIndex) -> Self {
        Self { destination, via: Some(gateway), device, onlink: true, source: None, metric: None }
    }

    fn message(&self) -> Result<RouteMessage, DeviceError> {
        let family =
            if self.destination.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        for address in [self.via, self.source].into_iter().flatten() {
            if address.is_ipv4() != self.destination.addr().is_ipv4() {
                return Err(DeviceError::MixedFamilies { destination: self.destination, address });
            }
        }
        let mut message = RouteMessageBuilder::<IpAddr>::new().output_interface(self.device.0).build();
        message.header.address_family = family;
        message.header.destination_prefix_length = self.destination.prefix_len();
        if self.destination.prefix_len() > 0 {
            message.attributes.push(RouteAttribute::Destination(self.destination.network().into()));
        }
        match self.via {
            Some(gateway) => message.attributes.push(RouteAttribute::Gateway(gateway.into())),
            // IPv6 has no scopes of routes, and the kernel refuses none.
            None if family == AddressFamily::Inet => message.header.scope = RouteScope::Link,
            None => {}
        }
        if self.onlink && self.via.is_some() {
            message.header.flags.insert(netlink_packet_route::route::RouteFlags::Onlink);
        }
        if let Some(source) = self.source {
            message.attributes.push(RouteAttribute::PrefSource(source.into()));
        }
        message.attributes.extend(self.metric.map(RouteAttribute::Priority));
        Ok(message)
    }
}

/// Where a packet that came in goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardingWay {
    /// It is for the namespace itself.
    Local,
    /// Out by a device.
    Device {
        /// Its index.
        index: IfIndex,
        /// The next hop, if it is not the destination itself.
        via: Option<IpAddr>,
    },
}

/// The protocol number by which our routes are told from others'.
const PROTOCOL: u8 = 110;
/// Behind every other route to the same prefix.
const LAST: u32 = u32::MAX - 1;

/// What the kernel answers to it where it is there, and where there is no IPv6.
const AS_GOOD: [i32; 3] = [libc::EEXIST, libc::EOPNOTSUPP, libc::EAFNOSUPPORT];

/// The route that says a prefix cannot be reached, with our protocol number.
fn unreachable(prefix: IpNet) -> RouteMessage {
    let mut message = RouteMessageBuilder::<IpAddr>::new()
        .kind(RouteType::Unreachable)
        .protocol(RouteProtocol::from(PROTOCOL))
        .build();
    message.header.address_family =
        if prefix.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = prefix.prefix_len();
    message.attributes.push(RouteAttribute::Destination(prefix.network().into()));
    message.attributes.push(RouteAttribute::Priority(LAST));
    message
}

/// What the kernel answers where there is no way: no route, one that says so, forwarding that is off, a source that
/// cannot come from there.
const NO_WAY: [i32; 5] = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL, libc::EXDEV];

impl Devices {
    /// Adds a route to the main table; the very same one already there is fine.
    ///
    /// # Errors
    /// [`DeviceError::RouteTaken`] if the destination is routed otherwise, [`DeviceError::MixedFamilies`],
    /// [`DeviceError::Netlink`].
    pub async fn add_route(&self, route: &Route) -> Result<(), DeviceError> {
        let message = route.message()?;
        match self.asked(|handle| handle.route().add(message).execute()).await {
            Ok(()) => Ok(()),
            Err(error) if error::is(&error, libc::EEXIST) => {
                let mut present = self.routes(route.destination).await?;
                present.retain(|other| other.metric == route.metric);
                if present.iter().any(|other| other.device == route.device && other.via == route.via) {
                    return Ok(());
                }
                let other = present.first().map(|other| other.device).unwrap_or_default();
                let name =
                    self.by_index(other).await?.map_or_else(|| other.to_string(), |device| device.name);
                let destination = route.destination;
                Err(DeviceError::RouteTaken { destination, device: name, netns: self.netns.id() })
            }
            Err(error) => Err(self.failed(&format!("add a route to {}", route.destination), error)),
        }
    }

    /// Deletes a route of the main table. Whether it was there.
    ///
    /// # Errors
    /// [`DeviceError::MixedFamilies`], [`DeviceError::Netlink`].
    pub async fn delete_route(&self, route: &Route) -> Result<bool, DeviceError> {
        let message = route.message()?;
        match self.asked(|handle| handle.route().del(message).execute()).await {
            Ok(()) => Ok(true),
            Err(error) if error::is(&error, libc::ESRCH) || error::is(&error, libc::ENODEV) => Ok(false),
            Err(error) => Err(self.failed(&format!("delete the route to {}", route.destination), error)),
        }
    }

    /// Has the namespace answer for a prefix that what is in it cannot be reached, unless another route says how. A
    /// kernel without IPv6 reaches nothing of it anyway.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn add_unreachable(&self, prefix: IpNet) -> Result<(), DeviceError> {
        let message = unreachable(prefix);
        match self.asked(|handle| handle.route().add(message).execute()).await {
            Err(error) if !AS_GOOD.iter().any(|errno| error::is(&error, *errno)) => {
                Err(self.failed(&format!("make {prefix} unreachable"), error))
            }
            _ => Ok(()),
        }
    }

    /// Takes that back. Whether it was so.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn remove_unreachable(&self, prefix: IpNet) -> Result<bool, DeviceError> {
        let message = unreachable(prefix);
        match self.asked(|handle| handle.route().del(message).execute()).await {
            Ok(()) => Ok(true),
            Err(error) if error::is(&error, libc::ESRCH) => Ok(false),
            Err(error) => Err(self.failed(&format!("remove the unreachable route to {prefix}"), error)),
        }
    }

    /// The routes of the main table to exactly one destination.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn routes(&self, destination: IpNet) -> Result<Vec<Route>, DeviceError> {
        let mut request = RouteMessage::default();
        request.header.address_family =
            if destination.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let messages = self
            .route_messages(request)
            .await
            .map_err(|error| self.failed(&format!("look up the route to {destination}"), error))?;
        Ok(messages
            .iter()
            .filter(|message| message.header.table == libc::RT_TABLE_MAIN)
            .filter_map(describe)
            .filter(|route| route.destination == destination)
            .collect())
    }

    /// The next hops of all routes, each once.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn gateways(&self) -> Result<Vec<IpAddr>, DeviceError> {
        let routes = self.routes_of_both(&RouteMessage::default()).await;
        let routes = routes.map_err(|error| self.failed("list the routes", error))?;
        let mut gateways: Vec<IpAddr> =
            routes.iter().flat_map(|message| next_hops(&message.attributes)).collect();
        gateways.sort_unstable();
        gateways.dedup();
        Ok(gateways)
    }

    /// The routes of the main table through a device, each over this one device alone.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn routes_by(&self, device: IfIndex) -> Result<Vec<Route>, DeviceError> {
        let mut like = RouteMessage::default();
        // The kernel leaves out the others.
        like.attributes.push(RouteAttribute::Oif(device.0));
        let messages = match self.routes_of_both(&like).await {
            Ok(messages) => messages,
            Err(error) if error::is(&error, libc::ENODEV) => Vec::new(),
            Err(error) => {
                let what = format!("list the routes through the device with index {device}");
                return Err(self.failed(&what, error));
            }
        };
        let mut routes: Vec<Route> =
            messages.iter().filter(|one| is_of_main(one)).filter_map(describe).collect();
        routes.retain(|route| route.device == device);
        Ok(routes)
    }

    /// The neighbours of a device that somebody set for good.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn neighbours(&self, device: IfIndex) -> Result<Vec<(IpAddr, MacAddress)>, DeviceError> {
        let mut like = NeighbourMessage::default();
        like.attributes.push(NeighbourAttribute::IfIndex(device.0));
        let messages = self.neighbour_messages(like).await.map_err(|error| {
            self.failed(&format!("list the neighbours of the device with index {device}"), error)
        })?;
        Ok(messages
            .iter()
            .filter(|message| message.header.ifindex == device.0)
            .filter_map(permanent)
            .collect())
    }

    /// The way that the node's stack has for a packet which comes in by a device; none if it has none, or does not
    /// forward.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn forwarding_way(
        &self,
        from: IpAddr,
        to: IpAddr,
        by: IfIndex,
    ) -> Result<Option<ForwardingWay>, DeviceError> {
        let mut request = RouteMessage::default();
        let v4 = to.is_ipv4();
        request.header.address_family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let length = if v4 { 32 } else { 128 };
        request.header.destination_prefix_length = length;
        request.header.source_prefix_length = length;
        request.attributes.push(RouteAttribute::Destination(to.into()));
        request.attributes.push(RouteAttribute::Source(from.into()));
        request.attributes.push(RouteAttribute::Iif(by.0));
        let answer = self.asked(|handle| handle.route().get(request).execute().try_collect::<Vec<_>>()).await;
        let messages = match answer {
            Ok(messages) => messages,
            Err(error) if NO_WAY.iter().any(|errno| error::is(&error, *errno)) => return Ok(None),
            Err(error) => return Err(self.failed(&format!("look up the way to {to}"), error)),
        };
        let Some(message) = messages.first() else { return Ok(None) };
        let route = describe(message);
        Ok(match message.header.kind {
            RouteType::Local => Some(ForwardingWay::Local),
            RouteType::Unicast => {
                route.map(|route| ForwardingWay::Device { index: route.device, via: route.via })
            }
            _ => None,
        })
    }

    /// Tells a namespace the hardware address of a neighbour for good, in place of asking by ARP or ND.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn add_neighbour(
        &self,
        device: IfIndex,
        address: IpAddr,
        mac: MacAddress,
    ) -> Result<(), DeviceError> {
        // Entries are permanent unless another state is asked for.
        let add = |handle: rtnetlink::Handle| {
            handle.neighbours().add(device.0, address).link_layer_address(&mac.0).replace().execute()
        };
        self.asked(add).await.map_err(|error| {
            self.failed(&format!("add neighbour {address} on the device with index {device}"), error)
        })
    }
}

/// The gateways that a route names, of each of its ways.
fn next_hops(attributes: &[RouteAttribute]) -> Vec<IpAddr> {
    attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Gateway(address) => ip(address).into_iter().collect(),
            RouteAttribute::MultiPath(ways) => {
                ways.iter().flat_map(|way| next_hops(&way.attributes)).collect()
            }
            _ => Vec::new(),
        })
        .collect()
}

fn is_of_main(message: &RouteMessage) -> bool {
    message.header.table == libc::RT_TABLE_MAIN && message.header.kind == RouteType::Unicast
}

fn permanent(message: &NeighbourMessage) -> Option<(IpAddr, MacAddress)> {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => {
                address = Some(IpAddr::from(*found));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                address = Some(IpAddr::from(*found));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().ok().map(MacAddress);
            }
            _ => {}
        }
    }
    let permanent = message.header.state == NeighbourState::Permanent;
    address.zip(mac).filter(|_| permanent)
}

fn describe(message: &RouteMessage) -> Option<Route> {
    let unspecified: IpAddr = match message.header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let prefix = message.header.destination_prefix_length;
    let mut route = Route {
        destination: IpNet::new(unspecified, prefix).ok()?,
        via: None,
        device: IfIndex::default(),
        onlink: message.header.flags.contains(netlink_packet_route::route::RouteFlags::Onlink),
        source: None,
        metric: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                route.destination = IpNet::new(ip(address)?, prefix).ok()?;
            }
            RouteAttribute::Gateway(address) => route.via = ip(address),
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Oif(index) => route.device = IfIndex(*index),
            RouteAttribute::Priority(metric) => {
                route.metric = Some(*metric).filter(|metric| *metric != own_metric(unspecified));
            }
            _ => {}
        }
    }
    Some(route)
}

/// The metric of a route that is given none, in the family of an address: `IP6_RT_PRIO_USER` of `net/ip6_route.h`.
#[must_use]
pub const fn own_metric(family: IpAddr) -> u32 {
    if family.is_ipv4() { 0 } else { 1_024 }
}

pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_route_is_read_as_it_was_written() {
        let device = IfIndex(7);
        for (network, gateway) in [("10.1.0.0/16", "10.2.0.1"), ("fd01::/64", "fe80::1")] {
            let everywhere = if network.contains(':') { "::/0" } else { "0.0.0.0/0" };
            for destination in [network, everywhere].map(net) {
                let on_link = Route::on_link(destination, device);
                let routed = Route { onlink: false, ..Route::via(destination, address(gateway), device) };
                let known = Route { source: Some(address(gateway)), ..on_link.clone() };
                let later = Route { metric: Some(2_048), ..on_link.clone() };
                for route in
                    [Route::via(destination, address(gateway), device), routed, on_link, known, later]
                {
                    assert_eq!(describe(&route.message().unwrap()), Some(route));
                }
            }
        }
    }

    #[test]
    fn what_is_on_the_link_has_that_scope_in_ipv4_and_no_gateway_flag() {
        let message = |network| {
            let route = Route { onlink: true, ..Route::on_link(net(network), IfIndex(7)) };
            route.message().unwrap().header
        };
        assert_eq!(message("10.1.0.0/16").scope, RouteScope::Link);
        assert_eq!(message("fd01::/64").scope, RouteScope::Universe);
        assert!(message("10.1.0.0/16").flags.is_empty());
        let via = Route::via(net("10.1.0.0/16"), address("10.2.0.1"), IfIndex(7));
        assert_eq!(via.message().unwrap().header.scope, RouteScope::Universe);
    }

    #[test]
    fn a_route_has_addresses_of_one_family() {
        for (network, gateway) in [("10.1.0.0/16", "fe80::1"), ("fd01::/64", "10.2.0.1")] {
            let via = Route::via(net(network), address(gateway), IfIndex(7));
            let from = Route { source: Some(address(gateway)), ..Route::on_link(net(network), IfIndex(7)) };
            for route in [via, from] {
                assert!(matches!(route.message(), Err(DeviceError::MixedFamilies { .. })), "{route:?}");
            }
        }
    }

    #[test]
    fn routes_of_other_protocols_are_none() {
        let mut message = Route::on_link(net("10.1.0.0/16"), IfIndex(7)).message().unwrap();
        message.header.address_family = AddressFamily::Mpls;
        assert_eq!(describe(&message), None);
    }
}
