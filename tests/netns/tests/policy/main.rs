//! netloomd with plugins of others: what they may do, and how they come, change and go; and what it refuses. That is
//! the same on every kernel, so these tests run on one.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used, missing_docs)]
#![allow(clippy::needless_pass_by_value, reason = "`json!` at the call reads better than `&json!`")]

mod due_reaps;
mod failures;
mod first_page;
mod full_tables;
mod grants;
mod operator;
mod plugins;
mod reaping;
mod refusals;
mod registries;
mod reloading;
mod removal;
mod signing;
mod slow_listener;
mod trials;

use netloom_netns_tests::Node;
use serde_json::{Value, json};

/// A node on which plugins have as long as they need: their deadlines are not what is tested, and the machine may be
/// busy with other things.
fn patient_node() -> Node {
    Node::configured("[plugins]\ndeadline_ms = 60000\n")
}

/// Limits of a plugin that has as long as it needs.
fn patient_limits() -> Value {
    json!({ "deadline_ms": 60_000, "init_deadline_ms": 60_000 })
}
