//! The HTTP API: each route calls one operation of the api.

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
        DeviceRequest, DeviceView, Doctor, Done, EndpointCheck, EndpointMigrated, EndpointMigration,
        EndpointSpec, EndpointView, Event, MigrateRequest, MonitorQuery, Name, NodeView, OrphanView,
        PairChange, PluginInspection, PluginLoad, PluginVersion, PluginView, ReapReport, ReapRequest,
        RebalanceRequest, Rebalanced, ReloadReport, ReloadRequest, RollbackRequest, Service, ServiceView,
        ServicesApplied, ServicesApply, SocketDestroy, SocketQuery, Status, StoreCheck, Trace, UpdateRequest,
    },
};
use netloom_runtime::Recording;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    chains::Chains, endpoints::Endpoints, failure::Failure, inventory::Inventory, monitor::Monitor,
    node::Node, opened::Opened, operator::Actions, orphans::Orphans, pairs::Pairs, plugins::Plugins,
    policy::Policy, reaping::Reaping, report::Report, services::Services, store::Store,
    telemetry::events::Events,
};

/// What routes lead to.
pub(crate) struct Api {
    store: Arc<Store>,
    events: Arc<Events>,
    inventory: Arc<Inventory>,
    policy: Arc<Policy>,
    chains: Arc<Chains>,
    endpoints: Arc<Endpoints>,
    pairs: Arc<Pairs>,
    orphans: Arc<Orphans>,
    services: Arc<Services>,
    reaping: Arc<Reaping>,
    plugins: Arc<Plugins>,
    monitor: Arc<Monitor>,
    actions: Arc<Actions>,
    report: Report,
}

impl Api {
    pub(crate) fn new(opened: &Opened, node: &Node, actions: &Arc<Actions>, report: Report) -> Self {
        Self {
            store: Arc::clone(&opened.store),
            events: Arc::clone(&opened.events),
            inventory: Arc::clone(&node.inventory),
            policy: Arc::clone(&node.policy),
            chains: Arc::clone(&node.chains),
            endpoints: Arc::clone(&node.endpoints),
            pairs: Arc::clone(&node.pairs),
            orphans: Arc::clone(&node.orphans),
            services: Arc::clone(&node.services),
            reaping: Arc::clone(&node.reaping),
            plugins: Arc::clone(&node.plugins),
            monitor: Arc::clone(&node.monitor),
            actions: Arc::clone(actions),
            report,
        }
    }
}

type Shared = State<Arc<Api>>;
type Answer<T> = Result<Json<T>, Failure>;

/// Largest request body, in bytes.
const BODY_BYTES: usize = 4 << 20;
/// Largest body with all services of a node, in bytes: a hundred thousand backends take a few MiB.
const SERVICES_BYTES: usize = 64 << 20;

/// Items of a long list in one chunk of the answer.
const LIST_PART: usize = 256;

pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/doctor", get(doctor))
        .route("/v1/endpoints", get(endpoints).post(add_endpoint))
        .route("/v1/endpoints/{name}/migrate", post(migrate_endpoint))
        .route("/v1/endpoints/{name}/trace", post(trace))
        .route("/v1/endpoints/{name}/check", get(check_endpoint))
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
        .with_state(Arc::new(api))
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

async fn status(State(api): Shared) -> Answer<Status> {
    Ok(Json(api.report.status().await?))
}

async fn doctor(State(api): Shared) -> Answer<Doctor> {
    Ok(Json(api.report.doctor().await?))
}

async fn endpoints(State(api): Shared) -> Answer<Vec<EndpointView>> {
    Ok(Json(api.endpoints.list().await?))
}

async fn add_endpoint(State(api): Shared, headers: HeaderMap, body: Bytes) -> Answer<EndpointView> {
    let asked = asked(&headers);
    let spec = parse::<EndpointSpec>(&body)?;
    to_the_end(async move { api.endpoints.add(spec, asked).await }).await
}

async fn endpoint(State(api): Shared, Path(text): Path<String>) -> Answer<EndpointView> {
    Ok(Json(api.endpoints.show(&name(&text)?).await?))
}

async fn change_endpoint(State(api): Shared, Path(text): Path<String>, body: Bytes) -> Answer<EndpointView> {
    let (name, change) = (name(&text)?, parse::<PairChange>(&body)?);
    to_the_end(async move { api.endpoints.change(&name, change).await }).await
}

async fn migrate_endpoint(
    State(api): Shared,
    Path(text): Path<String>,
    body: Bytes,
) -> Answer<EndpointMigrated> {
    let (name, request) = (name(&text)?, parse::<EndpointMigration>(&body)?);
    to_the_end(async move { api.endpoints.migrate(&name, request).await }).await
}

async fn trace(State(api): Shared, Path(text): Path<String>, body: Bytes) -> Answer<Trace> {
    Ok(Json(api.report.trace(&name(&text)?, parse(&body)?).await?))
}

async fn check_endpoint(State(api): Shared, Path(text): Path<String>) -> Answer<EndpointCheck> {
    Ok(Json(api.report.check(&name(&text)?).await?))
}

async fn delete_endpoint(State(api): Shared, Path(text): Path<String>, headers: HeaderMap) -> Answer<Done> {
    let (name, asked) = (name(&text)?, asked(&headers));
    to_the_end(async move { api.endpoints.delete(&name, asked).await }).await
}

async fn node_view(State(api): Shared) -> Json<NodeView> {
    Json(api.report.view_of_node())
}

async fn orphans(State(api): Shared) -> Answer<Vec<OrphanView>> {
    Ok(Json(api.orphans.views().await?))
}

async fn remove_orphans(State(api): Shared) -> Answer<Done> {
    to_the_end(async move { api.orphans.remove_all().await }).await
}

#[derive(Deserialize)]
struct DeviceQuery {
    netns: Option<PathBuf>,
}

async fn devices(State(api): Shared, Query(query): Query<DeviceQuery>) -> Answer<Vec<DeviceView>> {
    Ok(Json(api.pairs.list(query.netns.as_deref()).await?))
}

async fn device(
    State(api): Shared,
    Path(name): Path<String>,
    Query(query): Query<DeviceQuery>,
) -> Answer<DeviceView> {
    Ok(Json(api.pairs.show(&name, query.netns.as_deref()).await?))
}

async fn create_device(State(api): Shared, body: Bytes) -> Answer<DeviceView> {
    let request = parse::<DeviceRequest>(&body)?;
    to_the_end(async move { api.pairs.create(request).await }).await
}

async fn change_device(State(api): Shared, Path(name): Path<String>, body: Bytes) -> Answer<DeviceView> {
    let change = parse::<PairChange>(&body)?;
    to_the_end(async move { api.pairs.change(&name, change).await }).await
}

async fn delete_device(State(api): Shared, Path(name): Path<String>) -> Answer<Done> {
    to_the_end(async move { api.pairs.delete(&name).await }).await
}

#[derive(Deserialize)]
struct ChainQuery {
    device: Option<String>,
    netns: Option<PathBuf>,
    endpoint: Option<Name>,
}

async fn chains(State(api): Shared, Query(query): Query<ChainQuery>) -> Answer<Vec<Chain>> {
    let ChainQuery { device, netns, endpoint } = query;
    Ok(Json(api.inventory.chains(device.as_deref(), netns.as_deref(), endpoint.as_ref()).await?))
}

async fn attachments(State(api): Shared) -> Answer<Vec<Attachment>> {
    Ok(Json(api.inventory.attachments()?))
}

async fn attach(State(api): Shared, body: Bytes) -> Answer<AttachAnswer> {
    let request = parse::<AttachRequest>(&body)?;
    to_the_end(async move { api.chains.attach(request).await }).await
}

async fn detach(State(api): Shared, Path(id): Path<String>) -> Answer<Done> {
    to_the_end(async move { api.chains.detach(&id).await }).await
}

async fn rebalance(State(api): Shared, body: Bytes) -> Answer<Vec<Rebalanced>> {
    let request = parse::<RebalanceRequest>(&body)?;
    to_the_end(async move { api.chains.rebalance(request).await }).await
}

async fn migrate(State(api): Shared, Path(id): Path<String>, body: Bytes) -> Answer<Vec<Attachment>> {
    let request = parse::<MigrateRequest>(&body)?;
    to_the_end(async move { api.chains.migrate(&id, request).await }).await
}

async fn update(State(api): Shared, Path(id): Path<String>, body: Bytes) -> Answer<AttachAnswer> {
    let request = parse::<UpdateRequest>(&body)?;
    to_the_end(async move { api.chains.update(&id, request).await }).await
}

async fn services(State(api): Shared) -> Answer<Vec<Service>> {
    Ok(Json(api.inventory.services()?))
}

async fn add_service(State(api): Shared, body: Bytes) -> Answer<Service> {
    let service = parse::<Service>(&body)?;
    to_the_end(async move { api.services.add(service).await }).await
}

async fn apply_services(State(api): Shared, body: Bytes) -> Answer<ServicesApplied> {
    let request = parse::<ServicesApply>(&body)?;
    to_the_end(async move { api.services.apply(request).await }).await
}

async fn service(State(api): Shared, Path(text): Path<String>) -> Answer<ServiceView> {
    Ok(Json(api.services.show(&name(&text)?)?))
}

async fn remove_service(State(api): Shared, Path(text): Path<String>) -> Answer<ReapReport> {
    let name = name(&text)?;
    to_the_end(async move { api.services.remove(&name).await }).await
}

async fn add_backend(State(api): Shared, Path(text): Path<String>, body: Bytes) -> Answer<Service> {
    let (name, request) = (name(&text)?, parse::<BackendRequest>(&body)?);
    to_the_end(async move { api.services.add_backend(&name, request.address, request.weight).await }).await
}

async fn weigh_backend(
    State(api): Shared,
    Path((text, address)): Path<(String, SocketAddr)>,
    body: Bytes,
) -> Answer<Service> {
    let (name, change) = (name(&text)?, parse::<BackendChange>(&body)?);
    to_the_end(async move { api.services.weigh_backend(&name, address, change.weight).await }).await
}

async fn remove_backend(
    State(api): Shared,
    Path((text, address)): Path<(String, SocketAddr)>,
) -> Answer<ReapReport> {
    let name = name(&text)?;
    to_the_end(async move { api.services.remove_backend(&name, address).await }).await
}

async fn reap(State(api): Shared, body: Bytes) -> Answer<ReapReport> {
    let request = parse::<ReapRequest>(&body)?;
    to_the_end(async move { api.reaping.request(request).await }).await
}

async fn sockets(State(api): Shared, query: Query<SocketQuery>) -> Result<impl IntoResponse, Failure> {
    let found = api.reaping.bound_sockets(&query).await?;
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

async fn destroy_sockets(State(api): Shared, body: Bytes) -> Answer<ReapReport> {
    let request = parse::<SocketDestroy>(&body)?;
    to_the_end(async move { api.reaping.destroy_sockets(request).await }).await
}

async fn plugins(State(api): Shared) -> Answer<Vec<PluginView>> {
    Ok(Json(api.plugins.list()))
}

async fn load_plugin(State(api): Shared, body: Bytes) -> Answer<PluginView> {
    let load = parse::<PluginLoad>(&body)?;
    to_the_end(async move { api.plugins.load(load).await }).await
}

async fn inspect_plugin(State(api): Shared, body: Bytes) -> Answer<PluginInspection> {
    Ok(Json(api.plugins.inspect(&parse::<PluginLoad>(&body)?).await?))
}

async fn plugin(State(api): Shared, Path(text): Path<String>) -> Answer<PluginView> {
    Ok(Json(api.plugins.show(&name(&text)?)?))
}

async fn unload_plugin(State(api): Shared, Path(text): Path<String>) -> Answer<Done> {
    let name = name(&text)?;
    to_the_end(async move { api.plugins.unload(&name).await }).await
}

async fn reload_plugin(State(api): Shared, Path(text): Path<String>, body: Bytes) -> Answer<ReloadReport> {
    let (name, request) = (name(&text)?, parse::<ReloadRequest>(&body)?);
    to_the_end(async move { api.plugins.reload(&name, request).await }).await
}

async fn rollback_plugin(State(api): Shared, Path(text): Path<String>, body: Bytes) -> Answer<ReloadReport> {
    let (name, request) = (name(&text)?, parse::<RollbackRequest>(&body)?);
    to_the_end(async move { api.plugins.rollback(&name, request).await }).await
}

async fn plugin_versions(State(api): Shared, Path(text): Path<String>) -> Answer<Vec<PluginVersion>> {
    Ok(Json(api.plugins.versions(&name(&text)?)?))
}

async fn promote_plugin(State(api): Shared, Path(text): Path<String>) -> Answer<PluginView> {
    let name = name(&text)?;
    to_the_end(async move { api.plugins.promote(&name).await }).await
}

async fn abandon_trial(State(api): Shared, Path(text): Path<String>) -> Answer<PluginView> {
    let name = name(&text)?;
    to_the_end(async move { api.plugins.abandon_trial(&name).await }).await
}

async fn check_store(State(api): Shared) -> Answer<StoreCheck> {
    // It reads the whole file.
    let check = tokio::task::spawn_blocking(move || -> Result<StoreCheck, Failure> {
        let mut check = api.store.check();
        check.problems.extend(api.plugins.component_findings()?.into_iter().map(|finding| finding.message));
        Ok(check)
    });
    Ok(Json(check.await??))
}

async fn back_up_store(State(api): Shared) -> Result<impl IntoResponse, Failure> {
    let copy = tokio::task::spawn_blocking(move || api.store.backup()).await??;
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/octet-stream")], copy))
}

async fn recordings(State(api): Shared) -> Json<Vec<Recording>> {
    Json(api.policy.recordings.all())
}

async fn decisions(State(api): Shared) -> Json<Vec<Decision>> {
    Json(api.policy.decisions.all())
}

async fn audit(State(api): Shared) -> Json<Vec<AuditEntry>> {
    Json(api.actions.audit_trail.all())
}

async fn events(State(api): Shared) -> Json<Vec<Event>> {
    Json(api.events.all())
}

/// Goes on until the client goes away, or the daemon.
async fn monitor(
    State(api): Shared,
    Query(query): Query<MonitorQuery>,
) -> Result<impl IntoResponse, Failure> {
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((StatusCode::OK, kind, Body::from_stream(api.monitor.listen(query)?)))
}

async fn metrics(State(api): Shared) -> Result<impl IntoResponse, Failure> {
    let text = api.report.metrics_text().await?;
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
