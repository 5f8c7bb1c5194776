//! Reports over a real connection, with gateways whose messages the test writes.

use krypton_discovery::wire::route_discovery_client::RouteDiscoveryClient;
use krypton_discovery::wire::{self, AgentLoad, HeldResource, LoadSample, RejectedResource};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::*;
use crate::discovery::{Access, Discovery};
use crate::testing::mk_route;

/// Far above what anything takes, so that only what never comes runs into it.
const DEADLINE: Duration = Duration::from_secs(20);

struct Fixture {
    address: SocketAddr,
    reports: Reports,
    leading: watch::Sender<bool>,
    snapshots: watch::Sender<Option<Snapshot>>,
    shutdown: CancellationToken,
    _tasks: JoinSet<()>,
}

/// The gateway's end of a stream.
struct Gateway {
    requests: mpsc::Sender<ReportRequest>,
    responses: Streaming<ReportResponse>,
}

impl Fixture {
    async fn start(limits: Limits, settle: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (snapshots, newest) = watch::channel(None);
        let (leading, leads) = watch::channel(true);
        let (metrics, shutdown) = (Arc::new(Metrics::default()), CancellationToken::new());
        let reports = Reports::new(leads, limits, Arc::clone(&metrics), shutdown.clone());
        let leader = watch::channel(None).1;
        let discovery = Discovery::new(
            newest.clone(),
            leader,
            reports.clone(),
            Access::open(),
            metrics,
            limits,
            shutdown.clone(),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(async { discovery.serve(listener, None).await.unwrap() });
        tasks.spawn(reports.clone().run(newest, settle));
        Self { address, reports, leading, snapshots, shutdown, _tasks: tasks }
    }

    /// In a term that is settled as soon as it begins.
    async fn settled() -> Self {
        Self::start(Limits::default(), Duration::ZERO).await
    }

    fn publish(&self, agents: &[(&str, u16)]) {
        let routes =
            agents.iter().map(|(key, port)| (key.parse().unwrap(), Some(mk_route(key, *port).into())));
        self.snapshots.send_replace(Some(Snapshot::default().with(routes).unwrap_or_default()));
    }

    async fn try_connect(&self, first: ReportRequest) -> Result<Gateway, Status> {
        let mut client = RouteDiscoveryClient::connect(format!("http://{}", self.address)).await.unwrap();
        let (requests, stream) = mpsc::channel(4);
        requests.send(first).await.unwrap();
        let responses = within(client.report(ReceiverStream::new(stream))).await?.into_inner();
        Ok(Gateway { requests, responses })
    }

    async fn connect(&self, first: ReportRequest) -> Gateway {
        self.try_connect(first).await.unwrap()
    }

    async fn until(&self, reached: impl Fn(&Reports) -> bool) {
        let mut state = self.reports.state.subscribe();
        within(async {
            while !reached(&self.reports) {
                // What changes without a word to readers is asked for again soon.
                tokio::time::timeout(Duration::from_millis(5), state.changed()).await.ok();
            }
        })
        .await;
    }

    async fn until_state(&self, key: &str, expected: &ProgrammedState) {
        let key = key.parse().unwrap();
        self.until(|reports| reports.programmed(&key, 0) == *expected).await;
    }

    async fn until_members(&self, count: usize) {
        self.until(|reports| reports.list().len() == count).await;
    }
}

impl Gateway {
    async fn say(&self, request: ReportRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn end(&mut self) -> Code {
        match within(self.responses.message()).await {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

fn hello(node: &str, held: &[(&str, u16)]) -> ReportRequest {
    let node = wire::Node { id: node.into(), build: "test".into() };
    ReportRequest { node: Some(node), ..changes(held) }
}

fn changes(held: &[(&str, u16)]) -> ReportRequest {
    let held = held.iter().map(|(key, port)| HeldResource {
        name: (*key).to_owned(),
        version: mk_route(key, *port).version().as_bytes().to_vec(),
    });
    ReportRequest { held: held.collect(), ..ReportRequest::default() }
}

fn sample(age_ms: u64, key: &str, completed: u64) -> LoadSample {
    let load = AgentLoad { name: key.into(), in_flight: 1, waiting: 0, completed };
    LoadSample { age_ms, agents: vec![load], more: false }
}

fn pending(missing: &[&str]) -> ProgrammedState {
    ProgrammedState::Pending { missing: missing.iter().map(ToString::to_string).collect(), more: 0 }
}

#[tokio::test]
async fn an_agent_is_held_once_every_gateway_says_so() {
    let fixture = Fixture::settled().await;
    fixture.publish(&[("ns/a", 80)]);
    fixture.until_state("ns/a", &ProgrammedState::NoGateways).await;
    let first = fixture.connect(hello("g1", &[("ns/a", 80)])).await;
    fixture.until_state("ns/a", &ProgrammedState::Held).await;
    let second = fixture.connect(hello("g2", &[])).await;
    fixture.until_state("ns/a", &pending(&["g2"])).await;
    second.say(changes(&[("ns/a", 80)])).await;
    fixture.until_state("ns/a", &ProgrammedState::Held).await;
    fixture.publish(&[("ns/a", 81)]);
    fixture.until_state("ns/a", &pending(&["g1", "g2"])).await;
    first.say(changes(&[("ns/a", 81)])).await;
    drop(second);
    fixture.until_state("ns/a", &ProgrammedState::Held).await;
    drop(first);
    fixture.until_state("ns/a", &ProgrammedState::NoGateways).await;
}

#[tokio::test]
async fn who_waits_is_woken_with_the_agents_that_changed() {
    let fixture = Fixture::settled().await;
    fixture.publish(&[("ns/a", 80), ("ns/b", 80)]);
    let gateway = fixture.connect(hello("g1", &[("ns/a", 80), ("ns/b", 80)])).await;
    fixture.until_state("ns/b", &ProgrammedState::Held).await;
    within(fixture.reports.changed()).await;
    let waiting = fixture.reports.changed();
    tokio::pin!(waiting);
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    gateway.say(ReportRequest { removed: vec!["ns/b".into()], ..ReportRequest::default() }).await;
    let woken: Vec<_> = within(waiting).await.iter().map(ToString::to_string).collect();
    assert_eq!(woken, ["ns/b"]);
}

#[tokio::test]
async fn a_refusal_shows_with_its_reason() {
    let fixture = Fixture::settled().await;
    fixture.publish(&[("ns/a", 80)]);
    let version = mk_route("ns/a", 80).version().as_bytes().to_vec();
    let rejected = RejectedResource { name: "ns/a".into(), version, reason: "port: because".into() };
    let first = ReportRequest { rejected: vec![rejected], ..hello("g1", &[("ns/a", 79)]) };
    let _gateway = fixture.connect(first).await;
    let reason = "port: because".to_owned();
    fixture.until_state("ns/a", &ProgrammedState::Rejected { gateway: "g1".into(), reason }).await;
    let status = &fixture.reports.list()[0];
    assert_eq!((status.node.as_str(), status.held, status.rejected), ("g1", 1, 1));
}

#[tokio::test]
async fn a_new_leader_waits_for_gateways_before_it_misses_them() {
    let fixture = Fixture::start(Limits::default(), Duration::from_millis(300)).await;
    fixture.publish(&[("ns/a", 80)]);
    let key: AgentKey = "ns/a".parse().unwrap();
    assert_eq!(fixture.reports.programmed(&key, 0), ProgrammedState::Unsettled);
    fixture.until_state("ns/a", &ProgrammedState::NoGateways).await;
}

#[tokio::test]
async fn who_does_not_lead_takes_no_reports_and_ends_those_there_are() {
    let fixture = Fixture::settled().await;
    fixture.publish(&[("ns/a", 80)]);
    let mut gateway = fixture.connect(hello("g1", &[("ns/a", 80)])).await;
    fixture.until_members(1).await;
    fixture.leading.send_replace(false);
    assert_eq!(gateway.end().await, Code::FailedPrecondition);
    fixture.until_members(0).await;
    let refused = fixture.try_connect(hello("g1", &[])).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("does not lead"));
    fixture.leading.send_replace(true);
    let _gateway = fixture.connect(hello("g1", &[("ns/a", 80)])).await;
    fixture.until_state("ns/a", &ProgrammedState::Held).await;
}

#[tokio::test]
async fn calls_are_remembered_with_their_age_and_only_of_agents_that_there_are() {
    let fixture = Fixture::settled().await;
    fixture.publish(&[("ns/a", 80), ("ns/b", 80)]);
    fixture.until_state("ns/a", &ProgrammedState::NoGateways).await;
    let before = SystemTime::now();
    let samples = vec![sample(50_000, "ns/a", 2), sample(20_000, "ns/a", 1), sample(1_000, "ns/a", 0)];
    let first = ReportRequest { samples, ..hello("g1", &[]) };
    let gateway = fixture.connect(first).await;
    let (a, b): (AgentKey, AgentKey) = ("ns/a".parse().unwrap(), "ns/b".parse().unwrap());
    fixture.until(|reports| reports.last_invocation(&a).is_some()).await;
    let at = fixture.reports.last_invocation(&a).unwrap();
    let since = at.duration_since(before - Duration::from_secs(20)).unwrap();
    assert!(since < DEADLINE, "{since:?}");
    assert_eq!(fixture.reports.last_invocation(&b), None);
    assert_eq!(fixture.reports.take_called(), [a.clone()].into());
    assert!(fixture.reports.take_called().is_empty());
    // One that is older than what is known is no news.
    let samples = vec![sample(600_000, "ns/a", 1), sample(0, "ns/gone", 1), sample(0, "ns/b", 1)];
    gateway.say(ReportRequest { samples, ..ReportRequest::default() }).await;
    fixture.until(|reports| reports.last_invocation(&b).is_some()).await;
    assert_eq!(fixture.reports.take_called(), [b].into());
    assert_eq!(fixture.reports.last_invocation(&"ns/gone".parse().unwrap()), None);
    fixture.publish(&[("ns/b", 80)]);
    fixture.until(|reports| reports.last_invocation(&a).is_none()).await;
}

#[tokio::test]
async fn the_newest_load_of_a_gateway_is_listed() {
    let fixture = Fixture::settled().await;
    let split = LoadSample { more: true, ..sample(0, "ns/a", 2) };
    let samples = vec![sample(1_000, "ns/a", 9), split, sample(0, "ns/b", 3)];
    let _gateway = fixture.connect(ReportRequest { samples, ..hello("g1", &[]) }).await;
    fixture.until(|reports| reports.list().iter().any(|gateway| gateway.load.is_some())).await;
    let load = LoadSummary { agents: 2, in_flight: 2, waiting: 0, completed: 5 };
    assert_eq!(fixture.reports.list()[0].load, Some(load));
}

#[tokio::test]
async fn garbage_ends_a_report_and_no_other() {
    let fixture = Fixture::start(Limits { held: 2, ..Limits::default() }, Duration::ZERO).await;
    fixture.publish(&[("ns/a", 80)]);
    let good = fixture.connect(hello("g1", &[])).await;
    fixture.until_members(1).await;
    let many = hello("g2", &[("ns/a", 1), ("ns/b", 1), ("ns/c", 1)]);
    for (first, code) in [
        (ReportRequest::default(), Code::InvalidArgument),
        (ReportRequest { removed: vec!["no slash".into()], ..hello("g2", &[]) }, Code::InvalidArgument),
        (many, Code::ResourceExhausted),
    ] {
        assert_eq!(fixture.connect(first).await.end().await, code);
    }
    // More and more of what each message has little of.
    let mut growing = fixture.connect(hello("g2", &[("ns/a", 80), ("ns/b", 1)])).await;
    growing.say(changes(&[("ns/c", 1)])).await;
    assert_eq!(growing.end().await, Code::ResourceExhausted);
    fixture.until_members(1).await;
    good.say(changes(&[("ns/a", 80)])).await;
    fixture.until_state("ns/a", &ProgrammedState::Held).await;
}

#[tokio::test]
async fn reports_are_bounded_in_number_and_in_silence() {
    let limits = Limits {
        gateways: 1,
        hello_timeout: Duration::from_millis(50),
        answer_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let fixture = Fixture::start(limits, Duration::ZERO).await;
    let mut first = fixture.connect(hello("g1", &[])).await;
    fixture.until_members(1).await;
    assert_eq!(fixture.connect(hello("g2", &[])).await.end().await, Code::ResourceExhausted);
    assert_eq!(first.end().await, Code::DeadlineExceeded, "it said nothing any more");
    fixture.until_members(0).await;
    let mut client = RouteDiscoveryClient::connect(format!("http://{}", fixture.address)).await.unwrap();
    let silent = tokio_stream::pending::<ReportRequest>();
    let mut stream = within(client.report(silent)).await.unwrap().into_inner();
    assert_eq!(within(stream.message()).await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_gateway_that_comes_back_takes_the_place_of_its_old_stream() {
    let fixture = Fixture::settled().await;
    fixture.publish(&[("ns/a", 80)]);
    let mut old = fixture.connect(hello("g1", &[])).await;
    fixture.until_state("ns/a", &pending(&["g1"])).await;
    let _new = fixture.connect(hello("g1", &[("ns/a", 80)])).await;
    fixture.until_state("ns/a", &ProgrammedState::Held).await;
    old.say(changes(&[("ns/a", 79)])).await;
    assert_eq!(old.end().await, Code::Aborted);
    assert_eq!(fixture.reports.list().len(), 1);
    fixture.until_state("ns/a", &ProgrammedState::Held).await;
}

#[tokio::test]
async fn the_end_of_the_controller_is_told() {
    let fixture = Fixture::settled().await;
    let mut gateway = fixture.connect(hello("g1", &[])).await;
    fixture.until_members(1).await;
    fixture.shutdown.cancel();
    assert_eq!(gateway.end().await, Code::Unavailable);
}
