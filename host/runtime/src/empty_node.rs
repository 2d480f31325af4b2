use std::{net::SocketAddr, path::PathBuf};

use async_trait::async_trait;
use netloom_core::{
    grants::{Namespace, NamespacePlace, ProgramGrant},
    model::{
        Attachment, BoundSocket, Chain, DestroyOutcome, Device, Endpoint, HookPoint, Name, NetnsCookie,
        NetnsId, PairChange, Service, SocketFilter,
    },
};

use crate::operations::{LinkRequest, Operation, OperationError, Operations, PairRequest, Traffic};

/// A node that has nothing: for asking plugins that act where there is no node. Whatever they look for is not there,
/// and nothing can be made.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyNode;

fn nothing<T>(what: &str, name: impl std::fmt::Display) -> Operation<T> {
    Err(OperationError::NotFound(format!("there is no {what} {name}: this node is empty")))
}

fn made_nowhere<T>(what: &str) -> Operation<T> {
    Err(OperationError::Unsupported(format!("{what} cannot be made: this node is empty")))
}

#[async_trait]
impl Operations for EmptyNode {
    async fn namespaces(&self, _paths: &[PathBuf]) -> Operation<Vec<Namespace>> {
        let id = NetnsId { device: 4, inode: 4_026_531_840 };
        Ok(vec![Namespace { id, cookie: NetnsCookie(1), place: NamespacePlace::Node }])
    }

    async fn devices(&self, _namespace: &Namespace) -> Operation<Vec<Device>> {
        Ok(Vec::new())
    }

    async fn device(&self, _namespace: &Namespace, name: &str) -> Operation<Device> {
        nothing("device", name)
    }

    async fn set_device(
        &self,
        _by: &Name,
        _namespace: &Namespace,
        name: &str,
        _change: PairChange,
        _known: Vec<Namespace>,
    ) -> Operation<()> {
        nothing("device", name)
    }

    async fn create_pair(&self, _by: &Name, _request: PairRequest) -> Operation<Device> {
        made_nowhere("a pair")
    }

    async fn remove_device(&self, _by: &Name, name: &str) -> Operation<()> {
        nothing("device", name)
    }

    async fn chain(&self, _namespace: &Namespace, device: &str, _point: HookPoint) -> Operation<Chain> {
        nothing("device", device)
    }

    async fn attach(&self, _by: &Name, request: LinkRequest) -> Operation<String> {
        nothing("device", request.device)
    }

    async fn attachment(&self, id: &str) -> Operation<Attachment> {
        nothing("attachment", id)
    }

    async fn update(&self, _by: &Name, id: &str, _program: &ProgramGrant) -> Operation<()> {
        nothing("attachment", id)
    }

    async fn detach(&self, _by: &Name, id: &str) -> Operation<()> {
        nothing("attachment", id)
    }

    async fn sockets(&self, _filter: SocketFilter) -> Operation<Vec<BoundSocket>> {
        Ok(Vec::new())
    }

    async fn destroy(&self, _by: &Name, sockets: Vec<BoundSocket>) -> Operation<Vec<DestroyOutcome>> {
        Ok(sockets.iter().map(|_| DestroyOutcome::Gone).collect())
    }

    async fn endpoints(&self) -> Operation<Vec<Endpoint>> {
        Ok(Vec::new())
    }

    async fn traffic(&self, endpoint: &str) -> Operation<Traffic> {
        nothing("endpoint", endpoint)
    }

    async fn services(&self) -> Operation<Vec<Service>> {
        Ok(Vec::new())
    }

    async fn add_backend(&self, _by: &Name, service: &Name, _address: SocketAddr) -> Operation<()> {
        nothing("service", service)
    }

    async fn remove_backend(&self, _by: &Name, service: &Name, _address: SocketAddr) -> Operation<()> {
        nothing("service", service)
    }

    fn denied(&self, by: &Name, operation: &'static str, why: &str) {
        tracing::warn!(plugin = %by, operation, why, "an operation was denied");
    }
}
