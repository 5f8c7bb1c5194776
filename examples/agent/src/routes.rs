//! Which path is answered by whom, and what one instance shares among its calls.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{any, get, post};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::a2a::Tasks;
use crate::lockstep::Locksteps;
use crate::mcp::McpService;
use crate::{Args, a2a, echo, lockstep, mcp, stream, websocket};

const AGENT_NAME: HeaderName = HeaderName::from_static("x-agent-name");
const AGENT_PID: HeaderName = HeaderName::from_static("x-agent-pid");
const AGENT_VERSION: HeaderName = HeaderName::from_static("x-agent-version");

/// One instance: what its calls share.
pub(crate) struct Agent {
    name: String,
    pace: Duration,
    identity: HeaderMap,
    drain: CancellationToken,
    tasks: Tasks,
    locksteps: Locksteps,
    mcp: McpService,
    websockets: TaskTracker,
}

/// The paths of an agent. Everything that is not a protocol's is echoed.
pub(crate) fn router(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/", post(a2a::call).fallback(echo::echo))
        .route("/a2a", post(a2a::call).fallback(echo::echo))
        .route("/.well-known/agent-card.json", get(a2a::card))
        .route("/.well-known/agent.json", get(a2a::card))
        .route("/mcp", any(mcp::call))
        .route("/stream", any(stream::stream))
        .route("/stream/lockstep", any(lockstep::stream))
        .route("/stream/confirm", post(lockstep::confirm).fallback(echo::echo))
        .route("/ws", any(websocket::echo))
        .fallback(echo::echo)
        .with_state(agent)
}

// === impl Agent ===

impl Agent {
    /// `drain` is cancelled when the instance is to stop; `sessions` ends its MCP sessions.
    pub(crate) fn new(args: &Args, drain: CancellationToken, sessions: CancellationToken) -> Self {
        let name = args.instance_name();
        let text = |text: &str| HeaderValue::from_str(text).expect("checked when the arguments were parsed");
        let mut identity = HeaderMap::from_iter([
            (AGENT_NAME, text(&name)),
            (AGENT_PID, HeaderValue::from(std::process::id())),
        ]);
        identity.extend(args.agent_version.iter().map(|version| (AGENT_VERSION, text(version))));
        Self {
            mcp: mcp::service(&name, args.mcp_stateless, sessions),
            name,
            pace: args.pace,
            identity,
            drain,
            tasks: Tasks::default(),
            locksteps: Locksteps::default(),
            websockets: TaskTracker::new(),
        }
    }

    /// The name of the instance.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Pause between words when a call does not say.
    pub(crate) fn pace(&self) -> Duration {
        self.pace
    }

    /// Headers of every answer that say which instance gave it.
    pub(crate) fn identity(&self) -> HeaderMap {
        self.identity.clone()
    }

    /// Cancelled once the instance is to stop.
    pub(crate) fn drain(&self) -> &CancellationToken {
        &self.drain
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub(crate) fn locksteps(&self) -> &Locksteps {
        &self.locksteps
    }

    pub(crate) fn mcp(&self) -> &McpService {
        &self.mcp
    }

    /// Open WebSockets, which outlive the connection's task that upgraded them.
    pub(crate) fn websockets(&self) -> TaskTracker {
        self.websockets.clone()
    }
}
