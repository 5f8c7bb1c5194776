//! The two steps of a drain: what is told, what is closed, and what goes on to its end.

use std::time::Duration;

use http::{Method, Request, Response};
use krypton_discovery::AppProtocol;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::support::agent::{ScriptedAgent, header};
use crate::support::client::{Client, End};
use crate::support::h2::{H2Agent, H2Client, request, soon};
use crate::support::{Setup, TestGateway, await_that, mk_route};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const AGENT: &str = "/v1/agents/ns/agent";
const CALL: &str = "GET /v1/agents/ns/agent HTTP/1.1\r\nHost: t\r\n\r\n";
const STANDING: &str =
    "GET /v1/agents/ns/agent/events HTTP/1.1\r\nHost: t\r\nAccept: text/event-stream\r\n\r\n";
const UPGRADE: &str = "GET /v1/agents/ns/agent/socket HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// An agent whose answers wait for the gate: `/events` streams, `/socket` switches protocols, `/mute` waits with
/// its head, `/now` does not wait, all others send half of their answer first.
async fn gated_agent() -> (ScriptedAgent, watch::Sender<bool>) {
    let (gate, opened) = watch::channel(false);
    let agent = ScriptedAgent::start(move |mut conn| {
        let mut opened = opened.clone();
        async move {
            while let Some(head) = conn.head().await {
                match head.split(' ').nth(1).expect("a target") {
                    "/now" => conn.write(OK).await,
                    "/events" => {
                        conn.write(format!("{STREAM}2\r\n1\n\r\n")).await;
                        conn.await_close().await;
                        return;
                    }
                    "/socket" => {
                        conn.write(
                            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi",
                        )
                        .await;
                        conn.await_close().await;
                        return;
                    }
                    "/mute" => conn.await_close().await,
                    _ => {
                        let length = header(&head, "content-length").map_or(0, |length| length.parse().expect("a length"));
                        conn.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
                        conn.take(length).await.expect("the upload");
                        opened.wait_for(|open| *open).await.expect("the test");
                        conn.write("world").await;
                    }
                }
            }
        }
    })
    .await;
    (agent, gate)
}

/// A gateway's exit: how many connections were cut.
async fn exit(gateway: TestGateway) -> usize {
    soon("the end of the gateway", gateway.serving).await.expect("the server's task")
}

/// Waits until the listener is gone.
async fn refuses(gateway: &TestGateway) {
    let refused = async {
        // What the kernel had already accepted is reset; then there is nobody to accept.
        while TcpStream::connect(gateway.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon("the listener's end", refused).await;
}

#[tokio::test]
async fn beginning_says_goodbye_and_goes_on_accepting() {
    let (agent, gate) = gated_agent().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut kept = Client::connect(gateway.address).await;
    assert_eq!(kept.get("/v1/agents/ns/agent/now").await.header("connection"), Some("keep-alive"));
    let mut waiting = Client::connect(gateway.address).await;
    waiting.send("GET /v1/agents/ns/agent/mute HTTP/1.1\r\nHost: t\r\n\r\n").await;
    gateway.await_metric(r#"krypton_in_flight{agent="agent",namespace="ns"} 1"#).await;
    gateway.drain.begin();

    // A connection from before, and new ones: calls, answers of ours, probes.
    let mut fresh = Vec::new();
    for target in ["/v1/agents/ns/agent/now", "/v1/agents/ns/unknown", "/nowhere", "/healthz"] {
        let mut client = Client::connect(gateway.address).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n")).await;
        fresh.push(client);
    }
    kept.send(format!("GET {AGENT}/now HTTP/1.1\r\nHost: t\r\n\r\n")).await;
    fresh.push(kept);
    for mut client in fresh {
        assert_eq!(client.answer().await.header("connection"), Some("close"));
        assert_eq!(client.end().await, (vec![], End::Closed));
    }
    gate.send(true).unwrap();
    assert!(!gateway.serving.is_finished());
}

#[tokio::test]
async fn beginning_reaches_calls_that_were_running() {
    let (gate, opened) = watch::channel(false);
    let agent = ScriptedAgent::start(move |mut conn| {
        let mut opened = opened.clone();
        async move {
            conn.request().await;
            opened.wait_for(|open| *open).await.unwrap();
            conn.write(OK).await;
        }
    })
    .await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(CALL).await;
    await_that("the call", || agent.connections() == 1).await;
    gateway.drain.begin();
    gate.send(true).unwrap();
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.header("connection")), ("ok", Some("close")));
    assert_eq!(client.end().await, (vec![], End::Closed));
}

#[tokio::test]
async fn beginning_sends_goaway_and_streams_finish() {
    let (agent, gate) = gated_agent().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let client = H2Client::connect(gateway.address).await;
    let mut answer = client.get(AGENT).await;
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "hello");
    let idle = H2Client::connect(gateway.address).await;
    assert_eq!(idle.get("/healthz").await.status, 200);
    gateway.drain.begin();
    idle.closed().await.expect("a clean end");
    // It says so before the stream has ended: no new stream is begun.
    soon("the GOAWAY", client.refuses_streams()).await;
    gate.send(true).unwrap();
    assert_eq!(answer.text().await, "world");
    client.closed().await.expect("a clean end");
    gateway.await_outcome("ok", 1).await;
}

#[tokio::test]
async fn between_the_steps_new_http2_connections_are_served() {
    let (agent, _gate) = gated_agent().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    gateway.drain.begin();
    for _ in 0..3 {
        let mut client = H2Client::connect(gateway.address).await;
        // The gateway's settings have come, and whatever else it has to say.
        client.ping().await;
        assert_eq!(client.get("/v1/agents/ns/agent/now").await.text().await, "ok");
        client.closed().await.expect("a clean end");
    }
}

#[tokio::test]
async fn stopping_refuses_new_connections_and_ends_idle_ones() {
    let (agent, _gate) = gated_agent().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut kept = Client::connect(gateway.address).await;
    assert_eq!(kept.get("/v1/agents/ns/agent/now").await.status, 200);
    let mut fresh = Client::connect(gateway.address).await;
    let h2 = H2Client::connect(gateway.address).await;
    assert_eq!(h2.get("/healthz").await.status, 200);
    let fresh_h2 = H2Client::connect(gateway.address).await;
    gateway.await_metric("krypton_connections 4").await;
    gateway.drain.stop();
    assert_eq!(kept.end().await, (vec![], End::Closed));
    assert_eq!(fresh.end().await, (vec![], End::Closed));
    h2.closed().await.expect("a clean end");
    fresh_h2.closed().await.ok();
    refuses(&gateway).await;
    gateway.await_metric("krypton_connections 0").await;
    assert_eq!(exit(gateway).await, 0);
}

#[tokio::test]
async fn stopping_serves_what_has_begun_to_ask() {
    let (agent, _gate) = gated_agent().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut kept = Client::connect(gateway.address).await;
    assert_eq!(kept.get("/v1/agents/ns/agent/now").await.status, 200);
    let mut one_byte = Client::connect(gateway.address).await;
    let mut half = Client::connect(gateway.address).await;
    one_byte.send("G").await;
    half.send("GET /v1/agents/ns/agent/now HTTP/1.1\r\nHo").await;
    kept.send("GET /v1/agents/ns").await;
    gateway.await_metric("krypton_connections 3").await;
    // A whole call to be sure that the bytes above were read.
    assert_eq!(Client::connect(gateway.address).await.get("/healthz").await.status, 200);
    gateway.drain.stop();
    refuses(&gateway).await;
    one_byte.send("ET /v1/agents/ns/agent/now HTTP/1.1\r\nHost: t\r\n\r\n").await;
    half.send("st: t\r\n\r\n").await;
    kept.send("/agent/now HTTP/1.1\r\nHost: t\r\n\r\n").await;
    for mut client in [one_byte, half, kept] {
        let answer = client.answer().await;
        assert_eq!((answer.text(), answer.header("connection")), ("ok", Some("close")));
        assert_eq!(client.end().await, (vec![], End::Closed));
    }
    assert_eq!(exit(gateway).await, 0);
}

#[tokio::test]
async fn stopping_serves_what_the_kernel_holds() {
    use std::io::{Read as _, Write as _};
    const PROBE: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n";
    let gateway = Setup::default().start(vec![]).await;
    let mut kept = Client::connect(gateway.address).await;
    assert_eq!(kept.get("/healthz").await.status, 200);
    // Nothing here gives the gateway time to look: a new connection, and a next call on a kept one.
    kept.tcp.try_write(PROBE).unwrap();
    let mut client = std::net::TcpStream::connect(gateway.address).unwrap();
    client.write_all(PROBE).unwrap();
    gateway.drain.stop();
    let answer = kept.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(exit(gateway).await, 0);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn running_calls_and_uploads_finish_whole() {
    let (agent, gate) = gated_agent().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut answered = Client::connect(gateway.address).await;
    answered.send(CALL).await;
    answered.head().await;
    assert_eq!(answered.take(5).await, b"hello");
    let mut uploading = Client::connect(gateway.address).await;
    uploading.send("POST /v1/agents/ns/agent HTTP/1.1\r\nHost: t\r\nContent-Length: 8\r\n\r\nhalf").await;
    uploading.head().await;
    let h2 = H2Client::connect(gateway.address).await;
    let mut stream = h2.get(AGENT).await;
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "hello");
    gateway.drain.stop();
    refuses(&gateway).await;
    uploading.send("half").await;
    gate.send(true).unwrap();
    assert_eq!(answered.end().await, (b"world".to_vec(), End::Closed));
    assert_eq!(uploading.end().await, (b"helloworld".to_vec(), End::Closed));
    assert_eq!(stream.text().await, "world");
    gateway.await_outcome("ok", 3).await;
    assert_eq!(exit(gateway).await, 0);
}

#[tokio::test]
async fn a_standing_stream_ends_as_if_the_agent_had_ended_it() {
    let (agent, _gate) = gated_agent().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(STANDING).await;
    client.head().await;
    assert_eq!(client.chunk().await.unwrap(), b"1\n");
    // The first step leaves it alone.
    gateway.drain.begin();
    assert!(client.is_silent_for(Duration::from_millis(50)).await);
    gateway.drain.stop();
    assert_eq!(client.chunk().await, None, "the last chunk");
    assert_eq!(client.end().await, (vec![], End::Closed));
    gateway.await_outcome("drained", 1).await;
    assert_eq!(exit(gateway).await, 0);
}

/// A standing stream's request.
fn standing(target: &str) -> Request<()> {
    let mut asked = request(Method::GET, target);
    asked.headers_mut().insert("accept", "text/event-stream".parse().expect("a value"));
    asked
}

#[tokio::test]
async fn a_standing_stream_over_http2_ends_as_if_the_agent_had_ended_it() {
    let (agent, gate) = gated_agent().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let client = H2Client::connect(gateway.address).await;
    let mut events = client.start(standing("/v1/agents/ns/agent/events"), true).await.answer().await.unwrap();
    assert_eq!(events.chunk().await.unwrap().unwrap(), "1\n");
    let unanswered = client.start(standing("/v1/agents/ns/agent/mute"), true).await;
    let mut neighbour = client.get(AGENT).await;
    assert_eq!(neighbour.chunk().await.unwrap().unwrap(), "hello");
    await_that("the calls", || agent.connections() == 3).await;
    gateway.drain.stop();
    assert!(events.chunk().await.is_none(), "a clean end");
    let mut refused = unanswered.answer().await.unwrap();
    assert_eq!((refused.status, refused.json().await["code"].as_str()), (503, Some("shutting_down")));
    gate.send(true).unwrap();
    assert_eq!(neighbour.text().await, "world");
    gateway.await_outcome("drained", 1).await;
    gateway.await_outcome("shutdown", 1).await;
    assert_eq!(exit(gateway).await, 0);
}

#[tokio::test]
async fn a_standing_stream_of_an_http2_agent_ends_cleanly_and_alone() {
    let (gate, opened) = watch::channel(false);
    let agent = H2Agent::start(move |request, mut respond| {
        let mut opened = opened.clone();
        async move {
            let answer = Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
            let mut stream = respond.send_response(answer, false).unwrap();
            stream.send_data("begun".into(), false).unwrap();
            if request.uri().path() == "/events" {
                std::future::poll_fn(|cx| stream.poll_reset(cx)).await.ok();
                return;
            }
            opened.wait_for(|open| *open).await.unwrap();
            stream.send_data("ended".into(), true).unwrap();
        }
    })
    .await;
    let mut route = mk_route(&[agent.address]);
    route.app_protocol = AppProtocol::H2c;
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let client = H2Client::connect(gateway.address).await;
    let mut neighbour = client.get(AGENT).await;
    assert_eq!(neighbour.chunk().await.unwrap().unwrap(), "begun");
    let mut events = client.start(standing("/v1/agents/ns/agent/events"), true).await.answer().await.unwrap();
    assert_eq!(events.chunk().await.unwrap().unwrap(), "begun");
    gateway.drain.stop();
    assert!(events.chunk().await.is_none(), "a clean end");
    gate.send(true).unwrap();
    assert_eq!(neighbour.text().await, "ended");
    gateway.await_outcome("drained", 1).await;
    assert_eq!(exit(gateway).await, 0);
}

#[tokio::test]
async fn a_standing_stream_without_an_answer_gets_a_503() {
    let (agent, _gate) = gated_agent().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client
        .send("GET /v1/agents/ns/agent/mute HTTP/1.1\r\nHost: t\r\nAccept: text/event-stream\r\n\r\n")
        .await;
    await_that("the call", || agent.connections() == 1).await;
    gateway.drain.stop();
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("shutting_down")));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.end().await, (vec![], End::Closed));
    gateway.await_outcome("shutdown", 1).await;
    assert_eq!(exit(gateway).await, 0);
}

#[tokio::test]
async fn a_websocket_is_closed_and_not_reset() {
    let (agent, _gate) = gated_agent().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(UPGRADE).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    assert_eq!(client.take(2).await, b"hi");
    gateway.drain.stop();
    assert_eq!(client.end().await, (vec![], End::Closed));
    assert_eq!(exit(gateway).await, 0);
}

#[tokio::test]
async fn what_outlives_the_drain_timeout_is_cut_and_counted() {
    let (agent, _gate) = gated_agent().await;
    let setup = Setup { drain_timeout: Duration::from_millis(300), ..Setup::default() };
    let mut gateway = setup.start(vec![("ns/agent", mk_route(&[agent.address]))]).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(gateway.address).await;
        client.send(CALL).await;
        client.head().await;
        assert_eq!(client.take(5).await, b"hello");
        slow.push(client);
    }
    let h2 = H2Client::connect(gateway.address).await;
    let mut stream = h2.get("/v1/agents/ns/agent/").await;
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "hello");
    let mut quick = Client::connect(gateway.address).await;
    assert_eq!(quick.get("/v1/agents/ns/agent/now").await.status, 200);
    gateway.drain.stop();
    assert_eq!(soon("the end of the gateway", &mut gateway.serving).await.unwrap(), 3);
    assert_eq!(gateway.outcomes("shutdown"), 3, "each is accounted for by then");
    for client in &mut slow {
        assert_eq!(client.end().await, (vec![], End::Reset));
    }
    stream.chunk().await.expect("no clean end").unwrap_err();
}

#[tokio::test]
async fn an_answer_that_is_no_event_stream_is_not_ended_half() {
    let (gate, opened) = watch::channel(false);
    let agent = ScriptedAgent::start(move |mut conn| {
        let mut opened = opened.clone();
        async move {
            conn.request().await;
            conn.write("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n").await;
            conn.write("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
            opened.wait_for(|open| *open).await.unwrap();
            conn.write("5\r\nwhole\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send("GET /v1/agents/ns/agent/report HTTP/1.1\r\nHost: t\r\n").await;
    client.send("Accept: application/json, text/event-stream\r\n\r\n").await;
    client.head().await;
    assert_eq!(client.chunk().await.unwrap(), b"half");
    gateway.drain.stop();
    gate.send(true).unwrap();
    assert_eq!(client.chunk().await.unwrap(), b"whole");
    assert_eq!(client.chunk().await, None);
    assert_eq!(exit(gateway).await, 0);
}
