//! Questions and answers as values: what was asked can be written down, and asked again of another version, without
//! root and without a node.

use ipnet::IpNet;
use netloom_core::{
    answer::{Answer, RawMode, RawPlacement, RawReapPlan},
    model::{BoundSocket, Candidate, Capabilities, Chain, EndpointSpec, Name, NetnsId, ReapEvent},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::CallError,
    hook::Hook,
    plugin::Plugin,
    question::{EndpointFacts, NodeFacts, Suspect},
};

/// A question with the whole snapshot it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// `attach-order.place`.
    Place {
        /// The chain.
        chain: Chain,
        /// The program to be attached.
        candidate: Candidate,
    },
    /// `attach-order.rebalance`.
    Rebalance {
        /// The chain.
        chain: Chain,
    },
    /// `datapath-mode.choose`.
    Choose {
        /// What was asked for.
        spec: EndpointSpec,
        /// Its namespace's identity.
        netns: NetnsId,
        /// The addresses it gets.
        addresses: Vec<IpNet>,
    },
    /// `socket-reap.plan`.
    Plan {
        /// The change of backends.
        event: ReapEvent,
    },
    /// `socket-reap.judge`, or `judge-packed`.
    Judge {
        /// The change of backends.
        event: ReapEvent,
        /// The sockets.
        sockets: Vec<Judged>,
        /// As words instead of records.
        #[serde(default)]
        packed: bool,
    },
}

/// A socket to be judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The socket.
    pub socket: BoundSocket,
    /// The endpoint its namespace belongs to.
    #[serde(default)]
    pub endpoint: Option<Name>,
}

/// The node a question is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedNode {
    /// Its host name.
    pub name: String,
    /// What its kernel can do.
    pub capabilities: Capabilities,
}

impl RecordedNode {
    /// As the runtime takes it.
    #[must_use]
    pub fn facts(&self) -> NodeFacts<'_> {
        NodeFacts { name: &self.name, capabilities: &self.capabilities }
    }
}

/// What a plugin said to a question, not yet checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Question::Place`].
    Place(Answer<RawPlacement>),
    /// To [`Question::Rebalance`]; keeping the order is abstaining.
    Rebalance(Answer<Vec<u32>>),
    /// To [`Question::Choose`].
    Choose(Answer<RawMode>),
    /// To [`Question::Plan`].
    Plan(Answer<RawReapPlan>),
    /// To [`Question::Judge`]: true destroys.
    Judge(Vec<bool>),
    /// None: it failed, and how.
    Failed(String),
}

/// A decision: what was asked, and what each plugin said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// The node.
    pub node: RecordedNode,
    /// What was asked.
    pub question: Question,
    /// What each plugin said, in the order in which they were asked.
    pub replies: Vec<RecordedReply>,
}

/// One plugin's part in a recorded decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedReply {
    /// Which plugin.
    pub plugin: Name,
    /// Its component's SHA-256.
    #[serde(default)]
    pub digest: String,
    /// What it said.
    pub reply: Reply,
}

impl Question {
    /// The hook it belongs to.
    #[must_use]
    pub const fn hook(&self) -> Hook {
        match self {
            Self::Place { .. } | Self::Rebalance { .. } => Hook::AttachOrder,
            Self::Choose { .. } => Hook::DatapathMode,
            Self::Plan { .. } | Self::Judge { .. } => Hook::SocketReap,
        }
    }

    /// In a line, for people.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Place { chain, candidate } => format!("place {} at {}", candidate.owner, chain.hook),
            Self::Rebalance { chain } => format!("rebalance {}", chain.hook),
            Self::Choose { spec, .. } => format!("choose for {}", spec.name),
            Self::Plan { event } => format!("plan for {}", backends(event)),
            Self::Judge { event, sockets, .. } => {
                format!("judge {} sockets of {}", sockets.len(), backends(event))
            }
        }
    }
}

fn backends(event: &ReapEvent) -> String {
    let each = event.backends.iter().take(3).map(|backend| backend.address.to_string());
    let more = if event.backends.len() > 3 { ", …" } else { "" };
    format!("{}{more}", each.collect::<Vec<_>>().join(", "))
}

impl Plugin {
    /// Asks a question. What a plugin that fails did is its reply.
    pub async fn ask(&self, node: NodeFacts<'_>, question: &Question) -> Reply {
        self.try_ask(node, question).await.unwrap_or_else(|error| Reply::Failed(error.failure.to_string()))
    }

    async fn try_ask(&self, node: NodeFacts<'_>, question: &Question) -> Result<Reply, CallError> {
        Ok(match question {
            Question::Place { chain, candidate } => Reply::Place(self.place(node, chain, candidate).await?),
            Question::Rebalance { chain } => Reply::Rebalance(self.rebalance(node, chain).await?),
            Question::Choose { spec, netns, addresses } => {
                Reply::Choose(self.choose(node, EndpointFacts { spec, netns: *netns, addresses }).await?)
            }
            Question::Plan { event } => Reply::Plan(self.plan(node, event).await?),
            Question::Judge { event, sockets, packed } => {
                let suspects: Vec<Suspect<'_>> = sockets
                    .iter()
                    .map(|judged| Suspect { socket: &judged.socket, endpoint: judged.endpoint.as_ref() })
                    .collect();
                Reply::Judge(match packed {
                    true => self.judge_packed(event, &suspects).await?,
                    false => self.judge(event, &suspects).await?,
                })
            }
        })
    }
}
