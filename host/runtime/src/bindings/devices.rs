use netloom_core::{
    grants::{DeviceGrant, Namespace},
    model::{Device, MacAddress, PairChange},
};
use wasmtime::component::Resource;

use super::{
    convert,
    kernel::{devices, types as wit},
    operations::{Answer, invalid},
};
use crate::{operations::PairRequest, state::State};

/// Devices in one listing, at most.
const LISTED: usize = 4_096;
/// Addresses of a new device, at most.
const ADDRESSES: usize = 64;

/// A handle of a device: its name in a namespace that the grant covers.
#[allow(unreachable_pub, reason = "the generated code re-exports it")]
pub struct DeviceHandle {
    namespace: Namespace,
    name: String,
}

fn info(device: &Device) -> devices::Info {
    devices::Info {
        name: device.name.clone(),
        ifindex: device.ifindex.0,
        netns: device.netns.into(),
        mode: device.mode.map(Into::into),
        mtu: device.mtu,
        mac: device.mac.map(convert::mac),
        up: device.up,
        policy: device.policy.map(Into::into),
        gso_max_size: device.gso_max_size,
        gro_max_size: device.gro_max_size,
        packets: (device.stats.rx_packets, device.stats.tx_packets),
        bytes: (device.stats.rx_bytes, device.stats.tx_bytes),
    }
}

impl State {
    fn device_grant(&self) -> Answer<DeviceGrant> {
        self.granted("devices", |grants| grants.devices.as_ref())
    }

    async fn list_devices(&mut self) -> Answer<Vec<devices::Info>> {
        let (grant, operations) = (self.device_grant()?, self.operations()?);
        let mut found = Vec::new();
        let mut seen = Vec::new();
        for namespace in self.namespaces().await? {
            let covered = grant.namespaces.iter().any(|scope| scope.covers(&namespace));
            if !covered || seen.contains(&namespace.id) {
                continue;
            }
            seen.push(namespace.id);
            let devices = operations.devices(&namespace).await?;
            found.extend(devices.iter().filter(|device| grant.covers(&namespace, &device.name)).map(info));
        }
        found.truncate(LISTED);
        Ok(found)
    }

    async fn open_device(&mut self, netns: wit::NetnsId, name: String) -> Answer<DeviceHandle> {
        let grant = self.device_grant()?;
        let namespace =
            self.namespace(netns, "devices.open", |namespace| grant.covers(namespace, &name)).await?;
        self.operations()?.device(&namespace, &name).await?;
        Ok(DeviceHandle { namespace, name })
    }

    async fn create_device(&mut self, request: devices::PairRequest) -> Answer<DeviceHandle> {
        const CREATE: &str = "devices.create";
        let (grant, operations) = (self.device_grant()?, self.operations()?);
        self.check_mutate(grant.access, "devices", CREATE)?;
        let known = self.namespaces().await?;
        let node = known
            .into_iter()
            .find(|namespace| namespace.path().is_none())
            .ok_or_else(|| wit::Error::Kernel("the node's namespace is not known".to_owned()))?;
        self.check(grant.covers(&node, &request.name), CREATE, || {
            format!("the device {} in the node's namespace", request.name)
        })?;
        let covered = |namespace: &Namespace| grant.covers(namespace, &request.peer_name);
        let peer = self.namespace(request.peer_netns, CREATE, covered).await?;
        if request.peer_addresses.len() > ADDRESSES {
            return Err(invalid(format!("a device has at most {ADDRESSES} addresses here")));
        }
        let addresses = request.peer_addresses.into_iter().map(convert::prefix);
        let pair = PairRequest {
            mode: request.mode.into(),
            name: request.name,
            peer,
            peer_name: request.peer_name,
            peer_mac: request.peer_mac.map(|mac| MacAddress(mac.into())),
            peer_addresses: addresses.collect::<Result<_, _>>().map_err(invalid)?,
            mtu: request.mtu,
        };
        let device = operations.create_pair(&self.plugin, pair).await?;
        Ok(DeviceHandle { namespace: node, name: device.name })
    }

    fn device_of(&mut self, handle: &Resource<DeviceHandle>) -> wasmtime::Result<(Namespace, String)> {
        let handle = self.table().get(handle)?;
        Ok((handle.namespace.clone(), handle.name.clone()))
    }

    async fn set_device(
        &mut self,
        handle: &Resource<DeviceHandle>,
        operation: &'static str,
        change: PairChange,
    ) -> wasmtime::Result<Answer<()>> {
        self.meter.count_host_call()?;
        let (namespace, name) = self.device_of(handle)?;
        let act = async {
            self.check_mutate(self.device_grant()?.access, "devices", operation)?;
            let known = self.namespaces().await?;
            Ok(self.operations()?.set_device(&self.plugin, &namespace, &name, change, known).await?)
        };
        Ok(act.await)
    }
}

impl devices::Host for State {
    async fn list_devices(&mut self) -> wasmtime::Result<Answer<Vec<devices::Info>>> {
        self.meter.count_host_call()?;
        Ok(self.list_devices().await)
    }

    async fn open(
        &mut self,
        netns: wit::NetnsId,
        name: String,
    ) -> wasmtime::Result<Answer<Resource<DeviceHandle>>> {
        self.meter.count_host_call()?;
        match self.open_device(netns, name).await {
            Ok(handle) => Ok(Ok(self.table().push(handle)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn create(
        &mut self,
        request: devices::PairRequest,
    ) -> wasmtime::Result<Answer<Resource<DeviceHandle>>> {
        self.meter.count_host_call()?;
        match self.create_device(request).await {
            Ok(handle) => Ok(Ok(self.table().push(handle)?)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl devices::HostDevice for State {
    async fn inspect(&mut self, handle: Resource<DeviceHandle>) -> wasmtime::Result<Answer<devices::Info>> {
        self.meter.count_host_call()?;
        let (namespace, name) = self.device_of(&handle)?;
        let act = async { Ok(info(&self.operations()?.device(&namespace, &name).await?)) };
        Ok(act.await)
    }

    async fn set_mtu(&mut self, handle: Resource<DeviceHandle>, mtu: u32) -> wasmtime::Result<Answer<()>> {
        self.set_device(&handle, "devices.set-mtu", PairChange { mtu: Some(mtu), ..PairChange::default() })
            .await
    }

    async fn set_segmentation(
        &mut self,
        handle: Resource<DeviceHandle>,
        gso: u32,
        gro: u32,
    ) -> wasmtime::Result<Answer<()>> {
        let change = PairChange { gso_max_size: Some(gso), gro_max_size: Some(gro), ..PairChange::default() };
        self.set_device(&handle, "devices.set-segmentation", change).await
    }

    async fn set_policy(
        &mut self,
        handle: Resource<DeviceHandle>,
        primary: wit::NetkitPolicy,
        peer: wit::NetkitPolicy,
    ) -> wasmtime::Result<Answer<()>> {
        let change = PairChange {
            primary_policy: Some(primary.into()),
            peer_policy: Some(peer.into()),
            ..PairChange::default()
        };
        self.set_device(&handle, "devices.set-policy", change).await
    }

    async fn remove(&mut self, handle: Resource<DeviceHandle>) -> wasmtime::Result<Answer<()>> {
        const REMOVE: &str = "devices.remove";
        self.meter.count_host_call()?;
        let (namespace, name) = self.device_of(&handle)?;
        let act = async {
            self.check_mutate(self.device_grant()?.access, "devices", REMOVE)?;
            if namespace.path().is_some() {
                return Err(self
                    .deny(REMOVE, format!("{name} is in {namespace}: a pair is removed by the node's end")));
            }
            Ok(self.operations()?.remove_device(&self.plugin, &name).await?)
        };
        Ok(act.await)
    }

    async fn drop(&mut self, handle: Resource<DeviceHandle>) -> wasmtime::Result<()> {
        self.table().delete(handle)?;
        Ok(())
    }
}
