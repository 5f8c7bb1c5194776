//! A real Prometheus answers every query of the dashboard and of the alerts.

use anyhow::{Context, Result, bail, ensure};
use krypton_e2e::client::{Events, full, keeping_client, request};
use krypton_e2e::programs::ExampleAgent;
use krypton_e2e::prometheus::{Prometheus, Sample, Target};
use krypton_e2e::wait::eventually;

use crate::dashboard::{Query, alerts, dashboard, panel_queries};
use crate::support::manifest::{Manifests, agent, agent_alone};
use crate::support::{Krypton, SOON, agent as start_agent, closed_port, metric_becomes, traffic};

/// Metrics without series where these programs run, and why.
const NOT_HERE: [(&str, &str); 3] = [
    ("krypton_controller_certificate_expiry_timestamp_seconds", "discovery is plain here"),
    ("krypton_controller_workload_source_up", "only a leader has it, and with --manifests nobody leads"),
    (
        "krypton_controller_refused_objects_total",
        "what is wrong in a file counts as a problem of the manifests",
    ),
];

/// An agent that answers, one that nobody can reach, one without pods, and one that the controller cannot use; and a
/// Prometheus that scrapes.
struct Scene {
    _echo: ExampleAgent,
    krypton: Krypton,
    prometheus: Prometheus,
}

// === impl Scene ===

impl Scene {
    async fn start() -> Self {
        let echo = start_agent("first").await;
        let manifests = Manifests::with_echo(&[echo.http]);
        manifests.put("gone.yaml", agent("gone", "protocol: http", &[closed_port().await]));
        manifests.put("empty.yaml", agent_alone("empty", "protocol: http"));
        manifests.put("wrong.yaml", agent_alone("wrong", "timeout: soon"));
        let krypton = Krypton::start(manifests).await;
        let targets = [("gateway", krypton.gateway.admin), ("controller", krypton.controller.admin)];
        let targets = targets.map(|(job, address)| Target { job, address });
        let prometheus = Prometheus::start(&targets).await.unwrap();
        Self { _echo: echo, krypton, prometheus }
    }

    /// One call of each kind that fails: a rate is a number only where something happens.
    async fn calls_that_fail(&self) {
        for name in ["gone", "empty", "nobody"] {
            self.krypton.get(&format!("/v1/agents/default/{name}/")).await;
        }
    }

    /// Waits until `expression` has a series whose value is a number.
    async fn has_series(&self, place: &str, expression: &str) -> Vec<Sample> {
        eventually(&format!("{place} shows something: {expression}"), SOON, async || {
            self.calls_that_fail().await;
            let series = self.prometheus.query(expression).await?;
            ensure!(series.iter().any(|sample| sample.value.is_finite()), "{series:?}");
            Ok(series)
        })
        .await
        .unwrap()
    }

    async fn check(&self, place: &str, expression: &str) {
        let expression = filled_in(expression);
        let Some((metric, reason)) = NOT_HERE.iter().find(|(metric, _)| expression.contains(metric)) else {
            self.has_series(place, &expression).await;
            return;
        };
        let series = self.prometheus.query(&expression).await.unwrap();
        assert_eq!(series, Vec::new(), "{place}: {metric} was said to have no series: {reason}");
    }

    /// The variables offer the names of Agents, not the namespace of the programs' own pods.
    async fn check_variables(&self) {
        let dashboard = dashboard();
        for (variable, expected) in [("namespace", "default"), ("agent", "echo")] {
            let variables = dashboard["templating"]["list"].as_array().unwrap();
            let found = variables.iter().find(|candidate| candidate["name"] == variable).unwrap();
            let (series, label) = label_values(found["query"]["query"].as_str().unwrap()).unwrap();
            let expression = format!("count by ({label}) ({})", filled_in(series));
            let values = self.has_series(variable, &expression).await;
            assert!(values.iter().any(|sample| sample.labels[label] == expected), "{variable}: {values:?}");
            assert!(values.iter().all(|sample| sample.labels[label] != "krypton-system"), "{values:?}");
        }
    }
}

/// What Grafana puts in place of its variables.
fn filled_in(expression: &str) -> String {
    expression.replace("$namespace", "default").replace("$agent", ".*").replace("$__rate_interval", "10s")
}

/// What an alert looks at, without the limit that makes it one: on a good day it has no series with it.
fn watched(alert: &str) -> Result<&str> {
    if let Some(inner) = alert.strip_prefix("absent(") {
        return inner.strip_suffix(')').context("more than absent(…)");
    }
    let comparisons = [" == ", " != ", " > ", " < "].into_iter();
    let last = comparisons.filter_map(|comparison| Some((alert.rfind(comparison)?, comparison))).max();
    let (at, comparison) = last.context("it has no limit")?;
    let limit: Result<f64, _> = alert[at + comparison.len()..].trim().parse();
    ensure!(limit.is_ok(), "what it compares with at last is no number");
    Ok(&alert[..at])
}

/// The parts of `label_values(series, label)`, which is Grafana's and not Prometheus'.
fn label_values(query: &str) -> Result<(&str, &str)> {
    let Some(inner) = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')) else {
        bail!("{query} is no label_values(…)");
    };
    let (series, label) = inner.rsplit_once(',').context("no label")?;
    Ok((series, label.trim()))
}

#[tokio::test]
async fn prometheus_has_an_answer_to_every_query() {
    let scene = Scene::start().await;
    let gateway = &scene.krypton.gateway;
    let load = traffic(gateway.http);
    let target = "/v1/agents/default/echo/events?sse=1&chunks=2&pace=1h";
    let call = request(http::Method::GET, gateway.http, target).header("accept", "text/event-stream");
    let mut stream = Events::of(keeping_client().request(call.body(full("")).unwrap()).await.unwrap());
    stream.next().await.unwrap().unwrap();
    let standing = r#"krypton_standing_streams{agent="echo",namespace="default"}"#;
    metric_becomes(gateway.admin, standing, 1.0).await;

    for Query { place, expression } in panel_queries() {
        scene.check(&place, &expression).await;
    }
    for Query { place, expression } in alerts() {
        scene.prometheus.query(&expression).await.unwrap_or_else(|error| panic!("{place}: {error:#}"));
        let watched = watched(&expression).unwrap_or_else(|error| panic!("{place}: {error:#}"));
        scene.check(&place, watched).await;
    }
    scene.check_variables().await;
    load.end_whole().await.unwrap();
}
