//! Plugins as a third party would write them, compiled: for tests, also where there is no toolchain, and for the
//! demo.

/// `examples/custom-policy`.
pub const CUSTOM_POLICY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/custom-policy.wasm"));

/// `examples/node-operator`.
pub const NODE_OPERATOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/node-operator.wasm"));

/// `tests/guests/misbehaving`.
pub const MISBEHAVING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/misbehaving.wasm"));

/// `tests/guests/operating`.
pub const OPERATING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/operating.wasm"));
