//! Something else answers where the controller was: the gateway keeps what it knows, and asks again with pauses.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use krypton_e2e::programs::ExampleAgent;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::manifest::Manifests;
use crate::support::{Krypton, SOON, agent, freshness_becomes, metric, table};

/// What the impostor says on the first connection, the second, and so on.
const NONSENSE: [&[u8]; 4] = [
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this would be TLS",
    // A frame of HTTP/2 with a length that it never has.
    b"\xff\xff\xff\x04\x00\x00\x00\x00\x00 and nothing of the kind",
];

/// Answers on an HTTP/2 connection that is otherwise in order: content type, status, gRPC status, body.
const MALFORMED: [(&str, u16, Option<&str>, &[u8]); 7] = [
    ("text/html", 200, None, b"<html>Welcome to nginx!</html>"),
    ("application/grpc", 404, None, b""),
    ("application/grpc", 200, Some("13"), b""),
    // A message that is no message.
    ("application/grpc", 200, None, b"\x00\x00\x00\x00\x04\xff\xff\xff\xff"),
    // One of four gigabytes.
    ("application/grpc", 200, None, b"\x00\xff\xff\xff\xff\x00"),
    // One in a compression that nobody agreed on.
    ("application/grpc", 200, None, b"\x01\x00\x00\x00\x02ab"),
    // One that ends in the middle.
    ("application/grpc", 200, None, b"\x00\x00\x00\x00\x09abc"),
];

/// A gateway with a table, and the address where its controller was.
async fn without_its_controller() -> (ExampleAgent, Krypton, SocketAddr) {
    let echo = agent("first").await;
    let mut krypton = Krypton::start(Manifests::with_echo(&[echo.http])).await;
    krypton.controller.process.kill();
    let address = krypton.controller.discovery;
    (echo, krypton, address)
}

/// The table is there and used, and no call or task has panicked.
async fn keeps_its_table(krypton: &Krypton) {
    let table = table(&krypton.gateway).await.unwrap();
    assert_eq!((&table["freshness"], &table["agents"]), (&"lost".into(), &1.into()));
    assert_eq!(krypton.get("/v1/agents/default/echo/").await.status, 200);
    assert_eq!(krypton.get("/readyz").await.status, 200);
    let panics = metric(krypton.gateway.admin, "krypton_panics_total").await.unwrap();
    assert!(panics < 1.0, "{panics} panics");
}

/// With a real controller all is well again.
async fn recovers(mut krypton: Krypton) {
    krypton.restart_controller().await;
    freshness_becomes(&krypton.gateway, "live").await;
}

#[tokio::test]
async fn a_peer_that_speaks_nonsense_is_asked_again_with_pauses() {
    let (_echo, krypton, address) = without_its_controller().await;
    let impostor = TcpListener::bind(address).await.unwrap();
    let mut asked = Vec::new();
    for number in 0..8 {
        let (mut connection, _) = timeout(SOON, impostor.accept()).await.expect("it asks again").unwrap();
        asked.push(Instant::now());
        connection.write_all(NONSENSE[number % NONSENSE.len()]).await.unwrap();
        connection.shutdown().await.ok();
        freshness_becomes(&krypton.gateway, "lost").await;
        keeps_its_table(&krypton).await;
    }
    // Pauses double from 10 ms, each at least half as long as that. A connection that ends before it is used is
    // dialled once more at once, below the pauses: eight may have been four tries.
    let least = (0..3).map(|exponent| Duration::from_millis(5 << exponent)).sum::<Duration>();
    let took = asked[7] - asked[0];
    assert!(took >= least, "eight tries within {took:?}");
    drop(impostor);
    recovers(krypton).await;
}

fn answer(number: usize) -> Response<Full<Bytes>> {
    let (kind, status, grpc_status, body) = MALFORMED[number % MALFORMED.len()];
    let mut response = Response::new(Full::new(Bytes::from_static(body)));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert("content-type", kind.parse().expect("a header"));
    if let Some(status) = grpc_status {
        response.headers_mut().insert("grpc-status", status.parse().expect("a header"));
    }
    response
}

#[tokio::test]
async fn a_peer_with_malformed_messages_is_asked_again() {
    let (_echo, krypton, address) = without_its_controller().await;
    let impostor = TcpListener::bind(address).await.unwrap();
    let mut connections = JoinSet::new();
    for number in 0..MALFORMED.len() {
        let (tcp, _) = timeout(SOON, impostor.accept()).await.expect("it asks again").unwrap();
        let service = service_fn(move |_: Request<Incoming>| ready(Ok::<_, Infallible>(answer(number))));
        connections
            .spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), service));
        freshness_becomes(&krypton.gateway, "lost").await;
        keeps_its_table(&krypton).await;
    }
    // The last answer was read too: there is one more try.
    timeout(SOON, impostor.accept()).await.expect("it asks again").unwrap();
    keeps_its_table(&krypton).await;
    drop((impostor, connections));
    recovers(krypton).await;
}
