//! Streams: nothing is held back in either direction, and whoever leaves is noticed at once.

use std::time::Duration;

use crate::support::agent::{Conn, ManualAgent, ScriptedAgent, header};
use crate::support::client::{Client, End, status_of};
use crate::support::{Setup, TestGateway, mk_route, mk_route_with_timeout};
use krypton_gateway::server::ConnectionLimits;
use tokio::io::AsyncWriteExt as _;

const TARGET: &str = "/v1/agents/ns/agent";
const GET: &str = "GET /v1/agents/ns/agent HTTP/1.1\r\nHost: test\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A gateway, a client whose GET was sent, and the agent's side of it.
async fn begin_call() -> (TestGateway, Client, Conn) {
    let mut agent = ManualAgent::start().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(GET).await;
    let (conn, _) = agent.request().await;
    (gateway, client, conn)
}

fn chunk(bytes: &str) -> String {
    format!("{:x}\r\n{bytes}\r\n", bytes.len())
}

#[tokio::test]
async fn a_head_passes_before_any_byte_of_its_body() {
    for framing in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        let (_gateway, mut client, mut conn) = begin_call().await;
        conn.write(format!("HTTP/1.1 200 OK\r\n{framing}\r\n")).await;
        assert_eq!(status_of(&client.head().await), 200, "{framing}");
    }
}

#[tokio::test]
async fn a_head_and_a_body_that_are_both_there_come_in_one_packet() {
    let (_gateway, mut client, mut conn) = begin_call().await;
    for packets in 1..20 {
        conn.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde").await;
        client.head().await;
        client.expect("abcde").await;
        assert_eq!(client.packets(), packets);
        client.send(GET).await;
        conn.expect_request().await;
    }
}

#[tokio::test]
async fn a_part_of_a_body_of_known_length_passes_at_once() {
    let (_gateway, mut client, mut conn) = begin_call().await;
    conn.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na").await;
    assert_eq!(header(&client.head().await, "content-length"), Some("5"));
    client.expect("a").await;
    for byte in ["b", "c", "d", "e"] {
        conn.write(byte).await;
        client.expect(byte).await;
    }
    client.send(GET).await;
    conn.expect_request().await;
    conn.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(status_of(&client.head().await), 204, "both connections are kept");
}

#[tokio::test]
async fn events_pass_one_by_one() {
    let (_gateway, mut client, mut conn) = begin_call().await;
    conn.write(EVENTS).await;
    assert_eq!(header(&client.head().await, "content-type"), Some("text/event-stream"));
    for nth in 0..100 {
        // The next one is not even written before this one has arrived.
        let event = format!("data: {nth}\n\n");
        conn.write(chunk(&event)).await;
        assert_eq!(client.chunk().await.unwrap(), event.as_bytes());
    }
    conn.write("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn nginx_in_front_is_told_not_to_buffer_events_and_only_those() {
    for (content_type, told) in [
        ("text/event-stream", Some("no")),
        ("text/event-stream; charset=utf-8", Some("no")),
        ("application/json", None),
        ("text/event-streams", None),
    ] {
        let (_gateway, mut client, mut conn) = begin_call().await;
        conn.write(format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: 0\r\n\r\n"))
            .await;
        assert_eq!(header(&client.head().await, "x-accel-buffering"), told, "{content_type}");
    }
}

#[tokio::test]
async fn an_upload_reaches_the_agent_while_it_is_sent() {
    let mut agent = ManualAgent::start().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    for (framing, first, second, last) in [
        ("Transfer-Encoding: chunked", "3\r\none\r\n", "3\r\ntwo\r\n", "0\r\n\r\n"),
        ("Content-Length: 9", "one", "two", "end"),
    ] {
        let mut client = Client::connect(gateway.address).await;
        client.send(format!("POST {TARGET} HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n")).await;
        let mut conn = agent.accept().await;
        conn.expect_head().await;
        for part in [first, second, last] {
            client.send(part).await;
            conn.expect(part).await;
        }
        conn.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn both_directions_stream_at_the_same_time() {
    let mut agent = ManualAgent::start().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(format!("POST {TARGET} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    let mut conn = agent.accept().await;
    conn.expect_head().await;
    conn.write(CHUNKED).await;
    client.head().await;
    for nth in 0..20 {
        let (up, down) = (chunk(&format!("up {nth}")), format!("down {nth}"));
        client.send(&up).await;
        conn.expect(&up).await;
        conn.write(chunk(&down)).await;
        assert_eq!(client.chunk().await.unwrap(), down.as_bytes());
    }
    client.send("0\r\n\r\n").await;
    conn.expect("0\r\n\r\n").await;
    conn.write("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
    gateway.await_outcome("ok", 1).await;
}

#[tokio::test]
async fn large_bodies_pass_whole_in_both_directions() {
    let body: String = (0..400_000).map(|nth: u32| char::from(b'a' + (nth % 23) as u8)).collect();
    let (agent, mut requests) =
        ScriptedAgent::answering(String::leak(format!("{CHUNKED}{}0\r\n\r\n", chunk(&body)))).await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    let answer = client.post(TARGET, &body).await;
    assert!(answer.body == body.as_bytes(), "{} bytes came", answer.body.len());
    assert!(requests.recv().await.unwrap().body == body.as_bytes());
}

/// How a client can leave.
#[derive(Debug, Clone, Copy)]
enum Leave {
    Close,
    Reset,
    HalfClose,
}

const LEAVES: [Leave; 3] = [Leave::Close, Leave::Reset, Leave::HalfClose];

impl Leave {
    /// Leaves. What is returned has to live until the test ends.
    async fn leave(self, mut client: Client) -> Option<Client> {
        match self {
            Self::Close => None,
            Self::Reset => {
                client.reset();
                None
            }
            Self::HalfClose => {
                client.tcp.shutdown().await.expect("it is open");
                Some(client)
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_stream_frees_the_agent_at_once() {
    for leave in LEAVES {
        let (gateway, mut client, mut conn) = begin_call().await;
        conn.write(EVENTS).await;
        client.head().await;
        conn.write(chunk("data: 1\n\n")).await;
        client.chunk().await.unwrap();
        let _open = leave.leave(client).await;
        conn.await_close().await;
        gateway.await_outcome("client_abort", 1).await;
        gateway.await_metric(r#"krypton_in_flight{agent="agent",namespace="ns"} 0"#).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_frees_the_agent_at_once() {
    for leave in LEAVES {
        let (gateway, client, mut conn) = begin_call().await;
        let _open = leave.leave(client).await;
        conn.await_close().await;
        gateway.await_outcome("client_abort", 1).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_upload_frees_the_agent_at_once() {
    for leave in LEAVES {
        let mut agent = ManualAgent::start().await;
        let gateway = TestGateway::with_agent(agent.address).await;
        let mut client = Client::connect(gateway.address).await;
        client.send(format!("POST {TARGET} HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nsome")).await;
        let mut conn = agent.accept().await;
        conn.expect_head().await;
        conn.expect("some").await;
        let _open = leave.leave(client).await;
        conn.await_close().await;
        gateway.await_outcome("client_abort", 1).await;
        assert!(!agent.was_dialled_again());
    }
}

/// The promise that all of this is for: whatever the limits, a stream that lives is not cut.
#[tokio::test]
async fn a_live_stream_outlives_every_limit() {
    const LIMIT: Duration = Duration::from_secs(2);
    let mut agent = ManualAgent::start().await;
    let mut setup = Setup {
        limits: ConnectionLimits { connections: 10, header: LIMIT, idle: LIMIT },
        drain_timeout: LIMIT,
        ..Setup::default()
    };
    setup.policy.connect_timeout = LIMIT;
    setup.policy.upload_timeout = LIMIT;
    setup.policy.client_write_timeout = LIMIT;
    let route = mk_route_with_timeout(&[agent.address], LIMIT);
    let gateway = setup.start(vec![("ns/agent", route)]).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(GET).await;
    let (mut conn, _) = agent.request().await;
    conn.write(EVENTS).await;
    client.head().await;
    for nth in 0..100 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let event = format!("data: {nth}\n\n");
        conn.write(chunk(&event)).await;
        assert_eq!(client.chunk().await.unwrap(), event.as_bytes());
    }
    conn.write("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
    gateway.await_outcome("ok", 1).await;
    assert_eq!(client_is_kept(&mut client, &mut conn).await, 204);
}

/// The status of one more call over the same two connections.
async fn client_is_kept(client: &mut Client, conn: &mut Conn) -> u16 {
    client.send(GET).await;
    conn.expect_request().await;
    conn.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    status_of(&client.head().await)
}

#[tokio::test]
async fn informational_answers_pass_before_the_final_one() {
    let (gateway, mut client, mut conn) = begin_call().await;
    conn.write("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
    let hints = client.head().await;
    assert_eq!((status_of(&hints), header(&hints, "link")), (103, Some("</a.css>")));
    conn.write("HTTP/1.1 102 Processing\r\n\r\n").await;
    assert_eq!(status_of(&client.head().await), 102);
    conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.text(), "ok");
    gateway.await_metric(r#"krypton_invocations_total{agent="agent",namespace="ns",status="200"} 1"#).await;
    assert_eq!(client_is_kept(&mut client, &mut conn).await, 204);
}

#[tokio::test]
async fn an_old_client_gets_no_informational_answer() {
    let mut agent = ManualAgent::start().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(format!("GET {TARGET} HTTP/1.0\r\n\r\n")).await;
    let (mut conn, _) = agent.request().await;
    conn.write("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "ok"));
}

#[tokio::test]
async fn an_agent_that_fails_after_an_informational_answer_is_told_of_in_an_answer() {
    let (gateway, mut client, mut conn) = begin_call().await;
    conn.write("HTTP/1.1 103 Early Hints\r\n\r\n").await;
    assert_eq!(status_of(&client.head().await), 103);
    conn.reset();
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (502, "upstream_reset"));
    gateway.await_outcome("upstream_reset", 1).await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it_from_the_agent() {
    let mut agent = ManualAgent::start().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client
        .send(format!(
            "POST {TARGET} HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        ))
        .await;
    let mut conn = agent.accept().await;
    assert_eq!(header(&conn.expect_head().await, "expect"), Some("100-continue"));
    assert!(
        client.is_silent_for(Duration::from_millis(50)).await,
        "the gateway does not speak for the agent"
    );
    conn.write("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(status_of(&client.head().await), 100);
    client.send("body").await;
    conn.expect("body").await;
    conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn an_agent_may_refuse_an_upload_that_was_not_sent_yet() {
    let mut agent = ManualAgent::start().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client
        .send(format!(
            "POST {TARGET} HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        ))
        .await;
    let mut conn = agent.accept().await;
    conn.expect_head().await;
    conn.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    drop(conn);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (413, "no"));
    assert_eq!(answer.header("connection"), Some("close"), "nobody knows whether the body still comes");
    assert_eq!(client.end().await, (vec![], End::Closed));
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_reaches_the_client() {
    let mut agent = ManualAgent::start().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(format!("POST {TARGET} HTTP/1.1\r\nHost: test\r\nContent-Length: 99\r\n\r\nsome")).await;
    let mut conn = agent.accept().await;
    conn.expect_head().await;
    conn.expect("some").await;
    conn.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    drop(conn);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (413, "no"));
    gateway.await_outcome("ok", 1).await;
}

/// Closing while the rest of the upload is on its way would reset the connection, and the answer with it.
#[tokio::test]
async fn an_early_answer_reaches_a_client_that_reads_only_after_its_upload() {
    let mut agent = ManualAgent::start().await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    let size = 8 * 1024 * 1024;
    client.send(format!("POST {TARGET} HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n")).await;
    let mut conn = agent.accept().await;
    conn.expect_head().await;
    conn.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    drop(conn);
    let chunk = vec![b'x'; 64 * 1024];
    for _ in 0..size / chunk.len() {
        client.send(&chunk).await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text(), answer.header("connection")), (413, "no", Some("close")));
    assert_eq!(client.end().await, (vec![], End::Closed));
}

#[tokio::test]
async fn an_old_client_gets_a_stream_that_ends_with_the_connection() {
    for keep in ["", "Connection: keep-alive\r\n"] {
        let mut agent = ManualAgent::start().await;
        let gateway = Setup::default().start(vec![("ns/agent", mk_route(&[agent.address]))]).await;
        let mut client = Client::connect(gateway.address).await;
        client.send(format!("GET {TARGET} HTTP/1.0\r\n{keep}\r\n")).await;
        let (mut conn, _) = agent.request().await;
        conn.write(CHUNKED).await;
        let head = client.head().await;
        assert_eq!(header(&head, "transfer-encoding"), None);
        assert_eq!(header(&head, "connection"), Some("close"));
        conn.write(chunk("one")).await;
        client.expect("one").await;
        conn.write(chunk("two")).await;
        client.expect("two").await;
        conn.write("0\r\n\r\n").await;
        assert_eq!(client.end().await, (vec![], End::Closed));
        gateway.await_outcome("ok", 1).await;
    }
}
