//! Write Netloom plugins in Rust.
