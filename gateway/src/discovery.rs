//! The stream from the controller that feeds the route table.
//!
//! Owns: the one [`RouteTableWriter`], and with it what the gateway believes, and what it was told of who leads. Never
//! empties the table: whatever happens to the stream, the last good routes go on being served.
//!
//! 1. [`DiscoveryClient::restore`] fills the table from disk, before the first connection.
//! 2. [`DiscoveryClient::run`] connects, says which versions it holds, and applies what comes (module `session`,
//!    pure): good routes at once, bad ones are NACKed by name and keep their last good value.
//! 3. A response without `more` makes the table whole: it is then [`Freshness::Live`], and the gateway is ready.
//! 4. Each response says who leads, which the report (module [`crate::report`]) follows.
//! 5. When the stream ends, for whatever reason, a live table becomes [`Freshness::Lost`], and the next try follows
//!    after a pause. A peer that breaks the contract or hangs is treated like one that is gone.

mod session;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use http::Uri;
use krypton_discovery::wire;
use krypton_discovery::wire::route_discovery_client::RouteDiscoveryClient;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::link::{self, Backoff, Credentials, LinkError, LinkLimits, Told, Trouble};
use crate::metrics::DiscoveryMetrics;
use crate::readiness::Condition;
use crate::report::Holds;
use crate::route_table::{Freshness, RouteTableWriter};
use crate::snapshot_file::StoredTable;
use session::{ProtocolError, Session};

/// The largest response that is taken. A controller cuts a large table into several.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// Answers that wait to be sent. One follows each response, so more than two mean a peer that does not read.
const REQUEST_QUEUE: usize = 4;

/// Where the controller is and how long to bear with it.
#[derive(Debug, Clone)]
pub struct DiscoveryConfig {
    /// `http://host:port` or `https://host:port`.
    pub controller: Uri,
    /// How it is recognised, and what it is shown.
    pub credentials: Credentials,
    /// Who this gateway is: unique among those connected at one time.
    pub node_id: String,
    /// The time limits.
    pub limits: LinkLimits,
}

/// Keeps the table as the controller says it is.
pub struct DiscoveryClient {
    config: DiscoveryConfig,
    writer: RouteTableWriter,
    metrics: DiscoveryMetrics,
    ready: Condition,
    holds: Holds,
    leader: watch::Sender<Option<Uri>>,
    /// What the controller said of who leads, as it said it.
    leader_text: String,
    /// What the log has already said of why there is no controller.
    told: Told,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the controller breaks the contract: {0}")]
    Protocol(#[from] ProtocolError),
}

/// Both directions of an open stream.
struct Stream {
    requests: mpsc::Sender<wire::DeltaRoutesRequest>,
    responses: tonic::Streaming<wire::DeltaRoutesResponse>,
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
        let (holds, leader) = (Holds::default(), watch::Sender::default());
        Self {
            config,
            writer,
            metrics,
            ready,
            holds,
            leader,
            leader_text: String::new(),
            told: Told::default(),
        }
    }

    /// What is held and refused, for the report.
    pub fn holds(&self) -> Holds {
        self.holds.clone()
    }

    /// Where the controller that leads takes reports; `None` until a whole table came with its address, and while no
    /// controller knows.
    pub fn leader(&self) -> watch::Receiver<Option<Uri>> {
        self.leader.subscribe()
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
        self.holds.begin_stream();
        self.metrics.connected.set(1);
        self.metrics.streams.inc();
        loop {
            let next = stream.responses.message();
            let response =
                if session.is_complete() { Ok(next.await) } else { timeout(limits.progress, next).await };
            let response = response.map_err(LinkError::from)?.map_err(LinkError::from)?;
            let mut response = response.ok_or(LinkError::Ended)?;
            let leader = std::mem::take(&mut response.leader);
            let was_complete = session.is_complete();
            let reply = session.apply(response, &mut self.writer, &self.holds, &self.metrics)?;
            if session.is_complete() {
                if !was_complete {
                    self.live(connecting.elapsed());
                }
                self.learn_leader(leader);
            }
            // Fails when the stream is over; the next response says why.
            timeout(limits.progress, stream.requests.send(reply)).await.map_err(LinkError::from)?.ok();
        }
    }

    async fn open(&self) -> Result<Stream, LinkError> {
        let limits = self.config.limits;
        let link = link::connect(&self.config.controller, &self.config.credentials, limits).await?;
        let mut client =
            RouteDiscoveryClient::new(link.channel.clone()).max_decoding_message_size(MAX_RESPONSE_BYTES);
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
        let first = Session::first_request(&self.config.node_id, &self.writer);
        requests.try_send(first).expect("an empty queue takes one request");
        let request = link.request(ReceiverStream::new(queue));
        let opened = timeout(limits.progress, client.delta_routes(request)).await?;
        Ok(Stream { requests, responses: opened?.into_inner() })
    }

    /// Takes in who leads, `host:port` or empty.
    fn learn_leader(&mut self, text: String) {
        if text != self.leader_text {
            let leader = leader_in(self.config.controller.scheme_str().unwrap_or("http"), &text);
            if leader.is_none() && !text.is_empty() {
                log::warn!(leader = text.as_str(); "The controller names a leader that is no address");
            }
            self.leader.send_replace(leader);
            self.leader_text = text;
        }
    }

    /// The table is whole, so long after the gateway began to connect: said once a stream.
    fn live(&mut self, took: Duration) {
        self.writer.set_freshness(Freshness::Live);
        self.holds.end_catch_up();
        self.ready.set(true);
        self.told.clear();
        let (agents, took_ms) = (self.writer.handle().len(), (took.as_secs_f64() * 1e6).round() / 1e3);
        log::info!(controller:% = self.config.controller, agents, took_ms; "Route table is whole and kept up to date");
    }

    /// The stream is over: each kind of trouble is told once until a table is whole again.
    fn lost(&mut self, error: &StreamError) {
        let freshness = self.writer.handle().freshness();
        if freshness == Freshness::Live {
            self.writer.set_freshness(Freshness::Lost { since: Instant::now() });
        }
        let controller = &self.config.controller;
        let trouble = match error {
            StreamError::Link(error) => Trouble::from(error),
            StreamError::Protocol(_) => Trouble::Away,
        };
        if !self.told.is_new(trouble) {
            log::debug!(controller:%, error:%; "Still no controller");
            return;
        }
        let (trouble, meanwhile) = headline(trouble, freshness);
        log::warn!(controller:%, error:%; "{trouble}; {meanwhile}");
    }
}

/// What the log says of `trouble`: what a person looks at first, and what is served meanwhile.
fn headline(trouble: Trouble, freshness: Freshness) -> (&'static str, &'static str) {
    let had_one = matches!(freshness, Freshness::Live | Freshness::Lost { .. });
    let trouble = match trouble {
        Trouble::Away if had_one => "Lost the controller",
        Trouble::Away => "Cannot reach the controller",
        Trouble::Untrusted => "The controller is not trusted",
        Trouble::Refused => "The controller refuses this gateway",
        Trouble::Files => "Credentials cannot be read",
    };
    let meanwhile = match freshness {
        Freshness::Empty => "trying again",
        Freshness::FromDisk { .. } => "serving the table from disk and trying again",
        Freshness::Live | Freshness::Lost { .. } => "serving the last table and trying again",
    };
    (trouble, meanwhile)
}

/// The leader is dialled as any controller is. `None` for what is no `host:port`.
fn leader_in(scheme: &str, address: &str) -> Option<Uri> {
    let uri: Uri = format!("{scheme}://{address}").parse().ok()?;
    let is_bare = uri.authority().is_some_and(|authority| authority.as_str() == address);
    (is_bare && uri.port().is_some()).then_some(uri)
}

#[cfg(test)]
mod tests;
