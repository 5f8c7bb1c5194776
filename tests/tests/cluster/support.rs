//! What tests of both programs on a cluster share: example agents at addresses of a bridge, their slices, callers, and
//! looks into the programs' admin ports.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use krypton_e2e::bridge::Bridge;
use krypton_e2e::cluster::Namespace;
use krypton_e2e::programs::{Controller, ExampleAgent, Gateway};
use krypton_e2e::wait::eventually;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::objects::{agent, put};

/// All of this takes milliseconds; this is for a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Between two calls of [`Traffic`].
const TRAFFIC_PAUSE: Duration = Duration::from_millis(10);

/// What a caller got.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The example agent that answered; empty where none did.
    pub(crate) by: String,
    pub(crate) body: String,
}

/// A controller that watches one namespace, and a gateway that follows it.
pub(crate) struct Krypton {
    pub(crate) controller: Controller,
    pub(crate) gateway: Gateway,
}

/// Calls to one address, one after the other, until told to end.
pub(crate) struct Traffic {
    calls: JoinSet<TrafficReport>,
    ended: Arc<AtomicBool>,
}

/// What came of them.
#[derive(Debug, Default)]
pub(crate) struct TrafficReport {
    pub(crate) answered: usize,
    /// What was not answered 200.
    pub(crate) failed: Vec<String>,
}

// === impl Answer ===

impl Answer {
    /// The body as JSON; null where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The `code` of an error of the gateway's own.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

// === impl Krypton ===

impl Krypton {
    /// Starts both, and waits until calls are taken.
    pub(crate) async fn start(namespace: &Namespace) -> Self {
        Self::start_with(namespace, &[]).await
    }

    /// The same, with flags for the controller.
    pub(crate) async fn start_with(namespace: &Namespace, args: &[&str]) -> Self {
        let controller = start_controller(namespace, args).await;
        let gateway = Gateway::start(controller.discovery, &[]).await.unwrap();
        is_ready(&gateway).await;
        Self { controller, gateway }
    }
}

/// A controller that looks after this namespace, and leads in it.
pub(crate) async fn start_controller(namespace: &Namespace, args: &[&str]) -> Controller {
    let own = ["--namespace", namespace.name(), "--lease-namespace", namespace.name()];
    let args: Vec<&str> = own.iter().chain(args).copied().collect();
    Controller::start_on_cluster(namespace.cluster().kubeconfig(), &args).await.unwrap()
}

// === impl Traffic ===

impl Traffic {
    pub(crate) fn start(address: SocketAddr, target: String) -> Self {
        let (mut calls, ended) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        let asked = Arc::clone(&ended);
        calls.spawn(async move {
            let mut report = TrafficReport::default();
            let mut beat = tokio::time::interval(TRAFFIC_PAUSE);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !asked.load(Ordering::Relaxed) {
                beat.tick().await;
                match get(address, &target).await {
                    Ok(answer) if answer.status == StatusCode::OK => report.answered += 1,
                    Ok(answer) => report.failed.push(format!("{} {}", answer.status, answer.body)),
                    Err(error) => report.failed.push(format!("{error:#}")),
                }
            }
            report
        });
        Self { calls, ended }
    }

    pub(crate) async fn end(mut self) -> TrafficReport {
        self.ended.store(true, Ordering::Relaxed);
        self.calls.join_next().await.unwrap().unwrap()
    }
}

// === impl TrafficReport ===

impl TrafficReport {
    /// Every call was answered, and there were some.
    pub(crate) fn assert_whole(&self) {
        assert_eq!(self.failed, Vec::<String>::new(), "beside {} good ones", self.answered);
        assert!(self.answered > 0);
    }
}

/// `GET target` on a connection of its own.
pub(crate) async fn get(address: SocketAddr, target: &str) -> Result<Answer> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let response = client.get(format!("http://{address}{target}").parse()?).await?;
    let (head, body) = response.into_parts();
    let by = head.headers.get("x-agent-name").map(|name| name.to_str()).transpose()?.unwrap_or_default();
    let body = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
    Ok(Answer { status: head.status, by: by.to_owned(), body })
}

/// Where calls to the agent `name` go.
pub(crate) fn path(namespace: &Namespace, name: &str) -> String {
    format!("/v1/agents/{}/{name}/hello", namespace.name())
}

/// Calls the agent `echo`.
pub(crate) async fn call(gateway: &Gateway, namespace: &Namespace) -> Answer {
    get(gateway.http, &path(namespace, "echo")).await.unwrap()
}

/// Waits until the agent `echo` is answered for by the instance `by`.
pub(crate) async fn is_answered_by(gateway: &Gateway, namespace: &Namespace, by: &str) {
    eventually(&format!("{by} answers"), SOON, async || {
        let answer = get(gateway.http, &path(namespace, "echo")).await?;
        ensure!(answer.status == StatusCode::OK && answer.by == by, "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Waits until the agent `name` is answered with an error of the gateway's own.
pub(crate) async fn is_refused(gateway: &Gateway, namespace: &Namespace, name: &str, code: &str) {
    eventually(&format!("{name} is refused with {code}"), SOON, async || {
        let answer = get(gateway.http, &path(namespace, name)).await?;
        ensure!(answer.code() == code, "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Waits until the gateway takes calls.
pub(crate) async fn is_ready(gateway: &Gateway) {
    becomes_ready(gateway.admin).await;
}

/// Waits until who serves `admin` is ready; what it says then.
pub(crate) async fn becomes_ready(admin: SocketAddr) -> String {
    eventually("it is ready", SOON, async || {
        let answer = get(admin, "/readyz?verbose").await?;
        ensure!(answer.status == StatusCode::OK, "{}", answer.body);
        Ok(answer.body)
    })
    .await
    .unwrap()
}

/// The gateway's table, as operators see it.
pub(crate) async fn table(gateway: &Gateway) -> Result<Value> {
    Ok(get(gateway.admin, "/debug/routes").await?.json())
}

/// The gateway's route to the agent `echo`; null while there is none.
pub(crate) async fn route(gateway: &Gateway, namespace: &Namespace) -> Result<Value> {
    let (table, name) = (table(gateway).await?, format!("{}/echo", namespace.name()));
    let routes = table["routes"].as_array().context("no routes")?;
    Ok(routes.iter().find(|route| route["name"] == name.as_str()).cloned().unwrap_or_default())
}

/// Waits until the gateway dials exactly these addresses for the agent `echo`, given in order.
pub(crate) async fn endpoints_become(gateway: &Gateway, namespace: &Namespace, expected: &[SocketAddr]) {
    eventually("the gateway has the endpoints", SOON, async || {
        let route = route(gateway, namespace).await?;
        let shown = route["endpoints"].as_array().context("no endpoints")?;
        let found: Vec<SocketAddr> = shown
            .iter()
            .map(|endpoint| Ok(serde_json::from_value(endpoint["address"].clone())?))
            .collect::<Result<_>>()?;
        ensure!(found == expected, "{found:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// The value of a metric's series, spelled as in the text; 0 where there is none.
pub(crate) async fn metric(admin: SocketAddr, series: &str) -> Result<f64> {
    let text = get(admin, "/metrics").await?.body;
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(value.unwrap_or("0").parse()?)
}

/// Waits until a metric's series has that value.
pub(crate) async fn metric_becomes(admin: SocketAddr, series: &str, expected: f64) {
    eventually(&format!("{series} {expected}"), SOON, async || {
        let value = metric(admin, series).await?;
        ensure!((value - expected).abs() < f64::EPSILON, "{value}");
        Ok(())
    })
    .await
    .unwrap();
}

/// An instance called `name` at an address of the bridge.
pub(crate) async fn instance(bridge: &Bridge, host: u8, port: u16, name: &str) -> ExampleAgent {
    let address = bridge.add(host).unwrap();
    ExampleAgent::start(SocketAddr::from((address, port)), &["--name", name]).await.unwrap()
}

/// Deletes the Agent `name`.
pub(crate) async fn delete_agent(namespace: &Namespace, name: &str) {
    let agents: Api<krypton_crd::Agent> = namespace.api();
    agents.delete(name, &DeleteParams::default()).await.unwrap();
}

/// A slice of the agent's Service.
pub(crate) fn slice(name: &str, agent: &str, port: u16, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "labels": { "krypton.ai/agent": agent, "kubernetes.io/service-name": agent },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": port }],
        "endpoints": endpoints,
    })
}

/// An endpoint that takes calls.
pub(crate) fn ready(address: impl Into<IpAddr>) -> Value {
    json!({ "addresses": [address.into()], "conditions": { "ready": true } })
}

/// Applies the agent `echo` with one instance, `first`, and waits until that answers.
pub(crate) async fn apply_echo(krypton: &Krypton, namespace: &Namespace, first: &ExampleAgent, name: &str) {
    put(namespace, agent("echo", json!({}))).await.unwrap();
    put(namespace, slice("echo-1", "echo", first.http.port(), &[ready(first.http.ip())])).await.unwrap();
    is_answered_by(&krypton.gateway, namespace, name).await;
}
