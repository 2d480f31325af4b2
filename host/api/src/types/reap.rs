//! Bound sockets, and what becomes of them.

use std::net::SocketAddr;

use netloom_core::model::{BoundSocket, Name, Protocol, SocketState};
use serde::{Deserialize, Serialize};

/// A reap to carry out or to try.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReapRequest {
    /// The service; every service with this backend if none.
    #[serde(default)]
    pub service: Option<Name>,
    /// The backend whose sockets are to go.
    pub backend: SocketAddr,
    /// Show what would be destroyed, and destroy nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a reap found and did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReapReport {
    /// Who decided: a plugin's name; none if no plugin did, and so nothing was reaped.
    pub decided_by: Option<String>,
    /// Why nothing was reaped, where that is so.
    #[serde(default)]
    pub reason: Option<String>,
    /// Nothing was destroyed, because it was a dry run.
    pub dry_run: bool,
    /// How the sockets were found: `sk-storage-iterator`, `netns-iterator` or `sock-diag-dump`.
    pub finder: String,
    /// Each socket found and what became of it.
    pub sockets: Vec<ReapedSocket>,
    /// Finding took so long, in microseconds.
    pub find_us: u64,
    /// From the event to the last socket verified gone, in microseconds.
    pub total_us: u64,
}

/// One socket of a reap.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReapedSocket {
    /// The socket.
    #[serde(flatten)]
    pub view: SocketView,
    /// What became of it.
    pub fate: Fate,
}

/// What a reap did with a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Destroyed, and verified gone.
    Destroyed,
    /// It had gone by itself.
    Gone,
    /// A plugin spared it.
    Spared,
    /// It was left alone, as the plugin that should have judged it failed.
    Unjudged,
    /// It would have been destroyed, but for the dry run.
    WouldDestroy,
    /// Policy only wanted it listed.
    Observed,
    /// The kernel refused, and why.
    Failed(String),
}

/// Which bound sockets: all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketQuery {
    /// Bound through this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// Bound to this backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<SocketAddr>,
    /// Of this endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Name>,
    /// Of this network namespace: a path, or its cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Of this protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// In this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SocketState>,
    /// Bound at least so long ago, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_age_ms: Option<u64>,
}

impl SocketQuery {
    /// Whether it lets every bound socket through.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// Sockets to destroy, whatever their backend.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketDestroy {
    /// Which. Unconnected sockets never are, and the node's own only if `netns` names its namespace.
    #[serde(default)]
    pub filter: SocketQuery,
    /// A filter that lets everything through is meant.
    #[serde(default)]
    pub all: bool,
    /// Show what would be destroyed, and destroy nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// A bound socket and whose it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SocketView {
    /// The socket.
    #[serde(flatten)]
    pub socket: BoundSocket,
    /// The endpoint its namespace belongs to.
    pub endpoint: Option<Name>,
    /// The name of the service it was bound through; none if it is gone, or the socket is from before netloomd.
    #[serde(default)]
    pub service_name: Option<Name>,
}
