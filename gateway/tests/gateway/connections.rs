//! How many connections there may be, how they are counted, and that many of them are no trouble.

use std::time::Duration;

use tokio::sync::watch;

use crate::support::agent::ScriptedAgent;
use crate::support::client::{Client, End};
use crate::support::h2::soon;
use crate::support::{Setup, TestGateway, mk_route, spawn};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const AGENT: &str = "/v1/agents/ns/agent";

#[tokio::test]
async fn connections_above_the_limit_wait_for_one_to_close() {
    let mut setup = Setup::default();
    setup.limits.connections = 2;
    let gateway = setup.start(vec![]).await;
    let mut first = Client::connect(gateway.address).await;
    let mut second = Client::connect(gateway.address).await;
    for client in [&mut first, &mut second] {
        assert_eq!(client.get("/healthz").await.status, 200);
    }
    // The kernel takes it; the gateway does not.
    let mut third = Client::connect(gateway.address).await;
    third.send("GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n").await;
    for client in [&mut first, &mut second] {
        assert_eq!(client.get("/healthz").await.status, 200);
    }
    gateway.await_metric("krypton_connections 2").await;
    assert!(third.is_silent_for(Duration::from_millis(50)).await);
    drop(second);
    assert_eq!(third.answer().await.text(), "ok");
    gateway.await_metric("krypton_connections 2").await;
    drop((first, third));
    gateway.await_metric("krypton_connections 0").await;
}

#[tokio::test]
async fn a_full_gateway_can_be_stopped() {
    let mut setup = Setup::default();
    setup.limits.connections = 1;
    let gateway = setup.start(vec![]).await;
    let mut only = Client::connect(gateway.address).await;
    assert_eq!(only.get("/healthz").await.status, 200);
    gateway.drain.stop();
    assert_eq!(only.end().await, (vec![], End::Closed));
    assert_eq!(soon("the end of the gateway", gateway.serving).await.unwrap(), 0);
}

#[tokio::test]
async fn five_hundred_connections_are_served_at_once() {
    const CLIENTS: usize = 500;
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
    let mut tasks = Vec::new();
    for _ in 0..CLIENTS {
        let address = gateway.address;
        tasks.push(spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..2 {
                assert_eq!(client.get(AGENT).await.text(), "ok");
            }
        }));
    }
    gateway.await_metric("krypton_connections 500").await;
    gateway.await_metric(r#"krypton_in_flight{agent="agent",namespace="ns"} 500"#).await;
    gate.send(true).unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    gateway.await_outcome("ok", 2 * CLIENTS as u64).await;
    gateway.await_metric(r#"krypton_in_flight{agent="agent",namespace="ns"} 0"#).await;
    gateway.await_metric("krypton_connections 0").await;
}

#[tokio::test]
async fn a_connection_that_breaks_anywhere_is_not_counted_any_more() {
    let (agent, _requests) = ScriptedAgent::answering(OK).await;
    let gateway = Setup::default().start(vec![("ns/agent", mk_route(&[agent.address]))]).await;
    for begun in ["", "G", "GET / HT", "PRI", "GET /v1/agents/ns/agent HTTP/1.1\r\nHost: t\r\n\r\n"] {
        let mut client = Client::connect(gateway.address).await;
        client.send(begun).await;
        gateway.await_metric("krypton_connections 1").await;
        drop(client);
        gateway.await_metric("krypton_connections 0").await;
    }
}
