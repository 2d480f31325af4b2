//! Two nodes with Netloom's datapath for tests and measurements, without a daemon.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "it stands on the tests' support, and fails as a test does"
)]

pub mod nodes;
