//! Devices of the node's own: pairs that are no endpoint's, and a look at any device in any namespace.

mod settings;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use netloom_api::types::{DeviceRequest, DeviceView, Done, PeerView};
use netloom_core::{
    model::{Attachment, Device, Endpoint, MacAddress, NetkitPolicy, PairChange, PairSpec, Segmentation},
    plan::Plan,
    validate,
};
use netloom_kernel::{devices::Devices, netns::Netns};

pub(crate) use self::settings::check;
use crate::{
    executor::Executor,
    failure::Failure,
    inventory::Inventory,
    locks::{Locks, PairGuard},
    naming,
    opened::Opened,
    store::{Changes, PairRecord, Store},
};

/// An alias has at most 255 bytes, part of which says whose device it is.
const MAX_ALIAS: usize = 160;

/// Device pairs that are no endpoint's.
pub(crate) struct Pairs {
    instance: String,
    netns: Netns,
    devices: Devices,
    store: Arc<Store>,
    locks: Arc<Locks>,
    inventory: Arc<Inventory>,
    executor: Arc<Executor>,
}

impl Pairs {
    pub(crate) fn new(opened: &Opened, inventory: &Arc<Inventory>, executor: &Arc<Executor>) -> Self {
        Self {
            instance: opened.instance.clone(),
            netns: opened.netns.clone(),
            devices: opened.devices.clone(),
            store: Arc::clone(&opened.store),
            locks: Arc::clone(&opened.locks),
            inventory: Arc::clone(inventory),
            executor: Arc::clone(executor),
        }
    }

    /// Every device of a namespace, the node's own if none is named.
    pub(crate) async fn list(&self, netns: Option<&Path>) -> Result<Vec<DeviceView>, Failure> {
        let devices = self.open_devices(netns)?;
        let mut views = Vec::new();
        for device in devices.list().await? {
            views.push(self.device_view(&devices, device).await?);
        }
        Ok(views)
    }

    /// One device, with the other end of its pair in whatever namespace it is.
    pub(crate) async fn show(&self, name: &str, netns: Option<&Path>) -> Result<DeviceView, Failure> {
        let devices = self.open_devices(netns)?;
        let device = devices.get(name).await?.ok_or_else(|| {
            let place =
                netns.map_or_else(|| "on the node".to_owned(), |path| format!("in {}", path.display()));
            let recorded = netns.is_none() && matches!(self.store.get::<PairRecord>(name), Ok(Some(_)));
            let missing = Failure::not_found(format!("there is no device {name} {place}"));
            missing.hint(if recorded {
                format!("it was one of Netloom's, and somebody deleted it: netloom device delete {name}")
            } else {
                "see `netloom device list`".to_owned()
            })
        })?;
        let peer = devices.peer(&device).await?;
        let mut view = self.device_view(&devices, device).await?;
        if let Some(peer) = peer {
            let addresses = peer.devices.addresses(peer.device.ifindex).await?;
            view.peer = Some(PeerView { device: peer.device, netns_paths: peer.names, addresses });
        }
        Ok(view)
    }

    /// Creates a pair, with its other end in the namespace asked for: whole, or not at all.
    pub(crate) async fn create(&self, request: DeviceRequest) -> Result<DeviceView, Failure> {
        let name = request.name.clone();
        let netns = match &request.peer_netns {
            None => self.netns.clone(),
            Some(path) => open(path)?,
        };
        // A path that names the node's own namespace to every process.
        let path = request.peer_netns.clone().unwrap_or_else(|| PathBuf::from("/proc/1/ns/net"));
        let path = match Netns::open(&path) {
            Ok(opened) if opened == netns => path,
            _ => PathBuf::from(format!("/proc/{}/ns/net", std::process::id())),
        };
        let spec =
            PairSpec { host_ifindex: Some(self.devices.free_index().await?), ..self.pair_spec(request)? };
        let _guard = PairGuard::of(self.locks.device(&name).await, self.locks.netns(netns.id()).await, None);
        if self.store.get::<PairRecord>(&name)?.is_some() && self.devices.get(&name).await?.is_some() {
            return Err(Failure::conflict(format!("Netloom has a device {name} already"))
                .hint("delete it first, or choose another name"));
        }
        let netns_id = netns.id();
        let plan = Plan::create_device(path.clone(), netns_id, spec.clone());
        let journal = self.executor.begin(plan).await?;
        self.executor
            .run(journal, |progress, changes: &Changes| {
                let Some(made) = &progress.pair else { return Ok(()) };
                changes.put(&name, &PairRecord::of(spec, path, netns_id, made))
            })
            .await
            .map_err(|failure| failure.context(format!("device {name} was not created")))?;
        self.show(&name, None).await
    }

    /// Changes a pair of Netloom's that is no endpoint's: both ends, or none.
    pub(crate) async fn change(&self, name: &str, change: PairChange) -> Result<DeviceView, Failure> {
        let subject = format!("device {name}");
        let (_guard, record) = self.lock(name).await?;
        let ipv6 = record.spec.addresses.iter().any(|address| address.addr().is_ipv6());
        check(&change, record.spec.mode.is_netkit(), ipv6, &subject)?;
        let context = format!("{subject} was not changed");
        let state = self.executor.pair_state(record.ends(), None).await.map_err(|failure| {
            failure.context(context.clone()).hint(format!("netloom device delete {name} forgets it"))
        })?;
        let mut changed = record;
        let spec = &mut changed.spec;
        spec.mtu = change.mtu.unwrap_or(spec.mtu);
        spec.segmentation = change.end().segmentation.or(spec.segmentation);
        spec.primary_policy = change.primary_policy.unwrap_or(spec.primary_policy);
        spec.peer_policy = change.peer_policy.unwrap_or(spec.peer_policy);
        let plan = Plan::change_pair(format!("change {subject}"), &state, &change);
        let journal = self.executor.begin(plan).await?;
        self.executor
            .run(journal, |_, changes: &Changes| changes.put(name, &changed))
            .await
            .map_err(|failure| failure.context(context))?;
        self.show(name, None).await
    }

    /// Deletes a pair of Netloom's that is no endpoint's, with what is attached to it. One that is gone already is no
    /// error.
    pub(crate) async fn delete(&self, name: &str) -> Result<Done, Failure> {
        let (guard, record) = self.lock(name).await?;
        Ok(Done { warnings: self.remove(&guard, name, &record).await? })
    }

    /// The locks of a pair, and its record as it is from then on.
    pub(crate) async fn lock(&self, name: &str) -> Result<(PairGuard, PairRecord), Failure> {
        let lock = self.locks.device(name).await;
        // Its namespace stays the same as long as its name is locked.
        let inside = self.record(name).await?.netns_id;
        let within = self.locks.netns(inside).await;
        // What is attached to it goes with it: the watcher, which sees that, would attach it anew.
        let node = self.netns.id();
        let node = if node == inside { None } else { Some(self.locks.netns(node).await) };
        Ok((PairGuard::of(lock, within, node), self.record(name).await?))
    }

    /// Removes a pair and its record: what could not be cleaned up.
    pub(crate) async fn remove(
        &self,
        _held: &PairGuard,
        name: &str,
        record: &PairRecord,
    ) -> Result<Vec<String>, Failure> {
        let mut attachments = self.inventory.attachments()?;
        attachments.retain(|attachment| {
            attachment.netns.is_none() && attachment.hook.ifindex == record.host_ifindex
        });
        let plan = Plan::delete_device(name, &record.spec.alias, record.host_ifindex, &attachments);
        let journal = self.executor.begin(plan).await?;
        let removed = self.executor.run(journal, |_, changes| {
            for attachment in &attachments {
                changes.remove::<Attachment>(&attachment.id)?;
            }
            changes.remove::<PairRecord>(name)
        });
        Ok(removed.await?.1)
    }

    /// Drops the records of pairs that are not there any more: their names.
    pub(crate) async fn adopt(&self) -> Result<Vec<String>, Failure> {
        let mut dropped = Vec::new();
        for (name, record) in self.store.all::<PairRecord>()? {
            let device = self.devices.by_index(record.host_ifindex).await?;
            if device.is_some_and(|device| device.alias.as_deref() == Some(&record.spec.alias)) {
                continue;
            }
            let (guard, record) = self.lock(&name).await?;
            for warning in self.remove(&guard, &name, &record).await? {
                tracing::warn!(device = name, "{warning}");
            }
            dropped.push(format!("device {name}: it is gone"));
        }
        Ok(dropped)
    }

    /// The record of a pair; an error that says whose device it is if it is another's.
    async fn record(&self, name: &str) -> Result<PairRecord, Failure> {
        if let Some(record) = self.store.get::<PairRecord>(name)? {
            return Ok(record);
        }
        let endpoints = self.store.all::<Endpoint>()?;
        if let Some((owner, _)) = endpoints.iter().find(|(_, endpoint)| endpoint.host_interface == name) {
            return Err(Failure::conflict(format!("the device {name} belongs to endpoint {owner}"))
                .hint(format!("use `netloom endpoint set {owner}` or `netloom endpoint delete {owner}`")));
        }
        Err(match self.devices.get(name).await? {
            Some(_) => Failure::conflict(format!("the device {name} is not one that Netloom made"))
                .hint("use `ip link` for devices of others"),
            None => Failure::not_found(format!("there is no device {name} on the node"))
                .hint("see `netloom device list`"),
        })
    }

    async fn device_view(&self, devices: &Devices, device: Device) -> Result<DeviceView, Failure> {
        let addresses = devices.addresses(device.ifindex).await?;
        let owner = self.owner(&device)?;
        Ok(DeviceView { device, addresses, owner, peer: None })
    }

    /// Whose device it is, if it is one of Netloom's: of either end.
    fn owner(&self, device: &Device) -> Result<Option<String>, Failure> {
        let here = device.netns == self.netns.id();
        for (name, endpoint) in self.store.all::<Endpoint>()? {
            let host = here && endpoint.host_ifindex == device.ifindex;
            if host || (endpoint.netns == device.netns && endpoint.peer_ifindex == device.ifindex) {
                return Ok(Some(format!("endpoint {name}")));
            }
        }
        for (name, record) in self.store.all::<PairRecord>()? {
            let host = here && record.host_ifindex == device.ifindex;
            if host || (record.netns_id == device.netns && record.peer_ifindex == device.ifindex) {
                return Ok(Some(format!("device {name}")));
            }
        }
        Ok(None)
    }

    fn open_devices(&self, netns: Option<&Path>) -> Result<Devices, Failure> {
        match netns {
            None => Ok(self.devices.clone()),
            Some(path) => Ok(Devices::open(&open(path)?)?),
        }
    }

    fn pair_spec(&self, request: DeviceRequest) -> Result<PairSpec, Failure> {
        let text = request.alias.unwrap_or_default();
        if text.len() > MAX_ALIAS || text.contains(char::is_control) {
            return Err(Failure::invalid(anyhow::anyhow!(
                "an alias has at most {MAX_ALIAS} bytes, in one line"
            )));
        }
        let segmentation = Segmentation {
            gso_max_size: request.gso_max_size,
            gro_max_size: request.gro_max_size,
            gso_ipv4_max_size: request.gso_ipv4_max_size,
            gro_ipv4_max_size: request.gro_ipv4_max_size,
        };
        validate::segmentation_sizes(&segmentation).map_err(Failure::invalid)?;
        if !request.mode.is_netkit() && (request.primary_policy.is_some() || request.peer_policy.is_some()) {
            return Err(Failure::invalid(anyhow::anyhow!("a veth pair has no default policies"))
                .hint("leave the policies out, or make a netkit pair"));
        }
        let mac = |asked: Option<MacAddress>, host| {
            asked.or_else(|| {
                request.mode.has_mac().then(|| naming::device_mac(&self.instance, &request.name, host))
            })
        };
        Ok(PairSpec {
            host_mac: mac(request.mac, true),
            peer_mac: mac(request.peer_mac, false),
            addresses: request.addresses,
            mtu: request.mtu.unwrap_or_else(|| self.inventory.default_mtu()),
            primary_policy: request.primary_policy.unwrap_or(NetkitPolicy::Forward),
            peer_policy: request.peer_policy.unwrap_or(NetkitPolicy::Forward),
            scrub: request.scrub,
            peer_scrub: request.peer_scrub,
            headroom: request.headroom,
            tailroom: request.tailroom,
            segmentation,
            tx_queues: request.tx_queues,
            rx_queues: request.rx_queues,
            alias: naming::device_alias(&self.instance, &request.name, &text),
            ..PairSpec::plain(request.mode, &request.name, request.peer)
        })
    }
}

fn open(path: &Path) -> Result<Netns, Failure> {
    Netns::open(path).map_err(|error| {
        Failure::invalid(error).hint("name a network namespace, such as /run/netns/NAME or /proc/PID/ns/net")
    })
}
