//! The stream from the controller that feeds the route table.
//!
//! Owns: the one [`RouteTableWriter`], and with it what the gateway believes. Never empties the table: whatever
//! happens to the stream, the last good routes go on being served.
//!
//! 1. [`DiscoveryClient::restore`] fills the table from disk, before the first connection.
//! 2. [`DiscoveryClient::run`] connects, says which versions it holds, and applies what comes (module `session`,
//!    pure): good routes at once, bad ones are NACKed by name and keep their last good value.
//! 3. A response without `more` makes the table whole: it is then [`Freshness::Live`], and the gateway is ready.
//! 4. When the stream ends, for whatever reason, a live table becomes [`Freshness::Lost`], and the next try follows
//!    after a pause (module `backoff`). A peer that breaks the contract or hangs is treated like one that is gone.

mod backoff;
mod session;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use http::Uri;
use krypton_discovery::wire;
use krypton_discovery::wire::route_discovery_client::RouteDiscoveryClient;
use tokio::sync::mpsc;
use tokio::time::{error::Elapsed, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::metrics::DiscoveryMetrics;
use crate::readiness::Condition;
use crate::route_table::{Freshness, RouteTableWriter};
use crate::snapshot_file::StoredTable;
use backoff::Backoff;
use session::{ProtocolError, Session};

/// The largest response that is taken. A controller cuts a large table into several.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// Answers that wait to be sent. One follows each response, so more than two mean a peer that does not read.
const REQUEST_QUEUE: usize = 4;

/// HTTP/2 window, in bytes: a first table of thousands of routes comes without waiting for window updates.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Where the controller is and how long to bear with it.
#[derive(Debug, Clone)]
pub struct DiscoveryConfig {
    /// `http://host:port`.
    pub controller: Uri,
    /// Who this gateway is: unique among those connected at one time.
    pub node_id: String,
    /// The time limits.
    pub limits: DiscoveryLimits,
}

/// How long the client waits for what. Flags do not set them; tests do.
#[derive(Debug, Clone, Copy)]
pub struct DiscoveryLimits {
    /// To a TCP connection.
    pub connect: Duration,
    /// Between HTTP/2 pings, so that a controller that vanished without a word is noticed.
    pub keepalive_interval: Duration,
    /// To the answer of a ping.
    pub keepalive_timeout: Duration,
    /// To the next response while the table is not whole yet, and to the moment that the controller reads an
    /// answer: a controller whose HTTP/2 lives on while the rest of it hangs.
    pub progress: Duration,
}

/// Keeps the table as the controller says it is.
pub struct DiscoveryClient {
    config: DiscoveryConfig,
    writer: RouteTableWriter,
    metrics: DiscoveryMetrics,
    ready: Condition,
    /// Whether the log has already said that no controller can be reached.
    told_lost: bool,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("cannot connect: {}", chain(.0))]
    Connect(#[from] tonic::transport::Error),
    #[error("{}", status(.0))]
    Status(Box<tonic::Status>),
    #[error("the controller ended the stream")]
    Ended,
    #[error("the controller does not go on")]
    Stalled(#[from] Elapsed),
    #[error("the controller breaks the contract: {0}")]
    Protocol(#[from] ProtocolError),
}

/// Both directions of an open stream.
struct Stream {
    requests: mpsc::Sender<wire::DeltaRoutesRequest>,
    responses: tonic::Streaming<wire::DeltaRoutesResponse>,
}

// === impl DiscoveryLimits ===

impl Default for DiscoveryLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            progress: Duration::from_secs(15),
        }
    }
}

// === impl DiscoveryClient ===

impl DiscoveryClient {
    /// A client that writes with `writer` and says through `ready` when there is a table.
    pub fn new(
        config: DiscoveryConfig,
        writer: RouteTableWriter,
        metrics: DiscoveryMetrics,
        ready: Condition,
    ) -> Self {
        Self { config, writer, metrics, ready, told_lost: false }
    }

    /// Fills the table with what was on disk. The gateway is ready with it: an old table that dials Services is
    /// better than none.
    pub fn restore(&mut self, stored: StoredTable) {
        for rejected in &stored.rejected {
            log::warn!(resource:% = rejected; "Snapshot file holds a route that this release cannot read");
        }
        for route in stored.routes {
            session::upsert(&mut self.writer, route, &self.metrics);
        }
        self.writer.set_freshness(Freshness::FromDisk { loaded: Instant::now(), age: stored.age });
        self.ready.set(true);
        log::info!(agents = self.writer.handle().len(), age:? = stored.age; "Loaded the last table from disk");
    }

    /// Follows the controller until `shutdown`. Never ends before.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let (mut session, started) = (Session::default(), Instant::now());
            let Some(Err(error)) = shutdown.run_until_cancelled(self.follow(&mut session)).await else {
                break;
            };
            self.metrics.connected.set(0);
            self.lost(&error);
            let pause = backoff.next(session.is_complete().then(|| started.elapsed()));
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
        }
        self.metrics.connected.set(0);
    }

    /// One stream, from the connection to its end.
    async fn follow(&mut self, session: &mut Session) -> Result<Infallible, StreamError> {
        let (limits, connecting) = (self.config.limits, Instant::now());
        let mut stream = self.open().await?;
        self.metrics.connected.set(1);
        self.metrics.streams.inc();
        loop {
            let next = stream.responses.message();
            let response =
                if session.is_complete() { next.await } else { timeout(limits.progress, next).await? };
            let response = response.map_err(|status| StreamError::Status(Box::new(status)))?;
            let was_complete = session.is_complete();
            let reply =
                session.apply(response.ok_or(StreamError::Ended)?, &mut self.writer, &self.metrics)?;
            if session.is_complete() && !was_complete {
                self.live(connecting.elapsed());
            }
            // Fails when the stream is over; the next response says why.
            timeout(limits.progress, stream.requests.send(reply)).await?.ok();
        }
    }

    async fn open(&self) -> Result<Stream, StreamError> {
        let limits = self.config.limits;
        let channel = Endpoint::from(self.config.controller.clone())
            .connect_timeout(limits.connect)
            .http2_keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .connect()
            .await?;
        let mut client: RouteDiscoveryClient<Channel> =
            RouteDiscoveryClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
        let first = Session::first_request(&self.config.node_id, &self.writer);
        requests.try_send(first).expect("an empty queue takes one request");
        let opened = timeout(limits.progress, client.delta_routes(ReceiverStream::new(queue))).await?;
        let responses = opened.map_err(|status| StreamError::Status(Box::new(status)))?.into_inner();
        Ok(Stream { requests, responses })
    }

    /// The table is whole, so long after the gateway began to connect: said once a stream.
    fn live(&mut self, took: Duration) {
        self.writer.set_freshness(Freshness::Live);
        self.ready.set(true);
        self.told_lost = false;
        let (agents, took_ms) = (self.writer.handle().len(), (took.as_secs_f64() * 1e6).round() / 1e3);
        log::info!(controller:% = self.config.controller, agents, took_ms; "Route table is whole and kept up to date");
    }

    /// The stream is over: told once until a table is whole again.
    fn lost(&mut self, error: &StreamError) {
        if self.writer.handle().freshness() == Freshness::Live {
            self.writer.set_freshness(Freshness::Lost { since: Instant::now() });
        }
        let controller = &self.config.controller;
        if std::mem::replace(&mut self.told_lost, true) {
            log::debug!(controller:%, error:%; "Still no controller");
        } else {
            log::warn!(controller:%, error:%; "Lost the controller; serving the last table and trying again");
        }
    }
}

fn status(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
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

#[cfg(test)]
mod tests;
