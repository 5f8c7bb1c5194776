//! Admission webhooks: the API server asks before it stores an Agent.
//!
//! Owns the HTTPS server and the two answers; its certificate is the [`certificate`](crate::certificate)'s. Off by
//! default: what can be checked without asking is checked by the schema and its rules; the webhooks say the rest early,
//! all of it at once. They read no other object and write nothing, so every replica serves them, and an API server that
//! cannot reach them may go on (`failurePolicy: Ignore`): the reconciler finds the same problems by the same function.
//!
//! 1. [`Webhooks::bind`] takes the port: what can be wrong from the start is wrong here.
//! 2. [`Webhooks::serve`] answers until shutdown, with the newest certificate; while there is none, connections are
//!    closed.
//! 3. `connections` accepts, with bounds on number and time; `review` answers, a pure function of the question.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::certificate::Configs;
use connections::Limits;
use review::Answer;

mod connections;
mod review;

/// Where defaults are filled in: the Go system's path, which people's webhook configurations name.
pub const MUTATE_PATH: &str = "/mutate-krypton-ai-v1alpha1-agent";

/// Where Agents are checked: the Go system's path.
pub const VALIDATE_PATH: &str = "/validate-krypton-ai-v1alpha1-agent";

/// Bytes of one question: what the API server takes as a request, and an update carries the object twice.
const MAX_BODY: usize = 2 * (3 << 20);

/// How long a question may take to arrive. The API server itself waits 10 s for the answer unless told otherwise, 30 s
/// at most.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the webhooks cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum WebhooksError {
    /// The port cannot be had.
    #[error("--webhook-listen {0} cannot be listened on: {1}")]
    Listen(SocketAddr, std::io::Error),
}

/// The webhooks, ready to serve.
#[derive(Debug)]
pub struct Webhooks {
    listener: TcpListener,
    configs: Configs,
    limits: Limits,
}

// === impl Webhooks ===

impl Webhooks {
    /// Listens at `address`, for connections with the newest of `configs`; gives back where.
    ///
    /// # Errors
    /// A port that is taken; names its flag.
    pub async fn bind(address: SocketAddr, configs: Configs) -> Result<(Self, SocketAddr), WebhooksError> {
        let failed = |error| WebhooksError::Listen(address, error);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        Ok((Self { listener, configs, limits: Limits::default() }, bound))
    }

    /// Serves until `shutdown`; then answers what was asked, for a moment.
    pub async fn serve(self, shutdown: CancellationToken) {
        connections::serve(self.listener, self.configs, router(), self.limits, shutdown).await;
    }
}

fn router() -> Router {
    Router::new()
        .route(MUTATE_PATH, post(|request| answer(request, review::mutate)))
        .route(VALIDATE_PATH, post(|request| answer(request, review::validate)))
}

async fn answer(request: Request, judge: Answer) -> Response {
    let body = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), MAX_BODY)).await {
        Ok(Ok(body)) => body,
        // A client whose body broke off does not read this.
        Ok(Err(_)) => {
            return (StatusCode::PAYLOAD_TOO_LARGE, "the review is larger than 6 MiB\n").into_response();
        }
        Err(_) => {
            return (StatusCode::REQUEST_TIMEOUT, "the review did not arrive in 10 s\n").into_response();
        }
    };
    match review::parse(&body) {
        Ok(question) => Json(judge(&question).into_review()).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests;
