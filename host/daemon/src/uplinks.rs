//! The node's devices to outside: endpoints' packets leave and come in by them without the node's stack, as long as
//! nothing there has a say in them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use netloom_api::types::Outside;
use netloom_core::{
    model::{Attachment, Candidate, Device, IfIndex, ProgramSource},
    plan::{Op, Plan, Target},
};
use netloom_kernel::{datapath::Datapath, devices::Devices, netfilter, netns::Netns};

use crate::{
    chains::Chains,
    config::{self, Config},
    executor::Executor,
    failure::Failure,
    inventory::Inventory,
    locks::{HookGuard, Locks},
    naming,
    opened::Opened,
    services::Services,
    store::Store,
};

/// Longest time between two looks: netfilter announces none of its changes.
const RESYNC_EVERY: Duration = Duration::from_secs(5);
/// Wait after an announcement: changes of devices and routes come in bursts.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// The devices to outside, and the programs on them.
pub(crate) struct Uplinks {
    instance: String,
    config: Arc<Config>,
    netns: Netns,
    devices: Devices,
    store: Arc<Store>,
    datapath: Arc<Datapath>,
    locks: Arc<Locks>,
    inventory: Arc<Inventory>,
    executor: Arc<Executor>,
    chains: Arc<Chains>,
    services: Arc<Services>,
    outside: Mutex<Outside>,
}

impl Uplinks {
    pub(crate) fn new(
        opened: &Opened,
        inventory: &Arc<Inventory>,
        executor: &Arc<Executor>,
        chains: &Arc<Chains>,
        services: &Arc<Services>,
    ) -> Self {
        Self {
            instance: opened.instance.clone(),
            config: Arc::clone(&opened.config),
            netns: opened.netns.clone(),
            devices: opened.devices.clone(),
            store: Arc::clone(&opened.store),
            datapath: Arc::clone(&opened.datapath),
            locks: Arc::clone(&opened.locks),
            inventory: Arc::clone(inventory),
            executor: Arc::clone(executor),
            chains: Arc::clone(chains),
            services: Arc::clone(services),
            outside: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> Outside {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps up with devices, addresses, routes and netfilter, for as long as the daemon runs.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut changes = match self.devices.changes() {
            Ok(changes) => Some(changes),
            Err(error) => {
                tracing::warn!(%error, "changes of devices and routes are seen some seconds late");
                None
            }
        };
        loop {
            let changed = async {
                match &mut changes {
                    Some(changes) => changes.recv().await,
                    None => std::future::pending().await,
                }
            };
            if let Ok(None) = tokio::time::timeout(RESYNC_EVERY, changed).await {
                changes = None;
            }
            tokio::time::sleep(DEBOUNCE).await;
            if let Err(failure) = self.refresh().await {
                tracing::error!(%failure, "the devices to outside are not as they should be");
            }
            if let Err(failure) = self.services.follow_node_addresses().await {
                tracing::error!(%failure, "services on the node's addresses are not as they should be");
            }
        }
    }

    /// Attaches to the devices that lead to outside, and to no other.
    pub(crate) async fn refresh(&self) -> Result<(), Failure> {
        // None of these devices is an endpoint's.
        let guard = HookGuard::of(None, self.locks.netns(self.netns.id()).await);
        let (wanted, through_stack) = self.wanted_uplinks().await?;
        let indexes: Vec<IfIndex> = wanted.iter().map(|device| device.ifindex).collect();
        let mut attached: Vec<Attachment> = self.inventory.attachments()?;
        attached.retain(|attachment| attachment.source == ProgramSource::FromUplink);
        let in_use =
            |device: &Device| attached.iter().any(|attachment| attachment.hook.ifindex == device.ifindex);
        for device in wanted.iter().filter(|device| !in_use(device)) {
            self.attach_uplink(&guard, device).await?;
            tracing::info!(device = device.name, "endpoints reach outside by it past the node's stack");
        }
        let outside =
            Outside { uplinks: wanted.iter().map(|device| device.name.clone()).collect(), through_stack };
        if self.datapath.uplinks()? != indexes {
            self.datapath.set_uplinks(&indexes)?;
        }
        for attachment in attached.iter().filter(|attachment| !indexes.contains(&attachment.hook.ifindex)) {
            // Another device may have its name, and so the attachment's, by now.
            if !wanted.iter().any(|device| device.name == attachment.hook.device) {
                for warning in self.chains.detach_recorded(&guard, attachment).await? {
                    tracing::warn!(device = attachment.hook.device, "{warning}");
                }
            }
            tracing::info!(device = attachment.hook.device, "leads to outside no more");
        }
        *self.outside.lock().unwrap_or_else(PoisonError::into_inner) = outside;
        Ok(())
    }

    /// The devices, and why there are none where the node's stack is to see everything.
    async fn wanted_uplinks(&self) -> Result<(Vec<Device>, Option<String>), Failure> {
        let stack = |why: &str| Ok((Vec::new(), Some(why.to_owned())));
        match self.config.datapath.outside {
            config::Outside::Stack => return stack("datapath.outside says so"),
            config::Outside::Auto => {
                let netns = self.netns.clone();
                let seen = tokio::task::spawn_blocking(move || netfilter::forwarding(&netns)).await?;
                match seen {
                    Ok(Some(seen)) => return stack(&format!("{} sees what is forwarded", seen.0)),
                    Ok(None) => {}
                    Err(error) => return stack(&format!("netfilter cannot be read: {error}")),
                }
            }
            config::Outside::Direct => {}
        }
        let mut devices = Vec::new();
        if self.config.datapath.uplinks.is_empty() {
            devices = self.devices.of_default_routes().await?;
        } else {
            for name in &self.config.datapath.uplinks {
                devices.extend(self.devices.get(name).await?);
            }
        }
        // Frames are made for them. Another end of a pair of ours is an endpoint's.
        let ours = naming::alias_prefix(&self.instance);
        devices.retain(|device| {
            device.mac.is_some() && !device.alias.as_deref().is_some_and(|alias| alias.starts_with(&ours))
        });
        if devices.is_empty() {
            return stack(if self.config.datapath.uplinks.is_empty() {
                "no default route leads to a device with Ethernet frames"
            } else {
                "none of datapath.uplinks is there"
            });
        }
        Ok((devices, None))
    }

    async fn attach_uplink(&self, held: &HookGuard, device: &Device) -> Result<(), Failure> {
        let id = naming::uplink_attachment(&device.name);
        if let Some(old) = self.store.get::<Attachment>(&id)? {
            // Of a device of this name that is gone.
            self.chains.detach_recorded(held, &old).await?;
        }
        let point = self.chains.default_point(None, &device.name, self.config.attachments.mode).await?;
        let op = Op::Attach {
            id: id.clone(),
            target: Target { netns: None, device: device.name.clone(), point, endpoint: None },
            candidate: Candidate::datapath(false),
            program: ProgramSource::FromUplink,
            mode: None,
            fixed: None,
        };
        let plan = Plan::make(format!("attach to uplink {}", device.name), vec![op]);
        let journal = self.executor.begin(plan).await?;
        let attached = self.executor.run(journal, |progress, changes| {
            for attachment in &progress.attachments {
                changes.put(&attachment.id, attachment)?;
            }
            Ok(())
        });
        attached.await.map(drop)
    }
}
