//! netloom-cni, run as container runtimes do, with a real netloomd behind it: what it answers is compared with what
//! the kernel has. That is the same on every kernel, so these tests run on one.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used, missing_docs)]
#![allow(clippy::needless_pass_by_value, reason = "`json!` at the call reads better than `&json!`")]

mod add;
mod chained;
mod check;
mod del;
mod failures;
mod ipam;
mod nulls;
mod runtime;
mod several;
mod specification;
