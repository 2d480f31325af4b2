//! Which packets of endpoints pass the node's stack by: those between endpoints, and those to and from outside by the
//! devices that lead there, as long as the stack has no say in them.

mod judge;
mod masquerading;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use netloom_api::types::{Endpoint, LocalWay, Outside};
use netloom_core::{
    model::{Attachment, Candidate, Device, IfIndex, ProgramSource},
    plan::{Op, Plan, Target},
};
use netloom_kernel::{
    datapath::Datapath,
    devices::Devices,
    netns::Netns,
    stack::{self, Change, Changes, Refusal},
};

use self::judge::{Asked, Judged};
use crate::{
    chains::Chains,
    config::Config,
    executor::Executor,
    failure::Failure,
    inventory::Inventory,
    locks::{HookGuard, Locks},
    naming,
    opened::Opened,
    services::Services,
    slow,
    store::Store,
};

/// Longest time between two looks at everything.
const RESYNC_EVERY: Duration = Duration::from_secs(10);
/// Time between two looks at what the kernel announces to nobody: the older iptables, and IPVS.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Wait after an announcement of devices, addresses, routes or qdiscs, which change in bursts.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// So many times as long as a look takes is waited for the end of a burst at least: most of the time is for others.
const SHARE: u32 = 10;

/// How packets of endpoints go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    /// To and from outside.
    pub(crate) outside: Outside,
    /// From one endpoint to another.
    pub(crate) local: LocalWay,
    /// What drops them where they go through the node's stack.
    pub(crate) refusals: Vec<Refusal>,
    /// What keeps them from getting where they should, each in words.
    pub(crate) troubles: Vec<String>,
}

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
    now: Mutex<Ways>,
    /// Held while packets are sent another way.
    refreshing: tokio::sync::Mutex<()>,
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
            now: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
        }
    }

    /// How packets go now.
    pub(crate) fn now(&self) -> Ways {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps up with everything that has a say in packets, for as long as the daemon runs.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut changes = match Changes::listen(&self.netns) {
            Ok(changes) => Some(changes),
            Err(error) => {
                tracing::warn!(%error, "what has a say in packets is seen some seconds late");
                None
            }
        };
        let (mut unannounced, mut took) = (String::new(), Duration::ZERO);
        loop {
            let debounce = (took * SHARE).clamp(DEBOUNCE, RESYNC_EVERY);
            self.await_change(&mut changes, &unannounced, debounce).await;
            // Before what it tells of is looked at.
            unannounced = self.unannounced().await;
            let began = Instant::now();
            if let Err(failure) = slow::told("a look at what has a say in packets", self.refresh()).await {
                tracing::error!(%failure, "the devices to outside are not as they should be");
            }
            if let Err(failure) = self.services.follow_node_addresses().await {
                tracing::error!(%failure, "services on the node's addresses are not as they should be");
            }
            took = began.elapsed();
            // However often rules change, as much time is left to others.
            tokio::time::sleep(took).await;
        }
    }

    /// Waits for a change, or until it is time to look anyway.
    async fn await_change(&self, changes: &mut Option<Changes>, unannounced: &str, debounce: Duration) {
        let until = Instant::now() + RESYNC_EVERY;
        while Instant::now() < until {
            let announced = async {
                match changes {
                    Some(changes) => changes.next().await,
                    None => std::future::pending().await,
                }
            };
            match tokio::time::timeout(LOOK_EVERY, announced).await {
                Ok(Some(Change::Rules)) => return,
                Ok(Some(Change::Devices)) => {
                    if let Some(changes) = changes {
                        changes.end_of_burst(debounce).await;
                    }
                    return;
                }
                Ok(None) => *changes = None,
                Err(_) if self.unannounced().await != unannounced => return,
                Err(_) => {}
            }
        }
    }

    async fn unannounced(&self) -> String {
        let netns = self.netns.clone();
        let read = tokio::task::spawn_blocking(move || stack::unannounced(&netns)).await;
        read.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Sends packets the way they have to go. Those in which the stack has a say go through it at once; then programs
    /// are attached to the devices that lead to outside, and detached from others.
    pub(crate) async fn refresh(&self) -> Result<(), Failure> {
        let _refreshing = self.refreshing.lock().await;
        let devices = self.devices_to_outside().await?;
        let mut troubles = Vec::new();
        let masquerade = self.masquerade(&devices, &mut troubles).await;
        let masqueraded = masquerade.off.is_none();
        if masqueraded {
            self.datapath.set_native(&masquerade.native)?;
        }
        let judged = self.judge(&devices, masqueraded).await?;
        self.datapath.set_by_stack(judged.by_stack(masqueraded), &judged.endpoints)?;
        if judged.outside.is_some() {
            self.datapath.set_uplinks(&[])?;
        }
        if masqueraded && let Err(failure) = self.forward(&devices) {
            troubles.push(format!("the node does not forward what comes from outside: {failure}"));
        }
        if let Err(failure) = self.close_pools().await {
            troubles.push(format!("what is for addresses of the pools that nobody has may leave: {failure}"));
        }
        let outside = Outside { masquerade, ..self.attach_and_detach(devices, &judged).await? };
        let now = Ways { outside, local: judged.local, refusals: judged.refusals, troubles };
        let before =
            std::mem::replace(&mut *self.now.lock().unwrap_or_else(PoisonError::into_inner), now.clone());
        if before != now {
            for trouble in now.troubles.iter().filter(|trouble| !before.troubles.contains(trouble)) {
                tracing::warn!("{trouble}");
            }
            let (outside, local) = (now.outside.through_stack, now.local.through_stack);
            let translated_by = now.local.translated_by;
            tracing::info!(outside, local, translated_by, "what goes through the node's stack has changed");
        }
        Ok(())
    }

    async fn judge(&self, uplinks: &[Device], masqueraded: bool) -> Result<Judged, Failure> {
        // Its table is there then, and ours.
        let own_table = if masqueraded { Some(self.instance.clone()) } else { self.own_table().await };
        let endpoints: Vec<Endpoint> =
            self.store.all::<Endpoint>()?.into_iter().map(|(_, endpoint)| endpoint).collect();
        let prefixes = self.config.endpoints.prefixes.iter().copied();
        let addresses = endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        let own = addresses.map(|network| IpNet::from(network.addr()));
        let asked = Asked {
            netns: self.netns.clone(),
            outside: self.config.datapath.outside,
            local: self.config.datapath.local,
            prefixes: self.config.endpoints.pools().chain(prefixes).chain(own).collect(),
            own_table,
            uplinks: uplinks.to_vec(),
            attachments: self.inventory.attachments()?,
            endpoints,
        };
        Ok(tokio::task::spawn_blocking(move || asked.judge()).await?)
    }

    /// Attaches to the devices that lead to outside, and to no other. What is so from now on.
    async fn attach_and_detach(&self, devices: Vec<Device>, judged: &Judged) -> Result<Outside, Failure> {
        // None of these devices is an endpoint's.
        let guard = HookGuard::of(None, self.locks.netns(self.netns.id()).await);
        let through_stack = judged.outside.clone().or_else(|| self.no_device(&devices));
        let wanted = if through_stack.is_some() { Vec::new() } else { devices };
        let indexes: Vec<IfIndex> = wanted.iter().map(|device| device.ifindex).collect();
        let mut attached: Vec<Attachment> = self.inventory.attachments()?;
        attached.retain(|attachment| attachment.source == ProgramSource::FromUplink);
        let in_use =
            |device: &Device| attached.iter().any(|attachment| attachment.hook.ifindex == device.ifindex);
        for device in wanted.iter().filter(|device| !in_use(device)) {
            self.attach_uplink(&guard, device).await?;
            tracing::info!(device = device.name, "endpoints reach outside by it past the node's stack");
        }
        self.datapath.set_uplinks(&indexes)?;
        for attachment in attached.iter().filter(|attachment| !indexes.contains(&attachment.hook.ifindex)) {
            // Another device may have its name, and so the attachment's, by now.
            if !wanted.iter().any(|device| device.name == attachment.hook.device) {
                for warning in self.chains.detach_recorded(&guard, attachment).await? {
                    tracing::warn!(device = attachment.hook.device, "{warning}");
                }
            }
            tracing::info!(device = attachment.hook.device, "leads to outside no more");
        }
        let uplinks = wanted.iter().map(|device| device.name.clone()).collect();
        Ok(Outside { uplinks, through_stack, ..Outside::default() })
    }

    fn no_device(&self, devices: &[Device]) -> Option<String> {
        let why = if self.config.datapath.uplinks.is_empty() {
            "no default route leads to a device with Ethernet frames"
        } else {
            "none of datapath.uplinks is there"
        };
        devices.is_empty().then(|| why.to_owned())
    }

    /// The devices that lead to outside and carry Ethernet frames, which are made for them.
    async fn devices_to_outside(&self) -> Result<Vec<Device>, Failure> {
        let mut devices = Vec::new();
        if self.config.datapath.uplinks.is_empty() {
            devices = self.devices.of_default_routes().await?;
        } else {
            for name in &self.config.datapath.uplinks {
                devices.extend(self.devices.get(name).await?);
            }
        }
        // Another end of a pair of ours is an endpoint's.
        let ours = naming::alias_prefix(&self.instance);
        devices.retain(|device| !device.alias.as_deref().is_some_and(|alias| alias.starts_with(&ours)));
        // A tunnel has no Ethernet frames, and narrows what gets to outside nevertheless.
        self.inventory.note_outside(&devices);
        devices.retain(|device| device.mac.is_some());
        Ok(devices)
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
