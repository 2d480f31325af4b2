use std::{net::SocketAddr, path::PathBuf};

use async_trait::async_trait;
use ipnet::IpNet;
use netloom_core::{
    grants::{Namespace, ProgramGrant},
    model::{
        Attachment, BoundSocket, Chain, DestroyOutcome, Device, DeviceMode, Endpoint, HookPoint, MacAddress,
        Name, Owner, PairChange, Placement, Service, SocketFilter,
    },
};

/// Why an operation that a plugin asked for was not carried out: the plugin may go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// There is no such object, or it is gone.
    #[error("{0}")]
    NotFound(String),
    /// It was changed by another since it was looked at.
    #[error("{0}")]
    Stale(String),
    /// An argument is out of bounds, or contradicts another.
    #[error("{0}")]
    Invalid(String),
    /// The object is not this plugin's.
    #[error("{0}")]
    Denied(String),
    /// This kernel has no such feature.
    #[error("{0}")]
    Unsupported(String),
    /// It is being changed by another at this moment.
    #[error("{0}")]
    Busy(String),
    /// The kernel refused, or the node failed.
    #[error("{0}")]
    Failed(String),
}

/// What an operation gives.
pub type Operation<T> = Result<T, OperationError>;

/// A pair that a plugin wants.
#[derive(Clone, Debug)]
pub struct PairRequest {
    /// netkit, netkit-l2 or veth.
    pub mode: DeviceMode,
    /// The node's end.
    pub name: String,
    /// The namespace of the other end.
    pub peer: Namespace,
    /// The other end.
    pub peer_name: String,
    /// Its hardware address.
    pub peer_mac: Option<MacAddress>,
    /// Its addresses.
    pub peer_addresses: Vec<IpNet>,
    /// Bytes.
    pub mtu: u32,
}

/// An attachment that a plugin wants.
#[derive(Clone, Debug)]
pub struct LinkRequest {
    /// The device's namespace.
    pub namespace: Namespace,
    /// The device.
    pub device: String,
    /// Where on it.
    pub point: HookPoint,
    /// The program.
    pub program: ProgramGrant,
    /// On whose behalf.
    pub owner: Owner,
    /// Where in the chain, by the names of the snapshot.
    pub placement: Placement,
    /// The snapshot's revision.
    pub revision: u64,
}

/// What an endpoint's programs counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the endpoint.
    pub sent_packets: u64,
    /// From the endpoint.
    pub sent_bytes: u64,
    /// To the endpoint.
    pub received_packets: u64,
    /// To the endpoint.
    pub received_bytes: u64,
    /// Dropped, for any reason.
    pub dropped_packets: u64,
}

/// The node's operations, as plugins that are granted them see it. Whoever implements it carries them out through
/// the node's one executor, with undo and audit; the runtime has compared each call with the plugin's grants before
/// it gets here.
///
/// An operation begun is carried to its end even if the plugin that asked is cut off meanwhile.
#[async_trait]
pub trait Operations: Send + Sync {
    /// The namespaces that the node knows, and those at these paths.
    async fn namespaces(&self, paths: &[PathBuf]) -> Operation<Vec<Namespace>>;

    /// Every device of a namespace.
    async fn devices(&self, namespace: &Namespace) -> Operation<Vec<Device>>;
    /// One device; `NotFound` if there is none of the name.
    async fn device(&self, namespace: &Namespace, name: &str) -> Operation<Device>;
    /// Changes both ends of a pair of Netloom's; the other end is looked for in the known namespaces.
    async fn set_device(
        &self,
        by: &Name,
        namespace: &Namespace,
        name: &str,
        change: PairChange,
        known: Vec<Namespace>,
    ) -> Operation<()>;
    /// Creates a pair, both ends up.
    async fn create_pair(&self, by: &Name, request: PairRequest) -> Operation<Device>;
    /// Deletes a device that this plugin created.
    async fn remove_device(&self, by: &Name, name: &str) -> Operation<()>;

    /// The chain on a hook.
    async fn chain(&self, namespace: &Namespace, device: &str, point: HookPoint) -> Operation<Chain>;
    /// Attaches a program: the id of the attachment.
    async fn attach(&self, by: &Name, request: LinkRequest) -> Operation<String>;
    /// An attachment's record.
    async fn attachment(&self, id: &str) -> Operation<Attachment>;
    /// Gives an attachment another program, in place.
    async fn update(&self, by: &Name, id: &str, program: &ProgramGrant) -> Operation<()>;
    /// Takes an attachment off its hook.
    async fn detach(&self, by: &Name, id: &str) -> Operation<()>;

    /// The bound sockets that a filter matches.
    async fn sockets(&self, filter: SocketFilter) -> Operation<Vec<BoundSocket>>;
    /// Destroys sockets; one outcome each.
    async fn destroy(&self, by: &Name, sockets: Vec<BoundSocket>) -> Operation<Vec<DestroyOutcome>>;

    /// Every endpoint.
    async fn endpoints(&self) -> Operation<Vec<Endpoint>>;
    /// What an endpoint's programs counted.
    async fn traffic(&self, endpoint: &str) -> Operation<Traffic>;
    /// Every service.
    async fn services(&self) -> Operation<Vec<Service>>;
    /// Adds a backend to a service.
    async fn add_backend(&self, by: &Name, service: &Name, address: SocketAddr) -> Operation<()>;
    /// Removes a backend of a service; its bound sockets are due for a reap.
    async fn remove_backend(&self, by: &Name, service: &Name, address: SocketAddr) -> Operation<()>;

    /// A plugin asked for what its grants do not cover.
    fn denied(&self, by: &Name, operation: &'static str, why: &str);
}
