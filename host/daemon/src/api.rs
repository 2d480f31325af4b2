//! The HTTP API: each route calls one operation of the node.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::{delete, get, post},
};
use futures::stream;
use netloom_api::{
    Asked,
    types::{
        AttachAnswer, AttachRequest, Attachment, AuditEntry, BackendChange, BackendRequest, Chain, Decision,
        DeviceRequest, DeviceView, Doctor, Done, EndpointMigrated, EndpointMigration, EndpointSpec,
        EndpointView, Event, MigrateRequest, MonitorQuery, Name, NodeView, OrphanView, PairChange,
        PluginInspection, PluginLoad, PluginVersion, PluginView, ReapReport, ReapRequest, RebalanceRequest,
        Rebalanced, ReloadReport, ReloadRequest, RollbackRequest, Service, ServiceView, ServicesApplied,
        ServicesApply, SocketDestroy, SocketQuery, Status, StoreCheck, Trace, UpdateRequest,
    },
};
use netloom_runtime::Recording;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{failure::Failure, node::Node};

type Shared = State<Arc<Node>>;
type Answer<T> = Result<Json<T>, Failure>;

/// A request is at most so large.
const BODY_BYTES: usize = 4 << 20;
/// All services of a node together: a hundred thousand backends take a few MiB.
const SERVICES_BYTES: usize = 64 << 20;

/// Items of a long list that are written together.
const LIST_PART: usize = 256;

pub(crate) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/doctor", get(doctor))
        .route("/v1/endpoints", get(endpoints).post(add_endpoint))
        .route("/v1/endpoints/{name}/migrate", post(migrate_endpoint))
        .route("/v1/endpoints/{name}/trace", post(trace))
        .route("/v1/endpoints/{name}", get(endpoint).patch(change_endpoint).delete(delete_endpoint))
        .route("/v1/node", get(node_view))
        .route("/v1/orphans", get(orphans).delete(remove_orphans))
        .route("/v1/devices", get(devices).post(create_device))
        .route("/v1/devices/{name}", get(device).patch(change_device).delete(delete_device))
        .route("/v1/chains", get(chains))
        .route("/v1/chains/rebalance", post(rebalance))
        .route("/v1/attachments", get(attachments).post(attach))
        .route("/v1/attachments/{id}", delete(detach))
        .route("/v1/attachments/{id}/migrate", post(migrate))
        .route("/v1/attachments/{id}/update", post(update))
        .route(
            "/v1/services",
            get(services).post(add_service).put(apply_services).layer(DefaultBodyLimit::max(SERVICES_BYTES)),
        )
        .route("/v1/services/{name}", get(service).delete(remove_service))
        .route("/v1/services/{name}/backends", post(add_backend))
        .route("/v1/services/{name}/backends/{address}", delete(remove_backend).patch(weigh_backend))
        .route("/v1/reap", post(reap))
        .route("/v1/sockets", get(sockets))
        .route("/v1/sockets/destroy", post(destroy_sockets))
        .route("/v1/plugins", get(plugins).post(load_plugin))
        .route("/v1/plugins/inspect", post(inspect_plugin))
        .route("/v1/plugins/{name}", get(plugin).delete(unload_plugin))
        .route("/v1/plugins/{name}/reload", post(reload_plugin))
        .route("/v1/plugins/{name}/rollback", post(rollback_plugin))
        .route("/v1/plugins/{name}/versions", get(plugin_versions))
        .route("/v1/plugins/{name}/trial", post(promote_plugin).delete(abandon_trial))
        .route("/v1/store/check", get(check_store))
        .route("/v1/store/backup", get(back_up_store))
        .route("/v1/recordings", get(recordings))
        .route("/v1/decisions", get(decisions))
        .route("/v1/audit", get(audit))
        .route("/v1/events", get(events))
        .route("/v1/monitor", get(monitor))
        .route("/metrics", get(metrics))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(node)
}

/// A body as JSON, whatever the request's headers say of it; what is wrong with it is said in an [`ErrorBody`].
///
/// [`ErrorBody`]: netloom_api::types::ErrorBody
fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::invalid(anyhow::anyhow!("the request is not understood: {error}")))
}

fn name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(Failure::invalid)
}

/// When the client says it asked.
fn asked(headers: &HeaderMap) -> Option<Asked> {
    headers.get(Asked::HEADER)?.to_str().ok()?.parse().ok().map(Asked)
}

async fn unknown(uri: axum::http::Uri) -> Failure {
    Failure::not_found(format!("there is no route {uri}")).hint("is the client of another version?")
}

async fn status(State(node): Shared) -> Answer<Status> {
    Ok(Json(node.status().await?))
}

async fn doctor(State(node): Shared) -> Answer<Doctor> {
    Ok(Json(node.doctor().await?))
}

async fn endpoints(State(node): Shared) -> Answer<Vec<EndpointView>> {
    Ok(Json(node.endpoints().await?))
}

async fn add_endpoint(State(node): Shared, headers: HeaderMap, body: Bytes) -> Answer<EndpointView> {
    let asked = asked(&headers);
    let spec = parse::<EndpointSpec>(&body)?;
    to_the_end(async move { node.add_endpoint(spec, asked).await }).await
}

async fn endpoint(State(node): Shared, Path(text): Path<String>) -> Answer<EndpointView> {
    Ok(Json(node.endpoint(&name(&text)?).await?))
}

async fn change_endpoint(State(node): Shared, Path(text): Path<String>, body: Bytes) -> Answer<EndpointView> {
    let (name, change) = (name(&text)?, parse::<PairChange>(&body)?);
    to_the_end(async move { node.change_endpoint(&name, change).await }).await
}

async fn migrate_endpoint(
    State(node): Shared,
    Path(text): Path<String>,
    body: Bytes,
) -> Answer<EndpointMigrated> {
    let (name, request) = (name(&text)?, parse::<EndpointMigration>(&body)?);
    to_the_end(async move { node.migrate_endpoint(&name, request).await }).await
}

async fn trace(State(node): Shared, Path(text): Path<String>, body: Bytes) -> Answer<Trace> {
    Ok(Json(node.trace(&name(&text)?, parse(&body)?).await?))
}

async fn delete_endpoint(State(node): Shared, Path(text): Path<String>, headers: HeaderMap) -> Answer<Done> {
    let (name, asked) = (name(&text)?, asked(&headers));
    to_the_end(async move { node.delete_endpoint(&name, asked).await }).await
}

async fn node_view(State(node): Shared) -> Json<NodeView> {
    Json(node.view_of_node())
}

async fn orphans(State(node): Shared) -> Answer<Vec<OrphanView>> {
    Ok(Json(node.orphan_views().await?))
}

async fn remove_orphans(State(node): Shared) -> Answer<Done> {
    to_the_end(async move { node.remove_orphans().await }).await
}

#[derive(Deserialize)]
struct DeviceQuery {
    netns: Option<PathBuf>,
}

async fn devices(State(node): Shared, Query(query): Query<DeviceQuery>) -> Answer<Vec<DeviceView>> {
    Ok(Json(node.list_devices(query.netns.as_deref()).await?))
}

async fn device(
    State(node): Shared,
    Path(name): Path<String>,
    Query(query): Query<DeviceQuery>,
) -> Answer<DeviceView> {
    Ok(Json(node.show_device(&name, query.netns.as_deref()).await?))
}

async fn create_device(State(node): Shared, body: Bytes) -> Answer<DeviceView> {
    let request = parse::<DeviceRequest>(&body)?;
    to_the_end(async move { node.create_device(request).await }).await
}

async fn change_device(State(node): Shared, Path(name): Path<String>, body: Bytes) -> Answer<DeviceView> {
    let change = parse::<PairChange>(&body)?;
    to_the_end(async move { node.change_pair(&name, change).await }).await
}

async fn delete_device(State(node): Shared, Path(name): Path<String>) -> Answer<Done> {
    to_the_end(async move { node.delete_device_pair(&name).await }).await
}

#[derive(Deserialize)]
struct ChainQuery {
    device: Option<String>,
    netns: Option<PathBuf>,
    endpoint: Option<Name>,
}

async fn chains(State(node): Shared, Query(query): Query<ChainQuery>) -> Answer<Vec<Chain>> {
    let ChainQuery { device, netns, endpoint } = query;
    Ok(Json(node.chains(device.as_deref(), netns.as_deref(), endpoint.as_ref()).await?))
}

async fn attachments(State(node): Shared) -> Answer<Vec<Attachment>> {
    Ok(Json(node.attachments()?))
}

async fn attach(State(node): Shared, body: Bytes) -> Answer<AttachAnswer> {
    let request = parse::<AttachRequest>(&body)?;
    to_the_end(async move { node.attach(request).await }).await
}

async fn detach(State(node): Shared, Path(id): Path<String>) -> Answer<Done> {
    to_the_end(async move { node.detach(&id).await }).await
}

async fn rebalance(State(node): Shared, body: Bytes) -> Answer<Vec<Rebalanced>> {
    let request = parse::<RebalanceRequest>(&body)?;
    to_the_end(async move { node.rebalance(request).await }).await
}

async fn migrate(State(node): Shared, Path(id): Path<String>, body: Bytes) -> Answer<Vec<Attachment>> {
    let request = parse::<MigrateRequest>(&body)?;
    to_the_end(async move { node.migrate(&id, request).await }).await
}

async fn update(State(node): Shared, Path(id): Path<String>, body: Bytes) -> Answer<AttachAnswer> {
    let request = parse::<UpdateRequest>(&body)?;
    to_the_end(async move { node.update(&id, request).await }).await
}

async fn services(State(node): Shared) -> Answer<Vec<Service>> {
    Ok(Json(node.services()?))
}

async fn add_service(State(node): Shared, body: Bytes) -> Answer<Service> {
    let service = parse::<Service>(&body)?;
    to_the_end(async move { node.add_service(service).await }).await
}

async fn apply_services(State(node): Shared, body: Bytes) -> Answer<ServicesApplied> {
    let request = parse::<ServicesApply>(&body)?;
    to_the_end(async move { node.apply_services(request).await }).await
}

async fn service(State(node): Shared, Path(text): Path<String>) -> Answer<ServiceView> {
    Ok(Json(node.service(&name(&text)?)?))
}

async fn remove_service(State(node): Shared, Path(text): Path<String>) -> Answer<ReapReport> {
    let name = name(&text)?;
    to_the_end(async move { node.remove_service(&name).await }).await
}

async fn add_backend(State(node): Shared, Path(text): Path<String>, body: Bytes) -> Answer<Service> {
    let (name, request) = (name(&text)?, parse::<BackendRequest>(&body)?);
    to_the_end(async move { node.add_backend(&name, request.address, request.weight).await }).await
}

async fn weigh_backend(
    State(node): Shared,
    Path((text, address)): Path<(String, SocketAddr)>,
    body: Bytes,
) -> Answer<Service> {
    let (name, change) = (name(&text)?, parse::<BackendChange>(&body)?);
    to_the_end(async move { node.weigh_backend(&name, address, change.weight).await }).await
}

async fn remove_backend(
    State(node): Shared,
    Path((text, address)): Path<(String, SocketAddr)>,
) -> Answer<ReapReport> {
    let name = name(&text)?;
    to_the_end(async move { node.remove_backend(&name, address).await }).await
}

async fn reap(State(node): Shared, body: Bytes) -> Answer<ReapReport> {
    let request = parse::<ReapRequest>(&body)?;
    to_the_end(async move { node.reap_request(request).await }).await
}

async fn sockets(State(node): Shared, query: Query<SocketQuery>) -> Result<impl IntoResponse, Failure> {
    let found = node.bound_sockets(&query).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream::iter(as_json(found)))))
}

/// A list as JSON, in parts that are written when the client takes them: it is never whole in memory.
fn as_json<T: Serialize>(
    items: impl Iterator<Item = T>,
) -> impl Iterator<Item = serde_json::Result<Vec<u8>>> {
    let mut items = items.peekable();
    let mut opened = false;
    let mut closed = false;
    std::iter::from_fn(move || {
        if closed {
            return None;
        }
        let mut part = if opened { Vec::new() } else { vec![b'['] };
        opened = true;
        for item in items.by_ref().take(LIST_PART) {
            if let Err(error) = serde_json::to_writer(&mut part, &item) {
                closed = true;
                return Some(Err(error));
            }
            part.push(b',');
        }
        if items.peek().is_none() {
            closed = true;
            if part.last() == Some(&b',') {
                part.pop();
            }
            part.push(b']');
        }
        Some(Ok(part))
    })
}

async fn destroy_sockets(State(node): Shared, body: Bytes) -> Answer<ReapReport> {
    let request = parse::<SocketDestroy>(&body)?;
    to_the_end(async move { node.destroy_sockets(request).await }).await
}

async fn plugins(State(node): Shared) -> Answer<Vec<PluginView>> {
    Ok(Json(node.plugins()))
}

async fn load_plugin(State(node): Shared, body: Bytes) -> Answer<PluginView> {
    let load = parse::<PluginLoad>(&body)?;
    to_the_end(async move { node.load_plugin(load).await }).await
}

async fn inspect_plugin(State(node): Shared, body: Bytes) -> Answer<PluginInspection> {
    Ok(Json(node.inspect_plugin(&parse::<PluginLoad>(&body)?).await?))
}

async fn plugin(State(node): Shared, Path(text): Path<String>) -> Answer<PluginView> {
    Ok(Json(node.plugin(&name(&text)?)?))
}

async fn unload_plugin(State(node): Shared, Path(text): Path<String>) -> Answer<Done> {
    let name = name(&text)?;
    to_the_end(async move { node.unload_plugin(&name).await }).await
}

async fn reload_plugin(State(node): Shared, Path(text): Path<String>, body: Bytes) -> Answer<ReloadReport> {
    let (name, request) = (name(&text)?, parse::<ReloadRequest>(&body)?);
    to_the_end(async move { node.reload_plugin(&name, request).await }).await
}

async fn rollback_plugin(State(node): Shared, Path(text): Path<String>, body: Bytes) -> Answer<ReloadReport> {
    let (name, request) = (name(&text)?, parse::<RollbackRequest>(&body)?);
    to_the_end(async move { node.rollback_plugin(&name, request).await }).await
}

async fn plugin_versions(State(node): Shared, Path(text): Path<String>) -> Answer<Vec<PluginVersion>> {
    Ok(Json(node.plugin_versions(&name(&text)?)?))
}

async fn promote_plugin(State(node): Shared, Path(text): Path<String>) -> Answer<PluginView> {
    let name = name(&text)?;
    to_the_end(async move { node.promote_plugin(&name).await }).await
}

async fn abandon_trial(State(node): Shared, Path(text): Path<String>) -> Answer<PluginView> {
    let name = name(&text)?;
    to_the_end(async move { node.abandon_trial(&name).await }).await
}

async fn check_store(State(node): Shared) -> Answer<StoreCheck> {
    // It reads the whole file.
    let check = tokio::task::spawn_blocking(move || -> Result<StoreCheck, Failure> {
        let mut check = node.store.check();
        check.problems.extend(node.component_findings()?.into_iter().map(|finding| finding.message));
        Ok(check)
    });
    Ok(Json(check.await??))
}

async fn back_up_store(State(node): Shared) -> Result<impl IntoResponse, Failure> {
    let copy = tokio::task::spawn_blocking(move || node.store.backup()).await??;
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/octet-stream")], copy))
}

async fn recordings(State(node): Shared) -> Json<Vec<Recording>> {
    Json(node.policy.recordings.all())
}

async fn decisions(State(node): Shared) -> Json<Vec<Decision>> {
    Json(node.policy.decisions.all())
}

async fn audit(State(node): Shared) -> Json<Vec<AuditEntry>> {
    Json(node.audit_trail.all())
}

async fn events(State(node): Shared) -> Json<Vec<Event>> {
    Json(node.events.all())
}

/// Goes on until the client goes away, or the daemon.
async fn monitor(
    State(node): Shared,
    Query(query): Query<MonitorQuery>,
) -> Result<impl IntoResponse, Failure> {
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((StatusCode::OK, kind, Body::from_stream(node.listen(query)?)))
}

async fn metrics(State(node): Shared) -> Result<impl IntoResponse, Failure> {
    let text = node.metrics_text()?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, kind)], text))
}

/// Runs a change as a task of its own: a client that goes away in the middle does not stop it half way.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Answer<T> {
    tokio::spawn(change).await?.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_parts_is_the_list() {
        for length in [0, 1, 2, LIST_PART - 1, LIST_PART, LIST_PART + 1, 3 * LIST_PART] {
            let items: Vec<String> = (0..length).map(|number| format!("\"{number}\"")).collect();
            let parts: Vec<Vec<u8>> = as_json(items.iter()).map(Result::unwrap).collect();
            assert_eq!(parts.len(), length.div_ceil(LIST_PART).max(1), "{length}");
            let read: Vec<String> = serde_json::from_slice(&parts.concat()).unwrap();
            assert_eq!(read, items);
        }
    }
}
