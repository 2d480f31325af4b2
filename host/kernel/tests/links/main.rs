//! Chains on real devices, in namespaces of the tests' own. These tests need root.
//!
//! Cases that need a feature this kernel lacks print `skipped: …`; `NETLOOM_REQUIRE=netkit,tcx` turns a missing
//! feature into a failure.

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
mod scratch;
mod semantics;
