//! Each protocol, from a client through the gateway to a real agent.

use futures::{SinkExt as _, StreamExt as _};
use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::manifest::{Manifests, agent};
use crate::support::{Krypton, SOON, agent as start_agent, agent_with};
use krypton_e2e::client::{Answer, Events, full, keeping_client, post_json, post_json_whole, request, send};

fn rpc(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

/// What an A2A client sends to say `text`.
fn say(method: &str, text: &str) -> Value {
    let parts = json!([{ "kind": "text", "text": text }]);
    rpc(
        method,
        &json!({
            "message": { "kind": "message", "messageId": "m1", "role": "user", "parts": parts },
        }),
    )
}

/// The words that events of `message/stream` add to the answer.
fn words(events: &[Value]) -> String {
    let artifacts = events.iter().filter(|event| event["result"]["kind"] == "artifact-update");
    artifacts.filter_map(|event| event["result"]["artifact"]["parts"][0]["text"].as_str()).collect()
}

fn initialize() -> Value {
    let client = json!({ "name": "test", "version": "1" });
    rpc("initialize", &json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client }))
}

#[tokio::test]
async fn plain_http_reaches_the_agent_with_all_it_carries() {
    let echo = start_agent("first").await;
    let krypton = Krypton::start(Manifests::with_echo(&[echo.http])).await;
    let target = "/v1/agents/default/echo/a%2Fb//c?q=1";
    let upload = request(Method::PUT, krypton.gateway.http, target).header("x-thing", "kept");
    let answer = send(&keeping_client(), upload.body(full("hello")).unwrap()).await.unwrap();
    assert_eq!((answer.status, answer.header("x-agent-name")), (200, "first"));
    let report = answer.json();
    assert_eq!((&report["method"], &report["target"]), (&json!("PUT"), &json!("/a%2Fb//c?q=1")));
    assert_eq!(report["body"]["text"], "hello");
    assert!(report["headers"].as_array().unwrap().contains(&json!(["x-thing", "kept"])), "{report}");
}

#[tokio::test]
async fn two_agents_do_not_mix() {
    let (first, second) = (start_agent("first").await, start_agent("second").await);
    let manifests = Manifests::new();
    manifests.put("one.yaml", agent("one", "protocol: http", &[first.http]));
    manifests.put("two.yaml", agent("two", "protocol: http", &[second.http]));
    let krypton = Krypton::start(manifests).await;
    for (name, by) in [("one", "first"), ("two", "second"), ("one", "first")] {
        let answer = krypton.get(&format!("/v1/agents/default/{name}/")).await;
        assert_eq!((answer.status, answer.header("x-agent-name")), (200, by));
    }
}

#[tokio::test]
async fn an_a2a_message_is_answered_by_a_completed_task() {
    let writer = agent_with("writer", &["--pace", "0ms"]).await;
    let manifests = Manifests::new();
    manifests.put("writer.yaml", agent("writer", "protocol: a2a", &[writer.http]));
    let krypton = Krypton::start(manifests).await;
    let call = say("message/send", "good morning");
    let answer =
        post_json_whole(krypton.gateway.http, "/v1/agents/default/writer", &[], &call).await.unwrap();
    let task = &answer.json()["result"];
    assert_eq!((&task["kind"], &task["status"]["state"]), (&json!("task"), &json!("completed")));
    let spoken = task["artifacts"][0]["parts"][0]["text"].as_str().unwrap();
    assert!(spoken.contains("You said: good morning"), "{spoken}");
}

#[tokio::test]
async fn an_a2a_answer_streams_to_its_end() {
    let writer = agent_with("writer", &["--pace", "40ms"]).await;
    let manifests = Manifests::new();
    manifests.put("writer.yaml", agent("writer", "protocol: a2a", &[writer.http]));
    let krypton = Krypton::start(manifests).await;
    let (address, call) = (krypton.gateway.http, say("message/stream", "good morning"));

    let response = post_json(address, "/v1/agents/default/writer", &[], &call).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = Events::of(response);
    let all: Vec<Value> =
        events.rest().await.unwrap().iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert!(words(&all).contains("You said: good morning"), "{all:?}");
    assert_eq!(all.last().unwrap()["result"]["status"]["state"], "completed");
}

#[tokio::test]
async fn a_word_is_not_held_until_the_next_one() {
    // The second word is a day away.
    let writer = agent_with("writer", &["--pace", "24h"]).await;
    let manifests = Manifests::new();
    manifests.put("writer.yaml", agent("writer", "protocol: a2a", &[writer.http]));
    let krypton = Krypton::start(manifests).await;
    let (address, call) = (krypton.gateway.http, say("message/stream", "good morning"));
    let mut events = Events::of(post_json(address, "/v1/agents/default/writer", &[], &call).await.unwrap());
    let mut come = Vec::new();
    while words(&come).is_empty() {
        let event = timeout(SOON, events.next()).await.expect("the first word comes").unwrap().unwrap();
        come.push(serde_json::from_str(&event).unwrap());
    }
    assert_eq!(words(&come).trim(), "This");
}

/// An MCP agent behind a gateway, and a way to talk to it.
struct Tools {
    krypton: Krypton,
    _server: krypton_e2e::programs::ExampleAgent,
}

impl Tools {
    async fn start(protocol: &str) -> Self {
        let server = start_agent("tools").await;
        let manifests = Manifests::new();
        let spec = format!("protocol: {protocol}\ninvocationPath: /mcp");
        manifests.put("tools.yaml", agent("tools", &spec, &[server.http]));
        Self { krypton: Krypton::start(manifests).await, _server: server }
    }

    async fn post(&self, headers: &[(&str, &str)], call: &Value) -> Answer {
        let address = self.krypton.gateway.http;
        let answer = post_json_whole(address, "/v1/agents/default/tools", headers, call);
        timeout(SOON, answer).await.expect("an answer").unwrap()
    }
}

#[tokio::test]
async fn an_mcp_session_lists_and_calls_tools() {
    let tools = Tools::start("mcp").await;
    let hello = tools.post(&[], &initialize()).await;
    assert_eq!(hello.status, 200, "{}", hello.text());
    assert_eq!(hello.last_event()["result"]["serverInfo"]["name"], "tools");
    let session = hello.header("mcp-session-id").to_owned();
    let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(tools.post(&headers, &ready).await.status, 202);

    let listed = tools.post(&headers, &rpc("tools/list", &json!({}))).await.last_event();
    let listed = listed["result"]["tools"].as_array().expect("tools");
    let names: Vec<_> = listed.iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert!(names.contains(&"add"), "{names:?}");
    let add = json!({ "name": "add", "arguments": { "a": 2, "b": -5 } });
    let sum = tools.post(&headers, &rpc("tools/call", &add)).await.last_event();
    assert_eq!(sum["result"]["content"][0]["text"], "-3");
}

#[tokio::test]
async fn an_mcp_server_refuses_the_host_that_other_agents_are_sent() {
    // As 127.0.0.1 the gateway is a host that MCP servers take, so the client calls it by a public name.
    for (protocol, status) in [("http", 403), ("mcp", 200)] {
        let tools = Tools::start(protocol).await;
        let answer = tools.post(&[("host", "agents.example.com")], &initialize()).await;
        assert_eq!(answer.status, status, "{protocol}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_websocket_passes_both_ways() {
    let echo = start_agent("first").await;
    let krypton = Krypton::start(Manifests::with_echo(&[echo.http])).await;
    let tcp = TcpStream::connect(krypton.gateway.http).await.unwrap();
    let url = "ws://agents.example.com/v1/agents/default/echo/ws";
    let (mut socket, answer) = client_async(url, tcp).await.unwrap();
    assert_eq!(answer.headers()["x-agent-name"], "first");
    for message in [Message::text("hello"), Message::binary(vec![0, 255]), Message::text("again")] {
        socket.send(message.clone()).await.unwrap();
        let echoed = timeout(SOON, socket.next()).await.expect("an echo").unwrap().unwrap();
        assert_eq!(echoed, message);
    }
    socket.close(None).await.unwrap();
    let last = timeout(SOON, socket.next()).await.expect("a goodbye");
    assert!(matches!(last, Some(Ok(Message::Close(_)))), "{last:?}");
}
