//! HTTP/2 clients: the same calls, and what only one connection for many streams can get wrong.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use tokio::sync::{mpsc, watch};

use crate::support::agent::{ScriptedAgent, header};
use crate::support::client::{Client, End};
use crate::support::h2::{H2Client, request, soon};
use crate::support::{Setup, TestGateway, mk_route, mk_route_with_timeout, spawn};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const AGENT: &str = "/v1/agents/ns/agent";
/// A limit that a test waits for.
const LIMIT: Duration = Duration::from_millis(300);

/// An agent that never answers, and the requests it got.
async fn silent_agent() -> (ScriptedAgent, mpsc::Receiver<String>) {
    let (heads, received) = mpsc::channel(256);
    let agent = ScriptedAgent::start(move |mut conn| {
        let heads = heads.clone();
        async move {
            if let Some(request) = conn.request().await {
                heads.try_send(request.head).expect("room");
                conn.await_close().await;
            }
        }
    })
    .await;
    (agent, received)
}

#[tokio::test]
async fn one_port_speaks_both_versions() {
    let (agent, mut requests) = ScriptedAgent::answering(OK).await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let h2 = H2Client::connect(gateway.address).await;
    let mut h1 = Client::connect(gateway.address).await;
    for _ in 0..2 {
        let mut answer = h2.get("/v1/agents/ns/agent/x%2Fy?z=1").await;
        assert_eq!((answer.status, answer.text().await), (200, "ok".to_owned()));
        assert_eq!(h1.get("/v1/agents/ns/agent/x%2Fy?z=1").await.status, 200);
        for _ in 0..2 {
            let head = requests.recv().await.unwrap().head;
            assert_eq!(head.lines().next().unwrap(), "GET /x%2Fy?z=1 HTTP/1.1");
        }
    }
}

#[tokio::test]
async fn the_authority_is_the_host() {
    let (agent, mut requests) = ScriptedAgent::answering(OK).await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let client = H2Client::connect(gateway.address).await;
    let uri = "http://public.example:8080/v1/agents/ns/agent";
    let call = client.start(Request::get(uri).body(()).unwrap(), true).await;
    assert_eq!(call.answer().await.unwrap().status, 200);
    let head = requests.recv().await.unwrap().head;
    assert_eq!(header(&head, "host"), Some("public.example:8080"));
    assert_eq!(header(&head, "x-forwarded-host"), Some("public.example:8080"));
    assert_eq!(header(&head, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(header(&head, "x-forwarded-prefix"), Some("/v1/agents/ns/agent"));
    assert_eq!(head.matches("ost: ").count(), 2, "Host once, X-Forwarded-Host once: {head}");
}

#[tokio::test]
async fn a_body_reaches_the_agent_whole() {
    let (agent, mut requests) = ScriptedAgent::answering(OK).await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let client = H2Client::connect(gateway.address).await;
    let body: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let unsized_body = client.send(request(Method::POST, AGENT), body.clone()).await;
    assert_eq!(unsized_body.answer().await.unwrap().status, 200);
    let got = requests.recv().await.unwrap();
    assert_eq!(header(&got.head, "transfer-encoding"), Some("chunked"));
    assert!(got.body == body);

    let mut sized = request(Method::POST, AGENT);
    sized.headers_mut().insert("content-length", body.len().into());
    assert_eq!(client.send(sized, body.clone()).await.answer().await.unwrap().status, 200);
    let got = requests.recv().await.unwrap();
    assert_eq!(header(&got.head, "content-length"), Some("300000"));
    assert!(got.body == body);
    assert_eq!(gateway.outcomes("ok"), 2);
}

#[tokio::test]
async fn events_come_as_the_agent_sends_them() {
    let (next, events) = watch::channel(0);
    let agent = ScriptedAgent::start(move |mut conn| {
        let mut events = events.clone();
        async move {
            conn.request().await;
            conn.write(STREAM).await;
            for n in 1..=3 {
                events.wait_for(|allowed| *allowed >= n).await.unwrap();
                conn.write(format!("9\r\ndata: {n}\n\n\r\n")).await;
            }
            conn.write("0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let client = H2Client::connect(gateway.address).await;
    // The head is here before the first event is.
    let mut answer = client.get(AGENT).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    assert_eq!(answer.header("transfer-encoding"), None);
    for n in 1..=3 {
        next.send(n).unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), format!("data: {n}\n\n"));
    }
    assert!(answer.chunk().await.is_none());
    gateway.await_outcome("ok", 1).await;
}

#[tokio::test]
async fn our_own_answers_are_json_on_a_kept_connection() {
    let gateway = Setup::default().start(vec![("ns/none", mk_route(&[]))]).await;
    let client = H2Client::connect(gateway.address).await;
    for (target, status, code) in [
        ("/v1/agents/ns/unknown", 404, "agent_not_found"),
        ("/v1/agents/NS/x", 400, "bad_path"),
        ("/v1/agents/ns/none", 503, "no_ready_endpoint"),
    ] {
        let mut answer = client.get(target).await;
        assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/json")));
        assert_eq!(answer.json().await["code"], code);
    }
    let mut answer = client
        .send(request(Method::POST, "/v1/agents/ns/unknown"), vec![0; 500_000])
        .await
        .answer()
        .await
        .unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json().await["code"], "agent_not_found");
    assert_eq!(client.get("/healthz").await.text().await, "ok");
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_takes_the_agents_work_with_it() {
    let (left, mut lefts) = mpsc::channel(2);
    let agent = ScriptedAgent::start(move |mut conn| {
        let left = left.clone();
        async move {
            conn.request().await;
            left.send("working").await.unwrap();
            conn.await_close().await;
            left.send("let go").await.unwrap();
        }
    })
    .await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let client = H2Client::connect(gateway.address).await;
    for (nth, body) in [(1, None), (2, Some(Bytes::from_static(b"question")))] {
        let call = match body {
            None => client.begin_get(AGENT).await,
            Some(body) => client.send(request(Method::POST, AGENT), body).await,
        };
        assert_eq!(soon("the agent at work", lefts.recv()).await, Some("working"));
        call.reset();
        assert_eq!(soon("the agent to be let go", lefts.recv()).await, Some("let go"));
        gateway.await_outcome("client_abort", nth).await;
    }
    assert_eq!(client.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_takes_the_agents_work_with_it() {
    let (left, mut lefts) = mpsc::channel(2);
    let agent = ScriptedAgent::start(move |mut conn| {
        let left = left.clone();
        async move {
            conn.request().await;
            conn.write(format!("{STREAM}2\r\n1\n\r\n")).await;
            conn.await_close().await;
            left.send(()).await.unwrap();
        }
    })
    .await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let client = H2Client::connect(gateway.address).await;
    let mut neighbour = client.get(AGENT).await;
    let mut answer = client.get(AGENT).await;
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "1\n");
    answer.reset();
    soon("the agent to be let go", lefts.recv()).await.unwrap();
    gateway.await_outcome("client_abort", 1).await;
    assert_eq!(neighbour.chunk().await.unwrap().unwrap(), "1\n");
    // The whole connection: every stream on it.
    client.connection.abort();
    soon("the agent to be let go", lefts.recv()).await.unwrap();
    gateway.await_outcome("client_abort", 2).await;
}

#[tokio::test]
async fn a_silent_agent_is_a_504() {
    let (agent, _heads) = silent_agent().await;
    let route = mk_route_with_timeout(&[agent.address], LIMIT);
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let client = H2Client::connect(gateway.address).await;
    let get = client.begin_get(AGENT).await;
    let post = client.send(request(Method::POST, AGENT), "question").await;
    for call in [get, post] {
        let mut answer = call.answer().await.unwrap();
        assert_eq!((answer.status, answer.json().await["code"].as_str()), (504, Some("upstream_timeout")));
    }
    gateway.await_outcome("timeout", 2).await;
}

#[tokio::test]
async fn an_agent_that_goes_silent_in_the_middle_resets_the_stream() {
    let agent = ScriptedAgent::start(|mut conn| async move {
        conn.request().await;
        conn.write(format!("{STREAM}2\r\n1\n\r\n")).await;
        conn.await_close().await;
    })
    .await;
    let route = mk_route_with_timeout(&[agent.address], LIMIT);
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let client = H2Client::connect(gateway.address).await;
    assert!(client.get(AGENT).await.body().await.unwrap_err().is_reset());
    gateway.await_outcome("timeout", 1).await;
    assert_eq!(client.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn an_agent_that_is_cut_resets_the_stream() {
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let agent = ScriptedAgent::start(move |mut conn| async move {
            conn.request().await;
            conn.write(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n2\r\n1\n\r\n")).await;
        })
        .await;
        let gateway = TestGateway::with_agent(agent.address).await;
        let client = H2Client::connect(gateway.address).await;
        let error = client.get(AGENT).await.body().await.unwrap_err();
        assert!(error.is_reset(), "{framing}: {error}");
        gateway.await_outcome("upstream_reset", 1).await;
        assert_eq!(client.get("/healthz").await.status, 200);
    }
}

#[tokio::test]
async fn a_paused_upload_is_the_clients_fault_and_nobody_elses() {
    let (gate, opened) = watch::channel(false);
    let agent = ScriptedAgent::start(move |mut conn| {
        let mut opened = opened.clone();
        async move {
            let head = conn.head().await.unwrap();
            if head.starts_with("GET") {
                conn.write(STREAM).await;
                opened.wait_for(|open| *open).await.unwrap();
                conn.write("2\r\n1\n\r\n0\r\n\r\n").await;
            }
            conn.await_close().await;
        }
    })
    .await;
    let mut setup = Setup::default();
    setup.policy.upload_timeout = LIMIT;
    let gateway = setup.start(vec![("ns/agent", mk_route(&[agent.address]))]).await;
    let client = H2Client::connect(gateway.address).await;
    let mut neighbour = client.get(AGENT).await;
    let mut call = client.start(request(Method::POST, AGENT), false).await;
    call.upload.send_data("half of a ques".into(), false).unwrap();
    match call.answer().await {
        Ok(answer) => assert_eq!(answer.status, 408),
        Err(error) => assert!(error.is_reset(), "{error}"),
    }
    gateway.await_outcome("client_stalled", 1).await;
    gate.send(true).unwrap();
    assert_eq!(neighbour.text().await, "1\n");
    assert_eq!(gateway.outcomes("ok"), 1);
}

#[tokio::test]
async fn a_slow_upload_that_never_pauses_is_not_cut() {
    let (agent, mut requests) = ScriptedAgent::answering(OK).await;
    let mut setup = Setup::default();
    setup.policy.upload_timeout = LIMIT * 2;
    let gateway = setup.start(vec![("ns/agent", mk_route(&[agent.address]))]).await;
    let client = H2Client::connect(gateway.address).await;
    let mut call = client.start(request(Method::POST, AGENT), false).await;
    for _ in 0..8 {
        call.upload.send_data("0123456789".into(), false).unwrap();
        tokio::time::sleep(LIMIT / 3).await;
    }
    call.upload.send_data(Bytes::new(), true).unwrap();
    assert_eq!(call.answer().await.unwrap().status, 200);
    assert_eq!(requests.recv().await.unwrap().body.len(), 80);
}

#[tokio::test]
async fn an_agent_that_does_not_take_an_upload_is_not_the_clients_fault() {
    const SIZE: usize = 16 * 1024 * 1024;
    let (gate, opened) = watch::channel(false);
    let agent = ScriptedAgent::start(move |mut conn| {
        let mut opened = opened.clone();
        async move {
            conn.head().await.unwrap();
            opened.wait_for(|open| *open).await.unwrap();
            conn.take(SIZE).await.unwrap();
            conn.write(OK).await;
        }
    })
    .await;
    let mut setup = Setup::default();
    setup.policy.upload_timeout = LIMIT;
    let gateway = setup.start(vec![("ns/agent", mk_route(&[agent.address]))]).await;
    let client = H2Client::connect(gateway.address).await;
    let mut sized = request(Method::POST, AGENT);
    sized.headers_mut().insert("content-length", SIZE.into());
    let mut big = client.start(sized, false).await;
    let mut left = SIZE;
    // Nothing moves for several of the client's limits, since the agent does not read.
    while let Ok(taken) = tokio::time::timeout(LIMIT * 4, big.send_some(left)).await {
        left -= taken;
    }
    assert!((1..SIZE).contains(&left), "it is held: {left}");
    gate.send(true).unwrap();
    while left > 0 {
        left -= soon("the upload to go on", big.send_some(left)).await;
    }
    assert_eq!(big.answer().await.unwrap().text().await, "ok");
    assert_eq!(gateway.outcomes("client_stalled"), 0);
}

#[tokio::test]
async fn a_held_upload_does_not_hold_its_neighbours() {
    const SIZE: usize = 16 * 1024 * 1024;
    let (gate, opened) = watch::channel(false);
    let (held, mut helds) = mpsc::channel(1);
    let agent = ScriptedAgent::start(move |mut conn| {
        let (mut opened, held) = (opened.clone(), held.clone());
        async move {
            while let Some(head) = conn.head().await {
                let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
                if length == SIZE {
                    held.send(()).await.unwrap();
                    opened.wait_for(|open| *open).await.unwrap();
                }
                conn.take(length).await.unwrap();
                conn.write(OK).await;
            }
        }
    })
    .await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let client = H2Client::connect(gateway.address).await;
    let sized = |size: usize| {
        let mut request = request(Method::POST, AGENT);
        request.headers_mut().insert("content-length", size.into());
        request
    };
    let mut big = client.start(sized(SIZE), false).await;
    soon("the held upload", helds.recv()).await.unwrap();
    // As much as everything on the way holds, and a stream's window beyond: then nothing moves any more.
    let mut left = SIZE;
    while let Ok(taken) = tokio::time::timeout(LIMIT, big.send_some(left)).await {
        left -= taken;
    }
    assert!((1..SIZE).contains(&left), "it is held: {left}");
    let mut others = Vec::new();
    for _ in 0..50 {
        others.push(client.send(sized(4096), vec![b'x'; 4096]).await);
    }
    for other in others {
        assert_eq!(other.answer().await.unwrap().text().await, "ok");
    }
    gate.send(true).unwrap();
    while left > 0 {
        left -= soon("the upload to go on", big.send_some(left)).await;
    }
    assert_eq!(big.answer().await.unwrap().text().await, "ok");
}

#[tokio::test]
async fn a_call_that_takes_too_long_ends() {
    let agent = ScriptedAgent::start(|mut conn| async move {
        let head = conn.head().await.unwrap();
        if head.starts_with("GET /talk") {
            conn.write(STREAM).await;
            loop {
                conn.write("2\r\n1\n\r\n").await;
                tokio::time::sleep(LIMIT / 10).await;
            }
        }
        conn.await_close().await;
    })
    .await;
    let mut route = mk_route(&[agent.address]);
    route.timeouts.max_duration = Some(LIMIT);
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let client = H2Client::connect(gateway.address).await;
    let mut answer = client.get("/v1/agents/ns/agent/talk").await;
    assert!(answer.body().await.unwrap_err().is_reset());
    gateway.await_outcome("max_duration", 1).await;

    let get = client.begin_get(AGENT).await;
    let post = client.send(request(Method::POST, AGENT), "question").await;
    for call in [get, post] {
        let mut answer = call.answer().await.expect("an answer, since none has begun");
        assert_eq!((answer.status, answer.json().await["code"].as_str()), (504, Some("max_duration")));
    }
    gateway.await_outcome("max_duration", 3).await;
}

#[tokio::test]
async fn streams_above_the_limit_wait() {
    let (gate, opened) = watch::channel(false);
    let agent = ScriptedAgent::start(move |mut conn| {
        let mut opened = opened.clone();
        async move {
            while conn.request().await.is_some() {
                opened.wait_for(|open| *open).await.unwrap();
                conn.write(OK).await;
            }
        }
    })
    .await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let client = H2Client::connect(gateway.address).await;
    let mut calls = Vec::new();
    for _ in 0..200 {
        calls.push(client.begin_get(AGENT).await);
    }
    gateway.await_metric(r#"krypton_in_flight{agent="agent",namespace="ns"} 100"#).await;
    gate.send(true).unwrap();
    for call in calls {
        assert_eq!(call.answer().await.unwrap().text().await, "ok");
    }
    assert!(agent.connections() <= 100, "{}", agent.connections());
    gateway.await_outcome("ok", 200).await;
}

#[tokio::test]
async fn a_preface_that_stops_is_closed() {
    let mut setup = Setup::default();
    setup.limits.header = LIMIT;
    let gateway = setup.start(vec![]).await;
    for begun in ["P", "PR", "PRI", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let mut client = Client::connect(gateway.address).await;
        client.send(begun).await;
        let (_, end) = client.end().await;
        // What was read and not understood may make it a reset.
        assert!(matches!(end, End::Closed | End::Reset));
    }
    gateway.await_metric("krypton_connections 0").await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let (agent, _heads) = silent_agent().await;
    let mut setup = Setup::default();
    setup.limits.idle = LIMIT;
    let route = mk_route_with_timeout(&[agent.address], LIMIT * 4);
    let gateway = setup.start(vec![("ns/agent", route)]).await;
    let busy = H2Client::connect(gateway.address).await;
    let call = busy.begin_get(AGENT).await;
    let idle = H2Client::connect(gateway.address).await;
    assert_eq!(idle.get("/healthz").await.status, 200);
    idle.closed().await.ok();
    assert_eq!(call.answer().await.unwrap().status, 504);
    busy.closed().await.ok();
    gateway.await_metric("krypton_connections 0").await;
}

#[tokio::test]
async fn hundreds_of_streams_a_connection_do_not_mix() {
    let agent = ScriptedAgent::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let length = request.body.len();
            conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await;
            conn.write(request.body).await;
        }
    })
    .await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let client = Arc::new(H2Client::connect(gateway.address).await);
    let mut tasks = Vec::new();
    for n in 0..300 {
        let client = Arc::clone(&client);
        tasks.push(spawn(async move {
            let body = n.to_string().repeat(n);
            let call = client.send(request(Method::POST, AGENT), body.clone()).await;
            assert_eq!(call.answer().await.unwrap().text().await, body);
        }));
    }
    for task in tasks {
        soon("the call", task).await.unwrap();
    }
}
