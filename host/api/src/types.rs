//! Requests and answers, by route. Every answer that is not a success is an [`ErrorBody`].
//!
//! | route | request | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/doctor` | | [`Doctor`] |
//! | `GET /v1/node` | | [`NodeView`] |
//! | `GET /v1/endpoints` | | `[EndpointView]` |
//! | `POST /v1/endpoints` | [`EndpointSpec`] | [`EndpointView`] |
//! | `GET /v1/endpoints/{name}` | | [`EndpointView`] |
//! | `PATCH /v1/endpoints/{name}` | [`PairChange`] | [`EndpointView`] |
//! | `DELETE /v1/endpoints/{name}` | | [`Done`] |
//! | `GET /v1/devices?netns=…` | | `[DeviceView]` |
//! | `POST /v1/devices` | [`DeviceRequest`] | [`DeviceView`] |
//! | `GET /v1/devices/{name}?netns=…` | | [`DeviceView`] |
//! | `PATCH /v1/devices/{name}` | [`PairChange`] | [`DeviceView`] |
//! | `DELETE /v1/devices/{name}` | | [`Done`] |
//! | `GET /v1/chains?device=…&netns=…` | | `[Chain]`, without empty ones |
//! | `GET /v1/chains?endpoint=…` | | `[Chain]` of its device on the node |
//! | `POST /v1/chains/rebalance` | [`RebalanceRequest`] | `[Rebalanced]` |
//! | `GET /v1/attachments` | | `[Attachment]` |
//! | `POST /v1/attachments` | [`AttachRequest`] | [`AttachAnswer`] |
//! | `DELETE /v1/attachments/{id}` | | [`Done`] |
//! | `POST /v1/attachments/{id}/migrate` | [`MigrateRequest`] | `[Attachment]`: what went together |
//! | `POST /v1/attachments/{id}/update` | [`UpdateRequest`] | [`AttachAnswer`] |
//! | `GET /v1/services` | | `[Service]` |
//! | `POST /v1/services` | [`Service`] | [`Service`] |
//! | `DELETE /v1/services/{name}` | | [`ReapReport`] |
//! | `POST /v1/services/{name}/backends` | [`BackendRequest`] | [`Service`] |
//! | `DELETE /v1/services/{name}/backends/{address}` | | [`ReapReport`] |
//! | `POST /v1/reap` | [`ReapRequest`] | [`ReapReport`] |
//! | `GET /v1/sockets?service=…&backend=…&endpoint=…&netns=…&protocol=…&state=…&min_age_ms=…` | | `[SocketView]` |
//! | `POST /v1/sockets/destroy` | [`SocketDestroy`] | [`ReapReport`] |
//! | `GET /v1/plugins` | | `[PluginView]` |
//! | `POST /v1/plugins` | [`PluginLoad`] | [`PluginView`] |
//! | `POST /v1/plugins/inspect` | [`PluginLoad`] | [`PluginInspection`] |
//! | `GET /v1/plugins/{name}` | | [`PluginView`] |
//! | `DELETE /v1/plugins/{name}` | | [`Done`] |
//! | `POST /v1/plugins/{name}/reload` | [`ReloadRequest`] | [`ReloadReport`] |
//! | `POST /v1/plugins/{name}/rollback` | [`RollbackRequest`] | [`ReloadReport`] |
//! | `GET /v1/plugins/{name}/versions` | | `[PluginVersion]`, newest last |
//! | `POST /v1/plugins/{name}/trial` | | [`PluginView`]: the version that is tried out serves from now on |
//! | `DELETE /v1/plugins/{name}/trial` | | [`PluginView`]: it is dropped |
//! | `GET /v1/recordings` | | the last decisions as `netloom plugin replay` takes them |
//! | `GET /v1/decisions` | | `[Decision]`, newest last |
//! | `GET /v1/audit` | | `[AuditEntry]`, newest last |
//! | `GET /v1/events` | | `[Event]`, newest last |
//! | `GET /metrics` | | OpenMetrics text |

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use netloom_core::model::{DeviceMode, MacAddress, NetkitPolicy, NetkitScrub};

pub use netloom_core::grants::{Access, Grant, Grants};
pub use netloom_core::model::{
    Attachment, AttachmentKind, AttachmentMode, BoundSocket, Capabilities, Chain, DestroyOutcome, Device,
    Endpoint, EndpointSpec, Feature, HookPoint, Labels, Name, Owner, PairChange, Placement, Protocol,
    ReapPlan, Service, SocketState,
};
use serde::{Deserialize, Serialize};

/// What went wrong, and the way out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What was attempted, on what, and why it failed: the whole chain of causes in one text.
    pub error: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A deletion succeeded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// What could not be cleaned up and was left behind; empty when all went well.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The daemon at a glance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Since it started, in milliseconds.
    pub uptime_ms: u64,
    /// The node's host name.
    pub node: String,
    /// The kernel's release.
    pub kernel: String,
    /// How sockets are found: `sk-storage-iterator`, `netns-iterator` or `sock-diag-dump`.
    pub socket_finder: String,
    /// How they are destroyed: `sock-diag` or `netns-iterator`; `none` if they are only reported.
    pub socket_destroyer: String,
    /// The cgroup socket-LB is attached to; none where it could not be.
    pub socket_lb: Option<PathBuf>,
    /// Every endpoint.
    pub endpoints: Vec<EndpointView>,
    /// Every attachment, the endpoints' datapath included, with the kernel's ids.
    pub attachments: Vec<Attachment>,
    /// The ids of the socket-LB's cgroup links.
    pub socket_lb_links: Vec<u32>,
    /// How packets of endpoints go to and come from outside.
    #[serde(default)]
    pub outside: Outside,
    /// Every service.
    pub services: Vec<Service>,
    /// Every plugin.
    pub plugins: Vec<PluginView>,
    /// What the start found: adopted, dropped, re-attached.
    pub adoption: Adoption,
}

/// How packets of endpoints go to outside and come from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// The devices by which they do so past the node's stack.
    pub uplinks: Vec<String>,
    /// Why they go through the node's stack, where they do.
    pub through_stack: Option<String>,
}

/// What a start found of an earlier daemon's work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// Endpoints found whole.
    pub endpoints: usize,
    /// Attachments found in place.
    pub attachments: usize,
    /// Attachments whose link had lost its device or program and was made anew.
    pub reattached: usize,
    /// Records whose object was gone.
    pub dropped: Vec<String>,
    /// Half-done operations undone or finished.
    pub recovered: Vec<String>,
}

/// An endpoint as recorded, with what the kernel shows of it now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointView {
    /// The record.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// The node's end as it is now; none if it is gone.
    pub device: Option<Device>,
    /// What its programs counted.
    pub counters: EndpointCounters,
}

/// What an endpoint's programs counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointCounters {
    /// From the endpoint.
    pub sent_packets: u64,
    /// From the endpoint.
    pub sent_bytes: u64,
    /// To the endpoint.
    pub received_packets: u64,
    /// To the endpoint.
    pub received_bytes: u64,
    /// Dropped: source address not the endpoint's.
    pub dropped_spoofed: u64,
    /// Dropped for any other reason.
    pub dropped_other: u64,
}

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

/// A backend to add.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendRequest {
    /// Where.
    pub address: SocketAddr,
}

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

/// The node, and what its kernel can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its host name.
    pub name: String,
    /// The kernel's release, for reading only: what it can do was found by trying.
    pub kernel: String,
    /// Every capability, in the order in which they are shown.
    pub capabilities: Vec<CapabilityView>,
}

/// Something that the kernel can or cannot do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityView {
    /// What.
    pub feature: Feature,
    /// Whether it can.
    pub available: bool,
    /// What was seen when it was tried.
    pub detail: String,
    /// What it is good for.
    pub purpose: String,
    /// The kernel's configuration and the upstream version that bring it.
    pub brought_by: String,
}

impl CapabilityView {
    /// Everything that was tried.
    #[must_use]
    pub fn of(capabilities: &Capabilities) -> Vec<Self> {
        let tried = |feature: Feature| {
            let support = capabilities.features.get(&feature)?;
            Some(Self {
                feature,
                available: support.available,
                detail: support.detail.clone(),
                purpose: feature.purpose().to_owned(),
                brought_by: feature.brought_by().to_owned(),
            })
        };
        Feature::ALL.into_iter().filter_map(tried).collect()
    }
}

/// A device pair to create, which is no endpoint's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRequest {
    /// The node's end; at most 15 bytes.
    pub name: String,
    /// netkit, netkit-l2 or veth.
    pub mode: DeviceMode,
    /// The other end; at most 15 bytes.
    pub peer: String,
    /// A path of the namespace the other end is born in; the daemon's own if none.
    #[serde(default)]
    pub peer_netns: Option<PathBuf>,
    /// Addresses of the other end.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
    /// Hardware address of the node's end; an error in `netkit` mode.
    #[serde(default)]
    pub mac: Option<MacAddress>,
    /// Hardware address of the other end; an error in `netkit` mode.
    #[serde(default)]
    pub peer_mac: Option<MacAddress>,
    /// Bytes; the configured MTU of endpoints if none.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// netkit: towards the other end; forward if none.
    #[serde(default)]
    pub primary_policy: Option<NetkitPolicy>,
    /// netkit: from the other end; forward if none.
    #[serde(default)]
    pub peer_policy: Option<NetkitPolicy>,
    /// netkit: towards the other end.
    #[serde(default)]
    pub scrub: Option<NetkitScrub>,
    /// netkit: from the other end.
    #[serde(default)]
    pub peer_scrub: Option<NetkitScrub>,
    /// netkit: bytes in front of packets.
    #[serde(default)]
    pub headroom: Option<u16>,
    /// netkit: bytes behind packets.
    #[serde(default)]
    pub tailroom: Option<u16>,
    /// Bytes, both ends.
    #[serde(default)]
    pub gso_max_size: Option<u32>,
    /// Bytes, both ends.
    #[serde(default)]
    pub gro_max_size: Option<u32>,
    /// Bytes, both ends.
    #[serde(default)]
    pub gso_ipv4_max_size: Option<u32>,
    /// Bytes, both ends.
    #[serde(default)]
    pub gro_ipv4_max_size: Option<u32>,
    /// Transmit queues of each end.
    #[serde(default)]
    pub tx_queues: Option<u32>,
    /// Receive queues of each end.
    #[serde(default)]
    pub rx_queues: Option<u32>,
    /// Shown by `ip link` after whose device it is; at most 160 bytes.
    #[serde(default)]
    pub alias: Option<String>,
}

/// A device, as the kernel shows it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceView {
    /// The device.
    #[serde(flatten)]
    pub device: Device,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Whose it is, if it is one of Netloom's: `endpoint web`, `device uplink0`.
    pub owner: Option<String>,
    /// The other end of a pair. Looked for only where one device is asked for; none then means that it is no pair, or
    /// that nothing leads to the other end's namespace.
    pub peer: Option<PeerView>,
}

/// The other end of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// The device, as its own namespace sees it.
    #[serde(flatten)]
    pub device: Device,
    /// Ways to its namespace, the most telling first; empty if both ends are in one.
    pub netns_paths: Vec<PathBuf>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}

/// Something that happened on the node without a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1 since the daemon's start.
    pub sequence: u64,
    /// Milliseconds since the epoch.
    pub time_ms: u64,
    /// What kind.
    pub kind: EventKind,
    /// On what: a hook.
    pub subject: String,
    /// What happened.
    pub message: String,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A program of another tool came to a chain of ours.
    ForeignAttached,
    /// One went.
    ForeignDetached,
    /// Others change a chain all the time.
    Churn,
    /// A program or filter came that no packet reaches.
    Shadowed,
    /// Somebody else detached a program of ours.
    Detached,
    /// Our programs were brought back into their order.
    OrderRestored,
    /// A device went, and with it a program of ours.
    DeviceGone,
    /// A device was moved to another namespace or renamed.
    DeviceMoved,
    /// A network namespace went.
    NamespaceGone,
}

impl EventKind {
    /// The name, as in CLI, API and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ForeignAttached => "foreign-attached",
            Self::ForeignDetached => "foreign-detached",
            Self::Churn => "churn",
            Self::Shadowed => "shadowed",
            Self::Detached => "detached",
            Self::OrderRestored => "order-restored",
            Self::DeviceGone => "device-gone",
            Self::DeviceMoved => "device-moved",
            Self::NamespaceGone => "namespace-gone",
        }
    }

    /// Whether somebody should look at it.
    #[must_use]
    pub const fn is_trouble(self) -> bool {
        !matches!(self, Self::ForeignAttached | Self::ForeignDetached | Self::OrderRestored)
    }
}

/// The node's health.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Doctor {
    /// The node, and what its kernel can do.
    pub node: NodeView,
    /// What was found wrong; empty on a healthy node.
    pub findings: Vec<Finding>,
}

/// Something that an operator should know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `error`, `warning`, `note`.
    pub severity: String,
    /// What it is about: a device, an endpoint, a plugin.
    pub subject: String,
    /// What is so.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}
