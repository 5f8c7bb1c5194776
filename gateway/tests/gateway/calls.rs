//! Ordinary calls: routing byte for byte, headers, our own answers, kept connections.

use std::time::Duration;

use crate::support::agent::{ScriptedAgent, header};
use crate::support::client::{Client, End};
use crate::support::{Setup, TestGateway, mk_route};
use krypton_discovery::{InvocationPath, UpstreamHost};
use krypton_gateway::proxy::headers::{AllowedHosts, TrustedProxies};
use krypton_gateway::route_table::Freshness;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_call_reaches_the_agent_byte_for_byte() {
    let (agent, mut requests) = ScriptedAgent::answering(OK).await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    for (rest, seen) in [
        ("", "/"),
        ("/", "/"),
        ("?a=b", "/?a=b"),
        ("/a/b?c=d", "/a/b?c=d"),
        ("/x%2Fy%20z//;p/../.?q=%zz;&a=/b?c", "/x%2Fy%20z//;p/../.?q=%zz;&a=/b?c"),
        ("/healthz", "/healthz"),
        ("/{a}|b^c\"d", "/{a}|b^c\"d"),
        ("/caf\u{e9}", "/caf\u{e9}"),
    ] {
        let answer = client.get(&format!("/v1/agents/ns/agent{rest}")).await;
        assert_eq!((answer.status, answer.text()), (200, "ok"), "{rest}");
        let head = requests.recv().await.unwrap().head;
        assert_eq!(head.lines().next().unwrap(), format!("GET {seen} HTTP/1.1"));
    }
    assert_eq!(agent.connections(), 1, "the connection to the agent is kept");
}

#[tokio::test]
async fn an_empty_rest_lands_at_the_invocation_path() {
    let (agent, mut requests) = ScriptedAgent::answering(OK).await;
    let mut route = mk_route(&[agent.address]);
    route.invocation_path = InvocationPath::new("/a2a/v1").unwrap();
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let mut client = Client::connect(gateway.address).await;
    for (target, seen) in [
        ("/v1/agents/ns/agent", "POST /a2a/v1 HTTP/1.1"),
        ("/v1/agents/ns/agent?x=1", "POST /a2a/v1?x=1 HTTP/1.1"),
        ("/v1/agents/ns/agent/", "POST / HTTP/1.1"),
        ("http://test/v1/agents/ns/agent/abs?x", "POST /abs?x HTTP/1.1"),
    ] {
        assert_eq!(client.post(target, "{}").await.status, 200);
        let request = requests.recv().await.unwrap();
        assert_eq!(request.head.lines().next().unwrap(), seen);
        assert_eq!(request.body, b"{}");
    }
}

/// The few targets that Pingora does not take as they are, as the HTTP reference lists them.
#[tokio::test]
async fn the_exceptions_to_byte_for_byte_are_known() {
    let (agent, mut requests) = ScriptedAgent::answering(OK).await;
    let gateway = TestGateway::with_agent(agent.address).await;
    for refused in [&b"\xff\xfe"[..], b"<", b">", b"`"] {
        let mut client = Client::connect(gateway.address).await;
        client
            .send([b"GET /v1/agents/ns/agent/", refused, b" HTTP/1.1\r\nHost: test\r\n\r\n"].concat())
            .await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (400, ""), "{refused:?}");
    }
    for (sent, seen) in [("/a b", "/a%20b"), ("/a\u{1}b", "/a%01b"), ("/a#b", "/a")] {
        let mut client = Client::connect(gateway.address).await;
        assert_eq!(client.get(&format!("/v1/agents/ns/agent{sent}")).await.status, 200, "{sent:?}");
        let head = requests.recv().await.unwrap().head;
        assert_eq!(head.lines().next().unwrap(), format!("GET {seen} HTTP/1.1"));
    }
}

#[tokio::test]
async fn the_agent_is_told_who_called_it_and_how() {
    let (agent, mut requests) = ScriptedAgent::answering(OK).await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client
        .send(
            "GET /v1/agents/ns/agent/x HTTP/1.1\r\nHost: public.example\r\nX-Forwarded-For: 9.9.9.9\r\n\
             X-Request-Id: my-id\r\nTraceparent: 00-1\r\nAuthorization: Bearer x\r\nOrigin: http://o\r\n\
             Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\r\n",
        )
        .await;
    assert_eq!(client.answer().await.status, 200);
    let head = requests.recv().await.unwrap().head;
    assert_eq!(header(&head, "host"), Some("public.example"));
    assert_eq!(header(&head, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(header(&head, "x-forwarded-host"), Some("public.example"));
    assert_eq!(header(&head, "x-forwarded-proto"), Some("http"));
    assert_eq!(header(&head, "x-forwarded-prefix"), Some("/v1/agents/ns/agent"));
    assert_eq!(header(&head, "x-request-id"), Some("my-id"));
    assert_eq!(header(&head, "traceparent"), Some("00-1"));
    assert_eq!(header(&head, "authorization"), Some("Bearer x"));
    assert_eq!(header(&head, "origin"), Some("http://o"));
    for hop in ["x-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(header(&head, hop), None, "{hop}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let (agent, mut requests) = ScriptedAgent::answering(OK).await;
    let mut setup = Setup::default();
    setup.policy.trusted_proxies = TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let gateway = setup.start(vec![("ns/agent", mk_route(&[agent.address]))]).await;
    let mut client = Client::connect(gateway.address).await;
    client
        .send(
            "GET /v1/agents/ns/agent/x HTTP/1.1\r\nHost: in\r\nX-Forwarded-For: 9.9.9.9\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Host: public.example\r\n\r\n",
        )
        .await;
    assert_eq!(client.answer().await.status, 200);
    let head = requests.recv().await.unwrap().head;
    assert_eq!(header(&head, "x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"));
    assert_eq!(header(&head, "x-forwarded-proto"), Some("https"));
    assert_eq!(header(&head, "x-forwarded-host"), Some("public.example"));
}

#[tokio::test]
async fn an_agent_may_see_localhost_as_its_host() {
    let (agent, mut requests) = ScriptedAgent::answering(OK).await;
    let mut route = mk_route(&[agent.address]);
    route.upstream_host = UpstreamHost::Localhost;
    let gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    Client::connect(gateway.address).await.get("/v1/agents/ns/agent").await;
    let head = requests.recv().await.unwrap().head;
    assert_eq!(header(&head, "host"), Some("localhost:8080"));
    assert_eq!(header(&head, "x-forwarded-host"), Some("test"));
}

#[tokio::test]
async fn the_answer_loses_what_belongs_to_the_hop() {
    let (agent, _requests) = ScriptedAgent::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive, X-Hop\r\n\
         X-Hop: 1\r\nAlt-Svc: h3\r\nStrict-Transport-Security: max-age=1\r\nX-Accel-Redirect: /etc\r\n\
         Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\nok",
    )
    .await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let answer = Client::connect(gateway.address).await.get("/v1/agents/ns/agent").await;
    for gone in ["keep-alive", "x-hop", "alt-svc", "strict-transport-security", "x-accel-redirect"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(answer.head.matches("et-Cookie").count() + answer.head.matches("et-cookie").count(), 2);
}

#[tokio::test]
async fn our_own_answers_say_what_is_wrong_on_a_kept_connection() {
    let mut off = mk_route(&[]);
    off.scaled_to_zero = true;
    let gateway = Setup::default().start(vec![("ns/none", mk_route(&[])), ("ns/off", off)]).await;
    let mut client = Client::connect(gateway.address).await;
    for (target, status, code, retry_after) in [
        ("/", 404, "not_found", None),
        ("/v1/models", 404, "models_unsupported", None),
        ("/v1/agents", 400, "bad_path", None),
        ("/v1/agents/", 400, "bad_path", None),
        ("/v1/agents/only-namespace/", 400, "bad_path", None),
        ("/v1/agents/NS/agent", 400, "bad_path", None),
        ("/v1/agents/ns/unknown", 404, "agent_not_found", None),
        ("/v1/agents/ns/none", 503, "no_ready_endpoint", Some("1")),
        ("/v1/agents/ns/off", 503, "agent_scaled_to_zero", None),
    ] {
        let answer = client.get(target).await;
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.json()["code"], code, "{target}");
        assert_eq!(answer.json()["requestId"].as_str().unwrap().len(), 32);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("retry-after"), retry_after, "{target}");
        assert_eq!(answer.header("server"), None);
    }
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_code() {
    let (agent, _requests) = ScriptedAgent::answering(OK).await;
    let mut setup = Setup::default();
    setup.policy.allowed_hosts = AllowedHosts::new(["good".to_owned()]);
    let gateway = setup.start(vec![("ns/agent", mk_route(&[agent.address]))]).await;
    let mut client = Client::connect(gateway.address).await;
    for (lines, status, code) in [
        ("", 400, "missing_host"),
        ("Host: evil\r\n", 421, "host_not_allowed"),
        ("Host: good\r\nConnection: x-forwarded-prefix\r\n", 400, "bad_connection_header"),
    ] {
        client.send(format!("GET /v1/agents/ns/agent HTTP/1.1\r\n{lines}\r\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (status, code));
    }
    client.send("GET /v1/agents/ns/agent HTTP/1.1\r\nHost: GOOD:80\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn before_the_first_table_nothing_is_known() {
    let setup = Setup { freshness: Freshness::Empty, ..Setup::default() };
    let gateway = setup.start(vec![]).await;
    let mut client = Client::connect(gateway.address).await;
    let answer = client.get("/v1/agents/ns/agent").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()["code"], "gateway_not_ready");
    assert_eq!(client.get("/healthz").await.text(), "ok");
    assert_eq!(client.get("/readyz").await.status, 503);
}

#[tokio::test]
async fn a_large_upload_to_nobody_gets_its_answer() {
    let gateway = Setup::default().start(vec![]).await;
    let mut client = Client::connect(gateway.address).await;
    let size = 8 * 1024 * 1024;
    client
        .send(format!("POST /v1/agents/ns/unknown HTTP/1.1\r\nHost: t\r\nContent-Length: {size}\r\n\r\n"))
        .await;
    // A simple client: it sends everything before it reads anything.
    let chunk = vec![b'x'; 64 * 1024];
    for _ in 0..size / chunk.len() {
        client.send(&chunk).await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (404, Some("close")));
    assert_eq!(client.end().await, (vec![], End::Closed));
}

#[tokio::test]
async fn a_small_upload_to_nobody_keeps_the_connection() {
    let gateway = Setup::default().start(vec![]).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..2 {
        assert_eq!(client.post("/v1/agents/ns/unknown", "some body").await.status, 404);
    }
}

#[tokio::test]
async fn a_refused_dial_goes_to_another_endpoint_whatever_the_method() {
    let (agent, mut requests) = ScriptedAgent::answering(OK).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = TestGateway::with_agent(gone).await;
    let mut client = Client::connect(gateway.address).await;
    let answer = client.post("/v1/agents/ns/agent", "x").await;
    assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (502, "upstream_refused"));

    let mut gateway = gateway;
    gateway.upsert("ns/agent", mk_route(&[gone, agent.address]));
    for _ in 0..20 {
        let mut client = Client::connect(gateway.address).await;
        assert_eq!(client.post("/v1/agents/ns/agent", "x").await.status, 200);
        assert_eq!(requests.recv().await.unwrap().body, b"x");
    }
}

#[tokio::test]
async fn a_stale_pooled_connection_is_tried_again_where_that_is_harmless() {
    // Each connection answers once and is closed when the next request comes.
    let agent = ScriptedAgent::start(|mut conn| async move {
        if conn.request().await.is_some() {
            conn.write(OK).await;
            conn.request().await;
        }
    })
    .await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..3 {
        assert_eq!(client.get("/v1/agents/ns/agent").await.status, 200);
    }
    let answer = client.post("/v1/agents/ns/agent", "x").await;
    assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (502, "upstream_reset"));
}

#[tokio::test]
async fn head_and_no_content_have_no_body() {
    let (agent, _requests) = ScriptedAgent::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let gateway = TestGateway::with_agent(agent.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send("HEAD /v1/agents/ns/unknown HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 404"));
    assert_eq!(client.get("/v1/agents/ns/agent").await.status, 204);
    assert!(client.is_silent_for(Duration::from_millis(50)).await);
}
