//! `netloom` against a real netloomd: every command of its tree, and every command that README.md and the book tell
//! people to type. That is the same on every kernel, so these tests run on one.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used, missing_docs)]

mod attachments;
mod authors;
mod book;
mod devices;
mod endpoints;
mod node;
mod plugins;
mod reaping;
mod records;
mod services;
mod session;
mod spoofing;
mod tree;

use std::time::Duration;

use netloom_netns_tests::Node;

/// How long what happens at once may take on a machine under load.
const SOON: Duration = Duration::from_secs(10);

/// A node on which plugins have as long as they need: their deadlines are not what is tested, and the machine may be
/// busy with other things.
fn patient_node() -> Node {
    Node::configured("[plugins]\ndeadline_ms = 60000\n")
}
