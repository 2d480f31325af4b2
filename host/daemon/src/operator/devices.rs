//! Devices, as plugins see, create, change and remove them.

use netloom_core::{
    grants::Namespace,
    model::{Device, DeviceMode, Endpoint, Name, PairChange, PairSpec},
    plan::{PairEnds, Plan},
};
use netloom_kernel::{devices::Devices, netns::Netns};
use netloom_runtime::PairRequest;

use super::Actions;
use crate::{
    failure::Failure,
    locks::{self, PairGuard},
    naming, pairs,
    store::PairRecord,
};

impl Actions {
    fn devices_in(&self, namespace: &Namespace) -> Result<Devices, Failure> {
        match namespace.path() {
            None => Ok(self.devices.clone()),
            Some(path) => Ok(Devices::open(&Netns::open(path)?)?),
        }
    }

    pub(super) async fn devices_of(&self, namespace: &Namespace) -> Result<Vec<Device>, Failure> {
        Ok(self.devices_in(namespace)?.list().await?)
    }

    pub(super) async fn device_of(&self, namespace: &Namespace, name: &str) -> Result<Device, Failure> {
        let found = self.devices_in(namespace)?.get(name).await?;
        found.ok_or_else(|| Failure::not_found(format!("there is no device {name} in {namespace}")))
    }

    /// The other end of a pair, in one of the known namespaces.
    async fn other_end(
        &self,
        namespace: &Namespace,
        device: &Device,
        known: &[Namespace],
    ) -> Result<(Namespace, Device), Failure> {
        let devices = self.devices_in(namespace)?;
        for namespace in known {
            let netns = namespace.path().map_or_else(|| Ok(self.netns.clone()), |path| Netns::open(path))?;
            if let Some(other) = devices.peer_in(device, &netns).await? {
                return Ok((namespace.clone(), other));
            }
        }
        Err(Failure::not_found(format!(
            "the other end of {} is in a namespace that is neither the node's nor an endpoint's nor granted",
            device.name
        )))
    }

    /// Changes both ends of a pair: an endpoint's, or one that this plugin created.
    pub(super) async fn change_device(
        &self,
        by: &Name,
        namespace: &Namespace,
        name: &str,
        change: PairChange,
        known: &[Namespace],
    ) -> Result<(), Failure> {
        let device = self.device_of(namespace, name).await?;
        if let Some(endpoint) = self.endpoint_of(&device)? {
            // It is the request's own lock, which would not come free before the plugin's deadline.
            drop(self.soon(self.endpoints.lock(&endpoint.spec.name)).await??);
            return self.endpoints.change(&endpoint.spec.name, change).await.map(drop);
        }
        let alias = naming::plugin_alias(&self.instance, by);
        if device.alias.as_deref() != Some(&alias) {
            let why = anyhow::anyhow!("{name} is neither an endpoint's nor was it created by plugin {by}");
            return Err(Failure::invalid(why));
        }
        let (other_namespace, other) = self.other_end(namespace, &device, known).await?;
        let (host, peer) = if namespace.path().is_none() { (&device, &other) } else { (&other, &device) };
        let Some(netns) = namespace.path().or_else(|| other_namespace.path()).cloned() else {
            return Err(Failure::invalid(anyhow::anyhow!("both ends of {name} are on the node")));
        };
        let _guard = self.soon(self.locks.netns(peer.netns)).await?;
        pairs::check(&change, device.mode.is_some_and(DeviceMode::is_netkit), false, name)?;
        let ends = PairEnds { host: host.ifindex, alias, netns, netns_id: peer.netns, peer: peer.ifindex };
        let state = self.executor.pair_state(ends, None).await?;
        let plan = Plan::change_pair(format!("change {name} of plugin {by}"), &state, &change);
        let journal = self.executor.begin(plan).await?;
        self.executor.run(journal, |_, _| Ok(())).await.map(drop)
    }

    /// The endpoint whose pair a device is an end of.
    fn endpoint_of(&self, device: &Device) -> Result<Option<Endpoint>, Failure> {
        let endpoints = self.store.all::<Endpoint>()?.into_iter().map(|(_, endpoint)| endpoint);
        Ok(endpoints.into_iter().find(|endpoint| {
            let host = (self.netns.id(), endpoint.host_ifindex);
            [host, (endpoint.netns, endpoint.peer_ifindex)].contains(&(device.netns, device.ifindex))
        }))
    }

    /// Creates a pair with the plugin's name on it.
    pub(super) async fn create_plugin_pair(
        &self,
        by: &Name,
        request: PairRequest,
    ) -> Result<Device, Failure> {
        let Some(netns) = request.peer.path().cloned() else {
            return Err(Failure::invalid(anyhow::anyhow!(
                "the other end of a pair goes into another namespace than the node's"
            )));
        };
        let lock = async {
            PairGuard::of(
                self.locks.device(&request.name).await,
                self.locks.netns(request.peer.id).await,
                None,
            )
        };
        let _guard = self.soon(lock).await?;
        let pair = PairSpec {
            host_ifindex: Some(self.devices.free_index().await?),
            peer_mac: request.peer_mac,
            addresses: request.peer_addresses,
            mtu: request.mtu,
            alias: naming::plugin_alias(&self.instance, by),
            ..PairSpec::plain(request.mode, request.name.clone(), request.peer_name)
        };
        if self.devices.get(&pair.host_name).await?.is_some() {
            return Err(Failure::conflict(format!("there is a device {} already", pair.host_name)));
        }
        let netns_id = request.peer.id;
        let plan = Plan {
            what: format!("create {} for plugin {by}", request.name),
            ..Plan::create_device(netns.clone(), netns_id, pair.clone())
        };
        let journal = self.executor.begin(plan).await?;
        let made = self.executor.run(journal, |progress, changes| {
            if let Some(made) = &progress.pair {
                changes.put(&request.name, &PairRecord::of(pair, netns, netns_id, made))?;
            }
            Ok(progress.pair.clone())
        });
        made.await?.0.map(|pair| pair.host).ok_or_else(|| Failure::conflict("no pair was made"))
    }

    /// Deletes a device with the plugin's name on it.
    pub(super) async fn remove_plugin_device(&self, by: &Name, name: &str) -> Result<(), Failure> {
        let alias = naming::plugin_alias(&self.instance, by);
        let is_its = |record: &PairRecord| record.spec.alias == alias;
        if !self.store.get::<PairRecord>(name)?.is_some_and(|record| is_its(&record)) {
            return Err(match self.devices.get(name).await? {
                None => Failure::not_found(format!("there is no device {name}")),
                Some(_) => {
                    Failure::invalid(anyhow::anyhow!("{name} was not created by plugin {by}, and stays"))
                }
            });
        }
        let (guard, record) = self.soon(self.pairs.lock(name)).await??;
        if !is_its(&record) {
            return Err(Failure::conflict(format!("{name} has become another's")));
        }
        let left = self.pairs.remove(&guard, name, &record).await?;
        if left.is_empty() { Ok(()) } else { Err(Failure::conflict(left.join("; "))) }
    }

    /// A lock, unless the very request waits for this plugin that holds it.
    pub(super) async fn soon<G>(&self, lock: impl Future<Output = G>) -> Result<G, Failure> {
        locks::soon(lock)
            .await
            .ok_or_else(|| Failure::busy("it is being changed at this moment: try again later"))
    }
}
