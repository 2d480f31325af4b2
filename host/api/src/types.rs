//! Requests and answers, by route. Every answer that is not a success is an [`ErrorBody`].
//!
//! | route | request | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/doctor` | | [`Doctor`] |
//! | `GET /v1/node` | | [`NodeView`] |
//! | `GET /v1/orphans` | | `[OrphanView]` |
//! | `DELETE /v1/orphans` | | [`Done`] |
//! | `GET /v1/endpoints` | | `[EndpointView]` |
//! | `POST /v1/endpoints` | [`EndpointSpec`] | [`EndpointView`] |
//! | `GET /v1/endpoints/{name}` | | [`EndpointView`] |
//! | `GET /v1/endpoints/{name}/check` | | [`EndpointCheck`] |
//! | `PATCH /v1/endpoints/{name}` | [`PairChange`] | [`EndpointView`] |
//! | `POST /v1/endpoints/{name}/migrate` | [`EndpointMigration`] | [`EndpointMigrated`] |
//! | `POST /v1/endpoints/{name}/trace` | [`TraceQuery`] | [`Trace`] |
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
//! | `PUT /v1/services` | [`ServicesApply`] | [`ServicesApplied`] |
//! | `GET /v1/services/{name}` | | [`ServiceView`] |
//! | `DELETE /v1/services/{name}` | | [`ReapReport`] |
//! | `POST /v1/services/{name}/backends` | [`BackendRequest`] | [`Service`] |
//! | `PATCH /v1/services/{name}/backends/{address}` | [`BackendChange`] | [`Service`] |
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
//! | `GET /v1/store/check` | | [`StoreCheck`] |
//! | `GET /v1/store/backup` | | the contents of a file |
//! | `GET /v1/recordings` | | the last decisions as `netloom plugin replay` takes them |
//! | `GET /v1/decisions` | | `[Decision]`, newest last |
//! | `GET /v1/audit` | | `[AuditEntry]`, newest last |
//! | `GET /v1/events` | | `[Event]`, newest last |
//! | `GET /v1/monitor?endpoint=…&service=…&kind=…&reason=…` | | [`MonitorEvent`]s without end, each a line of JSON |
//! | `GET /metrics` | | OpenMetrics text |

mod attachment;
mod device;
mod endpoint;
mod monitor;
mod node;
mod plugin;
mod reap;
mod service;
mod trace;

pub use netloom_core::grants::{Access, Grant, Grants};
pub use netloom_core::model::{
    Attachment, AttachmentKind, AttachmentMode, BoundSocket, Capabilities, Chain, DefaultRoute,
    DestroyOutcome, Device, Endpoint, EndpointRoute, EndpointSpec, Feature, HookPoint, Labels, Name, Owner,
    PairChange, Placement, Protocol, ReapPlan, Service, SocketState,
};
use serde::{Deserialize, Serialize};

pub use self::{
    attachment::*, device::*, endpoint::*, monitor::*, node::*, plugin::*, reap::*, service::*, trace::*,
};

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
