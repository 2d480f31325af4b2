//! Kernel operations that plugins ask for. Each goes through the same locks, plans and executor as a request of the
//! API, and leaves a line in the audit trail; the runtime has compared it with the plugin's grants before.

mod devices;
mod links;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
};

use async_trait::async_trait;
use axum::http::StatusCode;
use netloom_api::types::AuditEntry;
use netloom_core::{
    grants::{Namespace, NamespacePlace, ProgramGrant},
    model::{
        Attachment, BoundSocket, Chain, DestroyOutcome, Device, Endpoint, HookPoint, Name, PairChange,
        Service, SocketFilter, Weight,
    },
};
use netloom_kernel::{
    devices::Devices,
    links::LinkError,
    netns::{Netns, NetnsError},
    sockets::Sockets,
};
use netloom_runtime::{LinkRequest, Operation, OperationError, Operations, PairRequest, Traffic};

use crate::{
    background::Background,
    chains::Chains,
    endpoints::Endpoints,
    executor::Executor,
    failure::Failure,
    inventory::Inventory,
    locks::Locks,
    node::Node,
    opened::Opened,
    pairs::Pairs,
    reaping::Reaping,
    services::Services,
    store::{Store, StoreError},
    telemetry::{
        kept::Kept,
        metrics::{Metrics, OfOperation},
    },
};

/// The node as plugins see it. Plugins are loaded by the node, so that it comes to know it last.
#[derive(Default)]
pub(crate) struct Operator(OnceLock<Weak<Actions>>);

impl Operator {
    /// From here on, operations can be carried out.
    pub(crate) fn serve(&self, actions: &Arc<Actions>) {
        // Set once, when the node starts.
        drop(self.0.set(Arc::downgrade(actions)));
    }

    fn actions(&self) -> Operation<Arc<Actions>> {
        let stopping = || OperationError::Failed("the node is starting or stopping".to_owned());
        self.0.get().and_then(Weak::upgrade).ok_or_else(stopping)
    }

    /// Carries a change out to its end, whatever becomes of the plugin meanwhile, and writes it down.
    async fn carried<T, F>(
        &self,
        by: &Name,
        operation: &'static str,
        object: String,
        act: impl FnOnce(Arc<Actions>) -> F + Send,
    ) -> Operation<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let (actions, by) = (self.actions()?, by.clone());
        let change = act(Arc::clone(&actions));
        let task = tokio::spawn(async move {
            let done = change.await;
            actions.audit(&by, operation, object, done.as_ref().err().map(ToString::to_string));
            done
        });
        task.await.map_err(|error| OperationError::Failed(error.to_string()))?.map_err(Into::into)
    }
}

impl From<Failure> for OperationError {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure.cause::<LinkError>() {
            Some(
                LinkError::Stale { .. } | LinkError::AnchorGone { .. } | LinkError::LinkRunsAnother { .. },
            ) => {
                return Self::Stale(text);
            }
            Some(LinkError::Unsupported { .. } | LinkError::NotNetkit { .. } | LinkError::ViaPeer { .. }) => {
                return Self::Unsupported(text);
            }
            _ => {}
        }
        match failure.status() {
            StatusCode::NOT_FOUND => Self::NotFound(text),
            StatusCode::BAD_REQUEST | StatusCode::CONFLICT => Self::Invalid(text),
            StatusCode::SERVICE_UNAVAILABLE => Self::Busy(text),
            _ => Self::Failed(text),
        }
    }
}

/// What plugins may do, through the parts that do it for everybody.
pub(crate) struct Actions {
    instance: String,
    netns: Netns,
    devices: Devices,
    store: Arc<Store>,
    sockets: Arc<Sockets>,
    locks: Arc<Locks>,
    metrics: Arc<Metrics>,
    inventory: Arc<Inventory>,
    executor: Arc<Executor>,
    chains: Arc<Chains>,
    endpoints: Arc<Endpoints>,
    pairs: Arc<Pairs>,
    services: Arc<Services>,
    reaping: Arc<Reaping>,
    background: Arc<Background>,
    /// What plugins did to the node, or tried to.
    pub(crate) audit_trail: Kept<AuditEntry>,
}

impl Actions {
    pub(crate) fn new(opened: &Opened, node: &Node) -> Self {
        Self {
            instance: opened.instance.clone(),
            netns: opened.netns.clone(),
            devices: opened.devices.clone(),
            store: Arc::clone(&opened.store),
            sockets: Arc::clone(&opened.sockets),
            locks: Arc::clone(&opened.locks),
            metrics: Arc::clone(&opened.metrics),
            inventory: Arc::clone(&node.inventory),
            executor: Arc::clone(&node.executor),
            chains: Arc::clone(&node.chains),
            endpoints: Arc::clone(&node.endpoints),
            pairs: Arc::clone(&node.pairs),
            services: Arc::clone(&node.services),
            reaping: Arc::clone(&node.reaping),
            background: Arc::clone(&opened.background),
            audit_trail: Kept::default(),
        }
    }

    /// Writes down what a plugin did or tried to do.
    pub(crate) fn audit(
        &self,
        plugin: &Name,
        operation: &'static str,
        object: String,
        error: Option<String>,
    ) {
        let outcome = if error.is_some() { "failed" } else { "done" };
        self.record_operation(plugin, operation, object, outcome, error);
    }

    fn record_operation(
        &self,
        plugin: &Name,
        operation: &'static str,
        object: String,
        outcome: &'static str,
        error: Option<String>,
    ) {
        tracing::info!(target: "netloom::audit", %plugin, operation, object, outcome, error, "operation of a plugin");
        let labels = OfOperation { plugin: plugin.to_string(), operation, outcome };
        self.metrics.plugin_operations.get_or_create(&labels).inc();
        self.audit_trail.add(|sequence, time_ms| AuditEntry {
            sequence,
            time_ms,
            plugin: plugin.clone(),
            operation: operation.to_owned(),
            object,
            outcome: outcome.to_owned(),
            error,
        });
    }

    fn own_namespace(&self) -> Result<Namespace, NetnsError> {
        Ok(Namespace { id: self.netns.id(), cookie: self.netns.cookie()?, place: NamespacePlace::Node })
    }

    fn known_namespaces(&self, paths: &[PathBuf]) -> Result<Vec<Namespace>, Failure> {
        let mut known = vec![self.own_namespace()?];
        for (_, endpoint) in self.store.all::<Endpoint>()? {
            let place = NamespacePlace::Endpoint {
                name: endpoint.spec.name.clone(),
                path: endpoint.spec.netns.clone(),
            };
            known.push(Namespace { id: endpoint.netns, cookie: endpoint.netns_cookie, place });
        }
        for path in paths {
            // A namespace that a grant names need not be there.
            if let Ok(netns) = Netns::open(path) {
                let place = NamespacePlace::Named { path: path.clone() };
                known.push(Namespace { id: netns.id(), cookie: netns.cookie()?, place });
            }
        }
        Ok(known)
    }
}

#[async_trait]
impl Operations for Operator {
    async fn namespaces(&self, paths: &[PathBuf]) -> Operation<Vec<Namespace>> {
        Ok(self.actions()?.known_namespaces(paths)?)
    }

    async fn devices(&self, namespace: &Namespace) -> Operation<Vec<Device>> {
        Ok(self.actions()?.devices_of(namespace).await?)
    }

    async fn device(&self, namespace: &Namespace, name: &str) -> Operation<Device> {
        Ok(self.actions()?.device_of(namespace, name).await?)
    }

    async fn set_device(
        &self,
        by: &Name,
        namespace: &Namespace,
        name: &str,
        change: PairChange,
        known: Vec<Namespace>,
    ) -> Operation<()> {
        let (plugin, namespace, name) = (by.clone(), namespace.clone(), name.to_owned());
        let object = format!("{name} in {namespace}");
        let operation = match change {
            PairChange { mtu: Some(_), .. } => "devices.set-mtu",
            PairChange { primary_policy: Some(_), .. } => "devices.set-policy",
            _ => "devices.set-segmentation",
        };
        self.carried(by, operation, object, |actions| async move {
            actions.change_device(&plugin, &namespace, &name, change, &known).await
        })
        .await
    }

    async fn create_pair(&self, by: &Name, request: PairRequest) -> Operation<Device> {
        let object = format!("{} and {} in {}", request.name, request.peer_name, request.peer);
        let plugin = by.clone();
        self.carried(by, "devices.create", object, |actions| async move {
            actions.create_plugin_pair(&plugin, request).await
        })
        .await
    }

    async fn remove_device(&self, by: &Name, name: &str) -> Operation<()> {
        let (plugin, device) = (by.clone(), name.to_owned());
        self.carried(by, "devices.remove", name.to_owned(), |actions| async move {
            actions.remove_plugin_device(&plugin, &device).await
        })
        .await
    }

    async fn chain(&self, namespace: &Namespace, device: &str, point: HookPoint) -> Operation<Chain> {
        Ok(self.actions()?.chain_at(namespace, device, point).await?)
    }

    async fn attach(&self, by: &Name, request: LinkRequest) -> Operation<String> {
        let object = format!(
            "{} for {} on {} in {}",
            request.program.object.display(),
            request.owner,
            request.device,
            request.namespace
        );
        let plugin = by.clone();
        self.carried(by, "links.attach", object, |actions| async move {
            actions.attach_for_plugin(&plugin, request).await
        })
        .await
    }

    async fn attachment(&self, id: &str) -> Operation<Attachment> {
        Ok(self.actions()?.inventory.attachment(id)?)
    }

    async fn update(&self, by: &Name, id: &str, program: &ProgramGrant) -> Operation<()> {
        let (id, program) = (id.to_owned(), program.clone());
        let object = format!("{id}: {}", program.object.display());
        self.carried(by, "links.update", object, |actions| async move {
            actions.update_for_plugin(&id, program).await
        })
        .await
    }

    async fn detach(&self, by: &Name, id: &str) -> Operation<()> {
        let object = id.to_owned();
        let id = id.to_owned();
        self.carried(
            by,
            "links.detach",
            object,
            |actions| async move { actions.detach_for_plugin(&id).await },
        )
        .await
    }

    async fn sockets(&self, filter: SocketFilter) -> Operation<Vec<BoundSocket>> {
        Ok(self.actions()?.reaping.find(filter).await?)
    }

    async fn destroy(&self, by: &Name, sockets: Vec<BoundSocket>) -> Operation<Vec<DestroyOutcome>> {
        let object = format!(
            "{} sockets, the first to {}",
            sockets.len(),
            sockets.first().map_or_else(String::new, |socket| socket.backend.to_string())
        );
        self.carried(by, "sockets.destroy", object, |actions| async move {
            let kernel = Arc::clone(&actions.sockets);
            Ok(tokio::task::spawn_blocking(move || kernel.destroy(&sockets)).await??)
        })
        .await
    }

    async fn endpoints(&self) -> Operation<Vec<Endpoint>> {
        let endpoints = self.actions()?.store.all::<Endpoint>().map_err(Failure::from)?;
        Ok(endpoints.into_iter().map(|(_, endpoint)| endpoint).collect())
    }

    async fn traffic(&self, endpoint: &str) -> Operation<Traffic> {
        let actions = self.actions()?;
        let found: Result<Option<Endpoint>, StoreError> = actions.store.get(endpoint);
        let record = found
            .map_err(Failure::from)?
            .ok_or_else(|| OperationError::NotFound(format!("there is no endpoint {endpoint}")))?;
        let counted = actions.endpoints.counters(&record)?;
        Ok(Traffic {
            sent_packets: counted.sent_packets,
            sent_bytes: counted.sent_bytes,
            received_packets: counted.received_packets,
            received_bytes: counted.received_bytes,
            dropped_packets: counted.dropped_spoofed + counted.dropped_other,
        })
    }

    async fn services(&self) -> Operation<Vec<Service>> {
        Ok(self.actions()?.inventory.services()?)
    }

    async fn add_backend(&self, by: &Name, service: &Name, address: SocketAddr) -> Operation<()> {
        let object = format!("{address} of {service}");
        let service = service.clone();
        self.carried(by, "datapath.add-backend", object, |actions| async move {
            actions.services.add_backend(&service, address, Weight::default()).await.map(drop)
        })
        .await
    }

    async fn remove_backend(&self, by: &Name, service: &Name, address: SocketAddr) -> Operation<()> {
        let object = format!("{address} of {service}");
        let service = service.clone();
        self.carried(by, "datapath.remove-backend", object, |actions| async move {
            let (event, due) = actions.services.withdraw_backend(&service, address).await?;
            // The plugin that asked may be the one that decides about the reap: it is not kept waiting for itself.
            let background = Arc::clone(&actions.background);
            background.spawn(async move {
                if let Err(failure) = actions.reaping.reap_due(event, due).await {
                    tracing::error!(%failure, "a reap that a plugin made due failed, and stays due");
                }
            });
            Ok(())
        })
        .await
    }

    fn denied(&self, by: &Name, operation: &'static str, why: &str) {
        if let Ok(actions) = self.actions() {
            actions.record_operation(by, operation, String::new(), "denied", Some(why.to_owned()));
        }
    }
}
