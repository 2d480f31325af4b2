//! Namespaces, traffic and daemons for tests, in words.
//!
//! ```no_run
//! use std::time::Duration;
//! use netloom_test_support::Netns;
//!
//! let client = Netns::new("client");
//! let server = Netns::new("server");
//! client.link("10.1.0.1/24").to(&server, "10.1.0.2/24");
//!
//! let echo = server.tcp_echo("10.1.0.2:7000");
//! let mut connection = client.connect_tcp(echo.address());
//! assert_eq!(connection.exchange("hello"), "hello");
//!
//! let reader = connection.blocked_reader();
//! drop(echo);
//! assert!(reader.end_within(Duration::from_secs(1)).is_some());
//! ```
//!
//! Everything here cleans up after itself, also when the test fails, and fails by panicking: a test has nothing
//! better to do. `NETLOOM_KEEP=1` keeps the namespaces of a failed test for a look inside.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so does what it stands on"
)]

mod cgroup;
mod cni;
mod command;
mod daemon;
mod features;
mod kills;
mod netns;
mod pace;
mod page;
mod registry;
mod require;
mod stream;
mod tcp;
mod udp;

pub use self::{
    cgroup::Cgroup,
    cni::{CniAnswer, CniCall},
    command::{Output, command},
    daemon::{Daemon, DaemonOptions, Listening, binary},
    features::kernel_has,
    kills::Kills,
    netns::{Link, Netns, quiet, settle},
    pace::{at_this_pace, emulated, until},
    page::{Page, typed, words},
    registry::Registry,
    require::{
        expected, require, require_all, require_condition, require_root, require_tool, require_without,
    },
    stream::{Arrivals, UdpReceiver, UdpSender},
    tcp::{BlockedReader, TcpConnection, TcpEcho},
    udp::{UdpConnection, UdpEcho},
};
