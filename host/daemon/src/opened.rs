//! What the daemon opens when it starts, and every part takes what it needs of.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use netloom_api::Paths;
use netloom_core::model::{Capabilities, Name};
use netloom_kernel::{
    capabilities,
    datapath::{Datapath, MapSizes},
    devices::Devices,
    mounts,
    netns::Netns,
    sockets::{Sockets, Ways},
};

use crate::{
    background::Background,
    config::Config,
    failpoints::Failpoints,
    locks::Locks,
    store::Store,
    telemetry::{events::Events, metrics::Metrics},
};

/// Handles: each is shared by the parts that have it.
pub(crate) struct Opened {
    /// The instance's name, as it stands in paths and aliases.
    pub(crate) instance: String,
    /// The node's name.
    pub(crate) name: String,
    pub(crate) paths: Paths,
    pub(crate) config: Arc<Config>,
    pub(crate) capabilities: Capabilities,
    pub(crate) netns: Netns,
    pub(crate) devices: Devices,
    pub(crate) store: Arc<Store>,
    pub(crate) datapath: Arc<Datapath>,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) locks: Arc<Locks>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Arc<Events>,
    pub(crate) background: Arc<Background>,
    pub(crate) failpoints: Arc<Failpoints>,
}

impl Opened {
    /// Opens everything. Nothing on the node is changed but the bpffs folder and its maps.
    pub(crate) async fn new(
        instance: Option<&Name>,
        paths: Paths,
        mut config: Config,
    ) -> anyhow::Result<Self> {
        mounts::ensure_bpffs(Path::new("/sys/fs/bpf"))?;
        // An instance beside the node's has nothing to do with the sockets from before.
        config.sockets.back_fill.get_or_insert(instance.is_none());
        let netns = Netns::current()?;
        let capabilities = capabilities::probe().await;
        let store = Arc::new(Store::open(&paths.state.join("store.redb"))?);
        let sizes = MapSizes {
            endpoints: config.datapath.max_endpoints,
            services: config.datapath.max_services,
            backends: config.datapath.max_backends,
            affinities: config.datapath.max_affinities,
            udp_exchanges: config.datapath.max_udp_exchanges,
            local_flows: config.datapath.max_local_flows,
        };
        let datapath = Datapath::open(&paths.bpffs, sizes)?;
        let ways = Ways { finder: config.sockets.finder, destroyer: config.sockets.destroyer };
        let sockets = Arc::new(Sockets::open_with(&datapath.maps_dir(), ways)?);
        let name = match &config.node.name {
            Some(name) => name.clone(),
            None => read_hostname()?,
        };
        let metrics = Arc::new(Metrics::new());
        Ok(Self {
            instance: instance.map_or_else(|| "netloom".to_owned(), |name| format!("netloom-{name}")),
            name,
            paths,
            config: Arc::new(config),
            capabilities,
            devices: Devices::open(&netns)?,
            netns,
            store,
            datapath: Arc::new(datapath),
            sockets,
            locks: Arc::default(),
            events: Arc::new(Events::new(&metrics)),
            metrics,
            background: Arc::default(),
            failpoints: Arc::new(Failpoints::of_environment()?),
        })
    }
}

fn read_hostname() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("/proc is not mounted")?;
    Ok(name.trim().to_owned())
}
