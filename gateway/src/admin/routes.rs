//! The route table as JSON, a bounded page at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use krypton_discovery::{AppProtocol, Protocol, UpstreamHost};
use serde::{Deserialize, Serialize};

use crate::route_table::{ActiveRoute, DialMode, EndpointState, Freshness, RouteTableHandle, RouteView};

/// Routes of a page that nobody asked to be longer or shorter.
const DEFAULT_LIMIT: usize = 100;

/// The most routes of a page.
const MAX_LIMIT: usize = 1000;

/// The most endpoints that are shown of one route. `endpointCount` tells how many there are.
const MAX_ENDPOINTS: usize = 100;

/// Which page.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    /// `namespace/name`: the page begins behind it.
    after: Option<String>,
}

/// A page.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    freshness: &'static str,
    /// `null` while there is no table.
    age_seconds: Option<f64>,
    dials: &'static str,
    agents: usize,
    changes: u64,
    routes: Vec<ShownRoute>,
    /// `after` of the next page, `null` on the last.
    next: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownRoute {
    name: String,
    version: String,
    protocol: &'static str,
    app_protocol: &'static str,
    upstream_host: &'static str,
    port: u16,
    invocation_path: String,
    timeout_ms: u128,
    max_duration_ms: Option<u128>,
    startup_timeout_ms: u128,
    concurrency: Option<u32>,
    max_standing_streams: u32,
    scaled_to_zero: bool,
    service: Option<ShownEndpoint>,
    endpoint_count: usize,
    endpoints: Vec<ShownEndpoint>,
    refused: Vec<ShownRefusal>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownEndpoint {
    address: SocketAddr,
    pod_uid: Option<String>,
    in_flight: u32,
    standing_streams: u32,
}

#[derive(Debug, Serialize)]
struct ShownRefusal {
    address: SocketAddr,
    reason: String,
}

/// The page that `query` asks for.
pub(super) fn page(table: &RouteTableHandle, query: &PageQuery) -> Page {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let after = query.after.as_deref().unwrap_or_default();
    let mut routes: Vec<_> = table.iter().filter(|route| route.key().as_str() > after).collect();
    routes.sort_unstable_by(|a, b| a.key().cmp(b.key()));
    let more = routes.len() > limit;
    routes.truncate(limit);
    let now = Instant::now();
    Page {
        freshness: match table.freshness() {
            Freshness::Empty => "empty",
            Freshness::FromDisk { .. } => "fromDisk",
            Freshness::Live => "live",
            Freshness::Lost { .. } => "lost",
        },
        age_seconds: table.age(now).map(|age| age.as_secs_f64()),
        dials: match table.dial_mode(now) {
            DialMode::Endpoints => "endpoints",
            DialMode::ClusterIp => "clusterIp",
        },
        agents: table.len(),
        changes: table.changes(),
        next: routes.last().filter(|_| more).map(|last| last.key().to_string()),
        routes: routes.into_iter().map(|route| show(&route)).collect(),
    }
}

fn show(active: &ActiveRoute) -> ShownRoute {
    let view = active.load();
    let route = view.route();
    ShownRoute {
        name: active.key().to_string(),
        version: view.version().to_string(),
        protocol: match route.protocol {
            Protocol::A2a => "a2a",
            Protocol::Mcp => "mcp",
            Protocol::Http => "http",
        },
        app_protocol: match route.app_protocol {
            AppProtocol::Http => "http",
            AppProtocol::H2c => "h2c",
        },
        upstream_host: match route.upstream_host {
            UpstreamHost::Preserve => "preserve",
            UpstreamHost::Localhost => "localhost",
        },
        port: route.port.get(),
        invocation_path: route.invocation_path.to_string(),
        timeout_ms: route.timeouts.timeout.as_millis(),
        max_duration_ms: route.timeouts.max_duration.map(|limit| limit.as_millis()),
        startup_timeout_ms: route.timeouts.startup_timeout.as_millis(),
        concurrency: route.concurrency.map(Into::into),
        max_standing_streams: route.max_standing_streams,
        scaled_to_zero: route.scaled_to_zero,
        service: view.service().map(show_endpoint),
        endpoint_count: view.endpoints().len(),
        endpoints: view.endpoints().iter().take(MAX_ENDPOINTS).map(show_endpoint).collect(),
        refused: show_refused(&view),
    }
}

fn show_endpoint(state: &Arc<EndpointState>) -> ShownEndpoint {
    ShownEndpoint {
        address: state.address(),
        pod_uid: state.endpoint().pod_uid().map(ToString::to_string),
        in_flight: state.in_flight(),
        standing_streams: state.standing(),
    }
}

fn show_refused(view: &RouteView) -> Vec<ShownRefusal> {
    let refused = view.refused().iter().take(MAX_ENDPOINTS);
    refused
        .map(|refused| ShownRefusal { address: refused.address, reason: refused.reason.to_string() })
        .collect()
}
