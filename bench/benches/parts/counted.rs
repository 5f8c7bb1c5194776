//! The steps that are counted. What a step gives back is dropped outside of the count.

#![expect(clippy::exit, reason = "how the runner's copies of this program end, in gungraun's macro")]

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use krypton_bench::routes::{ENDPOINTS, route};
use krypton_discovery::{EndpointPolicy, VersionedRoute, wire};
use krypton_gateway::balance::{Tried, pick};
use krypton_gateway::path::{self, Target};
use krypton_gateway::proxy::headers::{self, Cleanup};
use krypton_gateway::route_table::{ActiveRoute, RouteTableHandle, RouteTableWriter};
use prost::Message as _;

use crate::calls;

const TARGET: &str = "/v1/agents/team-7/agent-42/v1/messages?stream=true";

/// The agent that is called and changed.
const AGENT: usize = 742;

fn table(agents: usize) -> RouteTableWriter {
    let mut writer = RouteTableWriter::new(EndpointPolicy::default());
    for n in 0..agents {
        writer.upsert(route(n, ENDPOINTS));
    }
    writer
}

fn handle(agents: usize) -> RouteTableHandle {
    table(agents).handle()
}

#[library_benchmark]
#[bench::usual(TARGET)]
#[bench::not_ours("/favicon.ico")]
fn path_split(target: &'static str) -> Target<'static> {
    path::split(black_box(target.as_bytes()))
}

#[library_benchmark]
#[bench::of_5000(args = (5_000), setup = handle)]
#[bench::of_100000(args = (100_000), setup = handle)]
fn route_look_up(table: RouteTableHandle) -> (RouteTableHandle, Option<std::sync::Arc<ActiveRoute>>) {
    let found = table.get(black_box("team-7/agent-42"));
    (table, found)
}

#[library_benchmark]
#[bench::of_5000(args = (5_000), setup = handle)]
fn target_to_endpoint(table: RouteTableHandle) -> (RouteTableHandle, Option<std::net::SocketAddr>) {
    let address = || {
        let Target::Agent { key, .. } = path::split(black_box(TARGET.as_bytes())) else { return None };
        let view = table.get(key)?.load();
        let mut rng = fastrand::Rng::with_seed(7);
        pick(view.endpoints(), &Tried::default(), &mut rng).map(|endpoint| endpoint.address())
    };
    let address = address();
    (table, address)
}

fn one_pod_less(agents: usize) -> (RouteTableWriter, VersionedRoute) {
    (table(agents), route(AGENT, ENDPOINTS - 1))
}

fn one_agent_more(agents: usize) -> (RouteTableWriter, VersionedRoute) {
    (table(agents), route(agents, ENDPOINTS))
}

#[library_benchmark]
#[bench::endpoints_of_5000(args = (5_000), setup = one_pod_less)]
#[bench::endpoints_of_100000(args = (100_000), setup = one_pod_less)]
#[bench::added_to_5000(args = (5_000), setup = one_agent_more)]
#[bench::added_to_100000(args = (100_000), setup = one_agent_more)]
fn route_change((mut table, route): (RouteTableWriter, VersionedRoute)) -> RouteTableWriter {
    table.upsert(black_box(route));
    table
}

fn encoded(n: usize) -> Vec<u8> {
    wire::RouteResource::from(&route(n, ENDPOINTS)).encode_to_vec()
}

#[library_benchmark]
#[bench::one(args = (AGENT), setup = encoded)]
fn decode(bytes: Vec<u8>) -> (Vec<u8>, Option<VersionedRoute>) {
    let resource = wire::RouteResource::decode(black_box(&bytes[..])).ok();
    let route = resource.and_then(|resource| resource.try_into().ok());
    (bytes, route)
}

#[library_benchmark]
#[bench::direct(calls::client_headers(), false)]
#[bench::behind_ingress(calls::proxied_headers(), true)]
fn prepare_request(mut headers: HeaderMap, trusted: bool) -> HeaderMap {
    let host = headers.get(HOST).cloned();
    headers::prepare_request(&mut headers, host, &calls::facts(&calls::REQUEST_ID, trusted));
    headers
}

fn answer() -> HeaderMap {
    let headers = [
        ("content-type", "application/json"),
        ("content-length", "1024"),
        ("date", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ("server", "uvicorn"),
        ("x-request-id", "0af7651916cd43dd8448eb211c80319c"),
    ];
    headers
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect()
}

#[library_benchmark]
#[bench::usual(answer())]
fn clean_response(headers: HeaderMap) -> (HeaderMap, Cleanup) {
    let cleanup = headers::clean_response(black_box(&headers), false);
    (headers, cleanup)
}

#[library_benchmark]
#[bench::usual(args = (AGENT, 1), setup = route)]
fn access_line(agent: VersionedRoute) -> (VersionedRoute, Vec<u8>) {
    let line = black_box(calls::access_line(&agent)).encode();
    (agent, line)
}

library_benchmark_group!(
    name = call;
    benchmarks = path_split, route_look_up, target_to_endpoint, prepare_request, clean_response, access_line
);

library_benchmark_group!(
    name = table_change;
    benchmarks = route_change, decode
);

main!(library_benchmark_groups = call, table_change);

/// Counts, and prints.
pub(crate) fn run() {
    main();
}
