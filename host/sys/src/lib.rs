//! The only unsafe code of Netloom. Each module wraps one kernel interface and gives back owned, typed values.
//!
//! - [`announce`]: rtnetlink's announcements of several namespaces at once.
//! - [`bpf`]: the bpf(2) commands that aya does not have: links with revisions, chain queries, iterators, pins.
//! - [`ns`]: network namespaces: setns, identity, cookies.
//! - [`diag`]: sock_diag: finding and destroying sockets.

pub mod announce;
pub mod bpf;
pub mod diag;
pub mod ns;
