//! netloom, the operator's command.

fn main() {}
