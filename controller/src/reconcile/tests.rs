//! One look: which calls it makes, in which order, and when it is silent. The API server is a function of the test's.

use std::convert::Infallible;

use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use kube::runtime::events::Reporter;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::discovery::Limits;
use crate::lease::Election;

/// What the API server answers to a call: method, path, body.
type Answer = fn(&str, &str, &Value) -> (u16, Value);

/// A call, as `POST /api/v1/…`, and its body.
#[derive(Debug)]
struct Call(String, Value);

struct Fixture {
    client: Client,
    reconciler: Reconciler,
    calls: mpsc::Receiver<Call>,
}

impl Fixture {
    fn new(answer: Answer) -> Self {
        let (told, calls) = mpsc::channel(100);
        let service = tower::service_fn(move |request: Request<Body>| {
            let told = told.clone();
            async move {
                let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let (code, answered) = answer(&method, &path, &body);
                told.try_send(Call(format!("{method} {path}"), body)).unwrap();
                let body = Full::new(hyper::body::Bytes::from(answered.to_string()));
                let response = Response::builder().status(StatusCode::from_u16(code).unwrap()).body(body);
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        let client = Client::new(service, "default");
        let reporter = Reporter { controller: "test".to_owned(), instance: None };
        let recorder = Recorder::new(client.clone(), reporter);
        let metrics = Arc::new(Metrics::default());
        let leading = watch::channel(true).1;
        let reports =
            Reports::new(leading, Limits::default(), Arc::clone(&metrics), CancellationToken::new());
        let reconciler = Reconciler::new(client.clone(), None, reports, recorder, metrics);
        Self { client, reconciler, calls }
    }

    /// The calls since this was last asked, without those for Events.
    fn calls(&mut self) -> Vec<Call> {
        let all = std::iter::from_fn(|| self.calls.try_recv().ok());
        all.filter(|call| !call.0.contains("/events")).collect()
    }

    fn paths(&mut self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.0).collect()
    }
}

/// The Agent `ns/a`, alone.
fn family(metadata: &Value) -> Family {
    let mut agent = json!({
        "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "spec": { "image": "i" },
        "metadata": { "name": "a", "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": "1" },
    });
    if let (Some(all), Some(more)) = (agent["metadata"].as_object_mut(), metadata.as_object()) {
        all.extend(more.clone());
    }
    let id = ObjectId::new("ns", "a");
    let (service_account, service, deployment) = (None, None, None);
    Family { id, agent: Arc::new(agent), service_account, service, deployment, pods: Vec::new() }
}

/// Stores whatever is written.
fn takes_all(_: &str, _: &str, body: &Value) -> (u16, Value) {
    // A JSON patch is a list; what it leaves is not looked at.
    let mut object = if body.is_object() { body.clone() } else { json!({}) };
    object["metadata"]["uid"] = "child".into();
    object["metadata"]["resourceVersion"] = "2".into();
    (200, object)
}

fn status(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    (code, status)
}

const CREATIONS: [&str; 3] = [
    "POST /api/v1/namespaces/ns/serviceaccounts",
    "POST /api/v1/namespaces/ns/services",
    "POST /apis/apps/v1/namespaces/ns/deployments",
];

const STATUS: &str = "PATCH /apis/krypton.ai/v1alpha1/namespaces/ns/agents/a/status";

/// Reason of `Accepted` in a write of the status.
fn accepted(call: &Call) -> &Value {
    let conditions = call.1["status"]["conditions"].as_array().unwrap();
    &conditions.iter().find(|condition| condition["type"] == "Accepted").unwrap()["reason"]
}

#[tokio::test]
async fn a_new_agent_gets_its_children_in_order_and_its_status_when_gateways_had_time() {
    let mut fixture = Fixture::new(takes_all);
    let look = fixture.reconciler.look(family(&json!({})), Memory::default(), None).await;
    assert_eq!(fixture.paths(), CREATIONS);
    assert!(matches!(look.finished, Finished::Done(Some(_))), "{:?}", look.finished);
    // The watch has not seen the children yet: what was written is known all the same.
    fixture.reconciler.look(family(&json!({})), look.memory, None).await;
    assert_eq!(fixture.paths(), Vec::<String>::new());
}

/// Finds an object of somebody else where the child of the given path is to be.
fn taken(kind: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    match method {
        "POST" if path.ends_with(kind) => status(409, "AlreadyExists", "taken"),
        "GET" if path.ends_with(&format!("{kind}/a")) => {
            (200, json!({ "metadata": { "name": "a", "uid": "theirs" } }))
        }
        _ => takes_all(method, path, body),
    }
}

#[tokio::test]
async fn no_pod_is_made_beside_somebody_elses_account_or_service() {
    let account: Answer = |method, path, body| taken("serviceaccounts", method, path, body);
    let service: Answer = |method, path, body| taken("services", method, path, body);
    for (answer, made) in [(account, 1), (service, 2)] {
        let mut fixture = Fixture::new(answer);
        let look = fixture.reconciler.look(family(&json!({})), Memory::default(), None).await;
        let calls = fixture.calls();
        let paths: Vec<_> = calls.iter().map(|call| call.0.as_str()).collect();
        assert_eq!(paths[..made], CREATIONS[..made]);
        let [get, written] = &paths[made..] else { panic!("{paths:?}") };
        assert_eq!((get.starts_with("GET"), *written), (true, STATUS));
        let written = calls.last().unwrap();
        assert_eq!(accepted(written), "NameConflict");
        assert_eq!(written.1["status"].get("url").and_then(Value::as_str), None);
        assert!(matches!(look.finished, Finished::Done(Some(_))), "somebody may take it away");
    }
}

#[tokio::test]
async fn what_is_refused_is_told_and_not_asked_for_again() {
    let mut fixture = Fixture::new(|method, path, body| {
        if path.ends_with("/deployments") {
            return status(400, "BadRequest", "unknown field \"spec.template.spec.foo\"");
        }
        takes_all(method, path, body)
    });
    let look = fixture.reconciler.look(family(&json!({})), Memory::default(), None).await;
    let calls = fixture.calls();
    assert_eq!(calls.len(), 4, "{calls:?}");
    assert_eq!(accepted(&calls[3]), "InvalidPodTemplate");
    let Finished::Done(Some(again)) = look.finished else { panic!("{:?}", look.finished) };
    assert!(again <= Duration::from_mins(10));
    let again = fixture.reconciler.look(family(&json!({})), look.memory, None).await;
    assert_eq!(fixture.paths(), Vec::<String>::new());
    assert!(matches!(again.finished, Finished::Done(Some(_))), "nor forgotten");
}

#[tokio::test]
async fn a_first_failure_is_not_told_and_a_second_one_is() {
    for (failing, told) in [(false, "Pending"), (true, "WriteRefused")] {
        let mut fixture = Fixture::new(|method, path, body| {
            if path.ends_with("/deployments") {
                return status(500, "InternalError", "failed calling webhook \"w\": no endpoints");
            }
            takes_all(method, path, body)
        });
        let mut memory = Memory::default().of("u");
        memory.failing = failing;
        let look = fixture.reconciler.look(family(&json!({})), memory, None).await;
        assert_eq!(look.finished, Finished::Failed);
        assert!(look.memory.failing);
        let calls = fixture.calls();
        assert_eq!(calls.last().map(|call| (call.0.as_str(), accepted(call))), Some((STATUS, &json!(told))));
    }
}

#[tokio::test]
async fn a_finalizer_that_cannot_be_taken_away_stops_nothing_else() {
    let mut fixture = Fixture::new(|method, path, body| {
        if path.ends_with("/agents/a") {
            return status(403, "Forbidden", "agents.krypton.ai \"a\" is forbidden");
        }
        takes_all(method, path, body)
    });
    let with = family(&json!({ "finalizers": ["krypton.ai/cleanup", "example.com/other"] }));
    let look = fixture.reconciler.look(with, Memory::default(), None).await;
    let calls = fixture.calls();
    assert_eq!(calls[0].0, "PATCH /apis/krypton.ai/v1alpha1/namespaces/ns/agents/a");
    assert_eq!(calls[0].1[1]["value"], json!(["example.com/other"]));
    assert_eq!(calls[1..4].iter().map(|call| call.0.as_str()).collect::<Vec<_>>(), CREATIONS);
    assert_eq!(look.finished, Finished::Failed);
}

#[tokio::test]
async fn a_finalizer_that_is_put_back_is_taken_away_seldom_and_at_the_end() {
    let mut fixture = Fixture::new(takes_all);
    let finalizers = json!({ "finalizers": ["krypton.ai/cleanup"] });
    let patch = "PATCH /apis/krypton.ai/v1alpha1/namespaces/ns/agents/a";
    let look = fixture.reconciler.look(family(&finalizers), Memory::default(), None).await;
    assert!(fixture.paths().iter().any(|path| path == patch));
    let look = fixture.reconciler.look(family(&finalizers), look.memory, None).await;
    assert!(!fixture.paths().iter().any(|path| path == patch), "the Go controller still runs");
    let mut deleted = finalizers.clone();
    deleted["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    fixture.reconciler.look(family(&deleted), look.memory, None).await;
    assert_eq!(fixture.paths(), [patch], "and nothing is made any more");
}

#[tokio::test]
async fn an_agent_that_cannot_be_decoded_is_told_so_and_its_children_stay() {
    let mut fixture = Fixture::new(takes_all);
    let mut bad = family(&json!({}));
    let mut agent = Value::clone(&bad.agent);
    agent["spec"]["protocol"] = "grpc".into();
    bad.agent = Arc::new(agent);
    fixture.reconciler.look(bad, Memory::default(), None).await;
    let calls = fixture.calls();
    assert_eq!(calls.iter().map(|call| call.0.as_str()).collect::<Vec<_>>(), [STATUS]);
    assert_eq!(accepted(&calls[0]), "InvalidSpec");
}

#[tokio::test]
async fn nothing_is_sent_once_the_term_is_over() {
    let Fixture { client, reconciler, mut calls } = Fixture::new(takes_all);
    let (election, leadership) = Election::alone(None, Arc::clone(&reconciler.metrics));
    let shutdown = CancellationToken::new();
    let mut terms = leadership.term.clone();
    let lead = async {
        let term = terms.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        shutdown.cancel();
        term.token().cancelled().await;
        term
    };
    let (term, ()) = tokio::join!(lead, election.run(shutdown.clone()));
    let api = Api::new(client, Some(term));
    let request = Request::get("/version").body(Vec::new()).unwrap();
    let refused = api.call::<Value>(request).await;
    assert!(matches!(refused, Err(CallError::TermOver)), "{refused:?}");
    assert!(!api.may_call() && calls.try_recv().is_err());
}

/// What was told as Events of that reason.
fn told(fixture: &mut Fixture, reason: &str) -> Vec<String> {
    let calls = std::iter::from_fn(|| fixture.calls.try_recv().ok());
    let events = calls.filter(|call| call.0.starts_with("POST") && call.1["reason"] == reason);
    events.map(|call| call.1["note"].as_str().unwrap().to_owned()).collect()
}

/// Nothing but a generation that gateways had time for.
fn settled() -> Memory {
    let mut memory = Memory::default().of("u");
    memory.meet(1, Instant::now().checked_sub(Duration::from_secs(2)).unwrap());
    memory
}

#[tokio::test]
async fn a_timeout_that_reaches_the_ingress_is_told_once_also_by_the_next_leader() {
    const REASON: &str = "TimeoutReachesIngress";
    let behind = |seconds| {
        let mut fixture = Fixture::new(takes_all);
        fixture.reconciler = fixture.reconciler.behind_ingress(Some(Duration::from_secs(seconds)));
        fixture
    };
    let mut fixture = behind(60);
    let look = fixture.reconciler.look(family(&json!({})), settled(), None).await;
    let notes = told(&mut fixture, REASON);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("spec.timeout is 5m by default") && notes[0].contains("silent for 1m:"),
        "{notes:?}"
    );

    // A restart: nothing is remembered, and the status is what the cluster has.
    let written = look.memory.status.current(None, "1").unwrap().clone();
    let with_status = || {
        let mut family = family(&json!({ "resourceVersion": "3" }));
        let mut agent = Value::clone(&family.agent);
        agent["status"] = serde_json::to_value(&written).unwrap();
        family.agent = Arc::new(agent);
        family
    };
    for (ingress, events) in [(60, 0), (90, 1), (301, 0)] {
        let mut fixture = behind(ingress);
        fixture.reconciler.look(with_status(), settled(), None).await;
        assert_eq!(told(&mut fixture, REASON).len(), events, "behind {ingress} s");
    }
}
