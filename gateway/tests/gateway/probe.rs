//! The synthetic probe: the timing of its stream, the size of its upload, its bounds, and how it ends.

use std::time::{Duration, Instant};

use http::Method;
use krypton_gateway::proxy::headers::AllowedHosts;
use krypton_gateway::proxy::probe::{SLOTS, UPLOAD_LIMIT};
use krypton_gateway::route_table::Freshness;
use serde_json::Value;

use crate::support::agent::header;
use crate::support::client::{Client, End};
use crate::support::h2::{H2Client, request, soon};
use crate::support::{Setup, TestGateway};

const STREAM: &str = "/v1/agents/_probe/stream";
const UPLOAD: &str = "/v1/agents/_probe/upload";
/// The next event of it comes long after its test.
const LONG: &str = "/v1/agents/_probe/stream?events=2&interval=60000";

/// A gateway without an agent.
async fn gateway() -> TestGateway {
    Setup::default().start(vec![]).await
}

/// Asks for `target` and reads the head of the stream.
async fn begin(gateway: &TestGateway, target: &str) -> (Client, String) {
    let mut client = Client::connect(gateway.address).await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    (client, head)
}

/// The JSON of one event.
fn data(event: &[u8]) -> Value {
    let text = std::str::from_utf8(event).expect("text");
    let json = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(text);
    serde_json::from_str(json).expect("JSON")
}

/// No probe is a call, whatever became of it.
fn counts_no_call(gateway: &TestGateway) {
    let metrics = gateway.metrics.encode().expect("text");
    assert!(!metrics.contains("krypton_invocations_total{"), "it is no call: {metrics}");
}

/// As many streams as the gateway gives, each with its first event read.
async fn fill(gateway: &TestGateway) -> Vec<Client> {
    let mut running = Vec::new();
    for _ in 0..SLOTS {
        let (mut client, _) = begin(gateway, LONG).await;
        client.chunk().await.expect("the first event");
        running.push(client);
    }
    gateway.await_metric(&format!("krypton_probes_running {SLOTS}")).await;
    running
}

// === the stream ===

#[tokio::test]
async fn events_come_when_they_are_due() {
    let gateway = gateway().await;
    let start = Instant::now();
    let (mut client, head) = begin(&gateway, &format!("{STREAM}?events=3&interval=100")).await;
    assert_eq!(header(&head, "content-type"), Some("text/event-stream"));
    assert_eq!(header(&head, "x-accel-buffering"), Some("no"));
    assert_eq!(header(&head, "cache-control"), Some("no-store"));
    let mut sent = Vec::new();
    for number in 1..=3 {
        // A chunk each: nothing waits for the next.
        let event = client.chunk().await.unwrap();
        assert!(event.starts_with(format!("id: {number}\n").as_bytes()), "{event:?}");
        assert_eq!(data(&event)["sequence"], number);
        sent.push(data(&event)["sentUnixMs"].as_u64().unwrap());
    }
    assert_eq!(client.chunk().await, None);
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(sent[2] >= sent[0] + 190, "the wall clock, to some milliseconds: {sent:?}");
    // The connection is kept.
    assert_eq!(client.get("/healthz").await.status, 200);
    gateway.await_metric("krypton_probes_running 0").await;
    gateway.await_metric("krypton_probes_started_total 1").await;
    counts_no_call(&gateway);
}

#[tokio::test]
async fn the_first_event_does_not_wait_for_the_last() {
    let gateway = gateway().await;
    let (mut client, _) = begin(&gateway, LONG).await;
    assert_eq!(data(&client.chunk().await.unwrap())["sequence"], 1);
    assert!(client.is_silent_for(Duration::from_millis(50)).await);
}

#[tokio::test]
async fn ndjson_has_no_word_for_the_ingress() {
    let gateway = gateway().await;
    let (mut client, head) = begin(&gateway, &format!("{STREAM}?events=2&interval=10&format=ndjson")).await;
    assert_eq!(header(&head, "content-type"), Some("application/x-ndjson"));
    assert_eq!(header(&head, "x-accel-buffering"), None);
    assert_eq!(header(&head, "cache-control"), Some("no-store"));
    for number in 1..=2 {
        assert_eq!(data(&client.chunk().await.unwrap())["sequence"], number);
    }
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn a_silence_lasts_as_long_as_it_was_asked_to() {
    let mut setup = Setup::default();
    // None is about an answer. That for the header begins with the connection, and the client needs some time for it.
    setup.limits.idle = Duration::from_millis(20);
    setup.limits.header = Duration::from_secs(1);
    setup.policy.client_write_timeout = Duration::from_millis(20);
    setup.policy.upload_timeout = Duration::from_millis(20);
    let gateway = setup.start(vec![]).await;
    let (mut client, _) = begin(&gateway, &format!("{STREAM}?silence=1500")).await;
    assert_eq!(data(&client.chunk().await.unwrap())["sequence"], 1);
    let last = data(&client.chunk().await.unwrap());
    assert!(last["afterSilenceMs"].as_u64().unwrap() >= 1500, "{last}");
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn an_old_client_gets_its_stream_to_the_end_of_the_connection() {
    let gateway = gateway().await;
    let mut client = Client::connect(gateway.address).await;
    client.send(format!("GET {STREAM}?events=2&interval=10&format=ndjson HTTP/1.0\r\n\r\n")).await;
    let head = client.head().await;
    assert_eq!(header(&head, "transfer-encoding"), None, "{head}");
    let (body, end) = client.end().await;
    assert_eq!((String::from_utf8(body).unwrap().lines().count(), end), (2, End::Closed));
}

#[tokio::test]
async fn http2_clients_are_given_the_same() {
    let gateway = gateway().await;
    let client = H2Client::connect(gateway.address).await;
    let mut standing = client.get(LONG).await;
    assert_eq!(data(&standing.chunk().await.unwrap().unwrap())["sequence"], 1);
    let mut short = client.get(&format!("{STREAM}?events=2&interval=10")).await;
    assert_eq!((short.status, short.header("x-accel-buffering")), (200, Some("no")));
    assert_eq!(short.text().await.matches("\ndata: {").count(), 2);
    let answer = client.send(request(Method::POST, UPLOAD), "hello").await.answer().await;
    assert_eq!(answer.unwrap().json().await["bytes"], 5);
    gateway.await_metric("krypton_probes_running 1").await;
    standing.reset();
    gateway.await_metric("krypton_probes_running 0").await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot() {
    let gateway = gateway().await;
    for leaves_with_reset in [false, true] {
        let mut running = fill(&gateway).await;
        let client = running.pop().unwrap();
        if leaves_with_reset {
            client.reset();
        } else {
            drop(client);
        }
        gateway.await_metric(&format!("krypton_probes_running {}", SLOTS - 1)).await;
        // What it sends meanwhile does not hide that.
        let mut client = running.pop().unwrap();
        client.send("GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n").await;
        drop(client);
        gateway.await_metric(&format!("krypton_probes_running {}", SLOTS - 2)).await;
        drop(running);
        gateway.await_metric("krypton_probes_running 0").await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let mut setup = Setup::default();
    setup.policy.client_write_timeout = Duration::from_millis(100);
    let gateway = setup.start(vec![]).await;
    let client = H2Client::connect_with_window(gateway.address, 0).await;
    // The head comes, and no byte may follow it.
    let mut answer = client.get(LONG).await;
    assert!(answer.chunk().await.unwrap().is_err(), "a cut that can be told from an end");
    gateway.await_metric("krypton_probes_running 0").await;
}

// === the upload ===

#[tokio::test]
async fn an_upload_is_counted() {
    let gateway = gateway().await;
    let mut client = Client::connect(gateway.address).await;
    let answer = client.post(UPLOAD, &"x".repeat(5 * 1024 * 1024)).await;
    assert_eq!((answer.status, answer.json()["bytes"].as_u64()), (200, Some(5 * 1024 * 1024)));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(client.post(UPLOAD, "").await.json()["bytes"], 0);
    client
        .send(format!(
            "POST {UPLOAD} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        ))
        .await;
    assert_eq!(client.answer().await.json()["bytes"], 3);
    gateway.await_metric("krypton_probes_running 0").await;
}

#[tokio::test]
async fn an_upload_that_waits_to_be_asked_for_is_asked_for() {
    let gateway = gateway().await;
    let mut client = Client::connect(gateway.address).await;
    let expecting = "Host: t\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    client.send(format!("POST {UPLOAD} HTTP/1.1\r\n{expecting}")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 100 "));
    client.send("ok").await;
    assert_eq!(client.answer().await.json()["bytes"], 2);
}

#[tokio::test]
async fn an_upload_above_the_limit_is_refused() {
    let gateway = gateway().await;
    // Announced: at once. The client is still sending.
    let mut client = Client::connect(gateway.address).await;
    let length = UPLOAD_LIMIT + 1;
    client.send(format!("POST {UPLOAD} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\nxxxx")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("probe_upload_too_large")));

    // Not announced: as soon as it is.
    let mut client = Client::connect(gateway.address).await;
    client.send(format!("POST {UPLOAD} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; 1024 * 1024], b"\r\n"].concat();
    for _ in 0..UPLOAD_LIMIT / (1024 * 1024) {
        client.send(&chunk).await;
    }
    client.try_send("1\r\nx\r\n").await;
    assert_eq!(client.answer().await.json()["code"], "probe_upload_too_large");
    gateway.await_metric("krypton_probes_running 0").await;
}

#[tokio::test]
async fn a_paused_upload_is_given_up() {
    let mut setup = Setup::default();
    setup.policy.upload_timeout = Duration::from_millis(100);
    let gateway = setup.start(vec![]).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(format!("POST {UPLOAD} HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (408, Some("client_stalled")));
    let client = H2Client::connect(gateway.address).await;
    let upload = client.start(request(Method::POST, UPLOAD), false).await;
    assert_eq!(upload.answer().await.unwrap().json().await["code"], "client_stalled");
    gateway.await_metric("krypton_probes_running 0").await;
}

// === bounds ===

#[tokio::test]
async fn only_so_many_run_at_one_time() {
    let gateway = gateway().await;
    let running = fill(&gateway).await;
    let mut client = Client::connect(gateway.address).await;
    for answer in [client.get(LONG).await, client.post(UPLOAD, "x").await] {
        assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("probe_busy")));
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    drop(running);
    gateway.await_metric("krypton_probes_running 0").await;
    assert_eq!(client.post(UPLOAD, "x").await.status, 200);
    counts_no_call(&gateway);
}

#[tokio::test]
async fn it_can_be_turned_off() {
    let mut setup = Setup::default();
    setup.policy.answers_probe = false;
    let gateway = setup.start(vec![]).await;
    let mut client = Client::connect(gateway.address).await;
    for answer in
        [client.get(STREAM).await, client.get(&format!("{STREAM}?x")).await, client.post(UPLOAD, "x").await]
    {
        assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("probe_disabled")));
    }
    counts_no_call(&gateway);
}

#[tokio::test]
async fn what_it_cannot_do_is_told_in_a_sentence() {
    let gateway = gateway().await;
    let mut client = Client::connect(gateway.address).await;
    for (query, words) in [
        ("events=601", "events must be a whole number from 1 to 600"),
        ("interval=5", "interval must be a whole number of milliseconds from 10 to 60000"),
        ("silence=900001", "silence must be a whole number of milliseconds from 1 to 900000"),
        ("format=xml", "format must be sse or ndjson"),
        ("silence=1&events=1", "silence cannot go together with events or interval"),
    ] {
        let answer = client.get(&format!("{STREAM}?{query}")).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("bad_probe")), "{query}");
        assert_eq!(answer.json()["error"], words);
    }
    client.send(format!("GET {STREAM} HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi")).await;
    assert_eq!(client.answer().await.json()["error"], "the stream of the probe takes no request body");
    let posted = client.post(STREAM, "").await;
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET")));
    let got = client.get(UPLOAD).await;
    assert_eq!(
        (got.status, got.header("allow"), got.json()["code"].as_str()),
        (405, Some("POST"), Some("method_not_allowed"))
    );
    counts_no_call(&gateway);
}

#[tokio::test]
async fn the_paths_are_exact() {
    let gateway = gateway().await;
    let mut client = Client::connect(gateway.address).await;
    for target in ["/v1/agents/_probe/other", "/v1/agents/_probe", "/v1/agents/_probe/stream/x"] {
        let answer = client.get(target).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("not_found")), "{target}");
    }
    let answer = client.get("/v1/agents/_probes/stream").await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("bad_path")));
}

#[tokio::test]
async fn it_needs_no_table_but_an_allowed_host() {
    let mut setup = Setup { freshness: Freshness::Empty, ..Setup::default() };
    setup.policy.allowed_hosts = AllowedHosts::new(vec!["public.example".to_owned()]);
    let gateway = setup.start(vec![]).await;
    let mut client = Client::connect(gateway.address).await;
    let target = format!("{STREAM}?events=1");
    assert_eq!(client.get(&target).await.json()["code"], "host_not_allowed");
    client.send(format!("GET {target} HTTP/1.1\r\nHost: public.example\r\n\r\n")).await;
    assert_eq!(data(&client.answer().await.body)["sequence"], 1);
    client.send("GET /v1/agents/ns/agent HTTP/1.1\r\nHost: public.example\r\n\r\n").await;
    assert_eq!(client.answer().await.json()["code"], "gateway_not_ready");
}

// === the drain ===

#[tokio::test]
async fn a_stopping_gateway_ends_streams_cleanly() {
    let gateway = gateway().await;
    let (mut client, _) = begin(&gateway, LONG).await;
    client.chunk().await.unwrap();
    let h2 = H2Client::connect(gateway.address).await;
    let mut answer = h2.get(LONG).await;
    answer.chunk().await.unwrap().unwrap();
    gateway.drain.begin();
    assert!(client.is_silent_for(Duration::from_millis(50)).await, "they go on while others come");
    let start = Instant::now();
    gateway.drain.stop();
    assert_eq!(client.chunk().await, None, "a clean end");
    assert_eq!(client.end().await, (vec![], End::Closed));
    assert!(answer.chunk().await.is_none(), "a clean end");
    h2.closed().await.expect("a clean end");
    assert_eq!(soon("the exit", gateway.serving).await.unwrap(), 0, "none was cut");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_the_exit() {
    let gateway = gateway().await;
    let client = H2Client::connect_with_window(gateway.address, 0).await;
    let _answer = client.get(LONG).await;
    gateway.drain.stop();
    assert_eq!(soon("the exit", gateway.serving).await.unwrap(), 0);
}

#[tokio::test]
async fn a_running_upload_is_a_running_call() {
    let gateway = gateway().await;
    let mut client = Client::connect(gateway.address).await;
    client.send(format!("POST {UPLOAD} HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nha")).await;
    gateway.await_metric("krypton_probes_running 1").await;
    gateway.drain.stop();
    client.send("lf").await;
    let answer = client.answer().await;
    assert_eq!((answer.json()["bytes"].as_u64(), answer.header("connection")), (Some(4), Some("close")));
    assert_eq!(soon("the exit", gateway.serving).await.unwrap(), 0);
}
