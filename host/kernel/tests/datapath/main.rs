//! The datapath against the running kernel, in namespaces and a cgroup of the tests' own. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod adoption;
mod forwarding;
mod node;
mod services;
mod table;
mod translation;

#[path = "../devices/ping.rs"]
mod ping;
