//! netloomd, the node's network agent.

mod config;
mod decisions;
mod failure;
mod lock;
mod metrics;
mod naming;
mod store;

fn main() {}
