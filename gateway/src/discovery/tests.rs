//! The client against a controller whose ends the test holds.

use std::net::SocketAddr;

use krypton_discovery::EndpointPolicy;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::readiness::Readiness;
use crate::route_table::RouteTableHandle;
use crate::route_table::test_util::mk_resource;
use crate::testing::{Controller, within};

/// A client that runs, and what can be seen of it.
struct Running {
    table: RouteTableHandle,
    readiness: Readiness,
    metrics: DiscoveryMetrics,
    shutdown: CancellationToken,
    task: JoinSet<()>,
}

fn mk_client(controller: SocketAddr) -> (DiscoveryClient, RouteTableHandle, Readiness) {
    let writer = RouteTableWriter::new(EndpointPolicy::default());
    let (table, readiness) = (writer.handle(), Readiness::default());
    let config = DiscoveryConfig {
        controller: format!("http://{controller}").parse().unwrap(),
        credentials: Credentials::default(),
        node_id: "gateway-0".to_owned(),
        limits: LinkLimits::default(),
    };
    let condition = readiness.register("table");
    (DiscoveryClient::new(config, writer, DiscoveryMetrics::default(), condition), table, readiness)
}

impl Running {
    fn start(controller: SocketAddr) -> Self {
        Self::start_with(controller, |_| {})
    }

    fn start_with(controller: SocketAddr, edit: impl FnOnce(&mut DiscoveryClient)) -> Self {
        let (mut client, table, readiness) = mk_client(controller);
        edit(&mut client);
        let (metrics, shutdown) = (client.metrics.clone(), CancellationToken::new());
        let mut task = JoinSet::new();
        task.spawn(client.run(shutdown.clone()));
        Self { table, readiness, metrics, shutdown, task }
    }

    /// Waits for a state that the client comes to by itself.
    async fn until(&self, what: &str, state: impl Fn(&Self) -> bool) {
        within(what, async {
            while !state(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    async fn until_lost(&self) {
        self.until("the loss", |running| matches!(running.table.freshness(), Freshness::Lost { .. })).await;
    }

    fn port(&self, key: &str) -> Option<u16> {
        let view = self.table.get(key)?.load();
        Some(view.endpoints()[0].address().port())
    }
}

fn mk_upsert(key: &str, port: u16) -> wire::RouteResource {
    (&mk_resource(key, &[(format!("10.0.0.1:{port}"), "")])).into()
}

fn mk_bad(key: &str) -> wire::RouteResource {
    wire::RouteResource { route: None, version: vec![0xbb; 16], ..mk_upsert(key, 1) }
}

#[tokio::test]
async fn the_first_table_makes_the_gateway_ready_once_it_is_whole() {
    let mut controller = Controller::start().await;
    let running = Running::start(controller.address());
    let (first, mut stream) = controller.accept().await;
    let node = first.node.unwrap();
    assert_eq!((node.id.as_str(), node.build.as_str()), ("gateway-0", env!("CARGO_PKG_VERSION")));
    assert!(first.initial_resource_versions.is_empty());
    assert_eq!(first.response_nonce, 0);

    assert_eq!(stream.send_part(vec![mk_upsert("ns/a", 1)]).await.rejected, []);
    assert_eq!(running.port("ns/a"), Some(1));
    assert!(!running.readiness.is_ready());
    assert_eq!(running.table.freshness(), Freshness::Empty);

    stream.send(vec![mk_upsert("ns/b", 2)], &[]).await;
    assert!(running.readiness.is_ready());
    assert_eq!(running.table.freshness(), Freshness::Live);
    assert_eq!((running.table.len(), running.metrics.connected.get()), (2, 1));
}

#[tokio::test]
async fn an_empty_table_is_a_table() {
    let mut controller = Controller::start().await;
    let running = Running::start(controller.address());
    let (_, mut stream) = controller.accept().await;
    stream.send(vec![], &[]).await;
    assert!(running.readiness.is_ready());
}

#[tokio::test]
async fn a_delta_changes_what_it_names() {
    let mut controller = Controller::start().await;
    let running = Running::start(controller.address());
    let (_, mut stream) = controller.accept().await;
    stream.send(vec![mk_upsert("ns/a", 1), mk_upsert("ns/b", 1), mk_upsert("ns/c", 1)], &[]).await;
    let ack = stream.send(vec![mk_upsert("ns/a", 2)], &["ns/b"]).await;
    assert_eq!((ack.response_nonce, ack.node), (2, None));
    assert_eq!(["ns/a", "ns/b", "ns/c"].map(|key| running.port(key)), [Some(2), None, Some(1)]);
}

#[tokio::test]
async fn a_bad_route_is_named_and_its_last_good_version_served_and_resumed_from() {
    let mut controller = Controller::start().await;
    let running = Running::start(controller.address());
    let (_, mut stream) = controller.accept().await;
    stream.send(vec![mk_upsert("ns/a", 1), mk_upsert("ns/b", 1)], &[]).await;
    let nack = stream.send(vec![mk_bad("ns/a"), mk_upsert("ns/b", 2)], &[]).await;
    assert_eq!(nack.rejected.len(), 1);
    assert_eq!(
        (nack.rejected[0].name.as_str(), nack.rejected[0].reason.as_str()),
        ("ns/a", "route: missing")
    );
    assert_eq!((running.port("ns/a"), running.port("ns/b")), (Some(1), Some(2)));

    drop(stream);
    let (first, _stream) = controller.accept().await;
    let mut held = first.initial_resource_versions;
    held.sort_by(|a, b| a.name.cmp(&b.name));
    let versions: Vec<_> = held.into_iter().map(|held| held.version).collect();
    assert_eq!(versions, [mk_upsert("ns/a", 1).version, mk_upsert("ns/b", 2).version]);
}

#[tokio::test]
async fn a_lost_controller_leaves_the_table_and_a_new_one_takes_it_up() {
    let mut controller = Controller::start().await;
    let running = Running::start(controller.address());
    let (_, mut stream) = controller.accept().await;
    stream.send(vec![mk_upsert("ns/a", 1), mk_upsert("ns/b", 1)], &[]).await;
    let address = controller.address();
    drop(stream);
    controller.stop().await;
    running.until_lost().await;
    assert_eq!(running.table.len(), 2);
    assert!(running.readiness.is_ready(), "the last table is served");
    running.until("the end of the stream", |running| running.metrics.connected.get() == 0).await;

    let mut controller = Controller::start_at(address).await;
    let (first, mut stream) = controller.accept().await;
    assert_eq!(first.initial_resource_versions.len(), 2);
    assert!(matches!(running.table.freshness(), Freshness::Lost { .. }), "connected is not yet confirmed");
    // Nothing differs but one that is gone: what is not named stays.
    stream.send(vec![], &["ns/b"]).await;
    assert_eq!(running.table.freshness(), Freshness::Live);
    assert_eq!((running.port("ns/a"), running.port("ns/b")), (Some(1), None));
}

#[tokio::test]
async fn what_breaks_the_contract_ends_the_stream_and_not_the_table() {
    let mut controller = Controller::start().await;
    let running = Running::start(controller.address());
    let (_, mut stream) = controller.accept().await;
    stream.send(vec![mk_upsert("ns/a", 1)], &[]).await;
    stream.send_raw(wire::DeltaRoutesResponse {
        nonce: 1,
        removed: vec!["ns/a".to_owned()],
        ..Default::default()
    });

    let (_, mut stream) = controller.accept().await;
    running.until_lost().await;
    stream.fail(tonic::Status::internal("not now"));

    let (_, mut stream) = controller.accept().await;
    let large = "x".repeat(MAX_RESPONSE_BYTES);
    stream.send_raw(wire::DeltaRoutesResponse { nonce: 1, removed: vec![large], ..Default::default() });

    let (first, mut stream) = controller.accept().await;
    assert_eq!(first.initial_resource_versions.len(), 1);
    assert_eq!(running.port("ns/a"), Some(1));
    stream.send(vec![], &[]).await;
    assert_eq!(running.table.freshness(), Freshness::Live);
    assert_eq!(running.metrics.streams.get(), 4);
}

#[tokio::test]
async fn garbage_in_place_of_a_controller_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let running = Running::start(address);
    for _ in 0..3 {
        let (mut socket, _) = within("a connection", listener.accept()).await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n\0\xff\xfe and so on").await.ok();
    }
    drop(listener);
    let mut controller = Controller::start_at(address).await;
    let (_, mut stream) = controller.accept().await;
    stream.send(vec![], &[]).await;
    assert!(running.readiness.is_ready());
}

#[tokio::test]
async fn a_controller_that_vanishes_without_a_word_is_noticed() {
    // Accepts and never says anything: no ping is answered.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _running = Running::start_with(listener.local_addr().unwrap(), |client| {
        client.config.limits.keepalive_interval = Duration::from_millis(50);
        client.config.limits.keepalive_timeout = Duration::from_millis(50);
    });
    let first = within("the first connection", listener.accept()).await.unwrap();
    let second = within("another connection", listener.accept()).await.unwrap();
    drop((first, second));
}

#[tokio::test]
async fn a_controller_that_answers_pings_and_nothing_else_is_noticed() {
    let mut controller = Controller::start().await;
    // Long enough for a busy machine to answer in.
    let progress = Duration::from_secs(1);
    let running =
        Running::start_with(controller.address(), |client| client.config.limits.progress = progress);
    let (_, mut held) = controller.accept().await;
    held.send_part(vec![mk_upsert("ns/a", 1)]).await;
    let (first, mut stream) = controller.accept().await;
    assert_eq!(first.initial_resource_versions.len(), 1, "what came before is held");
    stream.send(vec![], &[]).await;
    // A whole table that nothing changes is no reason to leave.
    assert!(tokio::time::timeout(progress * 2, controller.accept()).await.is_err());
    assert_eq!(running.table.freshness(), Freshness::Live);
}

#[tokio::test]
async fn a_table_from_disk_serves_until_a_controller_confirms_it() {
    let mut controller = Controller::start().await;
    let address = controller.address();
    let running = Running::start_with(address, |client| {
        let bad = krypton_discovery::VersionedRoute::try_from(mk_bad("ns/odd")).unwrap_err();
        client.restore(StoredTable {
            routes: vec![
                mk_resource("ns/a", &[("10.0.0.1:1", "")]),
                mk_resource("ns/b", &[("10.0.0.1:1", "")]),
            ],
            rejected: vec![bad],
            age: Duration::from_mins(1),
        });
    });
    assert!(running.readiness.is_ready());
    assert!(matches!(running.table.freshness(), Freshness::FromDisk { .. }));
    let (first, stream) = controller.accept().await;
    assert_eq!(first.initial_resource_versions.len(), 2);
    drop(stream);
    let (_, mut stream) = controller.accept().await;
    assert!(matches!(running.table.freshness(), Freshness::FromDisk { .. }), "a failed try confirms nothing");
    stream.send(vec![], &["ns/b"]).await;
    assert_eq!(running.table.freshness(), Freshness::Live);
    assert_eq!((running.port("ns/a"), running.port("ns/b")), (Some(1), None));
}

#[tokio::test]
async fn a_stop_ends_the_client_and_with_it_its_condition() {
    let mut controller = Controller::start().await;
    let mut running = Running::start(controller.address());
    let (_, mut stream) = controller.accept().await;
    stream.send(vec![], &[]).await;
    running.shutdown.cancel();
    within("the end of the task", running.task.join_next()).await.unwrap().unwrap();
    assert!(!running.readiness.is_ready());
    assert_eq!(running.metrics.connected.get(), 0);
}

#[tokio::test]
async fn five_thousand_agents_come_in_one_table() {
    let mut controller = Controller::start().await;
    let running = Running::start(controller.address());
    let (_, mut stream) = controller.accept().await;
    let upserts: Vec<_> = (0..5_000u16).map(|n| mk_upsert(&format!("ns/agent-{n}"), n + 1)).collect();
    for part in upserts.chunks(1_000) {
        stream.send_part(part.to_vec()).await;
    }
    stream.send(vec![], &[]).await;
    assert_eq!((running.table.len(), running.port("ns/agent-4999")), (5_000, Some(5_000)));
}

#[test]
fn the_log_says_first_what_a_person_looks_at() {
    let lost = Freshness::Lost { since: Instant::now() };
    for (trouble, freshness, told) in [
        (Trouble::Away, Freshness::Empty, ("Cannot reach the controller", "trying again")),
        (Trouble::Away, lost, ("Lost the controller", "serving the last table and trying again")),
        (Trouble::Refused, Freshness::Empty, ("The controller refuses this gateway", "trying again")),
        (
            Trouble::Untrusted,
            Freshness::Live,
            ("The controller is not trusted", "serving the last table and trying again"),
        ),
        (Trouble::Files, Freshness::Empty, ("Credentials cannot be read", "trying again")),
    ] {
        assert_eq!(headline(trouble, freshness), told);
    }
}
