//! Plugins, their versions, and what they decided and did.

use std::{collections::BTreeMap, path::PathBuf};

use netloom_core::{grants::Grants, model::Name};
use serde::{Deserialize, Serialize};

/// A plugin to load or look at.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginLoad {
    /// What to call it; the file's stem if none.
    #[serde(default)]
    pub name: Option<Name>,
    /// The component, read by the daemon.
    pub path: PathBuf,
    /// Its place among the plugins of a hook: in front of the others unless told, so that it decides first.
    #[serde(default)]
    pub last: bool,
    /// Its configuration.
    #[serde(default)]
    pub config: BTreeMap<String, serde_json::Value>,
    /// What it may import beside what every plugin has, and on which objects.
    #[serde(default)]
    pub grants: Grants,
    /// What it may use, where that differs from the configuration's.
    #[serde(default)]
    pub limits: PluginLimits,
    /// Reload it when its file changes.
    #[serde(default)]
    pub watch: bool,
}

/// What one plugin may use; what is none is as for every plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginLimits {
    /// Milliseconds of one decision, the operations it asks the host for included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Milliseconds of one batch of judgements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge_deadline_ms: Option<u64>,
    /// Milliseconds to start an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_deadline_ms: Option<u64>,
    /// MiB of memory of one instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<usize>,
    /// Table elements of one instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_elements: Option<usize>,
    /// Calls to the host during one call of a hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_calls: Option<u32>,
    /// Resource handles one instance may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handles: Option<usize>,
    /// Log entries a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_rate: Option<u32>,
    /// KiB of its store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_kib: Option<u64>,
    /// Instances, and so concurrent calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<usize>,
}

/// A loaded plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginView {
    /// Its name.
    pub name: Name,
    /// Whether it came with the daemon.
    pub bundled: bool,
    /// The SHA-256 of the component, hexadecimal.
    pub digest: String,
    /// The hooks it serves.
    pub hooks: Vec<String>,
    /// `active`, `backoff`, `quarantined`.
    pub state: String,
    /// Why, where it is not active.
    pub reason: Option<String>,
    /// Decisions asked of it.
    pub calls: u64,
    /// Of those, how many trapped, timed out or gave a bad answer.
    pub failures: u64,
    /// What it may import beside what every plugin has.
    #[serde(default)]
    pub grants: Grants,
    /// What its configuration has to look like, in JSON Schema, as far as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<serde_json::Value>,
    /// The version that is tried out beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialView>,
}

/// A version that is tried out beside the one that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialView {
    /// The SHA-256 of its component, hexadecimal.
    pub digest: String,
    /// `shadow` (asked and compared, never acted on), or `canary 10%` (decides that share).
    pub mode: String,
    /// Questions it was asked.
    pub asked: u64,
    /// Of those, how many it answered otherwise; known of a shadow alone.
    pub differed: u64,
    /// Of those, how many it failed on.
    pub failed: u64,
    /// The last difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<AnswerDifference>,
}

/// A question that two versions answer differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerDifference {
    /// What is asked, in a line.
    pub subject: String,
    /// What the serving version says.
    pub serving: serde_json::Value,
    /// What the other says.
    pub tried: serde_json::Value,
}

/// A new version of a loaded plugin.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadRequest {
    /// The component, read by the daemon; the file it was loaded from if none.
    pub path: Option<PathBuf>,
    /// Ask both versions about the node as it is, show the differences, and change nothing.
    pub dry_run: bool,
    /// Try it out without acting on it.
    pub shadow: bool,
    /// Let it decide this share, in percent: 1 to 99.
    pub canary: Option<u8>,
}

/// A version to go back to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// The start of its digest; the one before the serving version if none.
    pub digest: Option<String>,
}

/// What became of a new version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The plugin as it is now.
    pub plugin: PluginView,
    /// The digest of the version asked about.
    pub digest: String,
    /// `serving`, `trial`, `unchanged` (it was serving already), `dry run`.
    pub outcome: String,
    /// Questions about the node as it is that both versions were asked.
    pub compared: usize,
    /// Those that they answer differently.
    pub differences: Vec<AnswerDifference>,
}

/// A version that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginVersion {
    /// The SHA-256 of its component, hexadecimal.
    pub digest: String,
    /// The file it came from.
    pub path: PathBuf,
    /// Milliseconds since the epoch.
    pub loaded_ms: u64,
    /// Whether it serves.
    pub serving: bool,
}

/// What a component is, without loading it as a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginInspection {
    /// The SHA-256 of the component, hexadecimal.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// The hooks it exports.
    pub hooks: Vec<String>,
    /// What it imports.
    pub imports: Vec<String>,
    /// The grants it needs.
    pub grants: Vec<String>,
    /// What its configuration has to look like, in JSON Schema, as far as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<serde_json::Value>,
}

/// One decision of a plugin, kept for explanation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// Counts up from 1 since the daemon's start.
    pub sequence: u64,
    /// Milliseconds since the epoch.
    pub time_ms: u64,
    /// `attach-order`, `datapath-mode`, `socket-reap`.
    pub hook: String,
    /// What was decided on: a hook, an endpoint, a backend.
    pub subject: String,
    /// Each plugin asked, in order.
    pub steps: Vec<DecisionStep>,
    /// What was done in the end.
    pub outcome: String,
    /// Who decided it: a plugin's name, or the fallback's.
    pub decided_by: String,
}

/// One plugin's part in a decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DecisionStep {
    /// Which plugin.
    pub plugin: Name,
    /// Its answer, or its failure.
    pub answer: String,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// An operation on the node that a plugin carried out or tried to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Counts up from 1 since the daemon's start.
    pub sequence: u64,
    /// Milliseconds since the epoch.
    pub time_ms: u64,
    /// Which plugin.
    pub plugin: Name,
    /// The function it called, such as `links.attach`.
    pub operation: String,
    /// On what; empty where the grant does not go so far as to look.
    pub object: String,
    /// `done`, `failed` (and then undone), `denied`.
    pub outcome: String,
    /// Why, where it is not done.
    pub error: Option<String>,
}
