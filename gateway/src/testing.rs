//! A controller's server for tests: each stream is handed to the test, both ends.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use krypton_discovery::wire;
use krypton_discovery::wire::route_discovery_server::{RouteDiscovery, RouteDiscoveryServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// How long a test waits for what must happen, on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(20);

type Responses<T> = mpsc::Sender<Result<T, Status>>;

/// A new stream of a gateway: what it says, and what it is told.
type Opened<I, O> = (Streaming<I>, Responses<O>);

type Routes = Opened<wire::DeltaRoutesRequest, wire::DeltaRoutesResponse>;
type Reports = Opened<wire::ReportRequest, wire::ReportResponse>;

/// A server on loopback. Dropping it ends all of its connections.
pub(crate) struct Controller {
    address: SocketAddr,
    streams: mpsc::Receiver<Routes>,
    reports: mpsc::Receiver<Reports>,
    server: JoinSet<()>,
}

/// One gateway's stream. Dropping it ends the stream.
pub(crate) struct GatewayStream {
    requests: Streaming<wire::DeltaRoutesRequest>,
    responses: Responses<wire::DeltaRoutesResponse>,
    nonce: u64,
    /// What each response says of who leads.
    leader: String,
}

/// One gateway's report. Dropping it ends the stream.
pub(crate) struct ReportStream {
    requests: Streaming<wire::ReportRequest>,
    responses: Responses<wire::ReportResponse>,
}

struct Service(mpsc::Sender<Routes>, mpsc::Sender<Reports>);

/// What `future` brings.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(DEADLINE, future).await;
    result.unwrap_or_else(|_| panic!("{what} did not come within {DEADLINE:?}"))
}

#[tonic::async_trait]
impl RouteDiscovery for Service {
    type DeltaRoutesStream = Pin<Box<dyn Stream<Item = Result<wire::DeltaRoutesResponse, Status>> + Send>>;

    async fn delta_routes(
        &self,
        request: Request<Streaming<wire::DeltaRoutesRequest>>,
    ) -> Result<Response<Self::DeltaRoutesStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        self.0.send((request.into_inner(), sender)).await.map_err(|_| Status::unavailable("stopped"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type ReportStream = Pin<Box<dyn Stream<Item = Result<wire::ReportResponse, Status>> + Send>>;

    async fn report(
        &self,
        request: Request<Streaming<wire::ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        self.1.send((request.into_inner(), sender)).await.map_err(|_| Status::unavailable("stopped"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

// === impl Controller ===

impl Controller {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::channel(16);
        let (report_sender, reports) = mpsc::channel(16);
        let server = tonic::transport::Server::builder()
            .add_service(RouteDiscoveryServer::new(Service(sender, report_sender)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { server.await.unwrap() });
        Self { address, streams, reports, server: tasks }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next stream of a gateway, with its first message.
    pub(crate) async fn accept(&mut self) -> (wire::DeltaRoutesRequest, GatewayStream) {
        let (requests, responses) = within("a stream", self.streams.recv()).await.unwrap();
        let mut stream = GatewayStream { requests, responses, nonce: 0, leader: String::new() };
        (stream.receive().await, stream)
    }

    /// The next report of a gateway, with its first message.
    pub(crate) async fn accept_report(&mut self) -> (wire::ReportRequest, ReportStream) {
        let (requests, responses) = within("a report", self.reports.recv()).await.unwrap();
        let mut stream = ReportStream { requests, responses };
        (stream.next().await, stream)
    }

    /// Ends the server and its listener.
    pub(crate) async fn stop(mut self) {
        self.server.shutdown().await;
    }
}

// === impl ReportStream ===

impl ReportStream {
    /// The next message.
    pub(crate) async fn next(&mut self) -> wire::ReportRequest {
        within("a message", self.requests.message()).await.unwrap().expect("the stream goes on")
    }

    /// Waits until the gateway ends the stream.
    pub(crate) async fn until_end(&mut self) {
        within("the end of the report", async { while let Ok(Some(_)) = self.requests.message().await {} })
            .await;
    }

    /// Ends the stream with an error.
    pub(crate) fn fail(&mut self, status: Status) {
        self.responses.try_send(Err(status)).unwrap();
    }
}

// === impl GatewayStream ===

impl GatewayStream {
    /// Sends the last part of a table, or a delta, and returns the answer.
    pub(crate) async fn send(
        &mut self,
        upserts: Vec<wire::RouteResource>,
        removed: &[&str],
    ) -> wire::DeltaRoutesRequest {
        let removed = removed.iter().map(ToString::to_string).collect();
        self.exchange(wire::DeltaRoutesResponse { upserts, removed, ..Default::default() }).await
    }

    /// Says who leads, now and with every response to come, and returns the answer.
    pub(crate) async fn send_leader(&mut self, leader: &str) -> wire::DeltaRoutesRequest {
        leader.clone_into(&mut self.leader);
        self.exchange(wire::DeltaRoutesResponse::default()).await
    }

    /// Sends a part of a table that more follows, and returns the answer.
    pub(crate) async fn send_part(&mut self, upserts: Vec<wire::RouteResource>) -> wire::DeltaRoutesRequest {
        self.exchange(wire::DeltaRoutesResponse { upserts, more: true, ..Default::default() }).await
    }

    /// Sends `response` as it stands and awaits nothing.
    pub(crate) fn send_raw(&mut self, response: wire::DeltaRoutesResponse) {
        self.responses.try_send(Ok(response)).unwrap();
    }

    /// Ends the stream with an error.
    pub(crate) fn fail(&mut self, status: Status) {
        self.responses.try_send(Err(status)).unwrap();
    }

    async fn exchange(&mut self, response: wire::DeltaRoutesResponse) -> wire::DeltaRoutesRequest {
        self.nonce += 1;
        self.send_raw(wire::DeltaRoutesResponse {
            nonce: self.nonce,
            leader: self.leader.clone(),
            ..response
        });
        let answer = self.receive().await;
        assert_eq!(answer.response_nonce, self.nonce);
        answer
    }

    async fn receive(&mut self) -> wire::DeltaRoutesRequest {
        within("a request", self.requests.message()).await.unwrap().expect("the stream goes on")
    }
}
