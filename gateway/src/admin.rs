//! What operators and probes ask, on a port of its own.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 while the process can answer at all |
//! | `/readyz` | 200 if it may be sent calls, else 503; `?verbose` names what is missing |
//! | `/metrics` | all metrics, OpenMetrics text |
//! | `/debug/routes` | the route table in pages: `?limit=` (100, at most 1000), `?after=` the last name of a page |
//!
//! Reads what others own and changes nothing. What walks the whole table does so on a thread of its own, since the
//! runtime's are there for calls.

mod routes;

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use axum::extract::{Query, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::{self, Metrics};
use crate::readiness::{ConditionState, Readiness};
use crate::route_table::RouteTableHandle;
use routes::PageQuery;

/// The admin server.
#[derive(Clone)]
pub struct Admin {
    table: RouteTableHandle,
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

// === impl Admin ===

impl Admin {
    /// A server that shows these.
    pub fn new(table: RouteTableHandle, metrics: Arc<Metrics>, readiness: Readiness) -> Self {
        Self { table, metrics, readiness }
    }

    /// Serves on `listener` until `shutdown`.
    ///
    /// # Errors
    /// None that is known: failed accepts are tried again.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_text))
            .route("/debug/routes", get(debug_routes))
            .with_state(self);
        axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
    }
}

async fn readyz(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let status = if admin.readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = query.is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose")));
    let body = if verbose { explain(&admin.readiness) } else { String::new() };
    let verdict = if status == StatusCode::OK { "ready\n" } else { "not ready\n" };
    (status, body + verdict).into_response()
}

/// One line a condition, as the API server's own probes have it.
fn explain(readiness: &Readiness) -> String {
    let mut text = String::new();
    for (name, state) in readiness.conditions() {
        let mark = if state == ConditionState::Ready { '+' } else { '-' };
        writeln!(text, "[{mark}] {name}: {}", state.as_str()).ok();
    }
    if readiness.is_draining() {
        text.push_str("[-] draining: about to stop\n");
    }
    text
}

async fn metrics_text(State(admin): State<Admin>) -> Response {
    // Five thousand Agents that were all called make megabytes.
    match tokio::task::spawn_blocking(move || admin.metrics.encode()).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn debug_routes(State(admin): State<Admin>, Query(query): Query<PageQuery>) -> Response {
    match tokio::task::spawn_blocking(move || routes::page(&admin.table, &query)).await {
        Ok(page) => Json(page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests;
