//! Addresses that no endpoint can have, when it is added and afterwards.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use netloom_core::{
    model::{Endpoint, Name},
    reserved::Reserved,
};
use netloom_kernel::{datapath::EndpointConfig, stack::Changes};

use super::Endpoints;
use crate::failure::Failure;

/// Longest time between two looks: an announcement may be lost.
const RESYNC_EVERY: Duration = Duration::from_secs(5);
/// Wait after an announcement: changes of addresses and routes come in bursts.
const DEBOUNCE: Duration = Duration::from_millis(50);

impl Endpoints {
    /// What the node and its services need for themselves, as it is now.
    pub(crate) async fn reserved(&self) -> Result<Reserved, Failure> {
        let vips = self.inventory.services()?.into_iter().map(|service| service.vip.ip());
        Ok(Reserved {
            own: self.devices.all_addresses().await?,
            gateways: self.devices.gateways().await?,
            // A service on the node's addresses has none of its own.
            vips: vips.filter(|vip| !vip.is_unspecified()).collect(),
        })
    }

    /// Has the datapath know the node's own addresses, for as long as the daemon runs.
    pub(crate) async fn watch_addresses(self: Arc<Self>) {
        let mut changes = Changes::listen(&self.netns)
            .inspect_err(|error| tracing::warn!(%error, "the node's addresses are seen some seconds late"))
            .ok();
        loop {
            if let Err(failure) = self.follow_own_addresses().await {
                tracing::warn!(%failure, "the datapath does not know the node's own addresses");
            }
            let changed = async {
                match &mut changes {
                    Some(changes) => changes.next().await,
                    None => std::future::pending().await,
                }
            };
            match tokio::time::timeout(RESYNC_EVERY, changed).await {
                Ok(None) => changes = None,
                Ok(Some(_)) => {
                    if let Some(changes) = &mut changes {
                        changes.end_of_burst(DEBOUNCE).await;
                    }
                }
                Err(_) => {}
            }
        }
    }

    /// Tells the datapath the node's own addresses. What is the node's is no endpoint's there, whatever its record says,
    /// and is again when the node has it no more.
    pub(crate) async fn follow_own_addresses(&self) -> Result<(), Failure> {
        let mut own: Vec<IpAddr> = self.devices.all_addresses().await?.iter().map(IpNet::addr).collect();
        // Those that each namespace or link has are no endpoint's anyway.
        own.retain(|address| Reserved::default().refuses(*address).is_none());
        let told = self.datapath.set_own_addresses(&own)?;
        if told.left > 0 {
            tracing::warn!(
                addresses = told.left,
                "the node has more addresses than the datapath has room for"
            );
        }
        if told.changed.is_empty() {
            return Ok(());
        }
        for (_, endpoint) in self.store.all::<Endpoint>()? {
            if endpoint.addresses.iter().any(|network| told.changed.contains(&network.addr())) {
                self.publish_again(&endpoint.spec.name).await?;
            }
        }
        Ok(())
    }

    async fn publish_again(&self, name: &Name) -> Result<(), Failure> {
        // It may have gone meanwhile.
        let Ok((_guard, endpoint)) = self.lock(name).await else { return Ok(()) };
        self.metrics.refused(self.datapath.set_endpoint(&EndpointConfig::from(&endpoint)))?;
        Ok(())
    }
}

/// Refuses an address that no endpoint can have.
pub(super) fn check(reserved: &Reserved, address: IpAddr) -> Result<(), Failure> {
    match reserved.refuses(address) {
        None => Ok(()),
        Some(why) if why.is_always() => {
            Err(Failure::invalid(anyhow::anyhow!("{address} cannot be an endpoint's address: it {why}")))
        }
        Some(why) => Err(Failure::conflict(format!("{address} cannot be an endpoint's address: it {why}"))
            .hint("use another address, or take this one away there first")),
    }
}
