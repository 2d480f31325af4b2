//! Endpoints: attaching them to the node, showing them, taking them away.

mod addresses;
mod inside;
mod migrate;
mod order;
mod pool;
mod queued;
mod reserved;
mod untranslated;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex},
};

use ipnet::IpNet;
use netloom_api::{
    Asked, Deletions,
    types::{Adoption, Done, EndpointCounters, EndpointView},
};
use netloom_core::{
    model::{
        Attachment, AttachmentKind, Candidate, Capabilities, DeviceMode, Endpoint, EndpointMode,
        EndpointSpec, HookPoint, IfIndex, Name, PairChange, PairSpec, ProgramSource,
    },
    plan::{Op, PairEnds, Plan, Target},
};
use netloom_kernel::{
    datapath::{Datapath, EndpointConfig},
    devices::Devices,
    netns::Netns,
};
use tokio::sync::MutexGuard;

use self::order::Order;
use crate::{
    config::{Config, Mend},
    executor::Executor,
    failure::Failure,
    inventory::Inventory,
    locks::{EndpointGuard, Locks, NameGuard},
    naming,
    opened::Opened,
    orphans::Orphans,
    pairs,
    policy::Policy,
    store::{Changes, Store, StoreError},
    telemetry::metrics::Metrics,
};

/// The endpoints of the node.
pub(crate) struct Endpoints {
    instance: String,
    config: Arc<Config>,
    capabilities: Capabilities,
    netns: Netns,
    devices: Devices,
    store: Arc<Store>,
    datapath: Arc<Datapath>,
    locks: Arc<Locks>,
    metrics: Arc<Metrics>,
    policy: Arc<Policy>,
    inventory: Arc<Inventory>,
    executor: Arc<Executor>,
    orphans: Arc<Orphans>,
    /// In which order endpoints were asked for.
    order: Order,
    deletions: Deletions,
    /// The address of each pool that was given last.
    given: Mutex<HashMap<IpNet, IpAddr>>,
}

impl Endpoints {
    pub(crate) fn new(
        opened: &Opened,
        policy: &Arc<Policy>,
        inventory: &Arc<Inventory>,
        executor: &Arc<Executor>,
        orphans: &Arc<Orphans>,
    ) -> Self {
        Self {
            instance: opened.instance.clone(),
            config: Arc::clone(&opened.config),
            capabilities: opened.capabilities.clone(),
            netns: opened.netns.clone(),
            devices: opened.devices.clone(),
            store: Arc::clone(&opened.store),
            datapath: Arc::clone(&opened.datapath),
            locks: Arc::clone(&opened.locks),
            metrics: Arc::clone(&opened.metrics),
            policy: Arc::clone(policy),
            inventory: Arc::clone(inventory),
            executor: Arc::clone(executor),
            orphans: Arc::clone(orphans),
            order: Order::default(),
            deletions: Deletions::beside(&opened.paths.socket),
            given: Mutex::default(),
        }
    }

    pub(crate) async fn adopt(&self, adoption: &mut Adoption) -> Result<(), Failure> {
        for (key, mut endpoint) in self.store.all::<Endpoint>()? {
            let alias = naming::alias(&self.instance, &endpoint.spec.name);
            let device = self.devices.by_index(endpoint.host_ifindex).await?;
            let Some(device) = device.filter(|device| device.alias.as_deref() == Some(&alias)) else {
                let (guard, endpoint) = self.lock(&endpoint.spec.name).await?;
                for warning in self.remove(&guard, &endpoint).await? {
                    tracing::warn!(endpoint = key, "{warning}");
                }
                adoption
                    .dropped
                    .push(format!("endpoint {key}: its device {} is gone", endpoint.host_interface));
                continue;
            };
            if device.name != endpoint.host_interface && self.config.endpoints.mend == Mend::None {
                // Somebody renamed it, and nobody is to rename it back.
                endpoint.host_interface = device.name;
                self.store.commit(|changes| changes.put(&key, &endpoint))?;
            }
            if let Err(error) =
                self.metrics.refused(self.datapath.set_endpoint(&EndpointConfig::from(&endpoint)))
            {
                tracing::error!(endpoint = key, %error, "the datapath does not know it");
                adoption.dropped.push(format!("endpoint {key} is not in the datapath: {error}"));
                continue;
            }
            adoption.endpoints += 1;
        }
        self.adopt_untranslated()
    }

    pub(crate) fn has_ipv6(&self) -> bool {
        std::path::Path::new("/proc/sys/net/ipv6").exists()
    }

    pub(crate) fn counters(&self, endpoint: &Endpoint) -> Result<EndpointCounters, Failure> {
        let counters = self.datapath.counters(endpoint.id)?;
        Ok(EndpointCounters {
            sent_packets: counters.sent_packets,
            sent_bytes: counters.sent_bytes,
            received_packets: counters.received_packets,
            received_bytes: counters.received_bytes,
            dropped_spoofed: counters.dropped_spoofed,
            dropped_other: counters.dropped_other(),
        })
    }

    /// Attaches an endpoint: policy decides its mode, then its devices, addresses, routes and programs are made,
    /// all of them or none.
    pub(crate) async fn add(
        &self,
        spec: EndpointSpec,
        asked: Option<Asked>,
    ) -> Result<EndpointView, Failure> {
        let name = spec.name.clone();
        check_interface(&spec.interface)?;
        let netns = Netns::open(&spec.netns).map_err(|error| {
            Failure::invalid(error)
                .hint("name a network namespace, such as /run/netns/NAME or /proc/PID/ns/net")
        })?;
        if netns.id() == self.netns.id() {
            return Err(Failure::invalid(anyhow::anyhow!(
                "{} is the node's own namespace, and cannot be an endpoint's",
                spec.netns.display()
            )));
        }
        let _guard = EndpointGuard::of(self.locks.endpoint(&name).await, self.locks.netns(netns.id()).await);
        if !self.order.add(&name, asked) {
            return Err(Failure::conflict(format!(
                "endpoint {name} is not added: its deletion was asked for later"
            )));
        }
        let mut default_routes = self.default_routes_in(&netns).await?;
        // Numbers and addresses are given out one endpoint at a time.
        let admission = self.locks.admission().await;
        let existing = self.admitted()?;
        if existing.iter().any(|other| other.spec.name == name) {
            return Err(Failure::conflict(format!("there is an endpoint {name} already"))
                .hint("delete it first, or choose another name"));
        }
        let addresses = self.addresses(&spec, &existing, &self.reserved().await?)?;
        let mtu = self.inventory.default_mtu();
        let mode = self.policy.choose_mode(&spec, netns.id(), &addresses, mtu).await?;
        let here = existing.iter().filter(|other| other.netns == netns.id());
        default_routes.extend(inside::defaults_of(here));
        let endpoint = Endpoint {
            routes: inside::choose_routes(&spec, &addresses, &default_routes)?,
            id: self.free_id(&existing)?,
            netns: netns.id(),
            netns_cookie: netns.cookie()?,
            host_interface: naming::host_interface(&self.instance, &name),
            host_ifindex: self.devices.free_index().await?,
            // The kernel gives this one when the pair is made.
            peer_ifindex: IfIndex(0),
            mac: mode
                .answer
                .device
                .has_mac()
                .then(|| spec.mac.unwrap_or_else(|| naming::mac(&self.instance, &name, false))),
            host_mac: mode.answer.device.has_mac().then(|| naming::mac(&self.instance, &name, true)),
            attachments: ["from", "to"].map(|direction| naming::endpoint_attachment(&name, direction)).into(),
            addresses,
            mode: mode.answer.clone(),
            decided_by: mode.decided_by.clone(),
            spec,
        };
        self.leave_untranslated(&endpoint)?;
        let added = self.make(&endpoint, admission).await;
        if added.is_err() {
            self.translate_again(&endpoint)?;
        }
        self.view(added.map_err(|failure| failure.context(format!("endpoint {name} was not added")))?).await
    }

    /// Makes everything of an endpoint, or nothing; others are admitted once the plan is written down.
    async fn make(&self, endpoint: &Endpoint, admission: MutexGuard<'_, ()>) -> Result<Endpoint, Failure> {
        let plan = Plan::add_endpoint(endpoint, self.pair(endpoint), self.programs(endpoint));
        let journal = self.executor.begin(plan).await?;
        drop(admission);
        let added = self
            .executor
            .run(journal, |progress, changes: &Changes| {
                let endpoint = progress.on_pair(endpoint);
                for attachment in &progress.attachments {
                    changes.put(&attachment.id, attachment)?;
                }
                changes.put(endpoint.spec.name.as_str(), &endpoint)?;
                self.note_given(&endpoint, changes)?;
                Ok(endpoint)
            })
            .await;
        Ok(added?.0)
    }

    /// Every endpoint.
    pub(crate) async fn list(&self) -> Result<Vec<EndpointView>, Failure> {
        let mut views = Vec::new();
        for (_, endpoint) in self.store.all::<Endpoint>()? {
            views.push(self.view(endpoint).await?);
        }
        Ok(views)
    }

    /// One endpoint.
    pub(crate) async fn show(&self, name: &Name) -> Result<EndpointView, Failure> {
        self.view(self.inventory.endpoint_record(name)?).await
    }

    /// Changes an endpoint while packets go through it: both ends of its pair or, if one of them cannot be, none.
    pub(crate) async fn change(&self, name: &Name, change: PairChange) -> Result<EndpointView, Failure> {
        let subject = format!("endpoint {name}");
        let (_guard, endpoint) = self.lock(name).await?;
        let ipv6 = endpoint.addresses.iter().any(|address| address.addr().is_ipv6());
        pairs::check(&change, endpoint.mode.device.is_netkit(), ipv6, &subject)?;
        if change.up.is_some() {
            return Err(Failure::invalid(anyhow::anyhow!(
                "{subject} would lose its routes if its device went down"
            ))
            .hint("delete it, or set a policy of blackhole"));
        }
        let mut changed = endpoint.clone();
        changed.mode.apply(&change);
        let ends = PairEnds {
            host: endpoint.host_ifindex,
            alias: naming::alias(&self.instance, name),
            netns: endpoint.spec.netns.clone(),
            netns_id: endpoint.netns,
            peer: endpoint.peer_ifindex,
        };
        let both = Some((Box::new(endpoint), Box::new(changed.clone())));
        let context = format!("{subject} was not changed");
        let state =
            self.executor.pair_state(ends, both).await.map_err(|failure| failure.context(context.clone()))?;
        let plan = Plan::change_pair(format!("change {subject}"), &state, &change);
        let journal = self.executor.begin(plan).await?;
        self.executor
            .run(journal, |_, changes: &Changes| changes.put(name.as_str(), &changed))
            .await
            .map_err(|failure| failure.context(context))?;
        self.view(changed).await
    }

    /// Takes an endpoint away, with its devices and programs. What is gone already is no error.
    /// One that is being added is waited for: whoever gave up waiting for it may take it away again.
    pub(crate) async fn delete(&self, name: &Name, asked: Option<Asked>) -> Result<Done, Failure> {
        let lock = self.locks.endpoint(name).await;
        if !self.order.delete(name, asked) {
            return Err(Failure::not_found(format!(
                "the endpoint {name} that is there was asked for later than its deletion"
            )));
        }
        let (guard, endpoint) = self.lock_under(lock, name).await?;
        Ok(Done { warnings: self.remove(&guard, &endpoint).await? })
    }

    /// An endpoint's lock, and its record as it is from then on.
    pub(crate) async fn lock(&self, name: &Name) -> Result<(EndpointGuard, Endpoint), Failure> {
        let lock = self.locks.endpoint(name).await;
        self.lock_under(lock, name).await
    }

    async fn lock_under(&self, lock: NameGuard, name: &Name) -> Result<(EndpointGuard, Endpoint), Failure> {
        // Its namespace stays the same as long as its name is locked.
        let netns = self.locks.netns(self.inventory.endpoint_record(name)?.netns).await;
        Ok((EndpointGuard::of(lock, netns), self.inventory.endpoint_record(name)?))
    }

    /// Removes an endpoint and its record: what could not be cleaned up.
    pub(crate) async fn remove(
        &self,
        _held: &EndpointGuard,
        endpoint: &Endpoint,
    ) -> Result<Vec<String>, Failure> {
        let name = &endpoint.spec.name;
        let attachments = self.inventory.attachments_of(endpoint)?;
        let plan = Plan::delete_endpoint(endpoint, &attachments, naming::alias(&self.instance, name));
        let journal = self.executor.begin(plan).await?;
        let removed = self.executor.run(journal, |_, changes| {
            for attachment in &attachments {
                changes.remove::<Attachment>(&attachment.id)?;
            }
            changes.remove::<Endpoint>(name.as_str())
        });
        let warnings = removed.await?.1;
        self.translate_again(endpoint)?;
        Ok(warnings)
    }

    pub(crate) async fn view(&self, endpoint: Endpoint) -> Result<EndpointView, Failure> {
        let device = self.devices.get(&endpoint.host_interface).await?;
        let counters = self.counters(&endpoint)?;
        let untranslated = self.untranslated_by(&endpoint.spec.labels).map(str::to_owned);
        Ok(EndpointView { endpoint, device, counters, untranslated })
    }

    /// Every endpoint, and those that are being added: a plan under way holds its name, number and addresses.
    fn admitted(&self) -> Result<Vec<Endpoint>, Failure> {
        let mut endpoints: Vec<Endpoint> =
            self.store.all::<Endpoint>()?.into_iter().map(|(_, endpoint)| endpoint).collect();
        for op in self.store.all::<Plan>()?.into_iter().flat_map(|(_, plan)| plan.before) {
            if let Op::Publish { endpoint } = op {
                endpoints.push(*endpoint);
            }
        }
        Ok(endpoints)
    }

    /// Numbers and addresses of endpoints that are deleted, and that the datapath may still know.
    fn withdrawn_in_part(&self) -> Result<Vec<(u32, Vec<IpAddr>)>, StoreError> {
        let plans = self.store.all::<Plan>()?;
        let withdrawn = plans.iter().flat_map(|(_, plan)| plan.steps()).filter_map(|op| match op {
            Op::Withdraw { id, addresses } => Some((*id, addresses.clone())),
            _ => None,
        });
        Ok(withdrawn.collect())
    }

    /// A number that no endpoint has, nor anything that the datapath still knows.
    fn free_id(&self, existing: &[Endpoint]) -> Result<u32, StoreError> {
        let known = self.orphans.addresses().into_iter().map(|entry| entry.id);
        let withdrawn = self.withdrawn_in_part()?.into_iter().map(|(id, _)| id);
        Ok(lowest_free(existing.iter().map(|other| other.id).chain(known).chain(withdrawn)))
    }

    pub(crate) fn pair(&self, endpoint: &Endpoint) -> PairSpec {
        let EndpointMode {
            device, primary_policy, peer_policy, scrub, peer_scrub, headroom, tailroom, ..
        } = endpoint.mode;
        PairSpec {
            mode: device,
            host_name: endpoint.host_interface.clone(),
            host_ifindex: Some(endpoint.host_ifindex),
            peer_name: endpoint.spec.interface.clone(),
            host_mac: endpoint.host_mac,
            peer_mac: endpoint.mac,
            addresses: endpoint.addresses.clone(),
            mtu: endpoint.mode.mtu,
            primary_policy,
            peer_policy,
            scrub,
            peer_scrub,
            headroom,
            tailroom,
            segmentation: endpoint.mode.segmentation,
            tx_queues: None,
            rx_queues: None,
            alias: naming::alias(&self.instance, &endpoint.spec.name),
            closed: true,
        }
    }

    /// The endpoint's datapath: what it sends, and what the node's stack sends to it.
    pub(crate) fn programs(&self, endpoint: &Endpoint) -> Vec<Op> {
        let (from, to) = hook_points(endpoint.mode.device, endpoint.mode.attachment);
        let sources = [(from, ProgramSource::FromEndpoint), (to, ProgramSource::ToEndpoint)];
        sources
            .into_iter()
            .zip(&endpoint.attachments)
            .map(|((point, program), id)| Op::Attach {
                id: id.clone(),
                target: Target {
                    netns: None,
                    device: endpoint.host_interface.clone(),
                    point,
                    endpoint: Some(endpoint.spec.name.clone()),
                },
                candidate: Candidate::datapath(true),
                fixed: None,
                program,
                mode: None,
            })
            .collect()
    }
}

/// Where the programs of an endpoint's device attach: packets from it, and packets to it.
pub(crate) fn hook_points(device: DeviceMode, attachment: AttachmentKind) -> (HookPoint, HookPoint) {
    match (device.is_netkit(), attachment) {
        (true, _) => (HookPoint::NetkitPeer, HookPoint::NetkitPrimary),
        (false, AttachmentKind::Tc) => (HookPoint::TcIngress, HookPoint::TcEgress),
        (false, _) => (HookPoint::TcxIngress, HookPoint::TcxEgress),
    }
}

fn check_interface(name: &str) -> Result<(), Failure> {
    let ok = (1..=15).contains(&name.len())
        && !name.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
        && name != "."
        && name != "..";
    if ok {
        Ok(())
    } else {
        Err(Failure::invalid(anyhow::anyhow!("{name:?} cannot be a device's name"))
            .hint("use 1 to 15 bytes without '/', ':' and spaces"))
    }
}

fn lowest_free(taken: impl Iterator<Item = u32>) -> u32 {
    let taken: HashSet<u32> = taken.collect();
    (1..=u32::MAX).find(|id| !taken.contains(id)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_lowest_free_ones() {
        assert_eq!(lowest_free([].into_iter()), 1);
        assert_eq!(lowest_free([1, 2, 4].into_iter()), 3);
    }

    #[test]
    fn an_interface_name_the_kernel_would_refuse_is_refused_first() {
        for bad in ["", ".", "..", "a/b", "a b", "sixteen-bytes-xx"] {
            assert!(check_interface(bad).is_err(), "{bad:?}");
        }
        assert!(check_interface("eth0").is_ok());
    }

    #[test]
    fn netkit_takes_both_its_hooks_and_veth_those_of_its_attachment() {
        use HookPoint::{NetkitPeer, NetkitPrimary, TcEgress, TcIngress, TcxEgress, TcxIngress};
        for (device, kind, expected) in [
            (DeviceMode::Netkit, AttachmentKind::Netkit, (NetkitPeer, NetkitPrimary)),
            (DeviceMode::Veth, AttachmentKind::Tcx, (TcxIngress, TcxEgress)),
            (DeviceMode::Veth, AttachmentKind::Tc, (TcIngress, TcEgress)),
        ] {
            assert_eq!(hook_points(device, kind), expected);
        }
    }
}
