//! netloomd with plugins of others: what they may do, and how they come, change and go. That is the same on every
//! kernel, so these tests run on one.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used, missing_docs)]
#![allow(clippy::needless_pass_by_value, reason = "`json!` at the call reads better than `&json!`")]

mod grants;
mod plugins;
mod reloading;
