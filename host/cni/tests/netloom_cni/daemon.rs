//! As much of netloomd as netloom-cni sees: it keeps endpoints in memory.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path as Segment, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use netloom_api::types::{
    AttachmentKind, Device, Done, Endpoint, EndpointCounters, EndpointSpec, EndpointView, ErrorBody,
};
use netloom_core::model::{DeviceMode, EndpointMode, IfIndex, MacAddress, NetnsCookie, NetnsId};

type Shared = Arc<Mutex<Node>>;

#[derive(Default)]
struct Node {
    endpoints: BTreeMap<String, EndpointView>,
    /// Endpoints that cannot be deleted.
    stuck: Vec<String>,
    /// Nothing works.
    starting: bool,
}

/// A daemon that serves until it is dropped.
pub(crate) struct Daemon {
    folder: tempfile::TempDir,
    shared: Shared,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shared = Shared::default();
        let router = Router::new()
            .route("/v1/status", get(status))
            .route("/v1/endpoints", get(list).post(add))
            .route("/v1/endpoints/{name}", get(show).delete(delete))
            .with_state(Arc::clone(&shared));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build().unwrap();
        let listener = {
            let _context = runtime.enter();
            tokio::net::UnixListener::bind(folder.path().join("netloomd.sock")).unwrap()
        };
        runtime.spawn(async move { axum::serve(listener, router).await });
        // Stands for a namespace's file: only its device and inode are looked at.
        std::fs::write(folder.path().join("netns"), "").unwrap();
        Self { folder, shared, _runtime: runtime }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("netloomd.sock")
    }

    pub(crate) fn netns(&self) -> PathBuf {
        self.folder.path().join("netns")
    }

    /// The one endpoint there is.
    pub(crate) fn endpoint(&self) -> EndpointView {
        let endpoints = &self.shared.lock().unwrap().endpoints;
        assert_eq!(endpoints.len(), 1, "{:?}", endpoints.keys());
        endpoints.values().next().unwrap().clone()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.shared.lock().unwrap().endpoints.keys().cloned().collect()
    }

    /// Changes the one endpoint there is behind netloom-cni's back.
    pub(crate) fn change(&self, change: impl FnOnce(&mut EndpointView)) {
        change(self.shared.lock().unwrap().endpoints.values_mut().next().unwrap());
    }

    /// Adds an endpoint as an operator would.
    pub(crate) fn add(&self, spec: EndpointSpec) {
        let view = view(spec);
        self.shared.lock().unwrap().endpoints.insert(view.endpoint.spec.name.to_string(), view);
    }

    pub(crate) fn make_stuck(&self, name: &str) {
        self.shared.lock().unwrap().stuck.push(name.to_owned());
    }

    pub(crate) fn start_over(&self) {
        self.shared.lock().unwrap().starting = true;
    }
}

fn refusal(status: StatusCode, error: &str, hint: &str) -> Response {
    let body = ErrorBody { error: error.to_owned(), hint: Some(hint.to_owned()) };
    (status, Json(body)).into_response()
}

fn starting() -> Response {
    refusal(StatusCode::SERVICE_UNAVAILABLE, "netloomd is starting", "try again")
}

fn unknown(name: &str) -> Response {
    refusal(StatusCode::NOT_FOUND, &format!("no endpoint is called {name}"), "list them")
}

async fn status(State(shared): State<Shared>) -> Response {
    if shared.lock().unwrap().starting { starting() } else { Json("well").into_response() }
}

async fn list(State(shared): State<Shared>) -> Response {
    Json(shared.lock().unwrap().endpoints.values().cloned().collect::<Vec<_>>()).into_response()
}

async fn show(State(shared): State<Shared>, Segment(name): Segment<String>) -> Response {
    match shared.lock().unwrap().endpoints.get(&name) {
        Some(view) => Json(view.clone()).into_response(),
        None => unknown(&name),
    }
}

async fn add(State(shared): State<Shared>, Json(spec): Json<EndpointSpec>) -> Response {
    let mut state = shared.lock().unwrap();
    let name = spec.name.to_string();
    if state.starting {
        return starting();
    }
    if state.endpoints.contains_key(&name) {
        return refusal(StatusCode::CONFLICT, &format!("{name} is there already"), "delete it first");
    }
    let view = view(spec);
    state.endpoints.insert(name, view.clone());
    Json(view).into_response()
}

async fn delete(State(shared): State<Shared>, Segment(name): Segment<String>) -> Response {
    let mut state = shared.lock().unwrap();
    if state.stuck.contains(&name) {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "its device is busy", "look at the log");
    }
    match state.endpoints.remove(&name) {
        Some(_) => Json(Done::default()).into_response(),
        None => unknown(&name),
    }
}

fn netns_id(path: &Path) -> NetnsId {
    std::fs::metadata(path)
        .map_or(NetnsId { device: 0, inode: 0 }, |found| NetnsId { device: found.dev(), inode: found.ino() })
}

/// With a MAC asked for, a veth pair; otherwise netkit.
fn view(spec: EndpointSpec) -> EndpointView {
    let device = if spec.mac.is_some() { DeviceMode::Veth } else { DeviceMode::Netkit };
    let mut addresses = spec.addresses.clone();
    if addresses.is_empty() {
        addresses = vec!["10.200.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    }
    let mac = spec.mac;
    let endpoint = Endpoint {
        id: 7,
        netns: netns_id(&spec.netns),
        netns_cookie: NetnsCookie(4097),
        mode: EndpointMode { mtu: 1450, ..EndpointMode::plain(device, AttachmentKind::Netkit) },
        decided_by: "datapath-mode".to_owned(),
        addresses: addresses.into_iter().map(Into::into).collect(),
        host_interface: "nl7".to_owned(),
        host_ifindex: IfIndex(12),
        peer_ifindex: IfIndex(2),
        mac,
        host_mac: mac.map(|_| MacAddress([2, 0, 0, 0, 0, 0xff])),
        attachments: Vec::new(),
        spec,
    };
    let device = Device {
        name: endpoint.host_interface.clone(),
        ifindex: endpoint.host_ifindex,
        netns: NetnsId { device: 4, inode: 4_026_531_840 },
        mode: Some(device),
        kind: "netkit".to_owned(),
        peer_ifindex: Some(endpoint.peer_ifindex),
        mtu: 1450,
        mac: endpoint.host_mac,
        up: true,
        ..Device::default()
    };
    EndpointView { endpoint, device: Some(device), counters: EndpointCounters::default() }
}
