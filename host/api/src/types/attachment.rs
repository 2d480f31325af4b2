//! Programs on chains.

use std::{collections::BTreeMap, path::PathBuf};

use netloom_core::model::{Attachment, AttachmentMode, Chain, HookPoint, Labels, Name, Owner};
use serde::{Deserialize, Serialize};

/// A program to attach.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// The device's name.
    pub device: String,
    /// A path of its namespace; the daemon's own if none.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// An endpoint's name instead of a device: its device on the node.
    #[serde(default)]
    pub endpoint: Option<Name>,
    /// Where on it; ingress of the best kind if none.
    #[serde(default)]
    pub point: Option<HookPoint>,
    /// The ELF file, read by the daemon.
    pub object: PathBuf,
    /// Which of its programs; its only one if none.
    #[serde(default)]
    pub program: Option<String>,
    /// More of its programs, attached after it, one after the other. They share its maps and global variables.
    #[serde(default)]
    pub more_programs: Vec<String>,
    /// All of its programs, sorted by name, instead of named ones.
    #[serde(default)]
    pub all_programs: bool,
    /// Whose it is.
    pub owner: Owner,
    /// Lower runs earlier.
    #[serde(default)]
    pub priority: i32,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
    /// No packet may miss it while it is moved.
    #[serde(default)]
    pub required: bool,
    /// How to attach it: `auto`, `tcx` or `tc`; as the node's configuration says if none.
    #[serde(default)]
    pub mode: Option<AttachmentMode>,
    /// Values of its global variables, by name: an integer (decimal, or with `0x`) of the variable's size, or `hex:`
    /// and the bytes as they lie in memory.
    #[serde(default)]
    pub globals: BTreeMap<String, String>,
    /// Share maps that the object wants pinned by name with all objects of its owner.
    #[serde(default)]
    pub shared_maps: bool,
}

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttachAnswer {
    /// The record.
    pub attachment: Attachment,
    /// Who decided the place: a plugin's name, or `configuration`.
    pub decided_by: String,
    /// The chain it is now in.
    pub chain: Chain,
    /// The other programs of the object that were attached with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Attachment>,
}

/// Chains to bring into the order that policy wants.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebalanceRequest {
    /// The device's name.
    #[serde(default)]
    pub device: Option<String>,
    /// A path of its namespace; the daemon's own if none.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// An endpoint's name instead of a device: its device on the node.
    #[serde(default)]
    pub endpoint: Option<Name>,
    /// Only this hook point.
    #[serde(default)]
    pub point: Option<HookPoint>,
    /// Say what would be moved, and move nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// A chain that was brought into order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rebalanced {
    /// The chain as it is afterwards.
    pub chain: Chain,
    /// The attachments that were moved, or would be, in this order.
    pub moved: Vec<String>,
    /// Who decided the order: a plugin's name; none if no plugin did, and so nothing was moved.
    pub decided_by: Option<String>,
}

/// An attachment to take from tcx to legacy tc, or back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrateRequest {
    /// Where to; `auto` is the best the kernel has.
    pub to: AttachmentMode,
}

/// Another program for an attachment, in the same place of its chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    /// The ELF file, read by the daemon.
    pub object: PathBuf,
    /// Which of its programs; its only one if none.
    #[serde(default)]
    pub program: Option<String>,
    /// Values of its global variables, by name, written as in [`AttachRequest::globals`].
    #[serde(default)]
    pub globals: BTreeMap<String, String>,
}
