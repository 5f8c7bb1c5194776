//! A real ingress controller in front of a gateway: Contour, which serves both `Ingress` and `HTTPRoute`, with the two
//! settings and without. The agent runs on the node; the gateway is a process of this machine at an address that can be
//! an endpoint.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use krypton_e2e::bridge::Bridge;
use krypton_e2e::client::{Answer, full, get, keeping_client};
use krypton_e2e::cluster::Namespace;
use krypton_e2e::front::checks::{Outcome, Silence, abort, silence, stream, upload};
use krypton_e2e::front::contour::{Contour, install_kinds};
use krypton_e2e::lockstep::{Base, Format, lockstep};
use krypton_e2e::node::images::AGENT;
use krypton_e2e::programs::{Controller, Gateway};
use krypton_e2e::wait::eventually;
use serde_json::json;

use crate::objects::put;
use crate::support::{SOON, busy_agent, path, pods_are_ready, pods_of, with_namespace};
use crate::websocket::websocket_passes;

/// Last bytes of addresses.
const GATEWAY: u8 = 10;
const CONTOUR: u8 = 20;

/// What Contour's owner is taken to have set for all streams, scaled down from minutes.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(6);

/// What Envoy gives a whole answer unless told otherwise, and Contour leaves alone.
const ENVOYS_ROUTE_TIMEOUT: Duration = Duration::from_secs(15);

/// One event a second for longer than that.
const EVENTS: u32 = 20;
const PACE: Duration = Duration::from_secs(1);

/// A gateway that Envoy reaches, its controller, and Contour in front.
struct Stage {
    gateway: Gateway,
    _controller: Controller,
    contour: Contour,
    agent: String,
    _bridge: Bridge,
}

// === impl Stage ===

impl Stage {
    async fn start(namespace: &Namespace) -> Result<Self> {
        install_kinds(namespace.cluster()).await?;
        let bridge = Bridge::create()?;
        let (ip, front) = (bridge.add(GATEWAY)?, bridge.add(CONTOUR)?);
        let args = ["--namespace", namespace.name(), "--lease-namespace", namespace.name()];
        let controller = Controller::start_on_cluster(namespace.cluster().kubeconfig(), &args).await?;
        let gateway = Gateway::start(controller.discovery, &["--listen", &format!("{ip}:0")]).await?;
        namespace.apply(&service(ip, gateway.http.port())).await?;
        put(namespace, busy_agent("echo", AGENT, 1)).await?;
        pods_are_ready(namespace, &pods_of("echo"), 1).await;
        let contour = Contour::start(namespace, front, STREAM_IDLE_TIMEOUT).await?;
        let stage = Self {
            gateway,
            _controller: controller,
            contour,
            agent: path(namespace, "echo"),
            _bridge: bridge,
        };
        eventually("the gateway calls the agent", SOON, async || {
            let answer = get(stage.gateway.http, &stage.agent).await?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
            Ok(())
        })
        .await?;
        Ok(stage)
    }

    /// The agent, called by that host through Contour, once that knows the host.
    async fn by(&self, host: &str) -> Result<Base> {
        let base = Base::new(self.contour.address, &self.agent).host(host);
        eventually(&format!("{host} leads to the agent"), SOON, async || {
            let request = base.request(http::Method::GET, "/")?.body(full(""))?;
            let answer = Answer::read(keeping_client().request(request).await?).await?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
            Ok(())
        })
        .await?;
        Ok(base)
    }
}

#[tokio::test]
async fn an_ingress_and_an_httproute_stream_with_the_two_settings_and_are_cut_without() {
    with_namespace(async |namespace| {
        let mut stage = Stage::start(namespace).await.unwrap();
        namespace.apply(&ingress("ingress.test", true)).await.unwrap();
        namespace.apply(&ingress("bare-ingress.test", false)).await.unwrap();
        namespace.apply(&http_route("route.test", true)).await.unwrap();
        namespace.apply(&http_route("bare-route.test", false)).await.unwrap();
        let past = Base::new(stage.gateway.http, &stage.agent);
        let set = [stage.by("ingress.test").await.unwrap(), stage.by("route.test").await.unwrap()];
        let bare = [stage.by("bare-ingress.test").await.unwrap(), stage.by("bare-route.test").await.unwrap()];

        for base in set.iter().chain(&bare) {
            for format in [Format::Sse, Format::Ndjson] {
                lockstep(base, format, 50, SOON).await.unwrap();
            }
            abort(base, &past).await.unwrap();
            assert_eq!(upload(base, 8 << 20).await.unwrap(), Outcome::Whole);
        }
        for base in &set {
            websocket_passes(base).await;
        }
        // Beside each other: they only wait.
        tokio::join!(
            a_long_stream_passes(&set[0]),
            a_long_stream_passes(&set[1]),
            a_long_stream_is_cut(&bare[0]),
            a_long_stream_is_cut(&bare[1]),
            silence_counts(&set[0]),
            silence_counts(&set[1]),
        );
        assert_eq!(stage.contour.ended().unwrap(), None);
    })
    .await;
}

async fn a_long_stream_passes(base: &Base) {
    assert_eq!(stream(base, EVENTS, PACE).await.unwrap(), Outcome::Whole, "{}", base.host);
}

/// Although it is never silent.
async fn a_long_stream_is_cut(base: &Base) {
    let outcome = stream(base, EVENTS, PACE).await.unwrap();
    let Outcome::Cut(after) = outcome else { panic!("{}: {outcome:?}", base.host) };
    // The first event comes at once; the pace of a busy machine is slower than told, never faster.
    let most = u32::try_from(ENVOYS_ROUTE_TIMEOUT.as_secs()).unwrap() + 1;
    assert!((1..=most).contains(&after), "{}: cut after {after} events", base.host);
}

/// No setting of a route lifts what Contour's owner allows of silence.
async fn silence_counts(base: &Base) {
    let (short, long) = (STREAM_IDLE_TIMEOUT / 2, STREAM_IDLE_TIMEOUT + Duration::from_secs(2));
    for kind in [Silence::BeforeHead, Silence::BetweenEvents] {
        let passed = silence(base, kind, short).await.unwrap();
        assert_eq!(passed, Outcome::Whole, "{}: {kind:?}", base.host);
    }
    let before = silence(base, Silence::BeforeHead, long).await.unwrap();
    assert_eq!(before, Outcome::Refused(504), "{}", base.host);
    let between = silence(base, Silence::BetweenEvents, long).await.unwrap();
    assert_eq!(between, Outcome::Cut(1), "{}", base.host);
}

/// The gateway as a Service without a selector.
fn service(ip: Ipv4Addr, port: u16) -> String {
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "gateway" },
        "spec": { "ports": [{ "name": "http", "port": 8080 }] },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "name": "gateway-1", "labels": { "kubernetes.io/service-name": "gateway" } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": port }],
        "endpoints": [{ "addresses": [ip], "conditions": { "ready": true } }],
    });
    format!("{service}\n---\n{slice}")
}

fn ingress(host: &str, with_settings: bool) -> String {
    let annotations = if with_settings {
        json!({
            "projectcontour.io/response-timeout": "infinity",
            "projectcontour.io/websocket-routes": "/v1/agents",
        })
    } else {
        json!({})
    };
    let backend = json!({ "service": { "name": "gateway", "port": { "number": 8080 } } });
    let path = json!({ "path": "/v1/agents", "pathType": "Prefix", "backend": backend });
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": host, "annotations": annotations },
        "spec": { "ingressClassName": "contour", "rules": [{ "host": host, "http": { "paths": [path] } }] },
    })
    .to_string()
}

fn http_route(host: &str, with_settings: bool) -> String {
    let mut rule = json!({
        "matches": [{ "path": { "type": "PathPrefix", "value": "/v1/agents" } }],
        "backendRefs": [{ "name": "gateway", "port": 8080 }],
    });
    if with_settings {
        rule["timeouts"] = json!({ "request": "0s" });
    }
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": host },
        "spec": { "parentRefs": [{ "name": "contour" }], "hostnames": [host], "rules": [rule] },
    })
    .to_string()
}
