//! The Wasm plugin host: limits, grants, supervision, reload.
