//! The node: everything a request needs, opened once at start.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::Context as _;
use netloom_api::{
    Paths,
    types::{
        Adoption, AuditEntry, CapabilityView, Endpoint, EndpointCounters, EventKind, NodeView, PluginLoad,
        Status,
    },
};
use netloom_core::model::{Capabilities, Name};
use netloom_kernel::{
    capabilities,
    datapath::{AddressEntry, Datapath, MapSizes},
    devices::Devices,
    mounts::{self, MountError},
    netns::{self, Netns},
    sockets::{Sockets, Ways},
};
use netloom_runtime::{HostConfig, Limits, Metric, Operations, PluginHost, PluginMetrics};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    back_fill::BackFill,
    background::Background,
    config::Config,
    events::Events,
    executor::Unfinished,
    failpoints::Failpoints,
    failure::Failure,
    kept::Kept,
    kv::PluginData,
    locks::Locks,
    metrics::Metrics,
    monitor::Monitor,
    operator::Operator,
    order::Order,
    plugins::components::Components,
    policy::Policy,
    reap::Due,
    signers::Signers,
    store::{Notice, Store},
    uplinks::Uplinks,
    watch::Watch,
};

pub(crate) struct Node {
    /// The instance's name, as it stands in paths and aliases.
    pub(crate) instance: String,
    pub(crate) paths: Paths,
    pub(crate) config: Config,
    pub(crate) name: String,
    pub(crate) store: Arc<Store>,
    pub(crate) netns: Netns,
    pub(crate) devices: Devices,
    pub(crate) datapath: Datapath,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) back_fill: BackFill,
    /// What runs beside the requests.
    pub(crate) background: Background,
    pub(crate) due: Due,
    /// When the next socket may be destroyed, where that is limited.
    pub(crate) destroy_next: AsyncMutex<tokio::time::Instant>,
    pub(crate) capabilities: Capabilities,
    pub(crate) policy: Policy,
    pub(crate) plugin_host: PluginHost,
    pub(crate) signers: Signers,
    pub(crate) components: Components,
    pub(crate) locks: Locks,
    pub(crate) unfinished: Unfinished,
    pub(crate) metrics: Metrics,
    /// What plugins did to the node, or tried to.
    pub(crate) audit_trail: Kept<AuditEntry>,
    operator: Arc<Operator>,
    /// Where the versions that are tried out came from.
    pub(crate) trial_load: AsyncMutex<HashMap<Name, PluginLoad>>,
    pub(crate) events: Events,
    pub(crate) watch: Watch,
    pub(crate) monitor: Monitor,
    pub(crate) failpoints: Failpoints,
    /// In which order endpoints were asked for.
    pub(crate) order: Order,
    /// Where socket-LB attaches.
    cgroup: Result<PathBuf, Arc<MountError>>,
    pub(crate) uplinks: Uplinks,
    socket_lb: Mutex<SocketLb>,
    adoption: Mutex<Adoption>,
    /// What the datapath knew of endpoints without a record when the daemon started.
    pub(crate) orphaned: Mutex<Vec<AddressEntry>>,
    started: Instant,
}

#[derive(Clone, Default)]
struct SocketLb {
    cgroup: Option<PathBuf>,
    links: Vec<u32>,
}

impl Node {
    /// Opens everything. Nothing on the node is changed but the bpffs folder and its maps.
    pub(crate) async fn open(instance: Option<&Name>, paths: Paths, config: Config) -> anyhow::Result<Self> {
        mounts::ensure_bpffs(std::path::Path::new("/sys/fs/bpf"))?;
        let cgroup = match &config.datapath.cgroup {
            Some(cgroup) => Ok(cgroup.clone()),
            None => mounts::ensure_cgroup2(&paths.run.join("cgroup2")),
        };
        let netns = Netns::current()?;
        let capabilities = capabilities::probe().await;
        let store = Arc::new(Store::open(&paths.state.join("store.redb"))?);
        let sizes = MapSizes {
            endpoints: config.datapath.max_endpoints,
            services: config.datapath.max_services,
            backends: config.datapath.max_backends,
            affinities: config.datapath.max_affinities,
        };
        let datapath = Datapath::open(&paths.bpffs, sizes)?;
        let ways = Ways { finder: config.sockets.finder, destroyer: config.sockets.destroyer };
        let sockets = Arc::new(Sockets::open_with(&datapath.maps_dir(), ways)?);
        let back_fill = BackFill::open(instance, &config, &datapath);
        let operator = Arc::new(Operator::default());
        let signers = Signers::read(&config.plugins.signed_by)?;
        let plugin_host = PluginHost::new(HostConfig {
            cache_dir: Some(config.plugins.compiled.clone().unwrap_or_else(|| paths.state.join("compiled"))),
            limits: Limits {
                deadline: config.deadline(),
                memory_bytes: config.plugins.memory_mib << 20,
                ..Limits::default()
            },
            kv: Arc::new(PluginData(Arc::clone(&store))),
            metrics: Arc::new(PluginMetrics::default()),
            operations: Some(Arc::clone(&operator) as Arc<dyn Operations>),
            ..HostConfig::default()
        })?;
        let name = match &config.node.name {
            Some(name) => name.clone(),
            None => read_hostname()?,
        };
        Ok(Self {
            instance: instance.map_or_else(|| "netloom".to_owned(), |name| format!("netloom-{name}")),
            devices: Devices::open(&netns)?,
            components: Components::new(&paths.state),
            paths,
            config,
            name,
            store,
            netns,
            datapath,
            sockets,
            back_fill,
            background: Background::default(),
            due: Due::default(),
            destroy_next: AsyncMutex::new(tokio::time::Instant::now()),
            capabilities,
            policy: Policy::default(),
            plugin_host,
            signers,
            locks: Locks::default(),
            unfinished: Unfinished::default(),
            metrics: Metrics::new(),
            audit_trail: Kept::default(),
            operator,
            trial_load: AsyncMutex::default(),
            events: Events::default(),
            watch: Watch::default(),
            monitor: Monitor::default(),
            failpoints: Failpoints::of_environment()?,
            order: Order::default(),
            cgroup: cgroup.map_err(Arc::new),
            uplinks: Uplinks::default(),
            socket_lb: Mutex::default(),
            adoption: Mutex::default(),
            orphaned: Mutex::default(),
            started: Instant::now(),
        })
    }

    /// Attaches socket-LB, loads the plugins, takes up what an earlier daemon left.
    pub(crate) async fn start(self: &Arc<Self>) -> anyhow::Result<()> {
        self.operator.serve(self);
        self.report_storage();
        self.silence()?;
        self.load_plugins().await?;
        let known = self.datapath.binds_sockets() && !self.datapath.bindings_lost();
        // Before what translates them, which may be about to look at other maps than before.
        let mut adoption = Adoption::default();
        self.adopt_services(&mut adoption)
            .await
            .map_err(|failure| anyhow::anyhow!("adoption failed: {failure}"))?;
        match self.attach_socket_lb() {
            Ok(()) if known => {}
            Ok(()) => self.back_fill.mark(),
            Err(error) => tracing::error!(error = format!("{error:#}"), "services are not translated"),
        }
        self.adopt(&mut adoption).await.map_err(|failure| anyhow::anyhow!("adoption failed: {failure}"))?;
        tracing::info!(?adoption, "adopted");
        if let Err(failure) = self.refresh_uplinks().await {
            tracing::error!(%failure, "packets to and from outside go through the node's stack");
        }
        self.background.spawn(Arc::clone(self).watch_uplinks());
        *self.adoption.lock().unwrap_or_else(PoisonError::into_inner) = adoption;
        self.background.spawn(Arc::clone(self).watch());
        self.background.spawn(Arc::clone(self).finish_in_time());
        let node = Arc::clone(self);
        // Packets flow meanwhile, and a node full of endpoints takes a while: nobody has to wait for it.
        self.background.spawn(async move {
            match node.follow_mode().await {
                Ok(0) => {}
                Ok(moved) => {
                    let mode = node.config.attachments.mode;
                    tracing::info!(moved, %mode, "attachments follow the configuration");
                }
                Err(failure) => tracing::error!(%failure, "attachments do not follow the configuration"),
            }
        });
        self.watch_health();
        self.watch_plugins();
        netns::keep_up_to_date().context("the index of namespaces cannot be kept up to date")?;
        Ok(())
    }

    /// Has the store's troubles told as events.
    fn report_storage(self: &Arc<Self>) {
        let node = Arc::downgrade(self);
        self.store.on_notice(move |notice| {
            let Some(node) = node.upgrade() else { return };
            let (kind, message) = match notice {
                Notice::Broken(message) => (EventKind::StoreBroken, message),
                Notice::Healed(message) => (EventKind::StoreHealed, message),
            };
            node.events.add(&node.metrics, kind, "store".to_owned(), message);
        });
    }

    fn attach_socket_lb(&self) -> anyhow::Result<()> {
        let cgroup = self.cgroup.clone()?;
        let links = self
            .datapath
            .attach_socket_lb(&cgroup)
            .with_context(|| format!("socket-LB cannot be attached to {}", cgroup.display()))?;
        let mut state = self.socket_lb.lock().unwrap_or_else(PoisonError::into_inner);
        *state = SocketLb { cgroup: Some(cgroup), links: links.into_iter().map(|link| link.0).collect() };
        Ok(())
    }

    /// The daemon at a glance.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        let socket_lb = self.socket_lb.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            node: self.name.clone(),
            kernel: self.capabilities.kernel.clone(),
            socket_finder: self.finder(),
            socket_destroyer: self.sockets.destroyer().to_string(),
            namespaces: netns::status()
                .known
                .into_iter()
                .map(|(place, count)| (place.to_owned(), count))
                .collect(),
            socket_lb: socket_lb.cgroup,
            endpoints: self.endpoints().await?,
            attachments: self.attachments()?,
            socket_lb_links: socket_lb.links,
            outside: self.uplinks.now(),
            services: self.services()?,
            plugins: self.plugins(),
            adoption: self.adoption(),
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

    pub(crate) fn adoption(&self) -> Adoption {
        self.adoption.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn finder(&self) -> String {
        self.sockets.finder().as_str().to_owned()
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
            dropped_other: counters.dropped_malformed + counters.dropped_unsupported,
        })
    }

    /// The daemon's metrics, then those of the plugins.
    pub(crate) fn metrics_text(&self) -> Result<String, Failure> {
        self.metrics.set_objects("endpoints", self.store.all::<Endpoint>()?.len());
        self.metrics.set_objects("attachments", self.attachments()?.len());
        self.metrics.set_objects("services", self.services()?.len());
        self.metrics.set_namespaces(&netns::status());
        self.metrics.set_store(&self.store.health());
        self.metrics.unfinished_plans.set(i64::try_from(self.unfinished.count()).unwrap_or(i64::MAX));
        let own = self.metrics.text()?;
        let mut lines: Vec<String> = Vec::new();
        for (plugin, name, metric) in self.plugin_host.metrics().snapshot() {
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

fn read_hostname() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("/proc is not mounted")?;
    Ok(name.trim().to_owned())
}
