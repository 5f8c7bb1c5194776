//! HTTP/1.0 clients: no chunks, no Host, and the end of the connection as the end of the answer.

use crate::support::agent::{ScriptedAgent, header};
use crate::support::client::{Client, End};
use crate::support::{Setup, TestGateway, mk_route_with_timeout};

const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n";
const SIZED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CALL: &str = "GET /v1/agents/ns/agent HTTP/1.0\r\n\r\n";

#[tokio::test]
async fn a_body_of_unknown_length_ends_with_the_connection() {
    let (agent, _requests) = ScriptedAgent::answering(CHUNKED).await;
    let gateway = TestGateway::with_agent(agent.address).await;
    for lines in ["", "Host: t\r\n", "Host: t\r\nConnection: keep-alive\r\n", "Connection: close\r\n"] {
        let mut client = Client::connect(gateway.address).await;
        client.send(format!("GET /v1/agents/ns/agent HTTP/1.0\r\n{lines}\r\n")).await;
        let head = client.head().await;
        assert!(head.contains(" 200 "), "{head}");
        assert_eq!(header(&head, "transfer-encoding"), None, "{lines}");
        assert_eq!(header(&head, "content-length"), None, "{lines}");
        assert_eq!(header(&head, "connection"), Some("close"), "{lines}");
        assert_eq!(client.end().await, (b"helloworld".to_vec(), End::Closed), "{lines}");
    }
    gateway.await_outcome("ok", 4).await;
    assert_eq!(agent.connections(), 1, "the agent's connection is kept all the same");
}

#[tokio::test]
async fn an_agent_may_end_its_body_with_the_connection_too() {
    let agent = ScriptedAgent::start(|mut conn| async move {
        conn.request().await;
        conn.write("HTTP/1.0 200 OK\r\n\r\nhelloworld").await;
    })
    .await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(CALL).await;
    assert_eq!(header(&client.head().await, "transfer-encoding"), None);
    assert_eq!(client.end().await, (b"helloworld".to_vec(), End::Closed));
    gateway.await_outcome("ok", 1).await;
}

#[tokio::test]
async fn the_agent_always_gets_a_host() {
    let (agent, mut requests) = ScriptedAgent::answering(SIZED).await;
    let gateway = TestGateway::with_agent(agent.address).await;
    for (lines, host, public) in
        [("Host: public.example\r\n", "public.example", Some("public.example")), ("", "localhost:8080", None)]
    {
        let mut client = Client::connect(gateway.address).await;
        client.send(format!("GET /v1/agents/ns/agent/x HTTP/1.0\r\n{lines}\r\n")).await;
        assert_eq!(client.answer().await.text(), "ok");
        let head = requests.recv().await.unwrap().head;
        assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
        assert_eq!(header(&head, "host"), Some(host));
        assert_eq!(header(&head, "x-forwarded-host"), public);
    }
}

#[tokio::test]
async fn a_body_of_known_length_is_ended_by_it() {
    let (agent, mut requests) = ScriptedAgent::answering(SIZED).await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send("POST /v1/agents/ns/agent HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(client.end().await, (vec![], End::Closed));
    assert_eq!(requests.recv().await.unwrap().body, b"body");
    // Kept where it is asked for.
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..2 {
        client.send("GET /v1/agents/ns/agent HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!((answer.text(), answer.header("connection")), ("ok", Some("keep-alive")));
    }
}

#[tokio::test]
async fn our_own_answers_are_whole() {
    let gateway = Setup::default().start(vec![]).await;
    let mut client = Client::connect(gateway.address).await;
    client.send("GET /v1/agents/ns/unknown HTTP/1.0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("agent_not_found")));
    assert_eq!(client.end().await, (vec![], End::Closed));
    // HAProxy's default check, shorter than the preface of HTTP/2.
    let mut client = Client::connect(gateway.address).await;
    client.send("OPTIONS / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 404);
    assert_eq!(client.end().await, (vec![], End::Closed));
}

#[tokio::test]
async fn a_cut_answer_is_a_reset_and_not_an_end() {
    for begun in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    ] {
        let agent = ScriptedAgent::start(move |mut conn| async move {
            conn.request().await;
            conn.write(begun).await;
        })
        .await;
        let gateway = TestGateway::with_agent(agent.address).await;
        let mut client = Client::connect(gateway.address).await;
        client.send(CALL).await;
        let (_, end) = client.end().await;
        assert_eq!(end, End::Reset, "{begun}");
        gateway.await_outcome("upstream_reset", 1).await;
    }
}

#[tokio::test]
async fn an_agent_that_goes_silent_is_a_reset_too() {
    let agent = ScriptedAgent::start(|mut conn| async move {
        conn.request().await;
        conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
        conn.await_close().await;
    })
    .await;
    let route = mk_route_with_timeout(&[agent.address], std::time::Duration::from_millis(300));
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(CALL).await;
    client.head().await;
    assert_eq!(client.take(5).await, b"hello");
    assert_eq!(client.end().await, (vec![], End::Reset));
    gateway.await_outcome("timeout", 1).await;
}
