//! The words of Netloom as types. The WIT package `netloom:kernel` has the same words for plugins.

mod attachment;
mod capabilities;
mod chain;
mod device;
mod endpoint;
mod hook;
mod ids;
mod label;
pub mod maglev;
mod service;
mod socket;

pub use attachment::{Attachment, AttachmentKind, AttachmentMode, Candidate, Owner, ProgramSource};
pub use capabilities::{Capabilities, Feature, Support};
pub use chain::{Chain, ChainEntry, EntryId, Placement};
pub use device::{
    Device, DeviceMode, DeviceStats, EndSettings, MacAddress, NetkitPolicy, NetkitScrub, PairChange,
    PairSpec, Segmentation,
};
pub use endpoint::{DefaultRoute, Endpoint, EndpointMode, EndpointRoute, EndpointSpec};
pub use hook::{Hook, HookPoint};
pub use ids::{
    IfIndex, InvalidName, LinkId, Name, NetnsCookie, NetnsId, ProgramId, Revision, ServiceId, SocketCookie,
};
pub use label::Labels;
pub use service::{Backend, Choice, InvalidChoice, InvalidWeight, Protocol, Service, Weight, canonical};
pub use socket::{
    BoundSocket, DestroyFailure, DestroyFailureKind, DestroyOutcome, ReapAction, ReapEvent, ReapPlan,
    ReapReason, SocketFilter, SocketState,
};
