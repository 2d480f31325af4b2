//! Which addresses an endpoint gets: those that it brings, if it may have them, or the next ones of the pools.

use std::{collections::HashSet, net::IpAddr, sync::PoisonError};

use ipnet::IpNet;
use netloom_api::types::PoolView;
use netloom_core::{
    model::{Endpoint, EndpointSpec},
    reserved::Reserved,
};

use super::{Endpoints, reserved};
use crate::{
    failure::Failure,
    naming,
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
        let pools = &self.config.endpoints;
        let mut addresses: Vec<IpAddr> = Vec::new();
        if let Some(pool) = pools.ipv4_pool {
            let last = match self.last_given(pool.into(), &taken)? {
                Some(IpAddr::V4(last)) => Some(last),
                _ => None,
            };
            let address = naming::free_ipv4(pool, last, &taken, reserved)
                .ok_or_else(|| pool_empty("ipv4_pool", &pool))?;
            addresses.push(address.into());
        }
        if let Some(pool) = pools.ipv6_pool.filter(|_| self.has_ipv6()) {
            let last = match self.last_given(pool.into(), &taken)? {
                Some(IpAddr::V6(last)) => Some(last),
                _ => None,
            };
            let address = naming::free_ipv6(pool, last, &taken, reserved)
                .ok_or_else(|| pool_empty("ipv6_pool", &pool))?;
            addresses.push(address.into());
        }
        let of_pools = pools
            .pools()
            .filter_map(|pool| Some((pool, *addresses.iter().find(|address| pool.contains(*address))?)));
        self.given.lock().unwrap_or_else(PoisonError::into_inner).extend(of_pools);
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

    /// The pools, and how much of each is given.
    pub(crate) async fn pools(&self) -> Result<Vec<PoolView>, Failure> {
        let reserved = self.reserved().await?;
        let withdrawn = self.withdrawn_in_part()?.into_iter().flat_map(|(_, addresses)| addresses).collect();
        let taken = self.taken(&self.admitted()?, &withdrawn);
        let has_ipv6 = self.has_ipv6();
        let pools = self.config.endpoints.pools().filter(|pool| pool.addr().is_ipv4() || has_ipv6);
        let views = pools.map(|prefix| {
            // Behind the highest there is mostly a free one.
            let last = taken.iter().copied().filter(|address| prefix.contains(address)).max();
            let full = match (prefix, last) {
                (IpNet::V4(pool), Some(IpAddr::V4(last))) => {
                    naming::free_ipv4(pool, Some(last), &taken, &reserved).is_none()
                }
                (IpNet::V4(pool), _) => naming::free_ipv4(pool, None, &taken, &reserved).is_none(),
                (IpNet::V6(pool), Some(IpAddr::V6(last))) => {
                    naming::free_ipv6(pool, Some(last), &taken, &reserved).is_none()
                }
                (IpNet::V6(pool), _) => naming::free_ipv6(pool, None, &taken, &reserved).is_none(),
            };
            let used = taken.iter().filter(|address| prefix.contains(*address)).count();
            PoolView { prefix, used, full }
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

fn pool_empty(key: &str, pool: &dyn std::fmt::Display) -> Failure {
    Failure::conflict(format!("the pool {pool} has no free address"))
        .hint(format!("delete endpoints, or set a larger endpoints.{key}"))
}
