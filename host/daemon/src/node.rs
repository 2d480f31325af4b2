//! The node: its parts, and what each of them is given.

use std::sync::Arc;

use netloom_runtime::Operations;

use crate::{
    chains::Chains,
    endpoints::Endpoints,
    executor::Executor,
    inventory::{Inventory, seen::SeenChains},
    mends::Mends,
    monitor::Monitor,
    opened::Opened,
    orphans::Orphans,
    pairs::Pairs,
    plugins::Plugins,
    policy::Policy,
    reaping::Reaping,
    services::Services,
    socket_lb::SocketLb,
    uplinks::Uplinks,
};

/// The parts, from those that only know to those that change something.
pub(crate) struct Node {
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) seen: Arc<SeenChains>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) chains: Arc<Chains>,
    pub(crate) orphans: Arc<Orphans>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) mends: Arc<Mends>,
    pub(crate) pairs: Arc<Pairs>,
    pub(crate) reaping: Arc<Reaping>,
    pub(crate) services: Arc<Services>,
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) socket_lb: Arc<SocketLb>,
    pub(crate) uplinks: Arc<Uplinks>,
    pub(crate) monitor: Arc<Monitor>,
}

impl Node {
    /// Gives each part what it needs. `operations` carries out what plugins ask for.
    pub(crate) fn new(opened: &Opened, operations: Arc<dyn Operations>) -> anyhow::Result<Self> {
        let inventory = Arc::new(Inventory::new(opened));
        let seen = Arc::new(SeenChains::default());
        let policy = Arc::new(Policy::new(opened));
        let executor = Arc::new(Executor::new(opened, &policy, &inventory, &seen));
        let chains = Arc::new(Chains::new(opened, &policy, &inventory, &executor, &seen));
        let orphans = Arc::new(Orphans::new(opened));
        let endpoints = Arc::new(Endpoints::new(opened, &policy, &inventory, &executor, &orphans));
        let reaping = Arc::new(Reaping::new(opened, &policy, &inventory));
        let services = Arc::new(Services::new(opened, &inventory, &reaping));
        Ok(Self {
            pairs: Arc::new(Pairs::new(opened, &inventory, &executor)),
            plugins: Arc::new(Plugins::new(opened, &policy, &inventory, operations)?),
            socket_lb: Arc::new(SocketLb::new(opened)),
            uplinks: Arc::new(Uplinks::new(opened, &inventory, &executor, &chains, &services)),
            monitor: Arc::new(Monitor::new(opened)),
            mends: Arc::new(Mends::new(opened, &endpoints)),
            inventory,
            seen,
            policy,
            executor,
            chains,
            orphans,
            endpoints,
            reaping,
            services,
        })
    }
}
