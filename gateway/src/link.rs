//! A connection to a controller: how it is opened, why a stream on it ends, and when to try again.
//!
//! Each stream has a connection of its own, since the controller that serves routes need not be the one that leads. With
//! TLS, each is verified by the name in `--discovery`, whatever address is dialled; each reads anew whom to trust and
//! which token to show (module `credentials`).

mod backoff;
mod credentials;
mod tls;
mod trouble;

use std::time::Duration;

use http::Uri;
use tokio::time::error::Elapsed;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

pub(crate) use backoff::Backoff;
pub use credentials::{Credentials, CredentialsError};
pub(crate) use trouble::{Told, Trouble};

use credentials::FileError;
use tls::TlsError;

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
    Connect(tonic::transport::Error),
    #[error(transparent)]
    Tls(TlsError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{:?}: {}", .0.code(), .0.message())]
    Status(Box<tonic::Status>),
    #[error("the controller ended the stream")]
    Ended,
    #[error("the controller does not go on")]
    Stalled(#[from] Elapsed),
}

/// A connection, and what each call on it shows.
pub(crate) struct Link {
    pub(crate) channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

/// A connection to the controller at `address`, as `credentials` want it.
pub(crate) async fn connect(
    address: &Uri,
    credentials: &Credentials,
    limits: LinkLimits,
) -> Result<Link, LinkError> {
    let (tls, token) = (credentials.tls().await?, credentials.token(address).await?);
    let endpoint = Endpoint::from(address.clone())
        .connect_timeout(limits.connect)
        .http2_keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let channel = match tls {
        None => endpoint.connect().await?,
        Some(tls) => {
            let dial = tower::service_fn(move |address| tls::dial(address, tls.clone()));
            endpoint.connect_with_connector(dial).await?
        }
    };
    Ok(Link { channel, token })
}

/// An error with its causes, each said once: the outermost of a transport error only says "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
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

// === impl Link ===

impl Link {
    /// A call that says who asks.
    pub(crate) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
}

// === impl LinkError ===

impl From<tonic::transport::Error> for LinkError {
    fn from(error: tonic::transport::Error) -> Self {
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            if let Some(tls) = inner.downcast_ref::<TlsError>() {
                return Self::Tls(tls.clone());
            }
            cause = inner.source();
        }
        Self::Connect(error)
    }
}

impl From<tonic::Status> for LinkError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

#[cfg(test)]
mod tests;
