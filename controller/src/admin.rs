//! How the controller fares, over HTTP: for probes, for Prometheus, for people.
//!
//! Reads what others own and changes nothing. Answers are bounded: a large table is read in pages.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use krypton_discovery::VersionedRoute;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::certificate::{Server, State as CertificateState, UnixSeconds};
use crate::discovery::Gateways;
use crate::report::Reports;
use crate::snapshot::Snapshot;
use crate::source::{Sources, WatchState};

/// Routes on one page of `/debug/snapshot`.
const PAGE: usize = 1_000;

/// What the handlers read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The newest snapshot; `None` before the first.
    pub snapshots: watch::Receiver<Option<Snapshot>>,
    /// How the sources fare.
    pub sources: Sources,
    /// Who is connected.
    pub gateways: Gateways,
    /// Who reports to this controller.
    pub reports: Reports,
    /// How the certificates fare, each with the servers that show it.
    pub certificates: Vec<(&'static [Server], watch::Receiver<CertificateState>)>,
    /// Every metric.
    pub registry: Arc<Registry>,
}

#[derive(Debug, Deserialize)]
struct ReadyQuery {
    verbose: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PageQuery {
    /// The last key of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

/// A route as people read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RouteView {
    agent: String,
    version: String,
    protocol: String,
    app_protocol: String,
    upstream_host: String,
    port: u16,
    invocation_path: String,
    timeout_ms: u128,
    max_duration_ms: Option<u128>,
    startup_timeout_ms: u128,
    /// Unset: unlimited.
    concurrency: Option<u32>,
    max_standing_streams: u32,
    /// Where its Service is dialled.
    service: Option<String>,
    scaled_to_zero: bool,
    endpoints: Vec<EndpointView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointView {
    address: String,
    pod_uid: Option<String>,
}

// === impl Admin ===

impl Admin {
    /// Serves on `listener` until `shutdown`.
    ///
    /// # Errors
    /// When the server ends for another reason.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
        // Whoever still reads a page is cut off: there is nothing to lose.
        tokio::select! {
            result = async { axum::serve(listener, self.router()).await } => result,
            () = shutdown.cancelled() => Ok(()),
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/debug/snapshot", get(debug_snapshot))
            .route("/debug/sources", get(debug_sources))
            .route("/debug/gateways", get(debug_gateways))
            .with_state(self)
    }

    /// What is ready, and what is missing and why, a line each.
    fn conditions(&self) -> Vec<(bool, String)> {
        // The listener is bound before anything is served, and its end is the process's end.
        let mut conditions = vec![(true, "discovery: listening".to_owned())];
        let now = UnixSeconds::now();
        for (servers, state) in &self.certificates {
            let state = state.borrow();
            conditions.extend(servers.iter().map(|server| certificate_condition(*server, &state, now)));
        }
        let report = self.sources.report();
        let complete = self.snapshots.borrow().is_some();
        for watch in &report.watches {
            let error = watch.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            let (ready, state) = match watch.state {
                WatchState::Starting => (false, "no complete list yet"),
                WatchState::Live => (true, "live"),
                WatchState::Lost => (true, "lost, what is known stays in use"),
            };
            conditions.push((ready, format!("{} in {}: {state}{error}", watch.kind, watch.scope)));
        }
        if let Some(folder) = &report.manifests {
            let text = format!("{}: {} problems", folder.folder.display(), folder.problem_count);
            conditions.push((true, text));
        }
        let snapshot = if complete { "complete" } else { "not complete yet" };
        conditions.push((complete, format!("snapshot: {snapshot}")));
        // Every replica serves routes; that another one leads is no reason to be unready.
        let leads =
            if self.reports.is_leading() { "this replica leads" } else { "this replica does not lead" };
        conditions.push((true, format!("leader: {leads}")));
        conditions
    }
}

/// A server that has no certificate closes every connection, and with one that has expired it is refused. Discovery is
/// what gateways choose a replica for: one that they refuse is unready, and they keep the routes that they have.
/// Webhooks that are refused must not take discovery away from gateways; that they expired is only said.
fn certificate_condition(server: Server, state: &CertificateState, now: UnixSeconds) -> (bool, String) {
    let problem = state.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
    let (ready, text) = match state.expires {
        Some(expires) if expires < now => {
            (server != Server::Discovery, format!("expired {expires}; whoever connects refuses it"))
        }
        Some(expires) => (true, format!("expires {expires}")),
        None => (false, "none yet".to_owned()),
    };
    (ready, format!("certificate of {}: {text}{problem}", server.as_str()))
}

async fn readyz(State(admin): State<Admin>, Query(query): Query<ReadyQuery>) -> Response {
    let conditions = admin.conditions();
    let ready = conditions.iter().all(|(ready, _)| *ready);
    let mut body = String::new();
    if query.verbose.is_some() {
        for (ready, text) in &conditions {
            let mark = if *ready { "[+]" } else { "[-]" };
            writeln!(body, "{mark} {text}").expect("a string takes what is written");
        }
    } else {
        body.push_str(if ready { "ok\n" } else { "not ready; /readyz?verbose names what is missing\n" });
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, body).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut body = String::new();
    match prometheus_client::encoding::text::encode(&mut body, &admin.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], body).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A page of routes by key; `next` names the page after, where there is one.
async fn debug_snapshot(State(admin): State<Admin>, Query(query): Query<PageQuery>) -> Response {
    let Some(snapshot) = admin.snapshots.borrow().clone() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no complete snapshot yet\n").into_response();
    };
    let after = query.after.as_deref().unwrap_or_default();
    let mut routes: Vec<_> = snapshot.iter().filter(|route| route.key().as_str() > after).collect();
    routes.sort_unstable_by_key(|route| route.key());
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let more = routes.len() > limit;
    routes.truncate(limit);
    let next = routes.last().filter(|_| more).map(|route| route.key().as_str());
    Json(json!({
        "generation": snapshot.generation(),
        "agents": snapshot.len(),
        "endpoints": snapshot.endpoints(),
        "routes": routes.iter().map(|route| RouteView::new(route)).collect::<Vec<_>>(),
        "next": next,
    }))
    .into_response()
}

async fn debug_sources(State(admin): State<Admin>) -> Response {
    Json(admin.sources.report()).into_response()
}

/// Every gateway that discovery streams to, with its report where it reports to this controller, and then those that
/// only report: they have their routes from another replica.
async fn debug_gateways(State(admin): State<Admin>) -> Response {
    let reports = admin.reports.list();
    let connected = admin.gateways.list();
    let only_reporting = reports.iter().filter(|r| connected.iter().all(|gateway| gateway.node != r.node));
    let only_reporting = only_reporting.map(|report| {
        json!({ "node": report.node, "build": report.build, "address": report.address, "report": report })
    });
    let views = connected.iter().map(|gateway| {
        let mut view = json!(gateway);
        view["report"] = json!(reports.iter().find(|report| report.node == gateway.node));
        view
    });
    Json(views.chain(only_reporting).collect::<Vec<_>>()).into_response()
}

// === impl RouteView ===

impl RouteView {
    fn new(resource: &VersionedRoute) -> Self {
        let route = resource.route();
        Self {
            agent: resource.key().to_string(),
            version: resource.version().to_string(),
            protocol: format!("{:?}", route.protocol).to_lowercase(),
            app_protocol: format!("{:?}", route.app_protocol).to_lowercase(),
            upstream_host: format!("{:?}", route.upstream_host).to_lowercase(),
            port: route.port.get(),
            invocation_path: route.invocation_path.to_string(),
            timeout_ms: route.timeouts.timeout.as_millis(),
            max_duration_ms: route.timeouts.max_duration.map(|limit| limit.as_millis()),
            startup_timeout_ms: route.timeouts.startup_timeout.as_millis(),
            concurrency: route.concurrency.map(Into::into),
            max_standing_streams: route.max_standing_streams,
            service: route.service.as_ref().map(|service| service.address().to_string()),
            scaled_to_zero: route.scaled_to_zero,
            endpoints: route.endpoints.iter().map(EndpointView::new).collect(),
        }
    }
}

// === impl EndpointView ===

impl EndpointView {
    fn new(endpoint: &krypton_discovery::Endpoint) -> Self {
        Self { address: endpoint.address().to_string(), pod_uid: endpoint.pod_uid().map(ToString::to_string) }
    }
}

#[cfg(test)]
mod tests;
