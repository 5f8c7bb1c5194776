//! What one call costs before a byte of it moves, and what a change of the table costs.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use krypton_bench::routes::{ENDPOINTS, route};
use krypton_discovery::{EndpointPolicy, VersionedRoute, wire};
use krypton_gateway::access_log::AccessLine;
use krypton_gateway::balance::{Tried, pick};
use krypton_gateway::path::split;
use krypton_gateway::proxy::error::Outcome;
use krypton_gateway::proxy::headers::{Facts, prepare_request};
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

/// What a browser sends, less its cookies.
fn client_headers() -> HeaderMap {
    let headers = [
        ("host", "agents.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "application/json, text/event-stream"),
        ("accept-encoding", "gzip, deflate, br"),
        ("content-type", "application/json"),
        ("content-length", "512"),
        ("authorization", "Bearer 0123456789abcdef0123456789abcdef"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    headers
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect()
}

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("prepare_request");
    let plain = client_headers();
    let mut proxied = plain.clone();
    for (name, value) in
        [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https"), ("x-real-ip", "203.0.113.9")]
    {
        proxied.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let request_id = HeaderValue::from_static("0af7651916cd43dd8448eb211c80319c");
    for (name, headers, trusted) in [("direct", plain, false), ("behind_ingress", proxied, true)] {
        let facts = Facts {
            client: Some([10, 0, 0, 1].into()),
            trusted,
            key: "team-7/agent-42",
            upstream_host: None,
            request_id: &request_id,
        };
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
    let line = AccessLine {
        time: SystemTime::UNIX_EPOCH + Duration::from_hours(500_000),
        request_id: "0af7651916cd43dd8448eb211c80319c",
        agent: Some(agent.key()),
        method: &Method::POST,
        target: b"/v1/agents/team-0/agent-42/v1/messages?stream=true",
        is_h2: false,
        client: Some(([203, 0, 113, 9], 51_234).into()),
        status: Some(200),
        outcome: Outcome::Ok,
        duration: Duration::from_micros(1_234_567),
        time_to_first_byte: Some(Duration::from_micros(2_345)),
        bytes_in: 512,
        bytes_out: 65_536,
        attempts: 1,
        endpoint: Some(([10, 0, 0, 168], 8080).into()),
    };
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
