//! The real executable, run as a container runtime does, where there is no netloomd: and where it is one that fails as
//! the real one cannot be made to. What it does with a real one is in tests/netns/tests/cni.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod daemon;
mod failing;
mod failures;
