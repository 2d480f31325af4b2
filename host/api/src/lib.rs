//! netloomd's HTTP API: JSON over a unix socket.
//!
//! [`types`] has every request and answer, [`Client`] sends and receives them, and [`Paths`] says where an
//! instance of netloomd keeps its socket and files. What is to be deleted while nobody answers waits in [`Deletions`].

mod asked;
mod client;
mod deletions;
mod paths;
pub mod types;

pub use asked::Asked;
pub use client::{Client, ClientError, Lines};
pub use deletions::{Deletions, QueuedDeletion};
pub use paths::Paths;
