//! Agents that break in every way, and clients that send what they should not: one fault, one clear end.

use std::time::{Duration, Instant};

use crate::support::agent::{Conn, ManualAgent, ScriptedAgent, header};
use crate::support::client::{Answer, Client, End, status_of};
use crate::support::{Setup, TestGateway, mk_route, mk_route_with_timeout};
use krypton_discovery::{Endpoint, Route};
use tokio::io::AsyncWriteExt as _;

const TARGET: &str = "/v1/agents/ns/agent";
const GET: &str = "GET /v1/agents/ns/agent HTTP/1.1\r\nHost: test\r\n\r\n";
const OLD_GET: &str = "GET /v1/agents/ns/agent HTTP/1.0\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn is(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)));
}

/// A gateway with one agent, and the agent.
async fn start() -> (TestGateway, ManualAgent) {
    let agent = ManualAgent::start().await;
    (TestGateway::with_agent(agent.address).await, agent)
}

/// A client that has sent `request`, and the agent's side of the call.
async fn call(gateway: &TestGateway, agent: &mut ManualAgent, request: &str) -> (Client, Conn) {
    let mut client = Client::connect(gateway.address).await;
    client.send(request).await;
    let (conn, _) = agent.request().await;
    (client, conn)
}

/// The same, with a first call behind it on both connections: the one to the agent is pooled now.
async fn second_call(gateway: &TestGateway, agent: &mut ManualAgent, request: &str) -> (Client, Conn) {
    let (mut client, mut conn) = call(gateway, agent, GET).await;
    conn.write(OK).await;
    assert_eq!(client.answer().await.status, 200);
    client.send(request).await;
    conn.expect_request().await;
    (client, conn)
}

fn request(method: &str, body: &str) -> String {
    format!("{method} {TARGET} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

// === agents that break ===

#[tokio::test]
async fn an_agent_that_ends_a_fresh_connection_before_its_answer_is_a_502() {
    for (sent, is_reset) in [("", true), ("", false), ("HTTP/1.1 200 OK\r\nConte", false)] {
        let (gateway, mut agent) = start().await;
        let (mut client, mut conn) = call(&gateway, &mut agent, GET).await;
        conn.write(sent).await;
        if is_reset {
            conn.reset();
        } else {
            drop(conn);
        }
        is(&client.answer().await, 502, "upstream_reset");
        assert!(!agent.was_dialled_again(), "the agent may have seen it");
        gateway.await_outcome("upstream_reset", 1).await;
    }
}

#[tokio::test]
async fn an_agent_that_breaks_within_its_body_is_cut_so_that_it_shows() {
    for (request, answer, seen) in [
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "ab"),
        (GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "2\r\nab\r\n"),
        (OLD_GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "ab"),
        (OLD_GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "ab"),
    ] {
        for is_reset in [true, false] {
            let (gateway, mut agent) = start().await;
            let (mut client, mut conn) = call(&gateway, &mut agent, request).await;
            conn.write(answer).await;
            assert_eq!(status_of(&client.head().await), 200);
            client.expect(seen).await;
            if is_reset {
                conn.reset();
            } else {
                drop(conn);
            }
            assert_eq!(client.end().await, (vec![], End::Reset), "{answer}");
            gateway.await_outcome("upstream_reset", 1).await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_the_connection_is_whole() {
    for answer in [
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n",
    ] {
        let (gateway, mut agent) = start().await;
        let (mut client, mut conn) = call(&gateway, &mut agent, GET).await;
        conn.write(answer).await;
        assert_eq!(header(&client.head().await, "transfer-encoding"), Some("chunked"), "{answer}");
        conn.write("one").await;
        assert_eq!(client.chunk().await.unwrap(), b"one");
        drop(conn);
        assert_eq!(client.chunk().await, None);
        gateway.await_outcome("ok", 1).await;
        client.send(GET).await;
        let (mut conn, _) = agent.request().await;
        conn.write(OK).await;
        assert_eq!(client.answer().await.text(), "ok", "the client's connection is kept");

        let mut old = Client::connect(gateway.address).await;
        old.send(OLD_GET).await;
        conn.expect_request().await;
        conn.write(format!("{answer}two")).await;
        drop(conn);
        old.head().await;
        assert_eq!(old.end().await, (b"two".to_vec(), End::Closed));
    }
}

#[tokio::test]
async fn an_answer_that_should_end_with_the_connection_and_is_reset_is_not_whole() {
    for (request, seen) in [(GET, "3\r\none\r\n"), (OLD_GET, "one")] {
        let (gateway, mut agent) = start().await;
        let (mut client, mut conn) = call(&gateway, &mut agent, request).await;
        conn.write("HTTP/1.0 200 OK\r\n\r\none").await;
        client.head().await;
        client.expect(seen).await;
        conn.reset();
        assert_eq!(client.end().await, (vec![], End::Reset));
        gateway.await_outcome("upstream_reset", 1).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_502() {
    let many = "X-Many: 1\r\n".repeat(300);
    let oversized = format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\n", "x".repeat(2 * 1024 * 1024));
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/3.0 200 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        &format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
        &oversized,
        // Nobody asked for it.
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let (gateway, mut agent) = start().await;
        let (mut client, mut conn) = call(&gateway, &mut agent, GET).await;
        let shown = &answer[..answer.len().min(60)];
        let agent = async {
            conn.write(answer).await;
            conn.await_close().await;
        };
        let (answer, ()) = tokio::join!(client.answer(), agent);
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (502, Some("upstream_invalid")),
            "{shown}"
        );
        gateway.await_outcome("upstream_invalid", 1).await;
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_never_become_the_next_one() {
    let (gateway, mut agent) = start().await;
    let (mut client, mut conn) = call(&gateway, &mut agent, GET).await;
    conn.write(format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")).await;
    assert_eq!(client.answer().await.text(), "ok");
    conn.await_close().await;
    client.send(GET).await;
    let (mut conn, _) = agent.request().await;
    conn.write(OK).await;
    assert_eq!(client.answer().await.text(), "ok");
}

// === what is sent twice, and what is not ===

#[tokio::test]
async fn an_idempotent_call_on_a_stale_connection_is_sent_again_with_its_body() {
    for (method, body) in [("GET", ""), ("PUT", "the body"), ("DELETE", ""), ("PUT", "")] {
        let (gateway, mut agent) = start().await;
        let (mut client, conn) = second_call(&gateway, &mut agent, &request(method, body)).await;
        drop(conn);
        let (mut conn, again) = agent.request().await;
        assert_eq!((again.head.split(' ').next().unwrap(), again.body.as_slice()), (method, body.as_bytes()));
        conn.write(OK).await;
        assert_eq!(client.answer().await.text(), "ok");
        gateway.await_outcome("ok", 2).await;
        gateway.await_metric(r#"krypton_retries_total{agent="agent",namespace="ns"} 1"#).await;
    }
}

#[tokio::test]
async fn an_upload_of_an_idempotent_call_goes_on_where_it_was() {
    let (gateway, mut agent) = start().await;
    let (mut client, mut conn) = call(&gateway, &mut agent, GET).await;
    conn.write(OK).await;
    client.answer().await;
    client.send(format!("PUT {TARGET} HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\nthe ")).await;
    conn.expect_head().await;
    conn.expect("the ").await;
    conn.reset();
    let mut conn = agent.accept().await;
    conn.expect_head().await;
    conn.expect("the ").await;
    client.send("body").await;
    conn.expect("body").await;
    conn.write(OK).await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn a_call_that_may_have_been_seen_is_not_sent_again() {
    for body in ["x", ""] {
        for is_reset in [true, false] {
            let (gateway, mut agent) = start().await;
            let (mut client, conn) = second_call(&gateway, &mut agent, &request("POST", body)).await;
            if is_reset {
                conn.reset();
            } else {
                drop(conn);
            }
            is(&client.answer().await, 502, "upstream_reset");
            assert!(!agent.was_dialled_again());
        }
    }
}

#[tokio::test]
async fn a_call_is_not_sent_again_once_its_answer_began() {
    let (gateway, mut agent) = start().await;
    let (mut client, mut conn) = second_call(&gateway, &mut agent, GET).await;
    conn.write("HTTP/1.1 103 Early Hints\r\n\r\n").await;
    assert_eq!(status_of(&client.head().await), 103);
    drop(conn);
    is(&client.answer().await, 502, "upstream_reset");
    assert!(!agent.was_dialled_again());
}

#[tokio::test]
async fn a_silent_stale_connection_is_not_tried_again() {
    let mut agent = ManualAgent::start().await;
    let route = mk_route_with_timeout(&[agent.address], Duration::from_secs(1));
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let (mut client, _conn) = second_call(&gateway, &mut agent, GET).await;
    is(&client.answer().await, 504, "upstream_timeout");
    assert!(!agent.was_dialled_again());
}

#[tokio::test]
async fn the_second_connection_is_fresh_and_the_last_for_what_may_have_been_seen() {
    let (gateway, mut agent) = start().await;
    // Two pooled connections, both about to go stale.
    let (mut one, mut first) = call(&gateway, &mut agent, GET).await;
    let (mut two, mut second) = call(&gateway, &mut agent, GET).await;
    first.write(OK).await;
    second.write(OK).await;
    one.answer().await;
    two.answer().await;
    one.send(GET).await;
    let (stale, mut idle) = tokio::select! {
        _ = first.expect_request() => (first, second),
        _ = second.expect_request() => (second, first),
    };
    drop(stale);
    let (third, _) = agent.request().await;
    drop(third);
    is(&one.answer().await, 502, "upstream_reset");
    assert!(!agent.was_dialled_again());
    idle.await_close().await;
}

#[tokio::test]
async fn dials_are_tried_three_times_at_most() {
    let dead = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoints: Vec<_> = (0..8).map(dead).collect();
    let gateway = Setup::default().start(vec![("ns/agent", mk_route(&endpoints))]).await;
    is(&Client::connect(gateway.address).await.post(TARGET, "x").await, 502, "upstream_refused");
    gateway.await_outcome("upstream_refused", 1).await;
    gateway.await_metric(r#"krypton_retries_total{agent="agent",namespace="ns"} 2"#).await;
}

// === pooled connections ===

#[tokio::test]
async fn an_idle_connection_to_an_agent_is_closed_before_common_servers_would() {
    let (gateway, mut agent) = start().await;
    let (mut client, mut conn) = call(&gateway, &mut agent, GET).await;
    conn.write(OK).await;
    client.answer().await;
    let begun = Instant::now();
    conn.await_close().await;
    assert!(begun.elapsed() >= Duration::from_millis(1300), "about 1.5 s");
}

#[tokio::test]
async fn an_agent_says_how_long_its_connections_are_kept() {
    // A second less than it says: not at all, and for 3 s.
    for (said, least, most) in [(1, 0, 1400), (4, 2800, 10_000)] {
        let (gateway, mut agent) = start().await;
        let (mut client, mut conn) = call(&gateway, &mut agent, GET).await;
        let answer = format!("HTTP/1.1 200 OK\r\nKeep-Alive: timeout={said}\r\nContent-Length: 2\r\n\r\nok");
        conn.write(&answer).await;
        client.answer().await;
        client.send(GET).await;
        conn.expect_request().await;
        conn.write(&answer).await;
        client.answer().await;
        let begun = Instant::now();
        conn.await_close().await;
        let kept = u64::try_from(begun.elapsed().as_millis()).unwrap();
        assert!((least..most).contains(&kept), "timeout={said}: kept for {kept} ms");
    }
}

#[tokio::test]
async fn a_pooled_connection_belongs_to_a_pod_and_not_to_its_address() {
    let mut agent = ManualAgent::start().await;
    let route = |uid: &str| -> Route {
        let uid = Some(uid.into());
        let mut route = mk_route(&[agent.address]);
        route.endpoints = [Endpoint::new(agent.address, uid).expect("an endpoint")].into_iter().collect();
        route
    };
    let (old, new) = (route("uid-1"), route("uid-2"));
    let mut gateway = Setup::default().start(vec![("ns/agent", old)]).await;
    let (mut client, mut conn) = second_call(&gateway, &mut agent, GET).await;
    conn.write(OK).await;
    client.answer().await;
    gateway.upsert("ns/agent", new);
    client.send(GET).await;
    let (mut fresh, _) = agent.request().await;
    fresh.write(OK).await;
    assert_eq!(client.answer().await.text(), "ok");
}

// === what clients send ===

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (gateway, mut agent) = start().await;
    let mut client = Client::connect(gateway.address).await;
    let target = |nth| format!("GET {TARGET}/{nth} HTTP/1.1\r\nHost: test\r\n\r\n");
    client.send([target(1), target(2)].concat()).await;
    let (mut conn, first) = agent.request().await;
    assert!(first.head.starts_with("GET /1 "), "{}", first.head);
    // The third comes while the first is at work.
    client.send(target(3)).await;
    conn.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1").await;
    assert_eq!(client.answer().await.text(), "1");
    for nth in [2, 3] {
        let request = conn.expect_request().await;
        assert!(request.head.starts_with(&format!("GET /{nth} ")), "{}", request.head);
        conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{nth}")).await;
        assert_eq!(client.answer().await.text(), nth.to_string());
    }
    gateway.await_outcome("ok", 3).await;
}

/// What comes early must not blind the gateway to the client, or to its own limits.
#[tokio::test]
async fn a_client_that_sent_more_and_leaves_is_still_seen() {
    let (gateway, mut agent) = start().await;
    let (mut client, mut conn) = call(&gateway, &mut agent, GET).await;
    client.send("\r\n").await;
    drop(client);
    conn.await_close().await;
    gateway.await_outcome("client_abort", 1).await;
}

#[tokio::test]
async fn a_call_with_more_behind_it_is_still_answered_at_its_max_duration() {
    let agent = ManualAgent::start().await;
    let mut route = mk_route(&[agent.address]);
    route.timeouts.max_duration = Some(Duration::from_millis(300));
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(format!("{GET}{GET}")).await;
    is(&client.answer().await, 504, "max_duration");
}

/// Pingora would say nothing at all, and only after an agent was dialled.
#[tokio::test]
async fn a_connection_header_that_cannot_be_forwarded_is_told_so() {
    let (gateway, mut agent) = start().await;
    for bad in ["a,b,c,d,e,f,g,h,i,j", "\"quoted\"", "two words"] {
        let mut client = Client::connect(gateway.address).await;
        client.send(format!("GET {TARGET} HTTP/1.1\r\nHost: test\r\nConnection: {bad}\r\n\r\n")).await;
        is(&client.answer().await, 400, "bad_connection_header");
    }
    assert!(!agent.was_dialled_again());
}

#[tokio::test]
async fn a_request_behind_an_upload_is_not_part_of_it() {
    let (gateway, mut agent) = start().await;
    let mut client = Client::connect(gateway.address).await;
    client.send(format!("{}{GET}", request("POST", "body"))).await;
    let (mut conn, first) = agent.request().await;
    assert_eq!(first.body, b"body");
    conn.write(OK).await;
    assert_eq!(client.answer().await.text(), "ok");
    assert!(conn.expect_request().await.head.starts_with("GET / "));
    conn.write(OK).await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn a_length_that_contradicts_the_chunks_is_not_believed() {
    let (gateway, mut agent) = start().await;
    let mut client = Client::connect(gateway.address).await;
    client
        .send(format!(
            "POST {TARGET} HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nab\r\n0\r\n\r\n"
        ))
        .await;
    let (mut conn, seen) = agent.request().await;
    assert_eq!(header(&seen.head, "content-length"), None);
    assert_eq!(seen.body, b"ab");
    conn.write(OK).await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.header("connection")), ("ok", Some("close")));
    assert_eq!(client.end().await, (vec![], End::Closed));
}

#[tokio::test]
async fn requests_that_are_not_http_are_refused() {
    let (gateway, mut agent) = start().await;
    let large = format!("GET {TARGET} HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "x".repeat(2 * 1024 * 1024));
    let many = "X-Many: 1\r\n".repeat(300);
    for request in [
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : test\r\n\r\n",
        &format!("POST {TARGET} HTTP/1.1\r\nHost: test\r\nContent-Length: 1x\r\n\r\n"),
        &format!("POST {TARGET} HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        &format!("POST {TARGET} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\nab"),
        &format!("GET {TARGET} HTTP/1.1\r\nHost: test\r\n{many}\r\n"),
        &large,
    ] {
        let mut client = Client::connect(gateway.address).await;
        let shown = &request[..request.len().min(60)];
        client.try_send(request).await;
        let (rest, _) = client.end().await;
        assert!(rest.starts_with(b"HTTP/1.1 400 "), "{shown:?}: {:?}", String::from_utf8_lossy(&rest));
    }
    assert!(!agent.was_dialled_again());
}

#[tokio::test]
async fn guessed_names_make_no_series() {
    let (agent, _requests) = ScriptedAgent::answering(OK).await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.get(TARGET).await;
    client.get("/v1/agents/guess/first").await;
    gateway.await_outcome("ok", 1).await;
    let series = || gateway.metrics.encode().expect("metrics").lines().count();
    let before = series();
    for nth in 0..2000 {
        assert_eq!(client.get(&format!("/v1/agents/guess/name-{nth}")).await.status, 404);
    }
    gateway
        .await_metric(
            r#"krypton_outcomes_total{agent="_unknown",namespace="_unknown",outcome="refused"} 2001"#,
        )
        .await;
    assert_eq!(series(), before);
}

#[tokio::test]
async fn a_client_that_goes_before_its_header_is_whole_leaves_nothing_behind() {
    let gateway = Setup::default().start(vec![]).await;
    for sent in ["", "G", "GET / HTTP/1.1\r\nHost:"] {
        let mut client = Client::connect(gateway.address).await;
        client.send(sent).await;
        client.tcp.shutdown().await.unwrap();
        assert_eq!(client.end().await.0, b"");
    }
    gateway.await_metric("krypton_connections 0").await;
}
