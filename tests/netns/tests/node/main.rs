//! netloomd as its users meet it: each test runs a real one, on a node that is a network namespace of its own.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used, missing_docs)]
#![allow(clippy::needless_pass_by_value, reason = "`json!` at the call reads better than `&json!`")]

mod applications;
mod attachments;
mod capabilities;
mod changes;
mod crashes;
mod devices;
mod endpoints;
mod everything;
mod full_hooks;
mod link;
mod lost;
mod mending;
mod modes;
mod monitor;
mod moves;
mod outside;
mod ownership;
mod races;
mod reaping;
mod restarts;
mod returning;
mod services;
mod stack;
mod storage;
mod trace;
mod watching;
