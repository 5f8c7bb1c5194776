//! Agents that speak HTTP/2 (`appProtocol: h2c`), to clients of both versions.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use krypton_discovery::{AppProtocol, Route, UpstreamHost};
use tokio::sync::{mpsc, watch};

use crate::support::agent::{ScriptedAgent, header};
use crate::support::client::{Client, End, status_of};
use crate::support::h2::{H2Agent, H2Client, answer, read, request, soon};
use crate::support::{Setup, TestGateway, mk_route};

const AGENT: &str = "/v1/agents/ns/agent";
/// A limit that a test waits for.
const LIMIT: Duration = Duration::from_millis(300);

fn mk_h2c_route(agent: &H2Agent) -> Route {
    let mut route = mk_route(&[agent.address]);
    route.app_protocol = AppProtocol::H2c;
    route
}

async fn gateway_to(agent: &H2Agent) -> TestGateway {
    Setup::default().start(vec![("ns/agent", mk_h2c_route(agent))]).await
}

/// An agent that answers with the body it got, and what it got.
async fn echoing() -> (H2Agent, mpsc::Receiver<(http::request::Parts, Vec<u8>)>) {
    let (seen, received) = mpsc::channel(256);
    let agent = H2Agent::start(move |request, respond| {
        let seen = seen.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = read(body).await;
            seen.try_send((head, body.clone())).expect("room");
            answer(respond, body);
        }
    })
    .await;
    (agent, received)
}

#[tokio::test]
async fn an_http1_client_reaches_it() {
    let (agent, mut seen) = echoing().await;
    let gateway = gateway_to(&agent).await;
    let mut client = Client::connect(gateway.address).await;
    client
        .send(
            "POST /v1/agents/ns/agent/a%2Fb?c=d HTTP/1.1\r\nHost: public.example\r\nContent-Length: 5\r\n\
             Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\nhello",
        )
        .await;
    let echoed = client.answer().await;
    assert_eq!((echoed.status, echoed.text()), (200, "hello"));
    let (head, body) = seen.recv().await.unwrap();
    assert_eq!((head.method, body.as_slice()), (Method::POST, &b"hello"[..]));
    assert_eq!(head.uri, "http://public.example/a%2Fb?c=d");
    assert_eq!(head.headers.get("host"), None, "it is in :authority");
    assert_eq!(head.headers["x-forwarded-host"], "public.example");
    assert_eq!(head.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(head.headers.get("x-hop"), None);
    // The connection is kept, also for a chunked upload.
    client
        .send("POST /v1/agents/ns/agent HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.text(), "hi");
    assert_eq!(client.get(AGENT).await.text(), "");
}

#[tokio::test]
async fn an_http2_client_reaches_it() {
    let (agent, mut seen) = echoing().await;
    let gateway = gateway_to(&agent).await;
    let client = H2Client::connect(gateway.address).await;
    let asked = Request::post("http://public.example/v1/agents/ns/agent/x?y").body(()).unwrap();
    let mut echoed = client.send(asked, "hello").await.answer().await.unwrap();
    assert_eq!((echoed.status, echoed.text().await), (200, "hello".to_owned()));
    let (head, body) = seen.recv().await.unwrap();
    assert_eq!(body, b"hello");
    assert_eq!(head.uri, "http://public.example/x?y");
    assert_eq!(head.headers.get("host"), None);
    assert_eq!(head.headers["x-forwarded-host"], "public.example");
    gateway.await_outcome("ok", 1).await;
}

#[tokio::test]
async fn it_may_see_localhost_as_its_authority() {
    let (agent, mut seen) = echoing().await;
    let mut route = mk_h2c_route(&agent);
    route.upstream_host = UpstreamHost::Localhost;
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    Client::connect(gateway.address).await.get(AGENT).await;
    H2Client::connect(gateway.address).await.get(AGENT).await;
    for _ in 0..2 {
        let (head, _) = seen.recv().await.unwrap();
        assert_eq!(head.uri.authority().unwrap(), "localhost:8080");
        assert_eq!(head.headers["x-forwarded-host"], "test");
    }
}

#[tokio::test]
async fn an_http10_client_reaches_it() {
    let (agent, mut seen) = echoing().await;
    let gateway = gateway_to(&agent).await;
    let mut client = Client::connect(gateway.address).await;
    client.send("POST /v1/agents/ns/agent HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello").await;
    let head = client.head().await;
    assert_eq!((status_of(&head), header(&head, "transfer-encoding")), (200, None));
    assert_eq!(client.end().await, (b"hello".to_vec(), End::Closed));
    assert_eq!(seen.recv().await.unwrap().0.uri.authority().unwrap(), "localhost:8080", "it had no Host");
    gateway.await_outcome("ok", 1).await;
}

#[tokio::test]
async fn trailers_and_their_announcement_pass_as_grpc_needs_them() {
    let agent = H2Agent::start(|request, mut respond| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let asked = read(request.into_body()).await;
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        stream.send_data(asked.into(), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    })
    .await;
    let gateway = gateway_to(&agent).await;
    let client = H2Client::connect(gateway.address).await;
    let mut asked = request(Method::POST, "/v1/agents/ns/agent/pkg.Service/Method");
    asked.headers_mut().insert("te", "trailers".parse().unwrap());
    asked.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let mut got = client.send(asked, "message").await.answer().await.unwrap();
    assert_eq!(got.text().await, "message");
    assert_eq!(got.trailers().await.expect("trailers")["grpc-status"], "0");
    gateway.await_outcome("ok", 1).await;
}

#[tokio::test]
async fn both_sides_may_talk_at_once() {
    let agent = H2Agent::start(|request, mut respond| async move {
        let mut body = request.into_body();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        while let Some(Ok(chunk)) = body.data().await {
            body.flow_control().release_capacity(chunk.len()).unwrap();
            stream.send_data(chunk, false).unwrap();
        }
        stream.send_data(Bytes::new(), true).unwrap();
    })
    .await;
    let gateway = gateway_to(&agent).await;
    let client = H2Client::connect(gateway.address).await;
    let (mut upload, answer) = client.start(request(Method::POST, AGENT), false).await.split();
    let mut answer = answer.await.unwrap();
    for word in ["one", "two", "three"] {
        upload.send_data(word.into(), false).unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), word);
    }
    upload.send_data(Bytes::new(), true).unwrap();
    assert!(answer.chunk().await.is_none());
    gateway.await_outcome("ok", 1).await;
}

#[tokio::test]
async fn calls_share_a_connection() {
    let (gate, opened) = watch::channel(false);
    let agent = H2Agent::start(move |request, respond| {
        let mut opened = opened.clone();
        async move {
            if request.uri().path() == "/held" {
                opened.wait_for(|open| *open).await.unwrap();
            }
            answer(respond, "ok");
        }
    })
    .await;
    let gateway = gateway_to(&agent).await;
    let client = H2Client::connect(gateway.address).await;
    assert_eq!(client.get(AGENT).await.text().await, "ok");
    let mut calls = Vec::new();
    for _ in 0..50 {
        calls.push(client.begin_get("/v1/agents/ns/agent/held").await);
    }
    gateway.await_metric(r#"krypton_in_flight{agent="agent",namespace="ns"} 50"#).await;
    let mut h1 = Client::connect(gateway.address).await;
    assert_eq!(h1.get(AGENT).await.text(), "ok");
    gate.send(true).unwrap();
    for call in calls {
        assert_eq!(call.answer().await.unwrap().text().await, "ok");
    }
    assert_eq!(agent.connections(), 1);
}

#[tokio::test]
async fn a_stream_reset_before_the_answer_is_a_502() {
    let agent = H2Agent::start(|request, mut respond| async move {
        match request.uri().path() {
            "/reset" => respond.send_reset(h2::Reason::INTERNAL_ERROR),
            _ => answer(respond, "ok"),
        }
    })
    .await;
    let gateway = gateway_to(&agent).await;
    let mut h1 = Client::connect(gateway.address).await;
    let h2 = H2Client::connect(gateway.address).await;
    for nth in 1..=2 {
        let answer = h1.get("/v1/agents/ns/agent/reset").await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (502, Some("upstream_reset")));
        h1 = Client::connect(gateway.address).await;
        let mut answer = h2.get("/v1/agents/ns/agent/reset").await;
        assert_eq!((answer.status, answer.json().await["code"].as_str()), (502, Some("upstream_reset")));
        gateway.await_outcome("upstream_reset", 2 * nth).await;
        assert_eq!(h2.get(AGENT).await.text().await, "ok");
    }
}

#[tokio::test]
async fn a_stream_reset_in_the_middle_cuts_the_answer() {
    let agent = H2Agent::start(|_, mut respond| async move {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data("begun".into(), false).unwrap();
        // What was begun is on its way.
        stream.reserve_capacity(1);
        std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
        tokio::task::yield_now().await;
        stream.send_reset(h2::Reason::INTERNAL_ERROR);
    })
    .await;
    let gateway = gateway_to(&agent).await;
    let mut h1 = Client::connect(gateway.address).await;
    h1.send("GET /v1/agents/ns/agent HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert!(h1.head().await.starts_with("HTTP/1.1 200"));
    let (rest, _) = h1.end().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a clean end");
    let h2 = H2Client::connect(gateway.address).await;
    assert!(h2.get(AGENT).await.body().await.unwrap_err().is_reset());
    gateway.await_outcome("upstream_reset", 2).await;
}

#[tokio::test]
async fn a_silent_one_is_a_504() {
    let agent = H2Agent::start(|request, respond| async move {
        read(request.into_body()).await;
        std::future::pending::<()>().await;
        drop(respond);
    })
    .await;
    let mut route = mk_h2c_route(&agent);
    route.timeouts.timeout = LIMIT;
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let answer = Client::connect(gateway.address).await.post(AGENT, "x").await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (504, Some("upstream_timeout")));
    let client = H2Client::connect(gateway.address).await;
    let call = client.send(request(Method::POST, AGENT), "x").await;
    assert_eq!(call.answer().await.unwrap().status, 504);
    gateway.await_outcome("timeout", 2).await;
}

#[tokio::test]
async fn a_steady_upload_may_take_longer_than_its_timeout() {
    const ROOMY: Duration = Duration::from_secs(1);
    let (agent, _seen) = echoing().await;
    let mut route = mk_h2c_route(&agent);
    route.timeouts.timeout = ROOMY;
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let mut client = Client::connect(gateway.address).await;
    client.send("POST /v1/agents/ns/agent HTTP/1.1\r\nHost: t\r\nContent-Length: 15\r\n\r\n").await;
    for _ in 0..15 {
        // A pause is the subject: each is shorter than the limit, all together are not.
        tokio::time::sleep(ROOMY / 10).await;
        client.send("x").await;
    }
    let echoed = client.answer().await;
    assert_eq!((echoed.status, echoed.text()), (200, "xxxxxxxxxxxxxxx"));
}

#[tokio::test]
async fn one_that_is_silent_after_an_upload_is_a_504() {
    let agent = H2Agent::start(|request, respond| async move {
        read(request.into_body()).await;
        let _open = respond;
        std::future::pending::<()>().await;
    })
    .await;
    let mut route = mk_h2c_route(&agent);
    route.timeouts.timeout = LIMIT;
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let mut client = Client::connect(gateway.address).await;
    client.send("POST /v1/agents/ns/agent HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n").await;
    client.send("x").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (504, Some("upstream_timeout")));
}

#[tokio::test]
async fn a_client_that_leaves_resets_its_stream_alone() {
    let (events, mut seen) = mpsc::channel(8);
    let agent = H2Agent::start(move |_, mut respond| {
        let events = events.clone();
        async move {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data("begun".into(), false).unwrap();
            events.send("begun").await.unwrap();
            std::future::poll_fn(|cx| stream.poll_reset(cx)).await.ok();
            events.send("reset").await.unwrap();
        }
    })
    .await;
    let gateway = gateway_to(&agent).await;
    let mut neighbour = Client::connect(gateway.address).await;
    neighbour.send("GET /v1/agents/ns/agent HTTP/1.1\r\nHost: t\r\n\r\n").await;
    neighbour.head().await;
    assert_eq!(seen.recv().await, Some("begun"));

    let h2 = H2Client::connect(gateway.address).await;
    let stream = h2.get(AGENT).await;
    assert_eq!(soon("the stream", seen.recv()).await, Some("begun"));
    stream.reset();
    assert_eq!(soon("the reset", seen.recv()).await, Some("reset"));
    gateway.await_outcome("client_abort", 1).await;

    let mut h1 = Client::connect(gateway.address).await;
    h1.send("GET /v1/agents/ns/agent HTTP/1.1\r\nHost: t\r\n\r\n").await;
    h1.head().await;
    assert_eq!(soon("the stream", seen.recv()).await, Some("begun"));
    drop(h1);
    assert_eq!(soon("the reset", seen.recv()).await, Some("reset"));
    gateway.await_outcome("client_abort", 2).await;
    assert_eq!(neighbour.chunk().await.unwrap(), b"begun");
    assert_eq!(agent.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_it_closed_is_replaced() {
    let (agent, mut seen) = echoing().await;
    let gateway = gateway_to(&agent).await;
    let mut client = Client::connect(gateway.address).await;
    for nth in 1..=3 {
        assert_eq!(client.post(AGENT, "x").await.text(), "x");
        soon("the call", seen.recv()).await.unwrap();
        assert_eq!(agent.connections(), nth);
        agent.close_connections().await;
    }
}

#[tokio::test]
async fn one_that_speaks_only_http1_is_a_502() {
    let (agent, _requests) = ScriptedAgent::answering(
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let mut route = mk_route(&[agent.address]);
    route.app_protocol = AppProtocol::H2c;
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let mut client = Client::connect(gateway.address).await;
    let answer = client.post(AGENT, "x").await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(client.end().await, (vec![], End::Closed));
}
