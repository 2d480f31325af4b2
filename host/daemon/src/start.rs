//! Starting on a node where a daemon ran before: the kernel is the truth, the records are checked against it.
//!
//! What is in place is adopted and goes on running, never touched. What lost its device is dropped; what lost its
//! link is attached anew; what nobody has a record of, under our names, is told of and left alone.

mod rebuild;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, anyhow};
use netloom_api::{
    Paths,
    types::{Adoption, Endpoint, EventKind, OrphanView},
};
use netloom_core::model::Attachment;
use netloom_kernel::{
    datapath::Datapath,
    devices::Devices,
    netns::{self, Netns},
};

use crate::{
    background::Background,
    chains::Chains,
    endpoints::Endpoints,
    executor::Executor,
    failure::Failure,
    mends::Mends,
    monitor::Monitor,
    naming,
    node::Node,
    opened::Opened,
    orphans::Orphans,
    pairs::Pairs,
    plugins::Plugins,
    reaping::Reaping,
    services::Services,
    socket_lb::SocketLb,
    store::{Notice, PairRecord, ServiceRecord, Store},
    telemetry::events::Events,
    uplinks::Uplinks,
};

/// Takes up what an earlier daemon left.
pub(crate) struct Start {
    instance: String,
    paths: Paths,
    netns: Netns,
    devices: Devices,
    store: Arc<Store>,
    datapath: Arc<Datapath>,
    events: Arc<Events>,
    background: Arc<Background>,
    executor: Arc<Executor>,
    chains: Arc<Chains>,
    endpoints: Arc<Endpoints>,
    mends: Arc<Mends>,
    pairs: Arc<Pairs>,
    orphans: Arc<Orphans>,
    services: Arc<Services>,
    reaping: Arc<Reaping>,
    plugins: Arc<Plugins>,
    uplinks: Arc<Uplinks>,
    monitor: Arc<Monitor>,
    socket_lb: Arc<SocketLb>,
    /// What became of it.
    adoption: Mutex<Adoption>,
}

impl Start {
    pub(crate) fn new(opened: &Opened, node: &Node) -> Self {
        Self {
            instance: opened.instance.clone(),
            paths: opened.paths.clone(),
            netns: opened.netns.clone(),
            devices: opened.devices.clone(),
            store: Arc::clone(&opened.store),
            datapath: Arc::clone(&opened.datapath),
            events: Arc::clone(&opened.events),
            background: Arc::clone(&opened.background),
            executor: Arc::clone(&node.executor),
            chains: Arc::clone(&node.chains),
            endpoints: Arc::clone(&node.endpoints),
            mends: Arc::clone(&node.mends),
            pairs: Arc::clone(&node.pairs),
            orphans: Arc::clone(&node.orphans),
            services: Arc::clone(&node.services),
            reaping: Arc::clone(&node.reaping),
            plugins: Arc::clone(&node.plugins),
            uplinks: Arc::clone(&node.uplinks),
            monitor: Arc::clone(&node.monitor),
            socket_lb: Arc::clone(&node.socket_lb),
            adoption: Mutex::default(),
        }
    }

    /// Attaches socket-LB, loads the plugins, takes up what an earlier daemon left, and begins what runs beside the
    /// requests.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        self.report_storage();
        self.monitor.stop_reporting()?;
        self.plugins.load_all().await?;
        let known = self.datapath.binds_sockets() && !self.datapath.bindings_lost();
        let failed = |failure: Failure| anyhow!("adoption failed: {failure}");
        // Before what translates them, which may be about to look at other maps than before.
        let mut adoption = Adoption::default();
        self.services.adopt(&mut adoption).await.map_err(failed)?;
        match self.socket_lb.attach() {
            Ok(()) if known => {}
            Ok(()) => self.reaping.mark_sockets(),
            Err(error) => tracing::error!(error = format!("{error:#}"), "services are not translated"),
        }
        self.adopt(&mut adoption).await.map_err(failed)?;
        tracing::info!(?adoption, "adopted");
        *self.adoption.lock().unwrap_or_else(PoisonError::into_inner) = adoption;
        if let Err(failure) = self.uplinks.refresh().await {
            tracing::error!(%failure, "packets to and from outside go through the node's stack");
        }
        self.background.spawn(Arc::clone(&self.endpoints).watch_addresses());
        self.background.spawn(Arc::clone(&self.uplinks).watch());
        self.background.spawn(Arc::clone(&self.chains).watch());
        self.background.spawn(Arc::clone(&self.mends).watch());
        self.background.spawn(Arc::clone(&self.endpoints).watch_queued());
        self.background.spawn(Arc::clone(&self.executor).finish_in_time());
        // Packets flow meanwhile, and a node full of endpoints takes a while: nobody has to wait for it.
        self.background.spawn(Arc::clone(&self.chains).follow_configuration());
        self.plugins.watch_health();
        self.plugins.watch_files();
        netns::keep_up_to_date().context("the index of namespaces cannot be kept up to date")?;
        Ok(())
    }

    /// Has the store's troubles told as events.
    fn report_storage(&self) {
        let events = Arc::downgrade(&self.events);
        self.store.on_notice(move |notice| {
            let Some(events) = events.upgrade() else { return };
            let (kind, message) = match notice {
                Notice::Broken(message) => (EventKind::StoreBroken, message),
                Notice::Healed(message) => (EventKind::StoreHealed, message),
            };
            events.add(kind, "store".to_owned(), message);
        });
    }

    /// What became of what an earlier daemon left.
    pub(crate) fn adoption(&self) -> Adoption {
        self.adoption.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes up what an earlier daemon left, but for the services.
    async fn adopt(&self, adoption: &mut Adoption) -> Result<(), Failure> {
        adoption.recovered.extend(self.executor.recover().await?);
        self.rebuild_endpoints(adoption).await?;
        self.endpoints.adopt(adoption).await?;
        adoption.recovered.extend(self.endpoints.delete_queued().await);
        adoption.dropped.extend(self.pairs.adopt().await?);
        self.chains.adopt(adoption).await?;
        self.note_orphans(adoption).await?;
        let reaps = self.reaping.resume().await?;
        if reaps > 0 {
            adoption.recovered.push(format!("{reaps} reaps that were due"));
        }
        Ok(())
    }

    /// Tells what carries our names but has no record, and takes out of the datapath what has no device any more.
    async fn note_orphans(&self, adoption: &mut Adoption) -> Result<(), Failure> {
        for OrphanView { what, why } in self.orphans.views().await? {
            tracing::warn!(what, why, "no record knows it: it is left as it is");
            adoption.orphans.push(what);
        }
        for folder in naming::entries(&self.paths.bpffs.join("endpoints"))? {
            // Of an endpoint that is gone: one with a pin stays.
            std::fs::remove_dir(folder).ok();
        }
        self.chains.remove_leftovers()?;
        let ids: HashSet<u32> =
            self.store.all::<Endpoint>()?.iter().map(|(_, endpoint)| endpoint.id).collect();
        for entry in self.datapath.addresses()? {
            if ids.contains(&entry.id) {
                continue;
            }
            if self.devices.by_index(entry.host_ifindex).await?.is_some() {
                self.orphans.remember(entry);
            } else {
                self.datapath.remove_endpoint(entry.id, &[entry.address])?;
            }
        }
        Ok(())
    }

    /// Removes everything this instance has on the node, for `netloomd cleanup`; what cannot be removed is told.
    pub(crate) async fn remove_everything(&self) -> Result<Vec<String>, Failure> {
        let mut failures = Vec::new();
        let mut note = |what: &str, result: Result<(), Failure>| {
            if let Err(failure) = result {
                failures.push(format!("{what}: {failure}"));
            }
        };
        note("plans of before", self.executor.recover().await.map(drop));
        for (name, endpoint) in self.store.all::<Endpoint>()? {
            let (guard, endpoint) = self.endpoints.lock(&endpoint.spec.name).await?;
            note(&name, whole(self.endpoints.remove(&guard, &endpoint).await));
        }
        for (name, _) in self.store.all::<PairRecord>()? {
            let (guard, pair) = self.pairs.lock(&name).await?;
            note(&name, whole(self.pairs.remove(&guard, &name, &pair).await));
        }
        for (id, _) in self.store.all::<Attachment>()? {
            let (guard, attachment) = self.chains.lock_attachment(&id).await?;
            note(&id, whole(self.chains.detach_recorded(&guard, &attachment).await));
        }
        for (name, ServiceRecord { id, .. }) in self.store.all::<ServiceRecord>()? {
            note(&name, self.datapath.remove_service(id).map_err(Failure::from));
        }
        note("orphans", whole(self.orphans.remove_all().await.map(|done| done.warnings)));
        note("what moves and updates left", self.chains.remove_leftovers());
        note("masquerading and routes of the pools", self.uplinks.remove_everything().await);
        note("socket-LB", self.datapath.detach_socket_lb().map_err(Failure::from));
        Ok(failures)
    }
}

/// A removal that left something behind has failed.
fn whole(removed: Result<Vec<String>, Failure>) -> Result<(), Failure> {
    match removed?.join("; ") {
        left if left.is_empty() => Ok(()),
        left => Err(Failure::conflict(left)),
    }
}
