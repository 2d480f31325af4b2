//! Which addresses an endpoint gets: those that it brings, if it may have them, or the next ones of the pools.

use std::{collections::HashSet, net::IpAddr, sync::PoisonError};

use ipnet::IpNet;
use netloom_api::types::PoolView;
use netloom_core::{
    model::{Endpoint, EndpointSpec},
    reserved::Reserved,
};

use super::{Endpoints, pool::Pool, reserved};
use crate::{
    failure::Failure,
    store::{Changes, LastAddress, StoreError},
};

impl Endpoints {
    /// The addresses asked for, if nobody has them, or free ones of the pools.
    pub(super) fn addresses(
        &self,
        spec: &EndpointSpec,
        existing: &[Endpoint],
        reserved: &Reserved,
    ) -> Result<Vec<IpNet>, Failure> {
        let withdrawn: HashSet<IpAddr> =
            self.withdrawn_in_part()?.into_iter().flat_map(|(_, addresses)| addresses).collect();
        let taken = self.taken(existing, &withdrawn);
        if !spec.addresses.is_empty() {
            for (index, address) in spec.addresses.iter().enumerate() {
                reserved::check(reserved, *address)?;
                if let Some(other) =
                    existing.iter().find(|other| other.addresses.iter().any(|net| net.addr() == *address))
                {
                    return Err(Failure::conflict(format!(
                        "the address {address} belongs to endpoint {}",
                        other.spec.name
                    )));
                }
                if withdrawn.contains(address) {
                    return Err(Failure::conflict(format!(
                        "the address {address} is being taken from an endpoint that is deleted"
                    ))
                    .hint("try again; `netloom doctor` tells what is in the way"));
                }
                let prefixes = &self.config.endpoints.prefixes;
                if !prefixes.is_empty() && !prefixes.iter().any(|prefix| prefix.contains(address)) {
                    let listed: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
                    return Err(Failure::invalid(anyhow::anyhow!(
                        "the address {address} is in none of the node's prefixes {}",
                        listed.join(", ")
                    ))
                    .hint("use an address of this node, or add its prefix to endpoints.prefixes"));
                }
                if spec.addresses.iter().take(index).any(|earlier| earlier == address) {
                    return Err(Failure::invalid(anyhow::anyhow!("the address {address} is given twice")));
                }
            }
            if spec.addresses.len() > 8 {
                return Err(Failure::invalid(anyhow::anyhow!("an endpoint has at most 8 addresses")));
            }
            return Ok(spec.addresses.iter().copied().map(IpNet::from).collect());
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        for pool in self.usable_pools() {
            let last = self.last_given(pool.prefix, &taken)?;
            let address = pool.next(last, &taken, reserved).ok_or_else(|| pool_empty(pool.prefix))?;
            self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(pool.prefix, address);
            addresses.push(address);
        }
        if addresses.is_empty() {
            return Err(Failure::invalid(anyhow::anyhow!(
                "the endpoint brings no address, and no pool is configured"
            ))
            .hint("give it an address, or set endpoints.ipv4_pool"));
        }
        Ok(addresses.into_iter().map(IpNet::from).collect())
    }

    /// Addresses that somebody has, or may still have.
    fn taken(&self, existing: &[Endpoint], withdrawn: &HashSet<IpAddr>) -> HashSet<IpAddr> {
        // An address without a record is that of an orphan.
        let mut taken: HashSet<IpAddr> = self.orphans.addresses().iter().map(|entry| entry.address).collect();
        for endpoint in existing {
            taken.extend(endpoint.addresses.iter().map(IpNet::addr));
        }
        taken.extend(withdrawn);
        taken
    }

    /// The pools of the families that the kernel has.
    fn usable_pools(&self) -> impl Iterator<Item = Pool> {
        let has_ipv6 = self.has_ipv6();
        let pools = self.config.endpoints.pools().filter(move |pool| pool.addr().is_ipv4() || has_ipv6);
        pools.map(|prefix| Pool::new(prefix, &self.config.endpoints.exclude))
    }

    /// The pools, and how much of each is given.
    pub(crate) async fn pools(&self) -> Result<Vec<PoolView>, Failure> {
        let reserved = self.reserved().await?;
        let withdrawn = self.withdrawn_in_part()?.into_iter().flat_map(|(_, addresses)| addresses).collect();
        let taken = self.taken(&self.admitted()?, &withdrawn);
        let views = self.usable_pools().map(|pool| {
            // Behind the highest there is mostly a free one.
            let last = taken.iter().copied().filter(|address| pool.prefix.contains(address)).max();
            PoolView {
                prefix: pool.prefix,
                size: pool.size(),
                used: taken.iter().filter(|address| pool.prefix.contains(*address)).count(),
                full: pool.next(last, &taken, &reserved).is_none(),
            }
        });
        Ok(views.collect())
    }

    /// The address of a pool that was given last. Where nothing says so, as with a store that is new, it is the highest
    /// that somebody has.
    fn last_given(&self, pool: IpNet, taken: &HashSet<IpAddr>) -> Result<Option<IpAddr>, StoreError> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = given.get(&pool) {
            return Ok(Some(*last));
        }
        let recorded = self.store.get::<LastAddress>(&pool.to_string())?.map(|LastAddress(last)| last);
        Ok(recorded.or_else(|| taken.iter().copied().filter(|address| pool.contains(address)).max()))
    }

    /// Notes, with the endpoint itself, which addresses of the pools were given last.
    pub(super) fn note_given(&self, endpoint: &Endpoint, changes: &Changes) -> Result<(), StoreError> {
        if !endpoint.spec.addresses.is_empty() {
            return Ok(());
        }
        for pool in self.config.endpoints.pools() {
            let mut addresses = endpoint.addresses.iter().map(IpNet::addr);
            if let Some(address) = addresses.find(|address| pool.contains(address)) {
                changes.put(&pool.to_string(), &LastAddress(address))?;
            }
        }
        Ok(())
    }
}

fn pool_empty(pool: IpNet) -> Failure {
    let key = if pool.addr().is_ipv4() { "ipv4_pool" } else { "ipv6_pool" };
    Failure::conflict(format!("the pool {pool} has no free address"))
        .hint(format!("delete endpoints, or set a larger endpoints.{key}"))
}
