//! How a gateway ends: what SIGTERM cuts, and what it does not.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use krypton_e2e::programs::{ExampleAgent, Gateway};
use krypton_e2e::wait::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::manifest::Manifests;
use crate::support::{Krypton, SOON, agent, json_lines, logged, status_becomes, traffic};
use krypton_e2e::client::{Events, full, get, keeping_client, request};

const ECHO: &str = "/v1/agents/default/echo";

/// A client that writes and reads as it likes.
struct Raw(TcpStream);

impl Raw {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// All that comes up to the end of the connection.
    async fn read(&mut self) -> String {
        let mut text = String::new();
        timeout(SOON, self.0.read_to_string(&mut text)).await.expect("an end").unwrap();
        text
    }

    /// What comes until `end` has come.
    async fn read_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        let read = async {
            while !text.ends_with(end.as_bytes()) {
                text.push(self.0.read_u8().await.unwrap());
            }
        };
        timeout(SOON, read).await.expect("it comes");
        String::from_utf8(text).unwrap()
    }
}

async fn start(args: &[&str]) -> (ExampleAgent, Krypton) {
    let echo = agent("first").await;
    let krypton = Krypton::start_with(Manifests::with_echo(&[echo.http]), args).await;
    (echo, krypton)
}

/// An answer of events that has begun. A POST: a GET of events is a standing stream, which a drain ends.
async fn begin_stream(address: SocketAddr, chunks: usize, pace: &str) -> Events {
    let target = format!("{ECHO}/events?sse=1&chunks={chunks}&pace={pace}");
    let call = request(Method::POST, address, &target).body(full("")).unwrap();
    let mut events = Events::of(keeping_client().request(call).await.unwrap());
    assert!(events.next().await.unwrap().is_some());
    events
}

/// Waits until nobody listens any more.
async fn refuses(address: SocketAddr) {
    eventually("new connections are refused", SOON, async || {
        let error = TcpStream::connect(address).await.err().context("one was accepted")?;
        ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
        Ok(())
    })
    .await
    .unwrap();
}

/// SIGTERM, and then the gateway says that it is about to stop.
async fn terminate(gateway: &Gateway) {
    gateway.process.terminate();
    let told = status_becomes(gateway.admin, "/readyz?verbose", 503).await;
    assert!(told.text().contains("[-] draining"), "{}", told.text());
}

async fn ends_well(gateway: &mut Gateway) {
    let status = gateway.process.ended(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn sigterm_under_load_cuts_no_call() {
    // The delay is for a machine that is busy with other tests; half a header has to outlast it.
    let (_echo, mut krypton) = start(&["--drain-delay", "10s", "--header-timeout", "60s"]).await;
    let address = krypton.gateway.http;
    let traffic = traffic(address);
    traffic.goes_on(10).await.unwrap();
    let mut idle = Raw::connect(address).await;
    idle.send("GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n").await;
    idle.read_until("\r\n\r\nok").await;
    let mut half_header = Raw::connect(address).await;
    half_header.send(&format!("GET {ECHO}/hello HTTP/1.1\r\nHo")).await;
    let mut half_upload = Raw::connect(address).await;
    half_upload.send(&format!("POST {ECHO}/up HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhello")).await;
    // It goes on for two seconds after the listener has ended.
    let mut stream = begin_stream(address, 120, "100ms").await;

    terminate(&krypton.gateway).await;
    // Whoever has not heard of it yet is still served.
    traffic.goes_on(10).await.unwrap();
    traffic.end_whole().await.unwrap();
    refuses(address).await;

    half_header.send("st: t\r\n\r\n").await;
    half_upload.send("world").await;
    assert_eq!(idle.read().await, "", "an idle connection is closed");
    for (mut client, sign) in [(half_header, "/hello"), (half_upload, "helloworld")] {
        let answer = client.read().await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(sign), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    }
    assert_eq!(stream.rest().await.unwrap().len(), 119);
    ends_well(&mut krypton.gateway).await;
    logged(&krypton.gateway.process.log(), "Drained").await;
    let outcomes: Vec<_> = access_lines(&krypton.gateway).unwrap();
    assert!(outcomes.iter().all(|outcome| outcome == "ok"), "{outcomes:?}");
}

#[tokio::test]
async fn a_client_that_could_not_know_is_served_once_more() {
    let (_echo, mut krypton) = start(&["--drain-delay", "0s"]).await;
    let address = krypton.gateway.http;
    let mut client = Raw::connect(address).await;
    client
        .send(&format!(
            "POST {ECHO}/events?sse=1&chunks=8&pace=100ms HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
    // The head is there, and says nothing of an end.
    let head = client.read_until("\r\n\r\n").await;
    assert!(!head.to_ascii_lowercase().contains("connection: close"), "{head}");
    let mut late = Raw::connect(address).await;
    terminate(&krypton.gateway).await;
    refuses(address).await;

    // First, since it is waited for from its connection on, and the other from the end of its answer.
    is_served_once_more(&krypton.gateway, &mut late).await;
    client.read_until("\r\n0\r\n\r\n").await;
    is_served_once_more(&krypton.gateway, &mut client).await;
    ends_well(&mut krypton.gateway).await;
}

/// One more call of the client's is answered, and told that it is the last.
async fn is_served_once_more(gateway: &Gateway, client: &mut Raw) {
    // A gateway that closes at once has done so by the time that it answers this.
    status_becomes(gateway.admin, "/readyz", 503).await;
    client.send(&format!("GET {ECHO}/hello HTTP/1.1\r\nHost: t\r\n\r\n")).await;
    let answer = client.read().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
}

/// The outcomes of all calls to agents, from the access log.
fn access_lines(gateway: &Gateway) -> Result<Vec<String>> {
    let lines = json_lines(&gateway.process.log()).into_iter().filter(|line| line["agent"].is_string());
    lines.map(|line| Ok(line["outcome"].as_str().context("no outcome")?.to_owned())).collect()
}

#[tokio::test]
async fn without_calls_the_end_comes_at_once() {
    let (_echo, mut krypton) = start(&["--drain-delay", "0s"]).await;
    let mut idle = Raw::connect(krypton.gateway.http).await;
    idle.send("GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n").await;
    idle.read_until("\r\n\r\nok").await;
    krypton.gateway.process.terminate();
    assert_eq!(idle.read().await, "");
    // Far less than the drain timeout of 300 s.
    ends_well(&mut krypton.gateway).await;
}

#[tokio::test]
async fn a_second_sigterm_does_not_wait() {
    let (_echo, mut krypton) = start(&["--drain-delay", "1h"]).await;
    let mut stream = begin_stream(krypton.gateway.http, 2, "1h").await;
    terminate(&krypton.gateway).await;
    assert_eq!(get(krypton.gateway.http, "/healthz").await.unwrap().status, 200, "it still accepts");
    krypton.gateway.process.terminate();
    ends_well(&mut krypton.gateway).await;
    logged(&krypton.gateway.process.log(), "Asked twice: ending without a drain").await;
    stream.rest().await.unwrap_err();
}

#[tokio::test]
async fn what_outlives_the_drain_timeout_is_cut_and_told() {
    let (_echo, mut krypton) = start(&["--drain-delay", "0s", "--drain-timeout", "300ms"]).await;
    let mut stream = begin_stream(krypton.gateway.http, 2, "1h").await;
    krypton.gateway.process.terminate();
    let cut = timeout(SOON, stream.rest()).await.expect("it is cut");
    cut.unwrap_err();
    ends_well(&mut krypton.gateway).await;
    let told = logged(&krypton.gateway.process.log(), "Cut what the drain timeout left").await;
    assert_eq!((&told["level"], &told["connections"]), (&"WARN".into(), &1.into()));
    assert_eq!(access_lines(&krypton.gateway).unwrap(), ["shutdown"]);
}

#[tokio::test]
async fn a_standing_stream_ends_cleanly_and_holds_nothing_up() {
    let (_echo, mut krypton) = start(&["--drain-delay", "0s"]).await;
    let target = format!("{ECHO}/events?sse=1&chunks=2&pace=1h");
    let call = request(Method::GET, krypton.gateway.http, &target).header("accept", "text/event-stream");
    let answer = keeping_client().request(call.body(full("")).unwrap()).await.unwrap();
    let mut events = Events::of(answer);
    assert!(events.next().await.unwrap().is_some());
    krypton.gateway.process.terminate();
    let rest = timeout(SOON, events.rest()).await.expect("it ends");
    assert_eq!(rest.unwrap(), Vec::<String>::new());
    ends_well(&mut krypton.gateway).await;
    assert_eq!(access_lines(&krypton.gateway).unwrap(), ["drained"]);
}

#[tokio::test]
async fn a_drain_longer_than_a_stream_waits_for_no_more_than_it() {
    let (_echo, mut krypton) = start(&["--drain-delay", "0s", "--drain-timeout", "1h"]).await;
    let mut stream = begin_stream(krypton.gateway.http, 8, "100ms").await;
    krypton.gateway.process.terminate();
    refuses(krypton.gateway.http).await;
    let rest = timeout(Duration::from_secs(20), stream.rest()).await.expect("the stream ends");
    assert_eq!(rest.unwrap().len(), 7);
    ends_well(&mut krypton.gateway).await;
    assert_eq!(access_lines(&krypton.gateway).unwrap(), ["ok"]);
}
