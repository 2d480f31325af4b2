//! Chains on real devices, in namespaces of the tests' own. These tests need root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test these are how it fails"
)]

mod chains;
mod denied;
mod device;
mod legacy;
mod objects;
mod packets;
mod pins;
mod road;
mod scratch;
mod semantics;
