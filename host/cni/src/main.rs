//! netloom-cni, the CNI executable.

fn main() {}
