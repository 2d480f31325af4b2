//! What the datapath reports while somebody listens.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use netloom_core::model::{Name, NetnsCookie, Protocol};
use serde::{Deserialize, Serialize};

/// What to listen to: events that meet all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitorQuery {
    /// Only of this endpoint: its packets, and connects of its processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Name>,
    /// Only connects to this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// Only this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MonitorKind>,
    /// Only drops for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl MonitorQuery {
    /// Whether drops can meet it.
    #[must_use]
    pub fn wants_drops(&self) -> bool {
        self.kind.is_none_or(|kind| kind == MonitorKind::Drop) && self.service.is_none()
    }

    /// Whether connects can meet it.
    #[must_use]
    pub fn wants_connects(&self) -> bool {
        self.kind.is_none_or(|kind| kind == MonitorKind::Connect) && self.reason.is_none()
    }

    /// Whether an event meets it. That some were lost concerns everyone.
    #[must_use]
    pub fn meets(&self, event: &MonitorEvent) -> bool {
        let is = |wanted: &Option<Name>, found: &Option<Name>| wanted.is_none() || wanted == found;
        match event {
            MonitorEvent::Drop(drop) => {
                self.wants_drops()
                    && is(&self.endpoint, &drop.endpoint)
                    && self.reason.as_ref().is_none_or(|reason| *reason == drop.reason)
            }
            MonitorEvent::Connect(connect) => {
                self.wants_connects()
                    && is(&self.endpoint, &connect.endpoint)
                    && is(&self.service, &connect.service)
            }
            MonitorEvent::Lost(_) => true,
        }
    }
}

/// A kind of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MonitorKind {
    /// Packets that were dropped.
    Drop,
    /// Connects and messages to services.
    Connect,
}

/// A line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MonitorEvent {
    /// A packet was dropped.
    Drop(DropEvent),
    /// A connect or message to a service was translated or refused.
    Connect(ConnectEvent),
    /// Events are missing here: there were too many in too short a time.
    Lost(LostEvents),
}

/// A dropped packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropEvent {
    /// Since the epoch.
    pub time_ms: u64,
    /// Whose packet it was; none if the endpoint is gone by now.
    pub endpoint: Option<Name>,
    /// Its number.
    pub endpoint_id: u32,
    /// The endpoint's namespace.
    pub netns: Option<PathBuf>,
    /// Why: `spoofed`, `malformed`, `unsupported`, `tagged`, `link`, `martian`.
    pub reason: String,
    /// Which way it went.
    pub direction: Direction,
    /// The device on the node that the program is on.
    pub device: Option<String>,
    /// Its index.
    pub ifindex: u32,
    /// What is in the frame: 2048 for IPv4, 34525 for IPv6, 2054 for ARP.
    pub ethertype: u16,
    /// The IP protocol's number; none where the packet ends before.
    pub protocol: Option<u8>,
    /// Where it came from.
    pub source: Option<IpAddr>,
    /// TCP, UDP.
    pub source_port: Option<u16>,
    /// Where it was to go.
    pub destination: Option<IpAddr>,
    /// TCP, UDP.
    pub destination_port: Option<u16>,
    /// Bytes, with the link header.
    pub length: u32,
}

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The endpoint sent it.
    FromEndpoint,
    /// It was for the endpoint.
    ToEndpoint,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FromEndpoint => "from-endpoint",
            Self::ToEndpoint => "to-endpoint",
        })
    }
}

/// A connect, or a message of a socket that is not connected, to a service's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectEvent {
    /// Since the epoch.
    pub time_ms: u64,
    /// The endpoint whose namespace the socket is of, if it is one's.
    pub endpoint: Option<Name>,
    /// The endpoint's namespace.
    pub netns: Option<PathBuf>,
    /// The socket's namespace.
    pub netns_cookie: NetnsCookie,
    /// The socket's cookie.
    pub cookie: u64,
    /// The process that asked.
    pub process: u32,
    /// Its name.
    pub command: String,
    /// Over what.
    pub protocol: Option<Protocol>,
    /// The service; none if it is gone by now.
    pub service: Option<Name>,
    /// Where it wanted to.
    pub vip: SocketAddr,
    /// Where it was sent to; none if it was refused.
    pub backend: Option<SocketAddr>,
    /// What became of it.
    pub outcome: ConnectOutcome,
}

/// What became of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectOutcome {
    /// It was sent to a backend.
    Chosen,
    /// The service has no backend.
    Refused,
}

/// Events that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostEvents {
    /// Since the epoch.
    pub time_ms: u64,
    /// How many; of all kinds, where it was the programs that had to give up.
    pub events: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(json: &str) -> MonitorEvent {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_query_takes_what_meets_all_of_it_and_always_what_is_missing() {
        let refused = event(
            r#"{"kind":"connect","time_ms":1,"endpoint":"web","netns":null,"netns_cookie":1,"cookie":2,
                "process":3,"command":"curl","protocol":"tcp","service":"shop","vip":"10.0.0.1:80",
                "backend":null,"outcome":"refused"}"#,
        );
        let lost = event(r#"{"kind":"lost","time_ms":1,"events":7}"#);
        let of = |endpoint: Option<&str>, service: Option<&str>, kind, reason: Option<&str>| MonitorQuery {
            endpoint: endpoint.map(|name| Name::new(name).unwrap()),
            service: service.map(|name| Name::new(name).unwrap()),
            kind,
            reason: reason.map(str::to_owned),
        };
        for (query, meets) in [
            (of(None, None, None, None), true),
            (of(Some("web"), Some("shop"), Some(MonitorKind::Connect), None), true),
            (of(Some("db"), None, None, None), false),
            (of(None, Some("other"), None, None), false),
            (of(None, None, Some(MonitorKind::Drop), None), false),
            (of(None, None, None, Some("spoofed")), false),
        ] {
            assert_eq!(query.meets(&refused), meets, "{query:?}");
            assert!(query.meets(&lost), "{query:?}");
        }
    }
}
