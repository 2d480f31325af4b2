//! The node: its state, what it can do, what happened on it, what is wrong.

use std::{collections::BTreeMap, path::PathBuf};

use ipnet::IpNet;
use netloom_core::model::{Attachment, Capabilities, Feature, Name, Service};
use serde::{Deserialize, Serialize};

use super::{EndpointView, PluginView};

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
    /// How many network namespaces are known, by the kind of place where each was found: `name`, `process`, `mount`,
    /// `descriptor`.
    #[serde(default)]
    pub namespaces: BTreeMap<String, usize>,
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
    /// How packets go from one endpoint to another.
    #[serde(default)]
    pub local: LocalWay,
    /// Every service.
    pub services: Vec<Service>,
    /// Every plugin.
    pub plugins: Vec<PluginView>,
    /// The pools that endpoints without addresses of their own get theirs from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolView>,
    /// What the start found: adopted, dropped, re-attached.
    pub adoption: Adoption,
    /// Where records are kept, and whether they can be written.
    #[serde(default)]
    pub store: StoreView,
}

/// Where netloomd keeps its records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreView {
    /// The file.
    pub path: PathBuf,
    /// The version of its layout.
    pub layout: u32,
    /// Its size.
    pub bytes: u64,
    /// What is left on its file system, in bytes, where that is known.
    pub free_bytes: Option<u64>,
    /// Why it cannot be written; changes are refused as long as that is so.
    pub trouble: Option<StoreTrouble>,
}

/// What a look at the whole store found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCheck {
    /// The file.
    pub path: PathBuf,
    /// The version of its layout.
    pub layout: u32,
    /// The netloomd that wrote it.
    pub written_by: String,
    /// Its size.
    pub bytes: u64,
    /// What is left on its file system, in bytes, where that is known.
    pub free_bytes: Option<u64>,
    /// How many records there are of each kind.
    pub records: BTreeMap<String, usize>,
    /// What is wrong; empty if nothing is.
    pub problems: Vec<String>,
}

/// Why the store cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreTrouble {
    /// What the disk or the file system said.
    pub message: String,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: u64,
    /// How often netloomd has tried to write again.
    pub tries: u64,
    /// Changes that were carried out and wait to be written.
    pub owed: u64,
}

/// How packets of endpoints go to outside and come from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// The devices by which they do so past the node's stack.
    pub uplinks: Vec<String>,
    /// Why they go through the node's stack, where they do.
    pub through_stack: Option<String>,
    /// Those that get the node's address on their way.
    #[serde(default)]
    pub masquerade: Masquerade,
}

/// What endpoints send to outside gets the address of the device that it leaves by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masquerade {
    /// What comes from these prefixes does.
    pub from: Vec<IpNet>,
    /// What goes to these does not.
    pub native: Vec<IpNet>,
    /// Why nothing does.
    pub off: Option<String>,
    /// Whether the configuration wants it, also where nothing does yet because there is no outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wanted: bool,
}

/// Addresses that endpoints are given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// All of them.
    pub prefix: IpNet,
    /// How many it has to give; the largest number there is if it has more.
    #[serde(default)]
    pub size: u64,
    /// How many endpoints have, or are being given or losing.
    pub used: usize,
    /// Whether there is none left.
    pub full: bool,
}

/// How packets go from one endpoint of the node to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalWay {
    /// Why they go through the node's stack, where they do.
    pub through_stack: Option<String>,
    /// What translates addresses of flows: those it does translate, and the beginnings of all, go through the stack.
    pub translated_by: Option<String>,
    /// The endpoints whose packets go through the node's stack whatever the others do, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<Name, String>,
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
    /// Devices and pins under Netloom's names that no record knows: left as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orphans: Vec<String>,
}

/// Something under Netloom's names that no record knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanView {
    /// A device or a pin.
    pub what: String,
    /// What makes it look like Netloom's.
    pub why: String,
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
    /// A device has the name of one of ours, and cannot be proven ours: it was left alone.
    ForeignDevice,
    /// Somebody changed or removed what an endpoint needs, and it was made as it was.
    Mended,
    /// The same, and it cannot be made as it was.
    NotMended,
    /// Somebody changes or removes it again and again: it is mended less and less often.
    Fight,
    /// The store cannot be written: changes are refused.
    StoreBroken,
    /// The store is written again.
    StoreHealed,
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
            Self::ForeignDevice => "foreign-device",
            Self::Mended => "mended",
            Self::NotMended => "not-mended",
            Self::Fight => "fight",
            Self::StoreBroken => "store-broken",
            Self::StoreHealed => "store-healed",
        }
    }

    /// Whether somebody should look at it.
    #[must_use]
    pub const fn is_trouble(self) -> bool {
        !matches!(
            self,
            Self::ForeignAttached
                | Self::ForeignDetached
                | Self::OrderRestored
                | Self::Mended
                | Self::StoreHealed
        )
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
