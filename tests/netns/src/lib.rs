//! Components for the tests in `tests/node`, built with this crate so that they run where there is no toolchain.

/// `examples/custom-policy`.
pub const CUSTOM_POLICY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/custom-policy.wasm"));

/// `tests/guests/misbehaving`.
pub const MISBEHAVING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/misbehaving.wasm"));
