//! The `RouteDiscovery` service: one task per gateway between a [`session::Session`] and its stream. `Report`, the
//! other stream of a gateway, is passed on to [`Reports`].
//!
//! Owns the limits of a stream, and the list of connected gateways. Never computes what to send, which is the
//! session's, and never keeps a gateway's messages: one response travels at a time, and a slow gateway finds the
//! newest snapshot when it comes back.
//!
//! 1. A connection is made, over TLS where there are certificates (module `listener`), and each stream on it is asked
//!    for whom it is opened (module `access`).
//! 2. The gateway says who it is and what it holds, within [`Limits::hello_timeout`].
//! 3. The task waits for the first snapshot, then for each newer one and for each other leader, and sends what the
//!    session gives.
//! 4. A gateway that leaves a response unanswered for [`Limits::answer_timeout`] is dropped; one whose connection
//!    is dead goes with its HTTP/2 pings.

mod access;
mod gateways;
pub(crate) mod incoming;
mod listener;
mod places;
mod refused;
pub mod session;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use krypton_discovery::wire::route_discovery_server::{RouteDiscovery, RouteDiscoveryServer};
use krypton_discovery::wire::{DeltaRoutesRequest, DeltaRoutesResponse, ReportRequest, ReportResponse};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

pub use access::{AUDIENCE, Access, NoServiceAccount, ServiceAccountName};
pub use gateways::{Connected, GatewayStatus, Gateways, TooManyGateways};
pub use refused::Refused;

use crate::certificate::Configs;
use crate::metrics::Metrics;
use crate::report::Reports;
use crate::snapshot::Snapshot;
use listener::{Connection, LetIn, Peer};
use refused::Teller;

/// How often an idle connection is asked whether it lives, and how long it may take to say so. Twice this is
/// what a vanished gateway stays listed.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How long streams may take to end after the controller was told to stop.
const DRAIN: Duration = Duration::from_secs(1);

/// Streams at one time on one connection. A gateway has one on each of its two.
const STREAMS_OF_CONNECTION: u32 = 8;

/// What a gateway may ask for, on each of its two streams.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Gateways connected at one time.
    pub gateways: usize,
    /// Resources that a gateway may say it holds.
    pub held: usize,
    /// Bytes of one message from a gateway.
    pub message_bytes: usize,
    /// How long a gateway may take for its first message.
    pub hello_timeout: Duration,
    /// How long it may take for each answer, and how long it may stay silent where it speaks by itself.
    pub answer_timeout: Duration,
    /// How long a connection may have no stream that was let in.
    pub idle_timeout: Duration,
}

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Discovery {
    snapshots: watch::Receiver<Option<Snapshot>>,
    leader: watch::Receiver<Option<String>>,
    reports: Reports,
    access: Access,
    gateways: Gateways,
    teller: Teller,
    limits: Limits,
    streams: TaskTracker,
    shutdown: CancellationToken,
}

// === impl Limits ===

impl Default for Limits {
    /// 1,000 gateways; 262,144 resources, above what a table of 100,000 agents needs; messages of 32 MiB, which
    /// hold as many names; 10 s
    /// for the first message and 60 s for an answer; 15 s for a connection without a stream, where a gateway opens its
    /// one at once.
    fn default() -> Self {
        Self {
            gateways: 1_000,
            held: 1 << 18,
            message_bytes: 32 << 20,
            hello_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_secs(15),
        }
    }
}

// === impl Discovery ===

impl Discovery {
    /// A service that tells `snapshots`, and where the `leader` takes reports (`host:port`, `None` while unknown), to
    /// every gateway that has `access`, until `shutdown`.
    #[must_use]
    pub fn new(
        snapshots: watch::Receiver<Option<Snapshot>>,
        leader: watch::Receiver<Option<String>>,
        reports: Reports,
        access: Access,
        metrics: Arc<Metrics>,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> Self {
        let gateways = Gateways::new(limits.gateways, Arc::clone(&metrics));
        let (teller, streams) = (Teller::new(metrics), TaskTracker::new());
        Self { snapshots, leader, reports, access, gateways, teller, limits, streams, shutdown }
    }

    /// The connected gateways.
    #[must_use]
    pub fn gateways(&self) -> &Gateways {
        &self.gateways
    }

    /// Serves on `listener` until shutdown; over TLS where there are `configs`.
    ///
    /// # Errors
    /// When the server ends for another reason.
    pub async fn serve(
        self,
        listener: TcpListener,
        configs: Option<Configs>,
    ) -> Result<(), tonic::transport::Error> {
        let bounds = listener::Bounds::new(&self.limits);
        let (accepting, connections) = listener::incoming(listener, configs, bounds, self.teller.clone());
        tokio::select! {
            result = self.serve_all(connections) => result,
            never = accepting => match never {},
        }
    }

    async fn serve_all(
        self,
        connections: impl Stream<Item = io::Result<Connection>>,
    ) -> Result<(), tonic::transport::Error> {
        let (streams, shutdown) = (self.streams.clone(), self.shutdown.clone());
        let reports = self.reports.clone();
        let limit = self.limits.message_bytes;
        let service = RouteDiscoveryServer::new(self).max_decoding_message_size(limit);
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(Some(STREAMS_OF_CONNECTION))
            .add_service(service)
            .serve_with_incoming_shutdown(connections, shutdown.clone().cancelled_owned());
        let drained = async {
            shutdown.cancelled().await;
            streams.close();
            let ended = async { tokio::join!(streams.wait(), reports.ended()) };
            tokio::time::timeout(DRAIN, ended).await.ok();
            // Connections that outlive their streams are not worth a wait: gateways reconnect by themselves.
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            result = server => result,
            () = drained => Ok(()),
        }
    }
}

/// Whose request it is.
fn sender<T>(request: &Request<T>) -> Peer {
    request.extensions().get::<Peer>().cloned().expect("the server puts it beside every request")
}

#[tonic::async_trait]
impl RouteDiscovery for Discovery {
    type DeltaRoutesStream = LetIn<ReceiverStream<Result<DeltaRoutesResponse, Status>>>;

    async fn delta_routes(
        &self,
        request: Request<Streaming<DeltaRoutesRequest>>,
    ) -> Result<Response<Self::DeltaRoutesStream>, Status> {
        let peer = sender(&request);
        let address = Some(peer.address());
        self.access.check(request.metadata(), address).await?;
        // Streams that have not said who they are count too.
        if self.streams.len() >= 2 * self.limits.gateways {
            self.teller.refused(Refused::Streams, address);
            return Err(Status::resource_exhausted("too many streams"));
        }
        // One response is outstanding at a time, and one status may follow it.
        let (responses, stream) = mpsc::channel(2);
        let task = stream::Stream {
            snapshots: self.snapshots.clone(),
            leader: self.leader.clone(),
            gateways: self.gateways.clone(),
            metrics: Arc::clone(&self.teller.metrics),
            limits: self.limits,
            shutdown: self.shutdown.clone(),
            address,
            responses,
        };
        self.streams.spawn(task.run(request.into_inner()));
        Ok(Response::new(LetIn::new(ReceiverStream::new(stream), peer)))
    }

    type ReportStream = LetIn<ReceiverStream<Result<ReportResponse, Status>>>;

    async fn report(
        &self,
        request: Request<Streaming<ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let peer = sender(&request);
        let address = Some(peer.address());
        self.access.check(request.metadata(), address).await?;
        let responses = self.reports.accept(request.into_inner(), address)?;
        Ok(Response::new(LetIn::new(ReceiverStream::new(responses), peer)))
    }
}

#[cfg(test)]
mod tests;
