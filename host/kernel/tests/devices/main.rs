//! Devices, namespaces and capabilities against the running kernel, in namespaces of the tests' own. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what its cases share"
)]

mod namespaces;
mod netkit;
mod node;
mod pairs;
mod ping;
mod probing;
mod routes;
mod veth;
mod wiring;
