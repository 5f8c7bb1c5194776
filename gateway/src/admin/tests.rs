//! Asked over a socket, as probes do.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use krypton_discovery::EndpointPolicy;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::readiness::Condition;
use crate::route_table::test_util::{mk_endpoint, mk_resource, mk_resource_with};
use crate::route_table::{CallKind, Freshness, InFlight, RouteTableWriter};

struct Served {
    address: SocketAddr,
    readiness: Readiness,
    condition: Condition,
    shutdown: CancellationToken,
    server: JoinSet<io::Result<()>>,
}

async fn serve(writer: &RouteTableWriter) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, readiness) = (listener.local_addr().unwrap(), Readiness::default());
    let (condition, shutdown) = (readiness.register("table"), CancellationToken::new());
    let metrics = Arc::new(Metrics::new(writer.handle()));
    let mut server = JoinSet::new();
    server.spawn(Admin::new(writer.handle(), metrics, readiness.clone()).serve(listener, shutdown.clone()));
    Served { address, readiness, condition, shutdown, server }
}

impl Served {
    async fn get(&self, path: &str) -> (u16, String, String) {
        let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.get(format!("http://{}{path}", self.address).parse().unwrap()).await.unwrap();
        let content_type = answer.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, content_type, String::from_utf8(body.into()).unwrap())
    }

    async fn routes(&self, query: &str) -> Value {
        let (status, _, body) = self.get(&format!("/debug/routes{query}")).await;
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    }
}

fn mk_writer() -> RouteTableWriter {
    RouteTableWriter::new(EndpointPolicy::default())
}

#[tokio::test]
async fn probes_are_told_the_truth_and_why() {
    let served = serve(&mk_writer()).await;
    assert_eq!(served.get("/healthz").await.0, 200);
    let (status, _, body) = served.get("/readyz").await;
    assert_eq!((status, body.as_str()), (503, "not ready\n"));
    let (status, _, body) = served.get("/readyz?verbose").await;
    assert_eq!((status, body.as_str()), (503, "[-] table: waiting\nnot ready\n"));

    served.condition.set(true);
    assert_eq!(served.get("/readyz").await.0, 200);
    let (status, _, body) = served.get("/readyz?verbose=1").await;
    assert_eq!((status, body.as_str()), (200, "[+] table: ready\nready\n"));

    served.readiness.drain();
    let (status, _, body) = served.get("/readyz?verbose").await;
    assert_eq!((status, body.as_str()), (503, "[+] table: ready\n[-] draining: about to stop\nnot ready\n"));
    assert_eq!(served.get("/healthz").await.0, 200, "a gateway that drains is not to be killed");
}

#[tokio::test]
async fn metrics_come_in_the_form_that_is_announced() {
    let served = serve(&mk_writer()).await;
    let (status, content_type, body) = served.get("/metrics").await;
    assert_eq!((status, content_type.as_str()), (200, metrics::CONTENT_TYPE));
    assert!(body.contains("krypton_table_agents 0\n"), "{body}");
    assert!(body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_route_is_shown_with_what_happens_on_it() {
    let mut writer = mk_writer();
    writer.upsert(mk_resource_with("ns/a", |route| {
        route.service = Some(mk_endpoint("10.96.0.1:80", ""));
        route.endpoints = vec![mk_endpoint("10.0.0.1:80", "uid-1"), mk_endpoint("127.0.0.1:80", "")];
    }));
    writer.set_freshness(Freshness::Live);
    let view = writer.handle().get("ns/a").unwrap().load();
    let _call = InFlight::new(Arc::clone(&view.endpoints()[0]), CallKind::Call);
    let served = serve(&writer).await;
    let mut page = served.routes("").await;
    assert_eq!(page["routes"][0]["version"].take(), view.version().to_string());
    assert_eq!(
        page,
        json!({
            "freshness": "live", "ageSeconds": 0.0, "dials": "endpoints", "agents": 1, "changes": 1, "next": null,
            "routes": [{
                "name": "ns/a", "version": null, "protocol": "http", "appProtocol": "http",
                "upstreamHost": "preserve", "port": 8080, "invocationPath": "/", "timeoutMs": 300_000,
                "maxDurationMs": null, "startupTimeoutMs": 30_000, "concurrency": null,
                "maxStandingStreams": 1000, "scaledToZero": false,
                "service": {"address": "10.96.0.1:80", "podUid": null, "inFlight": 0, "standingStreams": 0},
                "endpointCount": 1,
                "endpoints": [
                    {"address": "10.0.0.1:80", "podUid": "uid-1", "inFlight": 1, "standingStreams": 0}
                ],
                "refused": [{"address": "127.0.0.1:80", "reason": "127.0.0.1 is a loopback address"}],
            }],
        })
    );
}

#[tokio::test]
async fn pages_hold_every_route_once_and_no_page_is_endless() {
    let mut writer = mk_writer();
    for n in 0..1_234 {
        writer.upsert(mk_resource::<&str>(&format!("ns/agent-{n}"), &[]));
    }
    let many: Vec<_> = (0..200).map(|n| (format!("10.0.0.1:{}", n + 1), "")).collect();
    writer.upsert(mk_resource("aa/many", &many));
    let served = serve(&writer).await;
    let names = |page: &Value| {
        let routes = page["routes"].as_array().unwrap();
        routes.iter().map(|route| route["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = served.routes("").await;
    assert_eq!(names(&first).len(), 100);
    assert_eq!(first["routes"][0]["endpointCount"], 200);
    assert_eq!(first["routes"][0]["endpoints"].as_array().unwrap().len(), 100);

    let (mut seen, mut query) = (Vec::new(), "?limit=99999".to_owned());
    loop {
        let page = served.routes(&query).await;
        seen.extend(names(&page));
        assert!(names(&page).len() <= 1_000);
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=1000&after={next}");
    }
    assert_eq!(seen.len(), 1_235);
    assert!(seen.is_sorted());
    assert_eq!(served.get("/debug/routes?limit=many").await.0, 400);
}

#[tokio::test]
async fn a_stop_ends_the_server() {
    let mut served = serve(&mk_writer()).await;
    served.get("/healthz").await;
    served.shutdown.cancel();
    served.server.join_next().await.unwrap().unwrap().unwrap();
}
