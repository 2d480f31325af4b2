//! Services and their backends.

use std::net::SocketAddr;

use netloom_core::model::{Name, Service, Weight};
use serde::{Deserialize, Serialize};

use super::ReapReport;

/// A backend to add.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendRequest {
    /// Where.
    pub address: SocketAddr,
    /// How many of the service's new connections it gets.
    #[serde(default)]
    pub weight: Weight,
}

/// What to change of a backend.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendChange {
    /// How many of the service's new connections it gets; with 0 it gets none, and those it has live on.
    pub weight: Weight,
}

/// A service, and what was counted of it since it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// It.
    #[serde(flatten)]
    pub service: Service,
    /// Connects, and exchanges begun by unconnected UDP sockets, that went to a backend.
    pub connected: u64,
    /// Connects and messages refused because it has no backend.
    pub refused: u64,
    /// Connects that no reap will find, for want of memory.
    pub unbound: u64,
}

/// Services as they are to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicesApply {
    /// Each with all its backends.
    pub services: Vec<Service>,
    /// Remove services that are not named.
    #[serde(default)]
    pub prune: bool,
    /// Say what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of the services.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServicesApplied {
    /// Nothing was changed, because it was a dry run.
    pub dry_run: bool,
    /// There was none of that name.
    pub added: Vec<Name>,
    /// Something was different.
    pub changed: Vec<Name>,
    /// It was not named.
    pub removed: Vec<Name>,
    /// So many are as they are wanted already.
    pub unchanged: usize,
    /// Of the sockets that were bound to backends that went.
    pub reap: ReapReport,
}
