//! The step that switches an endpoint over from one pair to another.

use std::time::{Duration, Instant};

use netloom_core::{
    model::{Device, Endpoint},
    plan::Switch,
};
use netloom_kernel::{
    datapath::EndpointConfig,
    devices::{Devices, Pair},
};

use super::Executor;
use crate::{failure::Failure, inventory::namespaces::namespace};

impl Executor {
    /// Switches an endpoint over to its other pair: how long it had no path. On the way back, what is gone is fine,
    /// and what was never begun is left alone.
    pub(crate) async fn switch_pair(&self, way: &Switch, back: bool) -> Result<Option<Duration>, Failure> {
        let (leave, take) = if back { (&way.after, &way.before) } else { (&way.before, &way.after) };
        let Some(inside) = self.inside(take).await? else {
            return if back { Ok(None) } else { Err(gone(take)) };
        };
        let left = self.ends(leave, &way.alias, &inside).await?;
        let Some((host, peer)) = self.ends(take, &way.alias, &inside).await? else {
            return if back { Ok(None) } else { Err(gone(take)) };
        };
        if let Some((left_host, left_peer)) = left.as_ref().filter(|_| !back) {
            inside.carry_sysctls(&left_peer.name, &peer.name)?;
            self.devices.carry_sysctls(&left_host.name, &host.name)?;
        }

        let since = Instant::now();
        if let Some((left_host, left_peer)) = &left {
            if left_peer.name == leave.spec.interface {
                inside.rename(left_peer.ifindex, &leave.host_interface).await?;
            }
            // Its routes go with it.
            self.devices.set_up(left_host.ifindex, false).await?;
        }
        self.failpoints.step_done().await;
        if peer.name != take.spec.interface {
            inside.rename(peer.ifindex, &take.spec.interface).await?;
        }
        // It was closed until now. The node's end first: the other one is ready at once then.
        self.devices.set_up(host.ifindex, true).await?;
        inside.set_up(peer.ifindex, true).await?;
        for address in &take.addresses {
            inside.add_address(peer.ifindex, *address).await?;
        }
        let (host_ifindex, peer_ifindex) = (host.ifindex, peer.ifindex);
        let pair = Pair { host, peer };
        let gateway_mac = pair.gateway_mac();
        let routes = take.routes_inside();
        self.devices.connect_endpoint(&pair, inside.netns(), &take.addresses, &routes, gateway_mac).await?;
        let has_mac = take.mode.device.has_mac();
        let gateway = (way.before.mode.device.has_mac() != has_mac).then_some(has_mac);
        inside.carry_routes(&way.endpoint_routes, peer_ifindex, gateway).await?;
        self.devices.carry_routes(&way.node_routes, host_ifindex, None).await?;
        let endpoint = Endpoint { host_ifindex, peer_ifindex, ..take.clone() };
        self.metrics.refused(self.datapath.set_endpoint(&EndpointConfig::from(&endpoint)))?;
        Ok(Some(since.elapsed()))
    }

    pub(crate) async fn inside(&self, endpoint: &Endpoint) -> Result<Option<Devices>, Failure> {
        let netns = namespace(&endpoint.spec.netns, endpoint.netns).await?;
        Ok(netns.map(|netns| Devices::open(&netns)).transpose()?)
    }

    /// Both ends of an endpoint's pair: the node's, and the endpoint's.
    pub(crate) async fn ends(
        &self,
        endpoint: &Endpoint,
        alias: &str,
        inside: &Devices,
    ) -> Result<Option<(Device, Device)>, Failure> {
        let host = self.devices.by_index(endpoint.host_ifindex).await?;
        let Some(host) = host.filter(|host| host.alias.as_deref() == Some(alias)) else { return Ok(None) };
        let Some(index) = host.peer_ifindex else { return Ok(None) };
        let peer = inside.by_index(index).await?;
        let peer = peer.filter(|peer| peer.peer_ifindex == Some(host.ifindex));
        Ok(peer.map(|peer| (host, peer)))
    }
}

/// The failure where an endpoint's pair is not where it was.
pub(crate) fn gone(endpoint: &Endpoint) -> Failure {
    Failure::not_found(format!(
        "the pair of endpoint {} is not between {} and {}",
        endpoint.spec.name,
        endpoint.host_interface,
        endpoint.spec.netns.display()
    ))
    .hint("was a device moved or deleted? delete the endpoint and add it again")
}
