//! netloomd, the node's network agent.

fn main() {}
