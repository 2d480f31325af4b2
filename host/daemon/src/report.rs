//! How the node is, for people and for what watches it. Nothing here changes anything.
//!
//! - [`check`]: whether one endpoint is as it was added
//! - [`doctor`]: what is wrong, and the way out
//! - [`trace`]: which way a packet would take
//! - [`traffic`]: what the datapath counted

mod check;
mod doctor;
mod trace;
mod traffic;

use std::{sync::Arc, time::Instant};

use netloom_api::types::{CapabilityView, Endpoint, NodeView, Status};
use netloom_core::model::Capabilities;
use netloom_kernel::{
    datapath::Datapath,
    devices::Devices,
    netns::{self, Netns},
    sockets::Sockets,
};
use netloom_runtime::Metric;

use crate::{
    endpoints::Endpoints,
    executor::Executor,
    failure::Failure,
    inventory::{Inventory, seen::SeenChains},
    mends::Mends,
    monitor::Monitor,
    node::Node,
    opened::Opened,
    orphans::Orphans,
    plugins::Plugins,
    reaping::Reaping,
    services::Services,
    socket_lb::SocketLb,
    start::Start,
    store::Store,
    telemetry::metrics::Metrics,
    uplinks::{Uplinks, Ways},
};

/// Tells how the node is.
pub(crate) struct Report {
    name: String,
    capabilities: Capabilities,
    netns: Netns,
    devices: Devices,
    store: Arc<Store>,
    datapath: Arc<Datapath>,
    sockets: Arc<Sockets>,
    metrics: Arc<Metrics>,
    inventory: Arc<Inventory>,
    executor: Arc<Executor>,
    endpoints: Arc<Endpoints>,
    mends: Arc<Mends>,
    orphans: Arc<Orphans>,
    services: Arc<Services>,
    plugins: Arc<Plugins>,
    uplinks: Arc<Uplinks>,
    monitor: Arc<Monitor>,
    socket_lb: Arc<SocketLb>,
    start: Arc<Start>,
    seen: Arc<SeenChains>,
    reaping: Arc<Reaping>,
    started: Instant,
}

impl Report {
    pub(crate) fn new(opened: &Opened, node: &Node, start: &Arc<Start>) -> Self {
        Self {
            name: opened.name.clone(),
            capabilities: opened.capabilities.clone(),
            netns: opened.netns.clone(),
            devices: opened.devices.clone(),
            store: Arc::clone(&opened.store),
            datapath: Arc::clone(&opened.datapath),
            sockets: Arc::clone(&opened.sockets),
            metrics: Arc::clone(&opened.metrics),
            inventory: Arc::clone(&node.inventory),
            executor: Arc::clone(&node.executor),
            endpoints: Arc::clone(&node.endpoints),
            mends: Arc::clone(&node.mends),
            orphans: Arc::clone(&node.orphans),
            services: Arc::clone(&node.services),
            plugins: Arc::clone(&node.plugins),
            uplinks: Arc::clone(&node.uplinks),
            monitor: Arc::clone(&node.monitor),
            socket_lb: Arc::clone(&node.socket_lb),
            start: Arc::clone(start),
            seen: Arc::clone(&node.seen),
            reaping: Arc::clone(&node.reaping),
            started: Instant::now(),
        }
    }

    /// The daemon at a glance.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        let socket_lb = self.socket_lb.attached();
        let Ways { outside, local, .. } = self.uplinks.now();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            node: self.name.clone(),
            kernel: self.capabilities.kernel.clone(),
            socket_finder: self.reaping.finder(),
            socket_destroyer: self.sockets.destroyer().to_string(),
            namespaces: netns::status()
                .known
                .into_iter()
                .map(|(place, count)| (place.to_owned(), count))
                .collect(),
            socket_lb: socket_lb.cgroup,
            endpoints: self.endpoints.list().await?,
            attachments: self.inventory.attachments()?,
            socket_lb_links: socket_lb.links,
            outside,
            local,
            services: self.inventory.services()?,
            plugins: self.plugins.list(),
            pools: self.endpoints.pools().await?,
            adoption: self.start.adoption(),
            store: self.store.status(),
        })
    }

    /// The node, and what its kernel can do.
    pub(crate) fn view_of_node(&self) -> NodeView {
        NodeView {
            name: self.name.clone(),
            kernel: self.capabilities.kernel.clone(),
            capabilities: CapabilityView::of(&self.capabilities),
        }
    }

    /// The daemon's metrics, then those of the plugins.
    pub(crate) async fn metrics_text(&self) -> Result<String, Failure> {
        self.metrics.set_pools(&self.endpoints.pools().await?);
        self.metrics.set_objects("endpoints", self.store.all::<Endpoint>()?.len());
        self.metrics.set_objects("attachments", self.inventory.attachments()?.len());
        self.metrics.set_objects("services", self.inventory.services()?.len());
        self.metrics.set_namespaces(&netns::status());
        let store = self.store.health();
        self.metrics.set_store(store.is_writable(), store.failures, store.commits, store.writes);
        self.metrics
            .unfinished_plans
            .set(i64::try_from(self.executor.unfinished.count()).unwrap_or(i64::MAX));
        let own = self.metrics.text()?;
        let mut lines: Vec<String> = Vec::new();
        for (plugin, name, metric) in self.plugins.metrics() {
            lines.push(match metric {
                Metric::Counter(value) => {
                    format!("netloom_plugin_{name}_total{{plugin=\"{plugin}\"}} {value}")
                }
                Metric::Gauge(value) => format!("netloom_plugin_{name}{{plugin=\"{plugin}\"}} {value}"),
            });
        }
        lines.extend(self.datapath_metrics()?);
        let body = own.strip_suffix("# EOF\n").unwrap_or(&own);
        let plugins: String = lines.into_iter().map(|line| line + "\n").collect();
        Ok(format!("{body}{plugins}# EOF\n"))
    }
}
