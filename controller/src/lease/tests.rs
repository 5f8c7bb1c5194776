//! The loop around the rules, against an API that is one Lease in memory.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt as _;
use krypton_crd::keys;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::WatchStream;

use super::*;

/// For what must happen: long enough for a busy machine, and below the 10 s after which a Lease runs out.
const SOON: Duration = Duration::from_secs(8);

/// Not the usual one, so that no call is for that.
const NAME: &str = "other-controller";

/// One Lease, as the API server keeps it.
#[derive(Debug, Clone)]
struct FakeApi {
    lease: watch::Sender<Value>,
    /// Nothing is answered while this is set.
    hangs: watch::Sender<bool>,
}

/// A controller in the election.
struct Member {
    leadership: Leadership,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("not soon: {what}"))
}

// === impl FakeApi ===

impl FakeApi {
    fn new() -> Self {
        Self { lease: watch::Sender::new(Value::Null), hangs: watch::Sender::new(false) }
    }

    fn client(&self) -> Client {
        let base = "/apis/coordination.k8s.io/v1/namespaces/n/leases";
        let router = Router::new()
            .route(base, post(create).get(follow))
            .route(&format!("{base}/{NAME}"), get(read).put(replace))
            .with_state(self.clone());
        Client::new(router, "n")
    }

    fn join(&self, name: &str, address: &str) -> Member {
        let config = LeaseConfig::new(Some("n".into()), NAME.into(), Some(name.into()), address.into());
        let metrics = Arc::new(Metrics::new(&mut Registry::default()));
        let (election, leadership) = Election::new(self.client(), config, metrics);
        Member::new(election, leadership)
    }

    /// Waits until the Lease names a holder that begins so.
    async fn held_by(&self, prefix: &str) {
        let mut lease = self.lease.subscribe();
        let holds = |lease: &Value| {
            lease["spec"]["holderIdentity"].as_str().is_some_and(|holder| holder.starts_with(prefix))
        };
        soon(prefix, lease.wait_for(holds)).await.unwrap();
    }

    fn holder(&self) -> String {
        self.lease.borrow()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns when the API answers.
    async fn answers(&self) {
        self.hangs.subscribe().wait_for(|hangs| !hangs).await.unwrap();
    }

    fn store(&self, mut lease: Value) -> Response {
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].as_str()?.parse::<u64>().ok();
        let mut answer = refuse(StatusCode::CONFLICT, "Conflict");
        self.lease.send_if_modified(|known| {
            if version(&lease) != version(known) {
                return false;
            }
            lease["metadata"]["resourceVersion"] = json!((version(known).unwrap_or(0) + 1).to_string());
            lease["metadata"]["uid"] = json!("u");
            known.clone_from(&lease);
            answer = Json(lease.clone()).into_response();
            true
        });
        answer
    }
}

fn refuse(code: StatusCode, reason: &str) -> Response {
    let status = json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": "no"});
    (code, Json(status)).into_response()
}

async fn read(State(api): State<FakeApi>) -> Response {
    api.answers().await;
    let lease = api.lease.borrow().clone();
    if lease.is_null() { refuse(StatusCode::NOT_FOUND, "NotFound") } else { Json(lease).into_response() }
}

async fn create(State(api): State<FakeApi>, Json(lease): Json<Value>) -> Response {
    api.answers().await;
    api.store(lease)
}

async fn replace(State(api): State<FakeApi>, Json(lease): Json<Value>) -> Response {
    assert!(lease["metadata"]["resourceVersion"].is_string(), "a claim is based on a version");
    api.answers().await;
    api.store(lease)
}

async fn follow(State(api): State<FakeApi>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let only =
        query.iter().any(|(key, value)| key == "fieldSelector" && *value == format!("metadata.name={NAME}"));
    assert!(only, "all that the role allows is to watch the one Lease: {query:?}");
    let events = WatchStream::new(api.lease.subscribe()).filter(|lease| std::future::ready(!lease.is_null()));
    let lines = events
        .map(|lease| Ok::<_, std::io::Error>(format!("{}\n", json!({"type": "MODIFIED", "object": lease}))));
    axum::body::Body::from_stream(lines).into_response()
}

// === impl Member ===

impl Member {
    fn new(election: Election, leadership: Leadership) -> Self {
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(election.run(shutdown.clone()));
        Self { leadership, shutdown, tasks }
    }

    async fn term(&mut self) -> Term {
        let term = soon("a term", self.leadership.term.wait_for(Option::is_some)).await.unwrap();
        term.clone().unwrap()
    }

    async fn ended(&mut self) {
        soon("the end", self.tasks.join_next()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn one_alone_leads_renews_and_says_where_it_is() {
    let api = FakeApi::new();
    let mut a = api.join("a", "10.0.0.1:9090");
    let term = a.term().await;
    assert_eq!(term.number(), 1);
    assert!(term.remaining() > Duration::ZERO && term.remaining() <= GIVE_UP);
    let lease = api.lease.borrow().clone();
    assert_eq!(lease["metadata"]["annotations"][keys::LEADER_ADDRESS_ANNOTATION], "10.0.0.1:9090");
    assert_eq!(a.leadership.address.borrow().as_deref(), Some("10.0.0.1:9090"));
    let renewed = |now: &Value| now["spec"]["renewTime"] != lease["spec"]["renewTime"];
    soon("a renewal", api.lease.subscribe().wait_for(renewed)).await.unwrap();
    assert_eq!(api.lease.borrow()["spec"]["acquireTime"], lease["spec"]["acquireTime"]);
    assert!(!term.token().is_cancelled());
}

#[tokio::test]
async fn the_lease_is_given_away_when_the_tasks_have_ended_and_taken_at_once() {
    let api = FakeApi::new();
    let mut a = api.join("a", "10.0.0.1:9090");
    let term = a.term().await;
    let mut b = api.join("b", "10.0.0.2:9090");
    let of_a = |address: &Option<String>| address.as_deref() == Some("10.0.0.1:9090");
    soon("b knows of a", b.leadership.address.wait_for(of_a)).await.unwrap();
    assert!(b.leadership.term.borrow().is_none());

    let hold = term.hold().unwrap();
    a.shutdown.cancel();
    soon("the term ends", term.token().cancelled()).await;
    assert!(term.hold().is_none() && term.remaining() == Duration::ZERO);
    soon("it is said", a.leadership.term.wait_for(Option::is_none)).await.unwrap();
    assert!(api.holder().starts_with("a_"), "released before its tasks had ended");
    drop(hold);
    a.ended().await;
    api.held_by("b_").await;
    assert_eq!(b.term().await.number(), 2);
    let of_b = |address: &Option<String>| address.as_deref() == Some("10.0.0.2:9090");
    soon("b tells of itself", b.leadership.address.wait_for(of_b)).await.unwrap();

    b.shutdown.cancel();
    b.ended().await;
    assert_eq!(api.holder(), "");
}

#[tokio::test]
async fn a_leader_stops_as_soon_as_somebody_else_is_in_the_lease() {
    let api = FakeApi::new();
    let mut a = api.join("a", "10.0.0.1:9090");
    let term = a.term().await;
    api.lease.send_modify(|lease| {
        lease["spec"]["holderIdentity"] = json!("other");
        lease["metadata"]["annotations"][keys::LEADER_ADDRESS_ANNOTATION] = json!("10.0.0.2:9090");
        lease["metadata"]["resourceVersion"] = json!("1000");
    });
    soon("the term ends", term.token().cancelled()).await;
    let of_other = |address: &Option<String>| address.as_deref() == Some("10.0.0.2:9090");
    soon("the other's address", a.leadership.address.wait_for(of_other)).await.unwrap();
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_before_its_lease_runs_out_and_leads_again_after() {
    let api = FakeApi::new();
    let mut a = api.join("a", "10.0.0.1:9090");
    let term = a.term().await;
    // Every claim that the API has seen was sent before this.
    let last = Instant::now();
    api.hangs.send_replace(true);
    tokio::time::timeout_at(last + record::LEASE_DURATION, term.token().cancelled()).await.unwrap();
    assert!(a.leadership.term.borrow().is_none() && a.leadership.address.borrow().is_none());
    api.hangs.send_replace(false);
    assert_eq!(a.term().await.number(), 2);
}

#[tokio::test]
async fn an_election_that_is_dropped_ends_the_term() {
    let api = FakeApi::new();
    let mut a = api.join("a", "10.0.0.1:9090");
    let term = a.term().await;
    a.tasks.abort_all();
    soon("the term ends", term.token().cancelled()).await;
    assert!(a.leadership.term.has_changed().is_err());
    assert!(api.holder().starts_with("a_"));
}

#[tokio::test]
async fn work_runs_in_a_term_and_ends_with_it() {
    let mut registry = Registry::default();
    let (election, leadership) =
        Election::alone(Some("127.0.0.1:9090".into()), Arc::new(Metrics::new(&mut registry)));
    let metric = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().find(|line| line.starts_with("krypton_controller_leader ")).unwrap().to_owned()
    };
    let (begun, mut terms) = watch::channel(0);
    let worker = leadership.clone();
    let mut member = Member::new(election, leadership);
    let mut work = JoinSet::new();
    work.spawn(async move {
        let work_of = |term: Term| {
            begun.send_replace(term.number());
            std::future::pending::<()>()
        };
        worker.in_each_term(work_of).await;
    });
    soon("it begins", terms.wait_for(|term| *term == 1)).await.unwrap();
    assert_eq!(member.leadership.address.borrow().as_deref(), Some("127.0.0.1:9090"));
    assert_eq!(metric(), "krypton_controller_leader 1");
    member.shutdown.cancel();
    member.ended().await;
    soon("it ends", work.join_next()).await.unwrap().unwrap();
    assert_eq!(metric(), "krypton_controller_leader 0");
}

#[test]
fn no_two_processes_have_one_identity() {
    let [a, b] =
        [(); 2].map(|()| LeaseConfig::new(None, NAME.into(), Some("pod".into()), "10.0.0.1:9090".into()));
    assert!(a.identity.starts_with("pod_") && a.identity != b.identity);
    assert!(!LeaseConfig::new(None, NAME.into(), None, "10.0.0.1:9090".into()).identity.starts_with('_'));
}

#[test]
fn an_address_is_something_to_dial() {
    for address in ["10.0.0.1:9090", "[fd00::1]:9090", "controller-0.krypton:9090", "Host:1", "a1:65535"] {
        assert!(is_address(address), "{address}");
    }
    for address in [
        "",
        ":",
        "host",
        "host:",
        ":9090",
        "host:0",
        "host:65536",
        "host:+1",
        "10.0.0.1:0",
        "0.0.0.0:9090",
        "[::]:9090",
        "fd00::1:9090",
        "10.0.0:9090",
        "1.2.3.256:9090",
        "a b:1",
        "http://a:1",
        "a:1/",
        "a..b:1",
    ] {
        assert!(!is_address(address), "{address}");
    }
    assert!(!is_address(&format!("{}:1", ["a"; 200].join("."))));
}
