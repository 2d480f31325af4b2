//! Which way a packet of an endpoint would take, found out without sending one.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use netloom_core::model::{Name, ProgramId, Protocol};
use serde::{Deserialize, Serialize};

/// What an endpoint would send.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceQuery {
    /// Where to.
    pub to: SocketAddr,
    /// Over what.
    pub protocol: Protocol,
    /// From which address; its own of that family if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// Bytes of the packet with its network header, as it is on the link; 100 if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
}

/// The ways that it may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Whose.
    pub endpoint: Name,
    /// The service it goes to.
    pub service: Option<Name>,
    /// One for each backend of the service, or the only one.
    pub ways: Vec<Way>,
}

/// One way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Where it leads: a backend, or what was asked for.
    pub to: SocketAddr,
    /// What it meets, in order.
    pub steps: Vec<TraceStep>,
    /// How it ends, if every program that is not Netloom's lets it go on.
    pub outcome: TraceOutcome,
}

/// A place on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    /// Where: `socket`, `tcx-ingress of nlweb`, `the node's stack`.
    pub at: String,
    /// The program that sees it there; none where it is the kernel itself, or the datapath.
    pub program: Option<TracedProgram>,
    /// What happens.
    pub does: String,
}

/// A program on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedProgram {
    /// The kernel's id.
    pub id: ProgramId,
    /// Its name.
    pub name: String,
    /// Whose it is; none of a foreign one.
    pub owner: Option<String>,
}

/// How a way ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceOutcome {
    /// At an endpoint of the node.
    Endpoint,
    /// At the node itself.
    Node,
    /// Outside.
    Outside,
    /// Nowhere: the connect or message fails.
    Refused,
    /// Nowhere: the datapath drops it.
    Dropped,
    /// Nowhere: the node has no way for it.
    Unreachable,
}

impl fmt::Display for TraceOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Endpoint => "endpoint",
            Self::Node => "node",
            Self::Outside => "outside",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
            Self::Unreachable => "unreachable",
        })
    }
}
