//! Holding what a stack sends through a device to a size, while the MTUs of a pair's two ends change one after the
//! other: in between, the larger end would send what the smaller one drops. Routes can be told an MTU of their own,
//! and a route is replaced in one step, so that no packet finds none.

use std::net::IpAddr;

use futures::StreamExt;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteType},
};
use netloom_core::{model::IfIndex, plan::RouteKey};

use super::{DeviceError, Devices, error, route::ip};

/// `1 << RTAX_MTU` of `include/uapi/linux/rtnetlink.h`.
const LOCK_MTU: u32 = 1 << 2;

impl Devices {
    /// The routes of the main table through a device that can be held: those without an MTU of their own. Routes that
    /// the kernel made itself, for the link alone, are left out, and those of which there are two of one rank: the
    /// kernel would not tell them apart.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn routes_to_hold(&self, device: IfIndex) -> Result<Vec<RouteKey>, DeviceError> {
        let routes = self.main_routes().await?;
        let candidates = routes.iter().filter(|route| route.device == Some(device) && route.mtu().is_none());
        Ok(candidates
            .filter(|route| routes.iter().filter(|other| other.key == route.key).count() == 1)
            .map(|route| route.key.clone())
            .collect())
    }

    /// Gives routes through a device an MTU of their own, in bytes. One that is gone is left out.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn hold_routes(&self, device: IfIndex, keys: &[RouteKey], mtu: u32) -> Result<(), DeviceError> {
        self.replace_routes(device, keys, |route| {
            // The kernel overrides the MTU of an IPv6 route when its device's changes, unless it is locked.
            let lock = route.header.address_family == AddressFamily::Inet6;
            let metrics = lock.then_some(RouteMetric::Lock(LOCK_MTU)).into_iter();
            metrics.chain([RouteMetric::Mtu(mtu)]).collect()
        })
        .await
    }

    /// Takes the MTU of their own from routes again. One that is gone is left out.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn release_routes(&self, device: IfIndex, keys: &[RouteKey]) -> Result<(), DeviceError> {
        self.replace_routes(device, keys, |_| Vec::new()).await
    }

    async fn replace_routes(
        &self,
        device: IfIndex,
        keys: &[RouteKey],
        metrics: impl Fn(&RouteMessage) -> Vec<RouteMetric>,
    ) -> Result<(), DeviceError> {
        if keys.is_empty() {
            return Ok(());
        }
        for route in self.main_routes().await? {
            if route.device == Some(device) && keys.contains(&route.key) {
                let added = metrics(&route.message);
                self.replace_route(route, added).await?;
            }
        }
        Ok(())
    }

    async fn replace_route(&self, route: MainRoute, mtu: Vec<RouteMetric>) -> Result<(), DeviceError> {
        let destination = route.key.destination;
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(route.with_mtu(mtu)));
        // Without NLM_F_CREATE: a route that somebody deleted just now stays deleted.
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE;
        let what = format!("set the MTU of the route to {destination}");
        let request = |mut handle: rtnetlink::Handle| async move {
            Ok(handle.request(message)?.collect::<Vec<_>>().await)
        };
        for answer in self.asked(request).await.map_err(|error| self.failed(&what, error))? {
            if let NetlinkPayload::Error(refusal) = answer.payload
                && refusal.code.is_some()
            {
                let refusal = rtnetlink::Error::NetlinkError(refusal);
                let gone = [libc::ENOENT, libc::ESRCH, libc::ENODEV];
                if !gone.iter().any(|errno| error::is(&refusal, *errno)) {
                    return Err(self.failed(&what, refusal));
                }
            }
        }
        Ok(())
    }

    async fn main_routes(&self) -> Result<Vec<MainRoute>, DeviceError> {
        let listed = self.routes_of_both(&RouteMessage::default()).await;
        let listed = listed.map_err(|error| self.failed("list the routes", error))?;
        Ok(listed.into_iter().filter_map(MainRoute::of).collect())
    }
}

/// A route of the main table that somebody set.
struct MainRoute {
    key: RouteKey,
    device: Option<IfIndex>,
    message: RouteMessage,
}

impl MainRoute {
    fn of(message: RouteMessage) -> Option<Self> {
        let header = &message.header;
        let set = header.table == libc::RT_TABLE_MAIN
            && header.kind == RouteType::Unicast
            && header.protocol != RouteProtocol::Kernel;
        if !set {
            return None;
        }
        let unspecified = match header.address_family {
            AddressFamily::Inet => IpAddr::from([0; 4]),
            _ => IpAddr::from([0; 16]),
        };
        let mut key = RouteKey {
            destination: IpNet::new(unspecified, header.destination_prefix_length).ok()?,
            priority: 0,
        };
        let mut device = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => {
                    key.destination = IpNet::new(ip(address)?, header.destination_prefix_length).ok()?;
                }
                RouteAttribute::Priority(priority) => key.priority = *priority,
                RouteAttribute::Oif(index) => device = Some(IfIndex(*index)),
                _ => {}
            }
        }
        Some(Self { key, device, message })
    }

    fn metrics(&self) -> impl Iterator<Item = &RouteMetric> {
        self.message.attributes.iter().flat_map(|attribute| match attribute {
            RouteAttribute::Metrics(metrics) => metrics.as_slice(),
            _ => &[],
        })
    }

    fn mtu(&self) -> Option<u32> {
        self.metrics().find_map(|metric| match metric {
            RouteMetric::Mtu(mtu) => Some(*mtu),
            _ => None,
        })
    }

    /// The same route, with another MTU or none.
    fn with_mtu(mut self, mtu: Vec<RouteMetric>) -> RouteMessage {
        let mut locked = 0;
        let mut metrics = mtu;
        for metric in self.metrics() {
            match metric {
                RouteMetric::Lock(mask) => locked |= mask & !LOCK_MTU,
                RouteMetric::Mtu(_) => {}
                other => metrics.push(other.clone()),
            }
        }
        for metric in &mut metrics {
            if let RouteMetric::Lock(mask) = metric {
                *mask |= std::mem::take(&mut locked);
            }
        }
        if locked != 0 {
            metrics.push(RouteMetric::Lock(locked));
        }
        // What the kernel tells of a route, but does not take.
        self.message.header.flags &= RouteFlags::Onlink;
        self.message.attributes.retain(|attribute| {
            !matches!(
                attribute,
                RouteAttribute::Metrics(_)
                    | RouteAttribute::CacheInfo(_)
                    | RouteAttribute::MulticastExpires(_)
            )
        });
        if !metrics.is_empty() {
            self.message.attributes.push(RouteAttribute::Metrics(metrics));
        }
        self.message
    }
}
