//! Which endpoint gets a call, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::support::agent::{Conn, ScriptedAgent};
use crate::support::client::Client;
use crate::support::h2::soon;
use crate::support::{Setup, await_that, mk_route, spawn};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const AGENT: &str = "/v1/agents/ns/agent";

/// An agent that counts its calls.
struct Counting {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
}

impl Counting {
    async fn start() -> Self {
        Self::gated(watch::channel(true).1).await
    }

    /// It answers while the gate is open.
    async fn gated(opened: watch::Receiver<bool>) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let agent =
            ScriptedAgent::start(move |conn| answer(conn, Arc::clone(&counted), opened.clone())).await;
        Self { address: agent.address, calls }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn answer(mut conn: Conn, calls: Arc<AtomicUsize>, mut opened: watch::Receiver<bool>) {
    while conn.request().await.is_some() {
        calls.fetch_add(1, Ordering::SeqCst);
        // A gate that is gone stays as it was.
        opened.wait_for(|open| *open).await.ok();
        conn.write(OK).await;
    }
}

#[tokio::test]
async fn all_endpoints_get_calls() {
    let agents = [Counting::start().await, Counting::start().await, Counting::start().await];
    let route = mk_route(&agents.each_ref().map(|agent| agent.address));
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..300 {
        assert_eq!(client.get(AGENT).await.status, 200);
    }
    // One at a time there is no load to tell them apart: each pick is random. Fewer than 30 of 300 at a third
    // each is eight standard deviations off.
    let calls = agents.each_ref().map(Counting::calls);
    assert_eq!(calls.iter().sum::<usize>(), 300);
    assert!(calls.iter().all(|calls| *calls >= 30), "{calls:?}");
}

#[tokio::test]
async fn concurrent_calls_are_spread_by_load() {
    let (gate, opened) = watch::channel(false);
    let agents = [
        Counting::gated(opened.clone()).await,
        Counting::gated(opened.clone()).await,
        Counting::gated(opened).await,
    ];
    let route = mk_route(&agents.each_ref().map(|agent| agent.address));
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let mut tasks = Vec::new();
    for _ in 0..300 {
        let address = gateway.address;
        tasks.push(spawn(async move { Client::connect(address).await.get(AGENT).await.status }));
    }
    let total = || agents.iter().map(Counting::calls).sum::<usize>();
    await_that("300 calls at the agents", || total() == 300).await;
    // The less loaded of two keeps them within a few calls of each other; chance alone would not.
    let calls = agents.each_ref().map(Counting::calls);
    assert!(calls.iter().all(|calls| (96..=104).contains(calls)), "{calls:?}");
    gate.send(true).unwrap();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_slow_endpoint_gets_fewer_calls() {
    let (gate, opened) = watch::channel(false);
    let (slow, quick) = (Counting::gated(opened).await, Counting::start().await);
    let route = mk_route(&[slow.address, quick.address]);
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let address = gateway.address;
        tasks.push(spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..20 {
                assert_eq!(client.get(AGENT).await.status, 200);
            }
        }));
    }
    // Every client is either done or stuck at the slow one, which gets no more than it has to.
    await_that("all clients", || tasks.iter().filter(|task| task.is_finished()).count() + slow.calls() == 10)
        .await;
    // A call goes there only while the quick one has as many, and it never has more than the other half.
    assert!(slow.calls() <= 5, "{} of 10 clients are stuck", slow.calls());
    gate.send(true).unwrap();
    for task in tasks {
        soon("the client", task).await.unwrap();
    }
    assert_eq!(slow.calls() + quick.calls(), 200);
}

#[tokio::test]
async fn a_removed_endpoint_keeps_its_stream_and_gets_no_new_calls() {
    let (gate, opened) = watch::channel(false);
    let leaving = ScriptedAgent::start(move |mut conn| {
        let mut opened = opened.clone();
        async move {
            conn.request().await;
            conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
            opened.wait_for(|open| *open).await.unwrap();
            conn.write("5\r\nworld\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let staying = Counting::start().await;
    let mut gateway = Setup::default().start(vec![("ns/agent", mk_route(&[leaving.address]))]).await;
    let mut stream = Client::connect(gateway.address).await;
    stream.send("GET /v1/agents/ns/agent HTTP/1.1\r\nHost: t\r\n\r\n").await;
    stream.head().await;
    assert_eq!(stream.chunk().await.unwrap(), b"hello");

    gateway.upsert("ns/agent", mk_route(&[staying.address]));
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..20 {
        assert_eq!(client.get(AGENT).await.text(), "ok");
    }
    assert_eq!((leaving.connections(), staying.calls()), (1, 20));
    // Not even when the Agent itself goes.
    gateway.writer.remove("ns/agent");
    assert_eq!(client.get(AGENT).await.status, 404);
    gate.send(true).unwrap();
    assert_eq!(stream.chunk().await.unwrap(), b"world");
    assert_eq!(stream.chunk().await, None);
}
