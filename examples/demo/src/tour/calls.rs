//! Steps that call: plain HTTP, a stream of A2A, MCP.

use anyhow::{Context as _, ensure};
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::human;
use crate::client::{Client, instance};
use crate::screen::Screen;
use crate::stage::Ground;

/// The revision of MCP that the client of the tour speaks.
const MCP_VERSION: &str = "2025-11-25";

/// One call and its answer, and what the agent saw of it.
pub(super) async fn plain(ground: &Ground, agent: &str, screen: &Screen) -> anyhow::Result<String> {
    let url = ground.url(agent, "/any/path?with=query");
    screen.command(format_args!("curl '{url}'"))?;
    let begun = Instant::now();
    let answer = ground.client.get(&url).await?;
    let took = begun.elapsed();
    let pod = answer.instance()?;
    let seen = answer.json()?;
    let saw = |field: &str| seen[field].as_str().unwrap_or_default();
    let (method, target) = (saw("method"), saw("target"));
    screen.say(format_args!("{} from {pod}, which saw {method} {target}", answer.status))?;
    ensure!(target == "/any/path?with=query", "the agent saw {target}");
    Ok(format!("answered in {}", human(took)))
}

/// An A2A answer, shown word by word as it comes.
pub(super) async fn streamed(ground: &Ground, agent: &str, screen: &Screen) -> anyhow::Result<String> {
    let url = ground.url(agent, "");
    let message = json!({
        "kind": "message", "role": "user", "messageId": "1",
        "parts": [{ "kind": "text", "text": "What does a stream look like?" }],
    });
    let call =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": { "message": message } });
    screen.command(format_args!("curl -N {url} -d '{{… \"method\":\"message/stream\" …}}'"))?;

    let begun = Instant::now();
    let mut events = ground.client.events(&url, &[], &call).await?;
    let mut speech = screen.speech();
    let (mut first, mut words, mut ended_as) = (None, 0, Value::Null);
    while let Some(event) = events.next().await? {
        let result = &event["result"];
        if let Some(text) = result["artifact"]["parts"][0]["text"].as_str() {
            first.get_or_insert(begun.elapsed());
            words += 1;
            speech.say(text)?;
        }
        if result["final"] == true {
            ended_as = result["status"]["state"].clone();
        }
    }
    speech.end()?;
    let all = begun.elapsed();
    let first = first.context("no word came")?;
    ensure!(ended_as == "completed", "the task ended as {ended_as}");
    // The agent speaks for more than a second and a half; a proxy that buffers gives all at the end.
    ensure!(first * 2 < all, "the first of {words} words came after {first:?}, the last after {all:?}");
    Ok(format!("first word after {}, {words} words in {}, each shown as it came", human(first), human(all)))
}

/// A session of MCP: initialize, list the tools, call one.
pub(super) async fn mcp(ground: &Ground, agent: &str, screen: &Screen) -> anyhow::Result<String> {
    let url = ground.url(agent, "");
    screen.say(format_args!("MCP clients are given the URL {url}"))?;
    let begun = Instant::now();
    let client = &ground.client;
    let hello = json!({
        "protocolVersion": MCP_VERSION, "capabilities": {},
        "clientInfo": { "name": "krypton-demo", "version": env!("CARGO_PKG_VERSION") },
    });
    let (server, session) = rpc(client, &url, None, "initialize", &hello).await?;
    let session = session.context("initialize was answered without a session")?;
    let session = Some(session.as_str());
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let status = client.post(&url, &headers(session), &ready).await?.status();
    ensure!(status == StatusCode::ACCEPTED, "notifications/initialized: {status}");
    screen.say(format_args!("initialize   server {}", server["serverInfo"]["name"]))?;

    let (listed, _) = rpc(client, &url, session, "tools/list", &json!({})).await?;
    let tools = listed["tools"].as_array().context("tools/list gave no list")?;
    let mut names: Vec<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    names.sort_unstable();
    screen.say(format_args!("tools/list   {}", names.join(", ")))?;
    ensure!(names.contains(&"add"), "no tool called add");

    let add = json!({ "name": "add", "arguments": { "a": 40, "b": 2 } });
    let (sum, _) = rpc(client, &url, session, "tools/call", &add).await?;
    let sum = sum["content"][0]["text"].as_str().context("the tool gave no text")?;
    screen.say(format_args!("tools/call   add(40, 2) = {sum}"))?;
    ensure!(sum == "42", "40 + 2 = {sum}");
    Ok(format!("{} tools, found and used through one session in {}", names.len(), human(begun.elapsed())))
}

/// One MCP call: its result, and the session that the answer names.
async fn rpc(
    client: &Client,
    url: &str,
    session: Option<&str>,
    method: &str,
    params: &Value,
) -> anyhow::Result<(Value, Option<String>)> {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let mut events = client.events(url, &headers(session), &call).await.context(method.to_owned())?;
    instance(&events.headers)?;
    let session = events.headers.get("mcp-session-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    while let Some(event) = events.next().await? {
        ensure!(event["error"].is_null(), "{method}: {}", event["error"]);
        if !event["result"].is_null() {
            return Ok((event["result"].clone(), session));
        }
    }
    anyhow::bail!("{method}: the answer ended without a result")
}

fn headers(session: Option<&str>) -> Vec<(HeaderName, &str)> {
    let version = (HeaderName::from_static("mcp-protocol-version"), MCP_VERSION);
    let session = session.map(|id| (HeaderName::from_static("mcp-session-id"), id));
    std::iter::once(version).chain(session).collect()
}
