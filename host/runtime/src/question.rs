//! What plugins are asked about: snapshots, borrowed from whoever asks.

use ipnet::IpNet;
use netloom_core::model::{BoundSocket, Capabilities, EndpointSpec, Name, NetnsId};

/// The node a question is about.
#[derive(Clone, Copy, Debug)]
pub struct NodeFacts<'a> {
    /// Its host name.
    pub name: &'a str,
    /// What its kernel can do.
    pub capabilities: &'a Capabilities,
}

/// An endpoint about to be attached.
#[derive(Clone, Copy, Debug)]
pub struct EndpointFacts<'a> {
    /// What was asked for.
    pub spec: &'a EndpointSpec,
    /// Its namespace's identity.
    pub netns: NetnsId,
    /// The addresses it gets.
    pub addresses: &'a [IpNet],
}

/// A socket to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Suspect<'a> {
    /// The socket.
    pub socket: &'a BoundSocket,
    /// The endpoint its namespace belongs to.
    pub endpoint: Option<&'a Name>,
}
