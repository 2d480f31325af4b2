//! The real binary against a daemon of the test's own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod behaviour;
mod daemon;
mod rendering;
mod requests;
mod values;
