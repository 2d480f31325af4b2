//! The Wasm plugin host: limits, grants, supervision, reload.
//!
//! | module | what is there |
//! |---|---|
//! | [`PluginHost`] | compiles (`cache`), looks a component over (`inspect`), links and starts it |
//! | [`Plugin`] | calls with deadlines and limits, on instances (`instance`) that are never reused after a failure |
//! | [`Registry`] | the active plugins in order, swapped atomically, and how they decide together (`trace`) |
//! | [`Recording`], [`Trial`] | questions as values: asked again of another version, compared |
//! | `supervision` | backoff and quarantine, pure |
//! | `kv`, `metrics`, `log`, `settings` | what plugins may import without a grant, without Wasm |
//! | `operations`, `files` | what they may import with one: the node's operations, and directories |
//! | [`EmptyNode`] | where plugins that act can be asked without a node |
//! | `bindings` | the ABI: generated code, conversions, and glue between the two |
//!
//! ```no_run
//! # async fn example(bytes: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use netloom_core::model::Name;
//! use netloom_runtime::{HostConfig, LoadRequest, PluginHost, Registry};
//!
//! let host = PluginHost::new(HostConfig::default())?;
//! let plugin = host.load(LoadRequest::new(Name::new("acme")?, bytes)).await?;
//! // It can be asked already, to see what it would decide; from here on it decides.
//! let registry = Registry::default();
//! registry.insert(Arc::new(plugin), None);
//! # Ok(())
//! # }
//! ```
//!
//! No plugin can hurt the host or another plugin: a guest that runs is interrupted each millisecond and gives way
//! to other tasks, and whatever it does ends as an error value here.

mod bindings;
mod cache;
mod empty_node;
mod engine;
mod error;
mod files;
mod hook;
mod host;
mod inspect;
mod instance;
mod kv;
mod limits;
mod log;
mod metrics;
mod operations;
mod plugin;
mod question;
mod recording;
mod registry;
mod schema;
mod settings;
mod state;
mod supervision;
mod trace;
mod trial;

pub use cache::hex_digest;
pub use empty_node::EmptyNode;
pub use error::{CacheError, CallError, Failure, HostError, LoadError, Refusal};
pub use hook::Hook;
pub use host::{HostConfig, LoadRequest, PluginHost};
pub use inspect::Inspection;
pub use kv::{KEY_BYTES, KvError, KvStore, LISTED_KEYS, MemoryKv, VALUE_BYTES};
pub use limits::{Breach, JUDGE_BATCH, Limits};
pub use metrics::{Metric, PluginMetrics};
pub use operations::{LinkRequest, Operation, OperationError, Operations, PairRequest, Traffic};
pub use plugin::{Health, Plugin, Status};
pub use question::{EndpointFacts, NodeFacts, Suspect};
pub use recording::{Judged, Question, RecordedNode, RecordedReply, Recording, Reply};
pub use registry::{Position, Registry};
pub use schema::config_schema;
pub use supervision::{State, Supervision};
pub use trace::{Outcome, Step, StepAnswer, Verdict};
pub use trial::{Difference, Trial, TrialMode, TrialStatus};
