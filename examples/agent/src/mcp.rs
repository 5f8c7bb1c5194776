//! `/mcp`: MCP over streamable HTTP, by the official SDK with its defaults.
//!
//! The SDK's check of the Host header is kept on purpose: a Host that is not loopback is refused, as real MCP
//! servers do, so whoever stands in front must send one that is.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures::StreamExt as _;
use http::Method;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    Implementation, ProgressNotificationParam, RequestMetaObject, ServerCapabilities, ServerConfig,
};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::tower::StreamableHttpService;
use rmcp::{ErrorData, Peer, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use tokio_util::sync::CancellationToken;

use crate::routes::Agent;

/// Highest number `slow_count` goes to.
const MAX_COUNT: u32 = 10_000;
/// Longest pause of `slow_count` between two numbers, in milliseconds.
const MAX_COUNT_PACE_MS: u64 = 60_000;

/// The SDK's HTTP service over our tools.
pub(crate) type McpService = StreamableHttpService<Toolbox, LocalSessionManager>;

/// The MCP server of one session (or of one call, when stateless).
#[derive(Debug, Clone)]
pub(crate) struct Toolbox {
    name: String,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct EchoArguments {
    /// What is sent back.
    text: String,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct AddArguments {
    a: i64,
    b: i64,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SlowCountArguments {
    /// The last number, 1 to 10000.
    to: u32,
    /// Pause before each number in milliseconds, at most 60000.
    #[serde(default = "default_count_pace_ms")]
    pace_ms: u64,
}

fn default_count_pace_ms() -> u64 {
    200
}

/// Makes the service. Cancelling `sessions` ends all sessions and the calls in them.
pub(crate) fn service(name: &str, stateless: bool, sessions: CancellationToken) -> McpService {
    let toolbox = Toolbox { name: name.to_owned() };
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(!stateless)
        .with_cancellation_token(sessions);
    StreamableHttpService::new(move || Ok(toolbox.clone()), Arc::new(LocalSessionManager::default()), config)
}

pub(crate) async fn call(State(agent): State<Arc<Agent>>, request: Request) -> Response {
    // A client opens this stream to wait for messages and leaves it open: it never ends by itself, so a drain ends
    // it. The answer to a POST ends with its result.
    let standing = request.method() == Method::GET;
    let response = agent.mcp().handle(request).await.map(Body::new);
    if !standing {
        return response;
    }
    let drained = agent.drain().clone().cancelled_owned();
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(drained)))
}

// === impl Toolbox ===

#[tool_router]
impl Toolbox {
    #[tool(description = "Sends the text back")]
    async fn echo(&self, Parameters(EchoArguments { text }): Parameters<EchoArguments>) -> String {
        text
    }

    #[tool(description = "Adds two whole numbers")]
    async fn add(
        &self,
        Parameters(AddArguments { a, b }): Parameters<AddArguments>,
    ) -> Result<String, ErrorData> {
        let sum = a.checked_add(b);
        sum.map(|sum| sum.to_string())
            .ok_or_else(|| ErrorData::invalid_params("a + b does not fit in 64 bits", None))
    }

    #[tool(description = "Counts slowly to a number and reports progress at each step")]
    async fn slow_count(
        &self,
        Parameters(SlowCountArguments { to, pace_ms }): Parameters<SlowCountArguments>,
        meta: RequestMetaObject,
        client: Peer<RoleServer>,
    ) -> Result<String, ErrorData> {
        if !(1..=MAX_COUNT).contains(&to) {
            return Err(ErrorData::invalid_params("to: expected 1 to 10000", None));
        }
        if pace_ms > MAX_COUNT_PACE_MS {
            return Err(ErrorData::invalid_params("paceMs: expected at most 60000", None));
        }
        let token = meta.get_progress_token();
        for number in 1..=to {
            tokio::time::sleep(Duration::from_millis(pace_ms)).await;
            if let Some(token) = &token {
                let progress = ProgressNotificationParam::new(token.clone(), f64::from(number))
                    .with_total(f64::from(to))
                    .with_message(number.to_string());
                // A client that no longer listens misses the step; the count goes on as the call does.
                client.notify_progress(progress).await.ok();
            }
        }
        Ok(format!("counted to {to}"))
    }
}

#[tool_handler]
impl ServerHandler for Toolbox {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(self.name.clone(), env!("CARGO_PKG_VERSION")))
            .with_instructions("Tools for trying an MCP connection: echo, add, slow_count.")
    }
}
