//! Upgraded connections: after the 101 the gateway passes bytes and knows nothing of them.

use std::time::{Duration, Instant};

use crate::support::agent::{Conn, ManualAgent, header};
use crate::support::client::{Client, End, status_of};
use crate::support::{Setup, TestGateway, mk_route_with_timeout};
use krypton_gateway::server::ConnectionLimits;
use tokio::io::AsyncWriteExt as _;

const HANDSHAKE: &str = "GET /v1/agents/ns/agent/ws HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// Longer than a busy machine takes to shake hands, shorter than any silence in these tests.
const LIMIT: Duration = Duration::from_secs(1);

/// A gateway with every limit at [`LIMIT`], a client that has sent its handshake, and the agent's side of it.
async fn begin_handshake() -> (TestGateway, Client, Conn, String) {
    let mut agent = ManualAgent::start().await;
    let mut setup = Setup {
        limits: ConnectionLimits { connections: 10, header: LIMIT, idle: LIMIT },
        drain_timeout: LIMIT,
        ..Setup::default()
    };
    setup.policy.connect_timeout = Duration::from_secs(2);
    setup.policy.upload_timeout = LIMIT;
    setup.policy.client_write_timeout = LIMIT;
    let gateway = setup.start(vec![("ns/agent", mk_route_with_timeout(&[agent.address], LIMIT))]).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(HANDSHAKE).await;
    let mut conn = agent.accept().await;
    let head = conn.expect_head().await;
    (gateway, client, conn, head)
}

/// The same with the handshake done.
async fn open_tunnel() -> (TestGateway, Client, Conn) {
    let (gateway, mut client, mut conn, _) = begin_handshake().await;
    conn.write(ACCEPTED).await;
    assert_eq!(status_of(&client.head().await), 101);
    (gateway, client, conn)
}

#[tokio::test]
async fn the_handshake_passes_both_ways() {
    let (_gateway, mut client, mut conn, seen) = begin_handshake().await;
    assert!(seen.starts_with("GET /ws HTTP/1.1\r\n"), "{seen}");
    assert_eq!(header(&seen, "connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(header(&seen, "upgrade"), Some("websocket"));
    assert_eq!(header(&seen, "sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    conn.write(ACCEPTED).await;
    let head = client.head().await;
    assert_eq!(status_of(&head), 101);
    assert_eq!(header(&head, "connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(header(&head, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for framing in ["content-length", "transfer-encoding"] {
        assert_eq!(header(&head, framing), None);
    }
}

#[tokio::test]
async fn bytes_pass_both_ways_at_once() {
    let (_gateway, mut client, mut conn) = open_tunnel().await;
    for nth in 0..50u8 {
        let frame = [0x82, 4, nth, 0, b'\r', b'\n'];
        client.send(frame).await;
        conn.expect(frame).await;
        conn.write([frame, frame].concat()).await;
        client.expect([frame, frame].concat()).await;
    }
}

#[tokio::test]
async fn bytes_that_come_with_the_101_are_not_lost() {
    let (_gateway, mut client, mut conn, _) = begin_handshake().await;
    conn.write(format!("{ACCEPTED}hello")).await;
    assert_eq!(status_of(&client.head().await), 101);
    client.expect("hello").await;
}

#[tokio::test]
async fn a_silent_tunnel_is_never_cut() {
    let (_gateway, mut client, mut conn) = open_tunnel().await;
    assert!(client.is_silent_for(LIMIT * 5 / 2).await);
    client.send("still").await;
    conn.expect("still").await;
    assert!(client.is_silent_for(LIMIT * 5 / 2).await);
    conn.write("there").await;
    client.expect("there").await;
}

#[tokio::test]
async fn an_agent_that_does_not_answer_the_handshake_is_timed_out() {
    let begun = Instant::now();
    let (gateway, mut client, mut conn, _) = begin_handshake().await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (504, "upstream_timeout"));
    assert!(begun.elapsed() >= LIMIT);
    conn.await_close().await;
    gateway.await_outcome("timeout", 1).await;
}

#[tokio::test]
async fn a_client_that_closes_is_seen_by_the_agent() {
    let (gateway, client, mut conn) = open_tunnel().await;
    drop(client);
    conn.await_close().await;
    gateway.await_metric(r#"krypton_standing_streams{agent="agent",namespace="ns"} 0"#).await;
    gateway.await_outcome("ok", 1).await;
}

#[tokio::test]
async fn an_agent_that_closes_is_seen_by_the_client() {
    let (gateway, mut client, mut conn) = open_tunnel().await;
    conn.write("bye").await;
    conn.tcp.shutdown().await.unwrap();
    assert_eq!(client.end().await, (b"bye".to_vec(), End::Closed));
    gateway.await_outcome("ok", 1).await;
}

#[tokio::test]
async fn an_agent_that_resets_a_tunnel_is_seen_by_the_client() {
    let (gateway, mut client, conn) = open_tunnel().await;
    conn.reset();
    assert_eq!(client.end().await, (vec![], End::Reset));
    gateway.await_outcome("upstream_reset", 1).await;
}

#[tokio::test]
async fn a_handshake_that_is_refused_is_an_ordinary_answer() {
    let (gateway, mut client, mut conn, _) = begin_handshake().await;
    conn.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text(), answer.header("connection")), (403, "no", Some("keep-alive")));
    gateway.await_outcome("ok", 1).await;
}

#[tokio::test]
async fn an_ordinary_answer_to_a_handshake_may_not_be_silent_for_ever() {
    let (gateway, mut client, mut conn, _) = begin_handshake().await;
    conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.head().await;
    for _ in 0..4 {
        tokio::time::sleep(LIMIT / 2).await;
        conn.write("1\r\nx\r\n").await;
        client.chunk().await.unwrap();
    }
    assert_eq!(client.end().await.1, End::Reset);
    conn.await_close().await;
    gateway.await_outcome("timeout", 1).await;
}

#[tokio::test]
async fn a_tunnel_is_a_standing_stream() {
    let (gateway, client, _conn) = open_tunnel().await;
    gateway.await_metric(r#"krypton_standing_streams{agent="agent",namespace="ns"} 1"#).await;
    gateway.await_metric(r#"krypton_in_flight{agent="agent",namespace="ns"} 0"#).await;
    drop(client);
    gateway.await_metric(r#"krypton_invocations_total{agent="agent",namespace="ns",status="101"} 1"#).await;
}

/// curl and Java offer HTTP/2 this way with any request. Nobody has to take the offer up, RFC 9110 §7.8.
#[tokio::test]
async fn an_upgrade_to_anything_else_is_an_ordinary_call() {
    for offer in ["h2c", "TLS/1.0", "h2c, websocket"] {
        let mut agent = ManualAgent::start().await;
        let route = mk_route_with_timeout(&[agent.address], LIMIT);
        let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
        let mut client = Client::connect(gateway.address).await;
        client
            .send(format!(
                "GET /v1/agents/ns/agent HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: {offer}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
            ))
            .await;
        let (mut conn, request) = agent.request().await;
        for hop in ["connection", "upgrade", "http2-settings"] {
            assert_eq!(header(&request.head, hop), None, "{offer}");
        }
        gateway.await_metric(r#"krypton_in_flight{agent="agent",namespace="ns"} 1"#).await;
        assert_eq!(client.answer().await.status, 504, "{offer}: its timeout is that of a call");
        conn.await_close().await;
    }
}
