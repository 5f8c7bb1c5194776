//! The report of a gateway with a controller, or several, whose ends the test holds.

use std::net::SocketAddr;
use std::sync::Arc;

use krypton_discovery::EndpointPolicy;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::discovery::{DiscoveryClient, DiscoveryConfig};
use crate::metrics::{CallRecord, DiscoveryMetrics, RouteInFlight};
use crate::proxy::error::Outcome;
use crate::readiness::Readiness;
use crate::route_table::test_util::mk_resource;
use crate::route_table::{CallKind, Freshness, RouteTableWriter};
use crate::testing::{Controller, GatewayStream, ReportStream, within};

/// Discovery and report of one gateway.
struct Running {
    table: RouteTableHandle,
    metrics: ReportMetrics,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    /// Samples are taken so seldom that none but the first comes unasked, unless `edit` says otherwise.
    fn start(controller: &Controller, edit: impl FnOnce(&mut ReportConfig)) -> Self {
        let writer = RouteTableWriter::new(EndpointPolicy::default());
        let (table, shutdown) = (writer.handle(), CancellationToken::new());
        let config = DiscoveryConfig {
            controller: format!("http://{}", controller.address()).parse().unwrap(),
            credentials: Credentials::default(),
            node_id: "gateway-0".to_owned(),
            limits: LinkLimits::default(),
        };
        let ready = Readiness::default().register("table");
        let discovery = DiscoveryClient::new(config, writer, DiscoveryMetrics::default(), ready);
        let mut config = ReportConfig {
            sample_every: Duration::from_hours(1),
            ..ReportConfig::new("gateway-0".to_owned(), Credentials::default())
        };
        edit(&mut config);
        let metrics = ReportMetrics::default();
        let (holds, leader) = (discovery.holds(), discovery.leader());
        let report = ReportClient::new(config, table.clone(), holds, leader, metrics.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(discovery.run(shutdown.clone()));
        tasks.spawn(report.run(shutdown.clone()));
        Self { table, metrics, shutdown, tasks }
    }

    async fn until(&self, what: &str, state: impl Fn(&Self) -> bool) {
        within(what, async {
            while !state(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    fn end_call(&self, key: &str) {
        self.table.get(key).unwrap().metrics().record(&CallRecord {
            status: Some(200),
            outcome: Outcome::Ok,
            duration: Duration::ZERO,
            time_to_first_byte: None,
            retries: 0,
        });
    }
}

fn mk_upsert(key: &str, port: u16) -> wire::RouteResource {
    (&mk_resource(key, &[(format!("10.0.0.1:{port}"), "")])).into()
}

fn mk_bad(key: &str) -> wire::RouteResource {
    wire::RouteResource { route: None, version: vec![0xbb; 16], ..mk_upsert(key, 1) }
}

fn held(message: &wire::ReportRequest) -> Vec<(&str, &[u8])> {
    let mut held: Vec<_> =
        message.held.iter().map(|held| (held.name.as_str(), held.version.as_slice())).collect();
    held.sort_unstable();
    held
}

/// The next message that is more than samples.
async fn next_change(stream: &mut ReportStream) -> wire::ReportRequest {
    loop {
        let message = stream.next().await;
        if message.samples.is_empty() {
            return message;
        }
    }
}

/// A gateway whose discovery has told it `upserts` and that `leader` leads.
async fn told(
    controller: &mut Controller,
    upserts: Vec<wire::RouteResource>,
    leader: SocketAddr,
) -> GatewayStream {
    let (_, mut stream) = controller.accept().await;
    stream.send(upserts, &[]).await;
    stream.send_leader(&leader.to_string()).await;
    stream
}

#[tokio::test]
async fn the_leader_is_told_what_is_held_and_then_what_changes() {
    let mut controller = Controller::start().await;
    let running = Running::start(&controller, |_| {});
    let upserts = vec![mk_upsert("ns/a", 1), mk_upsert("ns/b", 1)];
    let address = controller.address();
    let mut routes = told(&mut controller, upserts, address).await;
    let (hello, mut report) = controller.accept_report().await;
    let node = hello.node.as_ref().unwrap();
    assert_eq!((node.id.as_str(), node.build.as_str()), ("gateway-0", env!("CARGO_PKG_VERSION")));
    let (a, b) = (mk_upsert("ns/a", 1).version, mk_upsert("ns/b", 1).version);
    assert_eq!(held(&hello), [("ns/a", a.as_slice()), ("ns/b", b.as_slice())]);
    assert!(!next_change(&mut report).await.more, "the greeting ends");
    running.until("the connection to count", |running| running.metrics.connected.get() == 1).await;

    routes.send(vec![mk_upsert("ns/a", 2), mk_upsert("ns/c", 1)], &["ns/b"]).await;
    let change = next_change(&mut report).await;
    let (a, c) = (mk_upsert("ns/a", 2).version, mk_upsert("ns/c", 1).version);
    assert_eq!(held(&change), [("ns/a", a.as_slice()), ("ns/c", c.as_slice())]);
    assert_eq!((change.node, change.removed, change.rejected), (None, vec!["ns/b".to_owned()], vec![]));
}

#[tokio::test]
async fn a_refusal_is_told_with_its_reason_and_again_to_the_next_leader() {
    let mut controller = Controller::start().await;
    let _running = Running::start(&controller, |_| {});
    let address = controller.address();
    let mut routes = told(&mut controller, vec![mk_upsert("ns/a", 1)], address).await;
    let (_, mut report) = controller.accept_report().await;
    next_change(&mut report).await;
    routes.send(vec![mk_bad("ns/a")], &[]).await;
    let expected = wire::RejectedResource {
        name: "ns/a".to_owned(),
        version: vec![0xbb; 16],
        reason: "route: missing".to_owned(),
    };
    let change = next_change(&mut report).await;
    assert_eq!(change.rejected, std::slice::from_ref(&expected));
    assert_eq!(held(&change), [("ns/a", mk_upsert("ns/a", 1).version.as_slice())], "the last good one");

    drop(report);
    let (_, mut report) = controller.accept_report().await;
    assert_eq!(next_change(&mut report).await.rejected, [expected]);
    routes.send(vec![mk_upsert("ns/a", 2)], &[]).await;
    let change = next_change(&mut report).await;
    assert_eq!((change.rejected, change.held.len()), (vec![], 1));
}

#[tokio::test]
async fn another_leader_is_turned_to_at_once() {
    let mut controller = Controller::start().await;
    let (mut first, mut second) = (Controller::start().await, Controller::start().await);
    let running = Running::start(&controller, |_| {});
    let mut routes = told(&mut controller, vec![mk_upsert("ns/a", 1)], first.address()).await;
    let (_, mut old) = first.accept_report().await;
    // Nobody knows who leads: no reason to leave.
    routes.send_leader("").await;
    routes.send(vec![mk_upsert("ns/b", 1)], &[]).await;
    while held(&next_change(&mut old).await).iter().all(|(name, _)| *name != "ns/b") {}
    routes.send_leader(&second.address().to_string()).await;
    let (hello, _new) = second.accept_report().await;
    assert_eq!(hello.held.len(), 2);
    old.until_end().await;
    running.until("both streams to count", |running| running.metrics.streams.get() == 2).await;
}

#[tokio::test]
async fn without_a_leader_nobody_is_tried() {
    let mut controller = Controller::start().await;
    let mut leader = Controller::start().await;
    let _running = Running::start(&controller, |_| {});
    let mut routes = told(&mut controller, vec![], leader.address()).await;
    let (_, mut report) = leader.accept_report().await;
    routes.send_leader("").await;
    routes.send_leader("not an address").await;
    report.fail(tonic::Status::failed_precondition("not any more"));
    let again = tokio::time::timeout(Duration::from_millis(300), leader.accept_report()).await;
    assert!(again.is_err());
    routes.send_leader(&leader.address().to_string()).await;
    leader.accept_report().await;
}

#[tokio::test]
async fn load_is_told_every_second_and_a_new_leader_hears_the_last_minute() {
    let mut controller = Controller::start().await;
    let running = Running::start(&controller, |config| config.sample_every = Duration::from_millis(20));
    let address = controller.address();
    let _routes = told(&mut controller, vec![mk_upsert("ns/a", 1), mk_upsert("ns/silent", 1)], address).await;
    let (_, mut report) = controller.accept_report().await;
    let call = RouteInFlight::new(Arc::clone(running.table.get("ns/a").unwrap().metrics()), CallKind::Call);
    running.end_call("ns/a");
    running.end_call("ns/a");
    let mut completed = 0;
    while completed < 2 {
        for load in report.next().await.samples.iter().flat_map(|sample| &sample.agents) {
            assert_eq!((load.name.as_str(), load.in_flight, load.waiting), ("ns/a", 1, 0));
            completed += load.completed;
        }
    }
    assert_eq!(completed, 2);
    drop((call, report));
    let (_, mut report) = controller.accept_report().await;
    let history = loop {
        let message = report.next().await;
        if !message.samples.is_empty() {
            break message.samples;
        }
    };
    let total: u64 = history.iter().flat_map(|sample| &sample.agents).map(|load| load.completed).sum();
    assert_eq!(total, 2, "what was told before is told anew");
    assert!(history.is_sorted_by(|older, newer| older.age_ms >= newer.age_ms));
}

#[tokio::test]
async fn a_leader_that_is_bad_disturbs_nothing_and_is_tried_again() {
    let mut controller = Controller::start().await;
    let running = Running::start(&controller, |config| {
        config.limits.progress = Duration::from_millis(200);
        config.limits.keepalive_interval = Duration::from_millis(50);
        config.limits.keepalive_timeout = Duration::from_millis(50);
    });
    // One that accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut routes = told(&mut controller, vec![mk_upsert("ns/a", 1)], silent.local_addr().unwrap()).await;
    let first = within("the first try", silent.accept()).await.unwrap();
    let second = within("the second try", silent.accept()).await.unwrap();
    drop((first, second));
    // One that answers everything with garbage.
    let garbage = TcpListener::bind("127.0.0.1:0").await.unwrap();
    routes.send_leader(&garbage.local_addr().unwrap().to_string()).await;
    for _ in 0..2 {
        use tokio::io::AsyncWriteExt as _;
        let (mut socket, _) = within("a connection", garbage.accept()).await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n\0\xff\xfe and so on").await.ok();
    }
    // Nobody is there.
    drop(silent);
    routes.send(vec![mk_upsert("ns/a", 2)], &[]).await;
    assert_eq!(running.table.freshness(), Freshness::Live);
    assert_eq!(running.metrics.connected.get(), 0);
    let mut leader = Controller::start().await;
    routes.send_leader(&leader.address().to_string()).await;
    let (hello, mut report) = leader.accept_report().await;
    assert_eq!(hello.held.len(), 1);
    // One that refuses.
    report.fail(tonic::Status::failed_precondition("does not lead"));
    leader.accept_report().await;
}

#[tokio::test]
async fn a_leader_that_reads_nothing_is_given_up() {
    let mut controller = Controller::start().await;
    let running = Running::start(&controller, |config| {
        config.sample_every = Duration::from_millis(1);
        config.limits.progress = Duration::from_millis(200);
    });
    let keys: Vec<_> = (0..500).map(|n| format!("ns/agent-{n:050}")).collect();
    let upserts = keys.iter().map(|key| mk_upsert(key, 1)).collect();
    let address = controller.address();
    let _routes = told(&mut controller, upserts, address).await;
    let (_, _unread) = controller.accept_report().await;
    // Each sample is large, so that buffers are full soon.
    let _calls: Vec<_> = keys
        .iter()
        .map(|key| RouteInFlight::new(Arc::clone(running.table.get(key).unwrap().metrics()), CallKind::Call))
        .collect();
    controller.accept_report().await;
    assert_eq!(running.table.freshness(), Freshness::Live);
}

#[tokio::test]
async fn a_stop_ends_the_report() {
    let mut controller = Controller::start().await;
    let mut running = Running::start(&controller, |_| {});
    let address = controller.address();
    let _routes = told(&mut controller, vec![], address).await;
    let (_, mut report) = controller.accept_report().await;
    running.until("the connection to count", |running| running.metrics.connected.get() == 1).await;
    running.shutdown.cancel();
    while within("the end of a task", running.tasks.join_next()).await.is_some() {}
    report.until_end().await;
    assert_eq!(running.metrics.connected.get(), 0);
}
