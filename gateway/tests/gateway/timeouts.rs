//! Every limit, each alone: who was too slow is told so, and nobody else is blamed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::agent::{Conn, ManualAgent, ScriptedAgent};
use crate::support::client::{Answer, Client, End};
use crate::support::{DEADLINE, Setup, TestGateway, mk_route, mk_route_with_timeout};
use krypton_discovery::Route;
use tokio::io::AsyncWriteExt as _;

const TARGET: &str = "/v1/agents/ns/agent";
const GET: &str = "GET /v1/agents/ns/agent HTTP/1.1\r\nHost: test\r\n\r\n";
const OLD_GET: &str = "GET /v1/agents/ns/agent HTTP/1.0\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const LIMIT: Duration = Duration::from_millis(200);
/// The same where something has to succeed before it passes.
const ROOMY: Duration = Duration::from_secs(1);

fn is(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)));
    assert_eq!(answer.header("retry-after"), None);
}

/// A gateway with one agent, and the agent.
async fn start(setup: Setup, change: impl FnOnce(&mut Route)) -> (TestGateway, ManualAgent) {
    let agent = ManualAgent::start().await;
    let mut route = mk_route(&[agent.address]);
    change(&mut route);
    (setup.start(vec![("ns/agent", route)]).await, agent)
}

/// A client that has sent `request`, and the agent's side of the call.
async fn call(gateway: &TestGateway, agent: &mut ManualAgent, request: &str) -> (Client, Conn) {
    let mut client = Client::connect(gateway.address).await;
    client.send(request).await;
    let mut conn = agent.accept().await;
    conn.expect_head().await;
    (client, conn)
}

// === the agent's side ===

#[tokio::test]
async fn an_agent_that_is_silent_before_its_answer_is_a_504_and_not_asked_again() {
    let (gateway, mut agent) = start(Setup::default(), |route| route.timeouts.timeout = LIMIT).await;
    let begun = Instant::now();
    let (mut client, mut conn) = call(&gateway, &mut agent, GET).await;
    is(&client.answer().await, 504, "upstream_timeout");
    assert!(begun.elapsed() >= LIMIT);
    conn.await_close().await;
    assert!(!agent.was_dialled_again());
    gateway.await_outcome("timeout", 1).await;
}

#[tokio::test]
async fn an_agent_that_is_silent_within_its_head_is_a_504() {
    let (gateway, mut agent) = start(Setup::default(), |route| route.timeouts.timeout = LIMIT).await;
    let (mut client, mut conn) = call(&gateway, &mut agent, GET).await;
    conn.write("HTTP/1.1 200 OK\r\nContent-").await;
    is(&client.answer().await, 504, "upstream_timeout");
}

#[tokio::test]
async fn an_agent_that_falls_silent_within_its_body_is_cut_so_that_it_shows() {
    for (request, answer, seen) in [
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "ab"),
        (GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "2\r\nab\r\n"),
        (GET, "HTTP/1.1 200 OK\r\n\r\nab", "2\r\nab\r\n"),
        (OLD_GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "ab"),
        (OLD_GET, "HTTP/1.0 200 OK\r\n\r\nab", "ab"),
    ] {
        let (gateway, mut agent) = start(Setup::default(), |route| route.timeouts.timeout = ROOMY).await;
        let (mut client, mut conn) = call(&gateway, &mut agent, request).await;
        conn.write(answer).await;
        client.head().await;
        client.expect(seen).await;
        assert_eq!(client.end().await, (vec![], End::Reset), "{answer}");
        conn.await_close().await;
        gateway.await_outcome("timeout", 1).await;
    }
}

#[tokio::test]
async fn an_agent_that_does_not_take_the_upload_is_timed_out_and_not_the_client() {
    let (gateway, mut agent) = start(Setup::default(), |route| route.timeouts.timeout = LIMIT).await;
    let mut client = Client::connect(gateway.address).await;
    let size = 64 * 1024 * 1024;
    client.send(format!("POST {TARGET} HTTP/1.1\r\nHost: t\r\nContent-Length: {size}\r\n\r\n")).await;
    let _silent = agent.accept().await;
    let mut writer = client.writer();
    let upload = async {
        let chunk = vec![b'x'; 64 * 1024];
        for _ in 0..size / chunk.len() {
            if writer.write_all(&chunk).await.is_err() {
                break;
            }
        }
    };
    let (answer, ()) = tokio::join!(client.answer(), upload);
    is(&answer, 504, "upstream_timeout");
    gateway.await_outcome("timeout", 1).await;
}

#[tokio::test]
async fn a_call_takes_no_longer_than_max_duration() {
    let (gateway, mut agent) =
        start(Setup::default(), |route| route.timeouts.max_duration = Some(LIMIT)).await;
    let begun = Instant::now();
    let (mut client, mut conn) = call(&gateway, &mut agent, GET).await;
    is(&client.answer().await, 504, "max_duration");
    assert!(begun.elapsed() >= LIMIT);
    conn.await_close().await;
    assert!(!agent.was_dialled_again());
    gateway.await_outcome("max_duration", 1).await;
}

#[tokio::test]
async fn a_live_stream_is_cut_at_max_duration_so_that_it_shows() {
    for (request, seen) in [(GET, "1\r\nx\r\n"), (OLD_GET, "x")] {
        let (gateway, mut agent) =
            start(Setup::default(), |route| route.timeouts.max_duration = Some(ROOMY)).await;
        let begun = Instant::now();
        let (mut client, mut conn) = call(&gateway, &mut agent, request).await;
        conn.write(CHUNKED).await;
        client.head().await;
        let beat = async {
            loop {
                conn.write("1\r\nx\r\n").await;
                tokio::time::sleep(LIMIT / 10).await;
            }
        };
        let (rest, end) = tokio::select! { end = client.end() => end, () = beat => unreachable!("for ever") };
        assert!(begun.elapsed() >= ROOMY);
        assert_eq!(end, End::Reset);
        assert!(rest.starts_with(seen.as_bytes()) && !rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
        conn.await_close().await;
        gateway.await_outcome("max_duration", 1).await;
    }
}

/// The pump is not reading then, so it cannot be told to end: it is dropped.
#[tokio::test]
async fn a_stream_that_nobody_reads_is_cut_at_max_duration_so_that_it_shows() {
    let (agent, mut setup) = (flooding_agent().await, Setup::default());
    setup.policy.client_write_timeout = Duration::from_mins(1);
    let mut route = mk_route(&[agent.address]);
    route.timeouts.max_duration = Some(LIMIT);
    let gateway = setup.start(vec![("ns/agent", route)]).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(OLD_GET).await;
    gateway.await_outcome("max_duration", 1).await;
    assert_eq!(client.end().await.1, End::Reset);
}

/// An address where connections are never accepted: its queue is full.
async fn full_listener() -> (SocketAddr, impl Sized) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    socket.listen(0).expect("a queue");
    let address = socket.local_addr().expect("an address").as_socket().expect("an IP address");
    let mut queued = Vec::new();
    while let Ok(connected) = tokio::time::timeout(LIMIT, tokio::net::TcpStream::connect(address)).await {
        queued.push(connected.expect("a place in the queue"));
    }
    (address, (socket, queued))
}

#[tokio::test]
async fn an_agent_that_does_not_accept_the_connection_is_a_502() {
    let (address, _full) = full_listener().await;
    let mut setup = Setup::default();
    setup.policy.connect_timeout = LIMIT;
    let gateway = setup.start(vec![("ns/agent", mk_route(&[address]))]).await;
    let begun = Instant::now();
    let answer = Client::connect(gateway.address).await.get(TARGET).await;
    is(&answer, 502, "upstream_connect_timeout");
    assert!(begun.elapsed() >= LIMIT);
    gateway.await_outcome("upstream_refused", 1).await;
}

#[tokio::test]
async fn a_dial_that_takes_too_long_goes_on_at_another_endpoint() {
    let (address, _full) = full_listener().await;
    let (agent, _requests) = ScriptedAgent::answering(OK).await;
    let mut setup = Setup::default();
    setup.policy.connect_timeout = LIMIT;
    let gateway = setup.start(vec![("ns/agent", mk_route(&[address, agent.address]))]).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..8 {
        assert_eq!(client.post(TARGET, "x").await.status, 200);
    }
}

#[tokio::test]
async fn max_duration_includes_the_dial() {
    let (address, _full) = full_listener().await;
    let mut route = mk_route(&[address]);
    route.timeouts.max_duration = Some(LIMIT);
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let answer = Client::connect(gateway.address).await.get(TARGET).await;
    is(&answer, 504, "max_duration");
}

// === the client's side ===

/// A gateway without agents that has this limit for headers.
async fn impatient(limit: Duration) -> TestGateway {
    let mut setup = Setup::default();
    setup.limits.header = limit;
    setup.start(vec![]).await
}

#[tokio::test]
async fn a_new_connection_has_to_send_a_header_in_time() {
    let gateway = impatient(LIMIT).await;
    for sent in ["", "G", "P", "PR", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: t\r\n"] {
        let begun = Instant::now();
        let mut client = Client::connect(gateway.address).await;
        client.send(sent).await;
        assert_eq!(client.end().await.0, b"", "{sent:?}");
        assert!(begun.elapsed() >= LIMIT, "{sent:?}");
    }
    // The same for the preface of HTTP/2, but there the server speaks first.
    let mut client = Client::connect(gateway.address).await;
    client.send("PRI * HTTP/2.0\r\n").await;
    client.end().await;
    gateway.await_metric("krypton_connections 0").await;
}

#[tokio::test]
async fn a_header_that_drips_is_not_waited_for() {
    let gateway = impatient(LIMIT).await;
    let mut client = Client::connect(gateway.address).await;
    let mut writer = client.writer();
    let begun = Instant::now();
    let drip = async {
        loop {
            writer.write_all(b"G").await.ok();
            tokio::time::sleep(LIMIT / 8).await;
        }
    };
    let (rest, _) = tokio::select! { end = client.end() => end, () = drip => unreachable!("for ever") };
    assert!(begun.elapsed() >= LIMIT);
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn the_shortest_request_is_answered() {
    let gateway = impatient(ROOMY).await;
    let mut client = Client::connect(gateway.address).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (404, Some("close")));
    assert_eq!(client.end().await, (vec![], End::Closed));
}

#[tokio::test]
async fn a_kept_connection_may_be_idle_for_its_own_limit_only() {
    let mut setup = Setup::default();
    setup.limits.idle = LIMIT;
    let gateway = setup.start(vec![]).await;
    let mut client = Client::connect(gateway.address).await;
    assert_eq!(client.get("/").await.status, 404);
    let begun = Instant::now();
    assert_eq!(client.end().await, (vec![], End::Closed));
    assert!(begun.elapsed() >= LIMIT * 9 / 10, "its clock began just before ours");
}

#[tokio::test]
async fn the_header_limit_of_a_kept_connection_begins_with_its_first_byte() {
    let gateway = impatient(ROOMY).await;
    let mut client = Client::connect(gateway.address).await;
    assert_eq!(client.get("/").await.status, 404);
    assert!(client.is_silent_for(ROOMY * 3 / 2).await, "idle is not slow");
    assert_eq!(client.get("/").await.status, 404);
    let begun = Instant::now();
    client.send("G").await;
    assert_eq!(client.end().await.0, b"");
    assert!(begun.elapsed() >= ROOMY);
}

#[tokio::test]
async fn a_client_that_pauses_its_upload_is_told_so() {
    for (framing, timeout) in [
        ("Content-Length: 9\r\n\r\nsome", Duration::from_mins(1)),
        ("Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n", Duration::from_mins(1)),
        ("Content-Length: 9\r\n\r\n", Duration::from_mins(1)),
        // The agent has nothing to say before the upload ends, so the shorter limit blames the client too.
        ("Content-Length: 9\r\n\r\nsome", LIMIT),
    ] {
        let mut setup = Setup::default();
        setup.policy.upload_timeout = if timeout == LIMIT { 60 * LIMIT } else { LIMIT };
        let (gateway, mut agent) = start(setup, |route| route.timeouts.timeout = timeout).await;
        let begun = Instant::now();
        let request = format!("POST {TARGET} HTTP/1.1\r\nHost: test\r\n{framing}");
        let (mut client, mut conn) = call(&gateway, &mut agent, &request).await;
        is(&client.answer().await, 408, "client_stalled");
        assert!(begun.elapsed() >= LIMIT);
        assert_eq!(client.end().await.0, b"");
        conn.await_close().await;
        assert!(!agent.was_dialled_again());
        gateway.await_outcome("client_stalled", 1).await;
    }
}

#[tokio::test]
async fn a_slow_but_steady_upload_is_not_cut() {
    const PAUSE: Duration = Duration::from_secs(1);
    let mut setup = Setup::default();
    setup.policy.upload_timeout = PAUSE;
    setup.limits.header = PAUSE;
    let (gateway, mut agent) = start(setup, |route| route.timeouts.timeout = PAUSE).await;
    let request = format!("POST {TARGET} HTTP/1.1\r\nHost: test\r\nContent-Length: 20\r\n\r\n");
    let (mut client, mut conn) = call(&gateway, &mut agent, &request).await;
    for _ in 0..20 {
        tokio::time::sleep(PAUSE / 10).await;
        client.send("x").await;
        conn.expect("x").await;
    }
    conn.write(OK).await;
    assert_eq!(client.answer().await.status, 200);
}

/// Answers with more than any socket buffers.
async fn flooding_agent() -> ScriptedAgent {
    ScriptedAgent::start(|mut conn| async move {
        conn.request().await;
        conn.write("HTTP/1.1 200 OK\r\n\r\n").await;
        let block = vec![b'x'; 64 * 1024];
        while conn.tcp.write_all(&block).await.is_ok() {}
    })
    .await
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    for request in [GET, OLD_GET] {
        let agent = flooding_agent().await;
        let mut setup = Setup::default();
        setup.policy.client_write_timeout = LIMIT;
        let route = mk_route_with_timeout(&[agent.address], Duration::from_mins(1));
        let gateway = setup.start(vec![("ns/agent", route)]).await;
        let mut client = Client::connect(gateway.address).await;
        client.send(request).await;
        gateway.await_outcome("client_stalled", 1).await;
        assert_eq!(client.end().await.1, End::Reset);
        gateway.await_metric("krypton_connections 0").await;
    }
}

/// Small answers fill a socket too, and their headers then wait like bodies do.
#[tokio::test]
async fn a_client_that_asks_on_and_never_reads_is_cut() {
    let mut setup = Setup::default();
    setup.policy.client_write_timeout = LIMIT;
    let gateway = setup.start(vec![]).await;
    let mut client = Client::connect(gateway.address).await;
    let asking = async {
        let requests = "GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(1000);
        while client.tcp.write_all(requests.as_bytes()).await.is_ok() {}
    };
    tokio::time::timeout(3 * DEADLINE, asking).await.expect("the gateway ends it");
    gateway.await_metric("krypton_connections 0").await;
}
