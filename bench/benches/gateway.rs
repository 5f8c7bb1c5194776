//! What one call costs before a byte of it moves, and what a change of the table costs.

#[path = "parts/calls.rs"]
mod calls;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use krypton_bench::routes::{ENDPOINTS, route};
use krypton_discovery::{EndpointPolicy, VersionedRoute, wire};
use krypton_gateway::balance::{Tried, pick};
use krypton_gateway::path::split;
use krypton_gateway::proxy::headers::prepare_request;
use krypton_gateway::route_table::RouteTableWriter;
use prost::Message as _;

/// Agents in the table.
const SIZES: [usize; 3] = [100, 5_000, 100_000];

/// Agents that are changed in turn.
const CHANGED: usize = 64;

fn table(agents: usize) -> RouteTableWriter {
    let mut writer = RouteTableWriter::new(EndpointPolicy::default());
    for n in 0..agents {
        writer.upsert(route(n, ENDPOINTS));
    }
    writer
}

fn look_up(c: &mut Criterion) {
    let mut group = c.benchmark_group("route_look_up");
    for agents in SIZES {
        let handle = table(agents).handle();
        let mut keys: Vec<String> = handle.iter().map(|route| route.key().to_string()).collect();
        let mut rng = fastrand::Rng::with_seed(7);
        rng.shuffle(&mut keys);
        let mut random = keys.iter().cycle();
        group.bench_function(BenchmarkId::new("random", agents), |b| {
            b.iter(|| handle.get(black_box(random.next()?)));
        });
        group.bench_function(BenchmarkId::new("hot", agents), |b| {
            b.iter(|| handle.get(black_box(keys.first()?)));
        });
        // From the request-target to the pod.
        let targets: Vec<String> = keys.iter().map(|key| format!("/v1/agents/{key}/run?stream=1")).collect();
        let mut random = targets.iter().cycle();
        group.bench_function(BenchmarkId::new("target_to_endpoint", agents), |b| {
            b.iter(|| {
                let krypton_gateway::path::Target::Agent { key, .. } = split(random.next()?.as_bytes())
                else {
                    return None;
                };
                let view = handle.get(key)?.load();
                pick(view.endpoints(), &Tried::default(), &mut rng).map(|endpoint| endpoint.address())
            });
        });
    }
    group.finish();
}

fn change(c: &mut Criterion) {
    let mut group = c.benchmark_group("route_change");
    for agents in SIZES {
        let mut writer = table(agents);
        let step = agents / CHANGED;
        let changes = |endpoints: usize| (0..CHANGED).map(move |n| route(n * step, endpoints));
        let versions: Vec<VersionedRoute> = changes(ENDPOINTS - 1).chain(changes(ENDPOINTS)).collect();
        let mut next = versions.iter().cycle();
        group.bench_function(BenchmarkId::new("endpoints", agents), |b| {
            b.iter(|| writer.upsert(black_box(next.next()?.clone())).pop());
        });
        let added: Vec<VersionedRoute> = (0..CHANGED).map(|n| route(agents + n, ENDPOINTS)).collect();
        let mut next = added.iter().cycle();
        group.bench_function(BenchmarkId::new("add_and_remove", agents), |b| {
            b.iter(|| {
                let route = black_box(next.next()?);
                writer.upsert(route.clone());
                Some(writer.remove(route.key().as_str()))
            });
        });
    }
    group.finish();
}

fn paths(c: &mut Criterion) {
    let mut group = c.benchmark_group("path_split");
    let long = format!("/v1/agents/team-7/agent-42/{}?{}", "segment/".repeat(64), "q=1&".repeat(128));
    for (name, target) in [
        ("usual", "/v1/agents/team-7/agent-42/v1/messages?stream=true"),
        ("long", long.as_str()),
        ("not_ours", "/favicon.ico"),
    ] {
        group.bench_function(name, |b| b.iter(|| black_box(split(black_box(target.as_bytes())))));
    }
    group.finish();
}

fn first_table(c: &mut Criterion) {
    const AGENTS: usize = 5_000;
    let resources: Vec<wire::RouteResource> = (0..AGENTS).map(|n| (&route(n, ENDPOINTS)).into()).collect();
    let response = wire::DeltaRoutesResponse { nonce: 1, upserts: resources, ..Default::default() };
    let bytes = response.encode_to_vec();
    let decode = |bytes: &[u8]| -> Vec<VersionedRoute> {
        let response = wire::DeltaRoutesResponse::decode(bytes).unwrap_or_default();
        response.upserts.into_iter().filter_map(|resource| resource.try_into().ok()).collect()
    };
    let mut group = c.benchmark_group("first_table");
    group.sample_size(10).throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(BenchmarkId::new("decode", AGENTS), |b| b.iter(|| decode(black_box(&bytes))));
    let routes = decode(&bytes);
    assert_eq!(routes.len(), AGENTS);
    let empty = || (RouteTableWriter::new(EndpointPolicy::default()), routes.clone());
    group.bench_function(BenchmarkId::new("apply", AGENTS), |b| {
        b.iter_batched(
            empty,
            |(mut writer, routes)| {
                for route in routes {
                    writer.upsert(route);
                }
                writer
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("prepare_request");
    for (name, headers, trusted) in
        [("direct", calls::client_headers(), false), ("behind_ingress", calls::proxied_headers(), true)]
    {
        let request_id = calls::REQUEST_ID;
        let facts = calls::facts(&request_id, trusted);
        let host = headers.get(http::header::HOST).cloned();
        group.bench_function(name, |b| {
            let input = || (headers.clone(), host.clone());
            let prepare = |(mut headers, host)| {
                prepare_request(&mut headers, host, &facts);
                headers
            };
            b.iter_batched(input, prepare, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn access_line(c: &mut Criterion) {
    let agent = route(42, 1);
    let line = calls::access_line(&agent);
    c.bench_function("access_line", |b| b.iter(|| black_box(&line).encode()));
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(40)
        .configure_from_args();
    for bench in [look_up, change, paths, first_table, headers, access_line] {
        bench(&mut criterion);
    }
    criterion.final_summary();
}
