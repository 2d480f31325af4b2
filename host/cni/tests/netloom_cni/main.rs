//! The real executable, run as a container runtime does, against a daemon of the test's own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod daemon;
mod failures;
mod runtime;
mod verbs;
