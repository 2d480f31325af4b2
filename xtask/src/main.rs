//! Netloom's development commands.

fn main() {}
