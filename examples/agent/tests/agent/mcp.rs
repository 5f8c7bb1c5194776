//! MCP over streamable HTTP.

use axum::body::Body;
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use krypton_example_agent::Args;
use serde_json::{Value, json};

use crate::client::{Client, bytes, events, start, start_with};

const VERSION: &str = "2025-11-25";

pub(crate) async fn post(client: &Client, session: Option<&str>, body: &Value) -> Response<Incoming> {
    let mut request = client
        .request(Method::POST, "/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", VERSION);
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    client.send(request.body(Body::from(body.to_string())).expect("well formed")).await
}

pub(crate) fn request(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

fn initialize_request() -> Value {
    let client = json!({ "name": "test", "version": "1" });
    request("initialize", &json!({ "protocolVersion": VERSION, "capabilities": {}, "clientInfo": client }))
}

/// Opens a session and gives its id.
pub(crate) async fn open_session(client: &Client) -> String {
    let answer = post(client, None, &initialize_request()).await;
    let session = answer.headers()["mcp-session-id"].to_str().expect("ASCII").to_owned();
    let hello = &events(answer).await[0]["result"];
    assert_eq!(
        (&hello["serverInfo"]["name"], &hello["protocolVersion"]),
        (&json!("tester"), &json!(VERSION))
    );
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(post(client, Some(&session), &ready).await.status(), StatusCode::ACCEPTED);
    session
}

async fn call_tool(client: &Client, session: Option<&str>, tool: &str, arguments: Value) -> Value {
    let call = request("tools/call", &json!({ "name": tool, "arguments": arguments }));
    events(post(client, session, &call).await).await.pop().expect("a result")
}

#[tokio::test]
async fn a_session_lists_and_calls_the_tools() {
    let server = start().await;
    let client = Client::new(&server);
    let session = open_session(&client).await;
    let session = Some(session.as_str());

    let listed =
        events(post(&client, session, &request("tools/list", &json!({}))).await).await.pop().unwrap();
    let tools = listed["result"]["tools"].as_array().unwrap();
    let mut names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["add", "echo", "slow_count"]);
    assert!(
        tools.iter().all(|tool| tool["inputSchema"]["type"] == "object" && tool["description"].is_string())
    );

    let echoed = call_tool(&client, session, "echo", json!({ "text": "hello" })).await;
    assert_eq!(echoed["result"]["content"][0]["text"], "hello");
    let sum = call_tool(&client, session, "add", json!({ "a": 2, "b": -5 })).await;
    assert_eq!(sum["result"]["content"][0]["text"], "-3");
}

#[tokio::test]
async fn a_slow_count_reports_each_step_before_its_result() {
    let server = start().await;
    let client = Client::new(&server);
    let session = open_session(&client).await;
    let params = json!({
        "name": "slow_count", "arguments": { "to": 3, "paceMs": 1 }, "_meta": { "progressToken": "p" },
    });
    let events = events(post(&client, Some(&session), &request("tools/call", &params)).await).await;
    let (result, steps) = events.split_last().unwrap();
    assert!(
        steps.iter().all(|step| step["method"] == "notifications/progress" && step["params"]["total"] == 3.0)
    );
    let progress: Vec<_> = steps.iter().map(|step| step["params"]["progress"].as_f64().unwrap()).collect();
    assert_eq!(progress, [1.0, 2.0, 3.0]);
    assert_eq!(result["result"]["content"][0]["text"], "counted to 3");

    let silent = call_tool(&client, Some(&session), "slow_count", json!({ "to": 1 })).await;
    assert_eq!(
        silent["result"]["content"][0]["text"], "counted to 1",
        "without a token there is only the result"
    );
}

#[tokio::test]
async fn bad_arguments_are_errors_that_name_them() {
    let server = start().await;
    let client = Client::new(&server);
    let session = open_session(&client).await;
    for (tool, arguments, named) in [
        ("slow_count", json!({ "to": 0 }), "to"),
        ("slow_count", json!({ "to": 10_001 }), "to"),
        ("slow_count", json!({ "to": 1, "paceMs": 60_001 }), "paceMs"),
        ("add", json!({ "a": i64::MAX, "b": 1 }), "a + b"),
        ("echo", json!({}), "text"),
    ] {
        let answer = call_tool(&client, Some(&session), tool, arguments.clone()).await;
        let error = answer.to_string();
        assert!(error.contains(named) && error.contains("rror"), "{tool} {arguments}: {error}");
    }
    let missing = call_tool(&client, Some(&session), "subtract", json!({})).await;
    assert_eq!(missing["error"]["code"], -32602);
}

#[tokio::test]
async fn calls_belong_to_a_session() {
    let server = start().await;
    let client = Client::new(&server);
    let list = request("tools/list", &json!({}));
    assert!(post(&client, None, &list).await.status().is_client_error());
    assert_eq!(post(&client, Some("none"), &list).await.status(), StatusCode::NOT_FOUND);

    let session = open_session(&client).await;
    let end = client.request(Method::DELETE, "/mcp").header("mcp-session-id", &session);
    assert!(client.send(end.body(Body::empty()).unwrap()).await.status().is_success());
    assert_eq!(post(&client, Some(&session), &list).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_stateless_instance_answers_without_a_session() {
    let server = start_with(Args { mcp_stateless: true, ..Args::local("tester") }).await;
    let client = Client::new(&server);
    let hello = post(&client, None, &initialize_request()).await;
    assert_eq!(hello.headers().get("mcp-session-id"), None);
    assert_eq!(events(hello).await[0]["result"]["serverInfo"]["name"], "tester");
    let echoed = call_tool(&client, None, "echo", json!({ "text": "hello" })).await;
    assert_eq!(echoed["result"]["content"][0]["text"], "hello");
}

#[tokio::test]
async fn a_host_that_is_not_loopback_is_refused() {
    let server = start().await;
    let client = Client::new(&server);
    for (host, status) in [
        ("agents.example.com", StatusCode::FORBIDDEN),
        ("10.0.0.7:8080", StatusCode::FORBIDDEN),
        ("localhost:8080", StatusCode::OK),
    ] {
        let request = client
            .request(Method::POST, "/mcp")
            .header("host", host)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        let answer = client.send(request.body(Body::from(initialize_request().to_string())).unwrap()).await;
        assert_eq!(answer.status(), status, "{host}");
        bytes(answer).await;
    }
}
