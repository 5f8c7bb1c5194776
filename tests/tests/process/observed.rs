//! What operators see of calls: metrics and the access log.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Context as _;
use http::Method;
use krypton_e2e::programs::{ExampleAgent, Gateway};
use krypton_e2e::wait::eventually;
use serde_json::{Value, json};

use crate::support::manifest::{Manifests, agent};
use crate::support::{
    Krypton, SOON, agent as start_agent, closed_port, json_lines, metric_becomes, status_becomes,
};
use krypton_e2e::client::{Events, full, get, get_by, keeping_client, request, send};

/// The fields of an access line, sorted.
const FIELDS: [&str; 16] = [
    "agent",
    "attempts",
    "bytes_in",
    "bytes_out",
    "client",
    "duration_ms",
    "endpoint",
    "method",
    "namespace",
    "outcome",
    "path",
    "protocol",
    "request_id",
    "status",
    "time",
    "ttfb_ms",
];

/// Calls of the agent `echo` that it answered with 200.
const ECHO_ANSWERED: &str = r#"krypton_invocations_total{agent="echo",namespace="default",status="200"}"#;

async fn start(args: &[&str]) -> (ExampleAgent, Krypton, SocketAddr) {
    let echo = start_agent("first").await;
    let nobody = closed_port().await;
    let manifests = Manifests::with_echo(&[echo.http]);
    manifests.put("gone.yaml", agent("gone", "protocol: http", &[nobody]));
    (echo, Krypton::start_with(manifests, args).await, nobody)
}

/// The access line of the call with that id.
async fn access_line(gateway: &Gateway, id: &str) -> Value {
    let log = gateway.process.log();
    eventually(&format!("the access line of {id}"), SOON, async || {
        json_lines(&log).into_iter().find(|line| line["request_id"] == id).context("not yet")
    })
    .await
    .unwrap()
}

/// `line` has all fields, and these values.
fn assert_fields(line: &Value, expected: &Value) {
    let fields: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(FIELDS), "{line}");
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&line[field], value, "{field} of {line}");
    }
}

fn call(address: SocketAddr, target: &str, id: &str) -> http::request::Builder {
    request(Method::POST, address, target).header("x-request-id", id)
}

#[tokio::test]
async fn each_call_is_one_line_that_tells_how_it_ended() {
    let (echo, krypton, nobody) = start(&[]).await;
    let (address, client) = (krypton.gateway.http, keeping_client());
    let whole = async |target: &str, id: &str| {
        send(&client, call(address, target, id).body(full("hello")).unwrap()).await.unwrap()
    };

    let answer = whole("/v1/agents/default/echo/a%20b?secret=1", "ok-1").await;
    let line = access_line(&krypton.gateway, "ok-1").await;
    assert_fields(
        &line,
        &json!({
            "agent": "echo", "namespace": "default", "method": "POST", "path": "/v1/agents/default/echo/a%20b",
            "protocol": "h1", "status": 200, "outcome": "ok", "bytes_in": 5, "bytes_out": answer.body.len(),
            "attempts": 1, "endpoint": echo.http.to_string(),
        }),
    );
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    let (first, all) = (line["ttfb_ms"].as_f64().unwrap(), line["duration_ms"].as_f64().unwrap());
    assert!(0.0 < first && first <= all, "{line}");

    assert_eq!(whole("/v1/agents/default/nobody/", "unknown-1").await.status, 404);
    assert_fields(
        &access_line(&krypton.gateway, "unknown-1").await,
        &json!({ "status": 404, "outcome": "refused", "endpoint": null, "attempts": 0 }),
    );

    let answer = whole("/v1/agents/default/gone/", "refused-1").await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_refused"));
    assert_fields(
        &access_line(&krypton.gateway, "refused-1").await,
        &json!({ "agent": "gone", "status": 502, "outcome": "upstream_refused", "endpoint": nobody.to_string() }),
    );
}

#[tokio::test]
async fn a_client_that_leaves_is_a_line_like_any_other() {
    let (_echo, krypton, _) = start(&[]).await;
    let target = "/v1/agents/default/echo/events?sse=1&chunks=2&pace=1h";
    let call = call(krypton.gateway.http, target, "left-1").body(full("")).unwrap();
    let mut events = Events::of(keeping_client().request(call).await.unwrap());
    let came = events.next().await.unwrap().unwrap();
    drop(events);
    let line = access_line(&krypton.gateway, "left-1").await;
    assert_fields(&line, &json!({ "agent": "echo", "status": 200, "outcome": "client_abort" }));
    assert!(line["bytes_out"].as_u64().unwrap() >= came.len() as u64, "{line}");
}

#[tokio::test]
async fn secrets_of_callers_are_in_no_line_of_any_log() {
    let (echo, krypton, _) = start(&["--log-level", "trace"]).await;
    let client = keeping_client();
    for (name, id) in [("echo", "id-1"), ("gone", "id-2"), ("nobody", "id-3"), ("No%20Name", "id-4")] {
        let target = format!("/v1/agents/default/{name}/?token=query-secret");
        let call = call(krypton.gateway.http, &target, id)
            .header("authorization", "Bearer header-secret")
            .header("cookie", "session=cookie-secret")
            .header("mcp-session-id", "session-secret");
        send(&client, call.body(full("body-secret")).unwrap()).await.unwrap();
        access_line(&krypton.gateway, id).await;
    }
    for process in [&krypton.gateway.process, &krypton.controller.process] {
        let log = process.log().read().unwrap();
        let told: Vec<_> = log.lines().filter(|line| line.contains("secret")).collect();
        assert_eq!(told, Vec::<&str>::new());
    }
    drop(echo);
}

#[tokio::test]
async fn every_line_of_both_logs_is_one_json_object() {
    let (_echo, krypton, _) = start(&[]).await;
    krypton.manifests.put("bad.yaml", "kind: [\n");
    assert_eq!(krypton.get("/v1/agents/default/echo/%22%0A?a").await.status, 200);
    eventually("the problem is logged", SOON, async || {
        krypton.controller.process.log().read()?.contains("bad.yaml").then_some(()).context("not yet")
    })
    .await
    .unwrap();
    for process in [&krypton.gateway.process, &krypton.controller.process] {
        let log = process.log().read().unwrap();
        for line in log.lines().filter(|line| !line.starts_with("listening ")) {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(line["time"].is_string(), "{line}");
        }
    }
}

/// The series of an exposition: names with their labels. Panics where it is not OpenMetrics.
fn series(text: &str) -> BTreeSet<String> {
    let (lines, end) = text.trim_end_matches('\n').rsplit_once('\n').expect("more than one line");
    assert_eq!(end, "# EOF");
    let mut families = BTreeSet::new();
    let mut all = BTreeSet::new();
    for line in lines.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').expect("a name and a type");
            assert!(["counter", "gauge", "histogram", "unknown"].contains(&kind), "{line}");
            assert!(families.insert(name), "{name} comes twice");
        } else if !line.starts_with("# HELP ") && !line.starts_with("# UNIT ") {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
            let name = series.split('{').next().expect("a name");
            let suffixes = ["_total", "_bucket", "_sum", "_count"];
            let family = suffixes.into_iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            assert!(families.contains(family) || families.contains(name), "{line} has no type");
            assert!(all.insert(series.to_owned()), "{line} comes twice");
        }
    }
    all
}

#[tokio::test]
async fn both_programs_speak_openmetrics() {
    let (_echo, krypton, _) = start(&[]).await;
    for target in ["/v1/agents/default/echo/", "/v1/agents/default/gone/", "/v1/agents/default/nobody/"] {
        krypton.get(target).await;
    }
    metric_becomes(krypton.gateway.admin, ECHO_ANSWERED, 1.0).await;
    for (admin, some) in
        [(krypton.gateway.admin, ECHO_ANSWERED), (krypton.controller.admin, "krypton_controller_gateways")]
    {
        let answer = get(admin, "/metrics").await.unwrap();
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!((answer.status, answer.header("content-type")), (200, kind));
        let series = series(answer.text());
        assert!(series.contains(some), "{series:?}");
    }
}

#[tokio::test]
async fn names_that_nobody_has_make_no_series() {
    let (_echo, krypton, _) = start(&[]).await;
    let client = keeping_client();
    let ask = async |name: &str| {
        let target = format!("/v1/agents/default/{name}/");
        let answer = get_by(&client, krypton.gateway.http, &target).await.unwrap();
        assert_eq!(answer.status, 404);
    };
    // A call is counted when it has ended, a moment after its answer was sent.
    let unknown = r#"krypton_invocations_total{agent="_unknown",namespace="_unknown",status="404"}"#;
    ask("nobody").await;
    metric_becomes(krypton.gateway.admin, unknown, 1.0).await;
    let before = series(get(krypton.gateway.admin, "/metrics").await.unwrap().text());
    for number in 0..2_000 {
        ask(&format!("nobody-{number}")).await;
    }
    metric_becomes(krypton.gateway.admin, unknown, 2_001.0).await;
    let after = series(get(krypton.gateway.admin, "/metrics").await.unwrap().text());
    assert_eq!(after.symmetric_difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[tokio::test]
async fn the_series_of_an_agent_go_with_it() {
    let (_echo, krypton, _) = start(&[]).await;
    krypton.get("/v1/agents/default/echo/").await;
    metric_becomes(krypton.gateway.admin, ECHO_ANSWERED, 1.0).await;
    krypton.manifests.remove("echo.yaml");
    status_becomes(krypton.gateway.http, "/v1/agents/default/echo/", 404).await;
    let text = get(krypton.gateway.admin, "/metrics").await.unwrap();
    let left = series(text.text()).into_iter().filter(|series| series.contains(r#"agent="echo""#));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
}
