//! Where calls go while the table is old: pod addresses may belong to other pods by then.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use krypton_discovery::{Endpoint, Route};
use krypton_gateway::route_table::{Freshness, STALE_AFTER};

use crate::support::agent::{Conn, ScriptedAgent};
use crate::support::client::Client;
use crate::support::{Setup, TestGateway, mk_route};

const AGENT: &str = "/v1/agents/ns/agent";
const SERVICE_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A pod, and the Service in front of it at an address and a port of its own.
struct PodAndService {
    pod: ScriptedAgent,
    service: ScriptedAgent,
}

impl PodAndService {
    async fn start() -> Self {
        let pod = ScriptedAgent::start(|conn| answer(conn, "pod")).await;
        let any = SocketAddr::new(SERVICE_IP, 0);
        let service = ScriptedAgent::start_at(any, |conn| answer(conn, "service")).await;
        Self { pod, service }
    }

    fn route(&self) -> Route {
        let mut route = mk_route(&[self.pod.address]);
        route.service = Some(mk_service(self.service.address));
        route
    }

    fn connections(&self) -> (usize, usize) {
        (self.pod.connections(), self.service.connections())
    }
}

fn mk_service(address: SocketAddr) -> Endpoint {
    Endpoint::new(address, None).expect("an address that listens")
}

async fn answer(mut conn: Conn, who: &'static str) {
    while conn.request().await.is_some() {
        let length = who.len();
        conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{who}")).await;
    }
}

fn from_disk() -> Freshness {
    Freshness::FromDisk { loaded: Instant::now(), age: Duration::from_mins(1) }
}

fn lost(ago: Duration) -> Freshness {
    Freshness::Lost { since: Instant::now().checked_sub(ago).expect("the machine runs for longer") }
}

async fn answered_by(gateway: &TestGateway) -> String {
    Client::connect(gateway.address).await.get(AGENT).await.text().to_owned()
}

#[tokio::test]
async fn a_table_from_disk_leads_to_the_service_until_it_is_confirmed() {
    let agents = PodAndService::start().await;
    let setup = Setup { freshness: from_disk(), ..Setup::default() };
    let mut gateway = setup.start(vec![("ns/agent", agents.route())]).await;
    assert_eq!(answered_by(&gateway).await, "service");
    gateway.writer.set_freshness(Freshness::Live);
    assert_eq!(answered_by(&gateway).await, "pod");
}

#[tokio::test]
async fn a_lost_controller_is_given_time_to_come_back() {
    let agents = PodAndService::start().await;
    let mut gateway = Setup::default().start(vec![("ns/agent", agents.route())]).await;
    for (freshness, by) in [
        (Freshness::Live, "pod"),
        (lost(Duration::ZERO), "pod"),
        (lost(STALE_AFTER / 2), "pod"),
        (lost(STALE_AFTER), "service"),
        (lost(STALE_AFTER * 2), "service"),
        (Freshness::Live, "pod"),
    ] {
        gateway.writer.set_freshness(freshness);
        assert_eq!(answered_by(&gateway).await, by, "{freshness:?}");
    }
}

#[tokio::test]
async fn pooled_connections_of_the_two_are_kept_apart() {
    let agents = PodAndService::start().await;
    let mut gateway = Setup::default().start(vec![("ns/agent", agents.route())]).await;
    for _ in 0..3 {
        gateway.writer.set_freshness(Freshness::Live);
        assert_eq!(answered_by(&gateway).await, "pod");
        gateway.writer.set_freshness(lost(STALE_AFTER));
        assert_eq!(answered_by(&gateway).await, "service");
    }
    // Each has its own, which waits while the other is in use.
    assert_eq!(agents.connections(), (1, 1));
}

#[tokio::test]
async fn a_service_at_the_pods_very_address_has_connections_of_its_own() {
    let pod = ScriptedAgent::start(|conn| answer(conn, "pod")).await;
    let mut route = mk_route(&[pod.address]);
    route.service = Some(mk_service(pod.address));
    let mut gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    for freshness in [Freshness::Live, lost(STALE_AFTER), Freshness::Live, lost(STALE_AFTER)] {
        gateway.writer.set_freshness(freshness);
        assert_eq!(answered_by(&gateway).await, "pod");
    }
    assert_eq!(pod.connections(), 2);
}

#[tokio::test]
async fn without_a_service_the_last_endpoints_stay() {
    let pod = ScriptedAgent::start(|conn| answer(conn, "pod")).await;
    let mut gateway = TestGateway::with_agent(pod.address).await;
    for freshness in [from_disk(), lost(STALE_AFTER), Freshness::Live] {
        gateway.writer.set_freshness(freshness);
        assert_eq!(answered_by(&gateway).await, "pod", "{freshness:?}");
    }
}

#[tokio::test]
async fn a_service_is_dialled_also_when_no_endpoint_is_known() {
    let agents = PodAndService::start().await;
    let mut route = agents.route();
    route.endpoints.clear();
    let mut gateway = Setup::default().start(vec![("ns/agent", route)]).await;
    let mut client = Client::connect(gateway.address).await;
    assert_eq!(client.get(AGENT).await.json()["code"], "no_ready_endpoint");
    gateway.writer.set_freshness(lost(STALE_AFTER));
    assert_eq!(answered_by(&gateway).await, "service");
}

#[tokio::test]
async fn a_service_that_refuses_is_a_502_and_no_pod_is_tried() {
    let agents = PodAndService::start().await;
    let mut route = agents.route();
    let gone = std::net::TcpListener::bind((SERVICE_IP, 0)).unwrap().local_addr().unwrap();
    route.service = Some(mk_service(gone));
    let setup = Setup { freshness: from_disk(), ..Setup::default() };
    let gateway = setup.start(vec![("ns/agent", route)]).await;
    let answer = Client::connect(gateway.address).await.get(AGENT).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (502, Some("upstream_refused")));
    assert_eq!(agents.connections(), (0, 0));
}

#[tokio::test]
async fn a_running_stream_does_not_notice() {
    let (gate, opened) = tokio::sync::watch::channel(false);
    let pod = ScriptedAgent::start(move |mut conn| {
        let mut opened = opened.clone();
        async move {
            conn.request().await;
            conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            opened.wait_for(|open| *open).await.unwrap();
            conn.write("3\r\npod\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let mut gateway = TestGateway::with_agent(pod.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send("GET /v1/agents/ns/agent HTTP/1.1\r\nHost: t\r\n\r\n").await;
    client.head().await;
    gateway.writer.set_freshness(lost(STALE_AFTER));
    gate.send(true).unwrap();
    assert_eq!(client.chunk().await.unwrap(), b"pod");
    assert_eq!(client.chunk().await, None);
}
