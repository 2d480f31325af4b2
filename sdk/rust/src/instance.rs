//! Joins a plugin's traits to the exports wit-bindgen generates.

use std::marker::PhantomData;

use crate::{
    AttachOrder, Batch, DatapathMode, Lifecycle, SocketReap,
    bindings::{
        attach_order::exports::netloom::policy::attach_order,
        datapath_mode::exports::netloom::policy::datapath_mode,
        lifecycle::exports::netloom::policy::lifecycle,
        socket_reap::exports::netloom::policy::socket_reap::{self, BoundSocket},
    },
    hooks::configure,
    log,
    types::{
        Candidate, Chain, Endpoint, ModeDecision, Node, PlaceDecision, PlanDecision, ReapEvent,
        RebalanceDecision,
    },
};

/// A plugin of which there is one in this Wasm instance. Implemented by `#[plugin]`.
pub trait Instance: Default + 'static {
    /// Calls it.
    fn with<R>(act: impl FnOnce(&mut Self) -> R) -> R;
}

/// Makes the plugin of a new Wasm instance. The message of a panic would be lost: it goes to the log.
pub fn create<P: Default>() -> P {
    std::panic::set_hook(Box::new(|panic| log::write(log::Level::Error, panic.to_string(), &[])));
    P::default()
}

/// The generated `Guest` traits of every hook a plugin implements.
pub struct Exported<P>(PhantomData<P>);

impl<P: Instance + AttachOrder> attach_order::Guest for Exported<P> {
    fn place(node: Node, chain: Chain, candidate: Candidate) -> PlaceDecision {
        P::with(|plugin| plugin.place(&node, &chain, &candidate))
    }

    fn rebalance(node: Node, chain: Chain) -> RebalanceDecision {
        P::with(|plugin| plugin.rebalance(&node, &chain))
    }
}

impl<P: Instance + DatapathMode> datapath_mode::Guest for Exported<P> {
    fn choose(node: Node, endpoint: Endpoint) -> ModeDecision {
        P::with(|plugin| plugin.choose(&node, &endpoint))
    }
}

impl<P: Instance + SocketReap> socket_reap::Guest for Exported<P> {
    fn plan(node: Node, event: ReapEvent) -> PlanDecision {
        P::with(|plugin| plugin.plan(&node, &event))
    }

    fn judge(event: ReapEvent, sockets: Vec<BoundSocket>) -> Vec<bool> {
        P::with(|plugin| plugin.judge_batch(&event, Batch::records(&sockets))).into_bools()
    }

    fn judge_packed(event: ReapEvent, sockets: Vec<u64>) -> Vec<u64> {
        P::with(|plugin| plugin.judge_batch(&event, Batch::packed(&sockets))).into_words()
    }
}

impl<P: Instance + Lifecycle> lifecycle::Guest for Exported<P> {
    fn init(config: String) -> Result<(), String> {
        P::with(|plugin| configure(plugin, &config))
    }

    fn health() -> Result<(), String> {
        P::with(Lifecycle::health)
    }
}
