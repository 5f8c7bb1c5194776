//! The service over a real connection, with a gateway whose messages the test writes.

use std::net::SocketAddr;

use krypton_discovery::VersionedRoute;
use krypton_discovery::wire::route_discovery_client::RouteDiscoveryClient;
use krypton_discovery::wire::{HeldResource, Node, RejectedResource};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_prost::ProstCodec;

use super::*;
use crate::testing::mk_route;

/// Far above what anything takes, so that only what never comes runs into it.
const DEADLINE: Duration = Duration::from_secs(20);

struct Fixture {
    address: SocketAddr,
    snapshots: watch::Sender<Option<Snapshot>>,
    leader: watch::Sender<Option<String>>,
    gateways: Gateways,
    shutdown: CancellationToken,
    tasks: JoinSet<Result<(), tonic::transport::Error>>,
}

/// The gateway's end of a stream.
struct Gateway {
    requests: mpsc::Sender<DeltaRoutesRequest>,
    responses: Streaming<DeltaRoutesResponse>,
}

impl Fixture {
    async fn start(limits: Limits) -> Self {
        Self::start_with(limits, None).await
    }

    async fn start_with(limits: Limits, configs: Option<Configs>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (snapshots, newest) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let metrics = Arc::new(Metrics::default());
        let reports = Reports::new(watch::channel(true).1, limits, Arc::clone(&metrics), shutdown.clone());
        let (leader, known) = watch::channel(None);
        let discovery =
            Discovery::new(newest, known, reports, Access::open(), metrics, limits, shutdown.clone());
        let gateways = discovery.gateways().clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(discovery.serve(listener, configs));
        Self { address, snapshots, leader, gateways, shutdown, tasks }
    }

    fn publish(&self, routes: &[(&str, u16)]) {
        let routes =
            routes.iter().map(|(key, port)| (key.parse().unwrap(), Some(mk_route(key, *port).into())));
        let snapshot = Snapshot::default().with(routes).unwrap_or_default();
        self.snapshots.send_replace(Some(snapshot));
    }

    async fn connect(&self, first: DeltaRoutesRequest) -> Gateway {
        let mut client = RouteDiscoveryClient::connect(format!("http://{}", self.address)).await.unwrap();
        let (requests, stream) = mpsc::channel(4);
        requests.send(first).await.unwrap();
        let responses = client.delta_routes(ReceiverStream::new(stream)).await.unwrap().into_inner();
        Gateway { requests, responses }
    }

    async fn until_gateways(&self, count: usize) {
        let mut watched = self.gateways.subscribe();
        let reached = timeout(watched.wait_for(|streams| streams.len() == count));
        reached.await.unwrap();
    }
}

impl Gateway {
    async fn next(&mut self) -> Result<DeltaRoutesResponse, Status> {
        timeout(self.responses.message()).await.map(|message| message.expect("the stream goes on"))
    }

    async fn end(&mut self) -> Code {
        loop {
            match timeout(self.responses.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    }

    async fn answer(&self, nonce: u64, rejected: Vec<RejectedResource>) {
        let answer = DeltaRoutesRequest { response_nonce: nonce, rejected, ..DeltaRoutesRequest::default() };
        self.requests.send(answer).await.unwrap();
    }
}

async fn timeout<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

fn hello(held: &[VersionedRoute]) -> DeltaRoutesRequest {
    let held = held.iter().map(|route| HeldResource {
        name: route.key().to_string(),
        version: route.version().as_bytes().to_vec(),
    });
    DeltaRoutesRequest {
        node: Some(Node { id: "gateway-1".into(), build: "test".into() }),
        initial_resource_versions: held.collect(),
        ..DeltaRoutesRequest::default()
    }
}

fn names(response: &DeltaRoutesResponse) -> Vec<&str> {
    response.upserts.iter().map(|resource| resource.name.as_str()).collect()
}

#[tokio::test]
async fn a_gateway_waits_for_the_first_snapshot_and_then_follows() {
    let fixture = Fixture::start(Limits::default()).await;
    let mut gateway = fixture.connect(hello(&[])).await;
    fixture.until_gateways(1).await;
    fixture.publish(&[("ns/a", 80), ("ns/b", 80)]);
    let first = gateway.next().await.unwrap();
    assert_eq!((first.nonce, names(&first).len(), first.more), (1, 2, false));
    // While the answer is due, two snapshots pass by; only the newest counts.
    fixture.publish(&[("ns/a", 81), ("ns/b", 80)]);
    fixture.publish(&[("ns/a", 82)]);
    gateway.answer(1, vec![]).await;
    let second = gateway.next().await.unwrap();
    let port = |r: &DeltaRoutesResponse| r.upserts[0].route.as_ref().unwrap().port;
    assert_eq!((names(&second), port(&second)), (vec!["ns/a"], 82));
    assert_eq!(second.removed, ["ns/b"]);
    gateway.answer(2, vec![]).await;
    fixture.publish(&[]);
    assert_eq!(gateway.next().await.unwrap().removed, ["ns/a"]);
}

#[tokio::test]
async fn a_gateway_is_told_who_leads() {
    let fixture = Fixture::start(Limits::default()).await;
    fixture.leader.send_replace(Some("10.0.0.1:9090".into()));
    fixture.publish(&[("ns/a", 80)]);
    let mut gateway = fixture.connect(hello(&[])).await;
    assert_eq!(gateway.next().await.unwrap().leader, "10.0.0.1:9090");
    gateway.answer(1, vec![]).await;
    fixture.leader.send_replace(None);
    let second = gateway.next().await.unwrap();
    assert_eq!(
        (second.leader.as_str(), second.upserts, second.removed, second.more),
        ("", vec![], vec![], false)
    );
    gateway.answer(2, vec![]).await;
    fixture.leader.send_replace(Some("10.0.0.2:9090".into()));
    assert_eq!(gateway.next().await.unwrap().leader, "10.0.0.2:9090");
}

#[tokio::test]
async fn a_reconnect_resumes_from_what_is_held() {
    let fixture = Fixture::start(Limits::default()).await;
    fixture.publish(&[("ns/a", 80), ("ns/b", 80)]);
    let held = [mk_route("ns/a", 80), mk_route("ns/b", 79), mk_route("ns/c", 80)];
    let mut gateway = fixture.connect(hello(&held)).await;
    let first = gateway.next().await.unwrap();
    assert_eq!(names(&first), ["ns/b"]);
    assert_eq!(first.removed, ["ns/c"]);
    let mut complete = fixture.connect(hello(&[mk_route("ns/a", 80), mk_route("ns/b", 80)])).await;
    let first = complete.next().await.unwrap();
    assert_eq!((first.upserts, first.removed, first.more), (vec![], vec![], false));
}

#[tokio::test]
async fn a_refused_route_is_listed_and_not_sent_again() {
    let fixture = Fixture::start(Limits::default()).await;
    fixture.publish(&[("ns/a", 80)]);
    let mut gateway = fixture.connect(hello(&[])).await;
    let first = gateway.next().await.unwrap();
    let rejected = RejectedResource {
        name: "ns/a".into(),
        version: first.upserts[0].version.clone(),
        reason: "port: because".into(),
    };
    gateway.answer(1, vec![rejected]).await;
    fixture.publish(&[("ns/a", 80), ("ns/b", 80)]);
    assert_eq!(names(&gateway.next().await.unwrap()), ["ns/b"]);
    let status = &fixture.gateways.list()[0];
    assert_eq!((status.node.as_str(), status.held, status.rejected), ("gateway-1", 0, 1));
    assert_eq!(status.rejections["ns/a"], "port: because");
    fixture.publish(&[("ns/a", 81), ("ns/b", 80)]);
    gateway.answer(2, vec![]).await;
    assert_eq!(names(&gateway.next().await.unwrap()), ["ns/a"]);
}

#[tokio::test]
async fn garbage_ends_a_stream_and_no_other() {
    let fixture = Fixture::start(Limits { held: 2, ..Limits::default() }).await;
    fixture.publish(&[("ns/a", 80)]);
    let mut good = fixture.connect(hello(&[])).await;
    good.next().await.unwrap();

    let held = |name: &str, version: &[u8]| HeldResource { name: name.into(), version: version.into() };
    let with = |held: Vec<HeldResource>| DeltaRoutesRequest { initial_resource_versions: held, ..hello(&[]) };
    for (first, code) in [
        (DeltaRoutesRequest::default(), Code::InvalidArgument),
        (with(vec![held("no slash", &[0; 16])]), Code::InvalidArgument),
        (with(vec![held("ns/a", &[0; 3])]), Code::InvalidArgument),
        (with(vec![held("ns/a", &[0; 16]); 3]), Code::ResourceExhausted),
    ] {
        assert_eq!(fixture.connect(first).await.end().await, code);
    }
    // A string where a node should be.
    let channel = tonic::transport::Endpoint::try_from(format!("http://{}", fixture.address)).unwrap();
    let mut raw = tonic::client::Grpc::new(channel.connect().await.unwrap());
    raw.ready().await.unwrap();
    let codec = ProstCodec::<String, DeltaRoutesResponse>::default();
    let path = "/krypton.discovery.v1.RouteDiscovery/DeltaRoutes".parse().unwrap();
    let garbage = Request::new(tokio_stream::once("\u{7f}\u{7f}\u{7f}".to_owned()));
    let mut stream = timeout(raw.streaming(garbage, path, codec)).await.unwrap().into_inner();
    assert_eq!(timeout(stream.message()).await.unwrap_err().code(), Code::Internal);

    let mut liar = fixture.connect(hello(&[])).await;
    liar.next().await.unwrap();
    liar.answer(9, vec![]).await;
    assert_eq!(liar.end().await, Code::InvalidArgument);

    fixture.until_gateways(1).await;
    good.answer(1, vec![]).await;
    fixture.publish(&[("ns/b", 80)]);
    assert_eq!(names(&good.next().await.unwrap()), ["ns/b"]);
}

#[tokio::test]
async fn gateways_are_bounded_in_number() {
    let fixture = Fixture::start(Limits { gateways: 1, ..Limits::default() }).await;
    let first = fixture.connect(hello(&[])).await;
    fixture.until_gateways(1).await;
    assert_eq!(fixture.connect(hello(&[])).await.end().await, Code::ResourceExhausted);
    drop(first);
    fixture.until_gateways(0).await;
    let _second = fixture.connect(hello(&[])).await;
    fixture.until_gateways(1).await;
}

#[tokio::test]
async fn who_says_nothing_is_dropped() {
    let limits = Limits { hello_timeout: Duration::from_millis(50), ..Limits::default() };
    let fixture = Fixture::start(limits).await;
    let mut client = RouteDiscoveryClient::connect(format!("http://{}", fixture.address)).await.unwrap();
    let silent = tokio_stream::pending::<DeltaRoutesRequest>();
    let mut stream = timeout(client.delta_routes(silent)).await.unwrap().into_inner();
    assert_eq!(timeout(stream.message()).await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_connection_without_a_stream_is_closed() {
    let (certificate, config) = listener::tests::mk_config().await;
    let (_config, configs) = watch::channel(Some(config));
    let limits = Limits { idle_timeout: Duration::from_millis(50), ..Limits::default() };
    let plain = Fixture::start(limits).await;
    let fixture = Fixture::start_with(limits, Some(configs)).await;
    // One that speaks, and one that does not even begin to.
    for said in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], b""] {
        let tcp = tokio::net::TcpStream::connect(fixture.address).await.unwrap();
        let mut client = listener::tests::shake_hands_by(&certificate, tcp).await.unwrap();
        client.write_all(said).await.unwrap();
        timeout(client.read_to_end(&mut Vec::new())).await.ok();
        let mut client = tokio::net::TcpStream::connect(plain.address).await.unwrap();
        client.write_all(said).await.unwrap();
        timeout(client.read_to_end(&mut Vec::new())).await.ok();
    }
}

#[tokio::test]
async fn streams_that_say_nothing_are_bounded_in_number() {
    let fixture = Fixture::start(Limits { gateways: 1, ..Limits::default() }).await;
    let mut client = RouteDiscoveryClient::connect(format!("http://{}", fixture.address)).await.unwrap();
    let silent = || tokio_stream::pending::<DeltaRoutesRequest>();
    let _first = timeout(client.delta_routes(silent())).await.unwrap();
    let _second = timeout(client.delta_routes(silent())).await.unwrap();
    let third = timeout(client.delta_routes(silent())).await;
    assert_eq!(third.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_dropped() {
    let limits = Limits { answer_timeout: Duration::from_millis(50), ..Limits::default() };
    let fixture = Fixture::start(limits).await;
    let mut silent = fixture.connect(hello(&[])).await;
    // Nothing is due before the first snapshot, so this takes as long as it takes.
    fixture.until_gateways(1).await;
    fixture.publish(&[("ns/a", 80)]);
    assert_eq!(silent.end().await, Code::DeadlineExceeded);
    fixture.until_gateways(0).await;
}

#[tokio::test]
async fn the_end_of_the_controller_is_told() {
    let mut fixture = Fixture::start(Limits::default()).await;
    let mut gateway = fixture.connect(hello(&[])).await;
    fixture.until_gateways(1).await;
    fixture.shutdown.cancel();
    assert_eq!(gateway.end().await, Code::Unavailable);
    drop(gateway);
    timeout(fixture.tasks.join_next()).await.unwrap().unwrap().unwrap();
}
