//! A connection to a controller: how it is opened, why a stream on it ends, and when to try again.
//!
//! Each stream has a connection of its own, since the controller that serves routes need not be the one that leads.

mod backoff;

use std::time::Duration;

use http::Uri;
use tokio::time::error::Elapsed;
use tonic::transport::{Channel, Endpoint};

pub(crate) use backoff::Backoff;

/// HTTP/2 window, in bytes: a first table of thousands of routes comes without waiting for window updates.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// How long to wait for a controller. Flags do not set them; tests do.
#[derive(Debug, Clone, Copy)]
pub struct LinkLimits {
    /// To a TCP connection.
    pub connect: Duration,
    /// Between HTTP/2 pings, so that a controller that vanished without a word is noticed.
    pub keepalive_interval: Duration,
    /// To the answer of a ping.
    pub keepalive_timeout: Duration,
    /// To whatever must come next, and to the moment that the controller reads what is sent: a controller whose
    /// HTTP/2 lives on while the rest of it hangs.
    pub progress: Duration,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("cannot connect: {}", chain(.0))]
    Connect(#[from] tonic::transport::Error),
    #[error("{:?}: {}", .0.code(), .0.message())]
    Status(Box<tonic::Status>),
    #[error("the controller ended the stream")]
    Ended,
    #[error("the controller does not go on")]
    Stalled(#[from] Elapsed),
}

/// A connection to `controller`.
pub(crate) async fn connect(controller: &Uri, limits: LinkLimits) -> Result<Channel, LinkError> {
    let channel = Endpoint::from(controller.clone())
        .connect_timeout(limits.connect)
        .http2_keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect()
        .await?;
    Ok(channel)
}

/// An error with its causes: the outermost of a transport error only says "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

// === impl LinkLimits ===

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            progress: Duration::from_secs(15),
        }
    }
}

// === impl LinkError ===

impl From<tonic::Status> for LinkError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}
