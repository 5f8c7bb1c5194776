//! What probes and people are told.

use http_body_util::BodyExt as _;
use krypton_discovery::AgentKey;
use tower::ServiceExt as _;

use super::*;
use crate::certificate::UnixSeconds;
use crate::discovery::{Access, Discovery, Limits};
use crate::metrics::Metrics;
use crate::object::{Kind, Scope};
use crate::testing::mk_route;

struct Fixture {
    admin: Admin,
    snapshots: watch::Sender<Option<Snapshot>>,
    metrics: Arc<Metrics>,
    leading: watch::Sender<bool>,
}

impl Fixture {
    fn new() -> Self {
        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::new(&mut registry));
        let sources = Sources::new(crate::source::Purpose::Routes, Arc::clone(&metrics));
        let (snapshots, newest) = watch::channel(None);
        let (limits, shutdown) = (Limits::default(), CancellationToken::new());
        let (leading, leads) = watch::channel(true);
        let reports = Reports::new(leads, limits, Arc::clone(&metrics), shutdown.clone());
        let leader = watch::channel(None).1;
        let discovery = Discovery::new(
            newest.clone(),
            leader,
            reports.clone(),
            Access::open(),
            Arc::clone(&metrics),
            limits,
            shutdown,
        );
        let gateways = discovery.gateways().clone();
        let (certificates, registry) = (Vec::new(), Arc::new(registry));
        let admin = Admin { snapshots: newest, sources, gateways, reports, certificates, registry };
        Self { admin, snapshots, metrics, leading }
    }

    fn publish(&self, agents: usize) {
        let routes = (0..agents).map(|n| {
            let key = AgentKey::new("ns", &format!("a{n:05}")).unwrap();
            (key.clone(), Some(mk_route(key.as_str(), 80).into()))
        });
        let snapshot = Snapshot::default().with(routes).unwrap_or_default();
        self.metrics.set_snapshot(&snapshot);
        self.snapshots.send_replace(Some(snapshot));
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = self.admin.clone().router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.get(path).await.1).unwrap()
    }
}

#[tokio::test]
async fn a_server_without_a_certificate_is_not_ready() {
    let mut fixture = Fixture::new();
    fixture.publish(0);
    assert_eq!(fixture.get("/readyz").await.0, StatusCode::OK);
    let (sender, newest) = watch::channel(CertificateState::default());
    fixture.admin.certificates = vec![(&[Server::Discovery, Server::Webhooks], newest)];
    sender.send_modify(|state| state.problem = Some("Secret a/b does not exist".into()));
    let (status, verbose) = fixture.get("/readyz?verbose").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let line = "\n[-] certificate of webhooks: none yet: Secret a/b does not exist\n";
    assert!(verbose.contains(line), "{verbose}");
    sender.send_modify(|state| state.expires = Some(UnixSeconds(1_800_000_000)));
    let (status, verbose) = fixture.get("/readyz?verbose").await;
    // What is in use stays so, whatever became of its source.
    let line = "\n[+] certificate of discovery: expires 2027-01-15T08:00:00Z: Secret a/b does not exist\n";
    assert!(status == StatusCode::OK && verbose.contains(line), "{verbose}");
}

#[tokio::test]
async fn an_expired_certificate_is_called_so_and_costs_readiness_where_gateways_connect() {
    let said = "expired 2020-09-13T12:26:40Z; whoever connects refuses it\n";
    for (servers, mark, status) in [
        (&[Server::Discovery], "[-] certificate of discovery: ", StatusCode::SERVICE_UNAVAILABLE),
        (&[Server::Webhooks], "[+] certificate of webhooks: ", StatusCode::OK),
    ] {
        let mut fixture = Fixture::new();
        fixture.publish(0);
        let state = CertificateState { expires: Some(UnixSeconds(1_600_000_000)), problem: None };
        fixture.admin.certificates = vec![(servers, watch::channel(state).1)];
        let (answered, verbose) = fixture.get("/readyz?verbose").await;
        assert!(answered == status && verbose.contains(&format!("{mark}{said}")), "{verbose}");
    }
}

#[tokio::test]
async fn ready_names_what_is_missing() {
    let fixture = Fixture::new();
    let sources = &fixture.admin.sources;
    sources.add_watch(Kind::Agent, &Scope::AllNamespaces);
    sources.watch_failed(Kind::Agent, &Scope::AllNamespaces, "connection refused".into());
    assert_eq!(fixture.get("/healthz").await.0, StatusCode::OK);
    assert_eq!(fixture.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let (_, verbose) = fixture.get("/readyz?verbose").await;
    assert_eq!(
        verbose,
        "[+] discovery: listening\n\
         [-] Agent in all namespaces: no complete list yet: connection refused\n\
         [-] snapshot: not complete yet\n\
         [+] leader: this replica leads\n"
    );
    sources.watch_is_live(Kind::Agent, &Scope::AllNamespaces);
    fixture.publish(1);
    assert_eq!(fixture.get("/readyz").await, (StatusCode::OK, "ok\n".into()));

    // What is known stays in use, so losing the API server is no reason to be restarted.
    sources.watch_failed(Kind::Agent, &Scope::AllNamespaces, "connection refused".into());
    assert_eq!(fixture.get("/readyz").await.0, StatusCode::OK);
    assert!(fixture.get("/readyz?verbose").await.1.contains("lost, what is known stays in use"));
    let sources = fixture.json("/debug/sources").await;
    assert_eq!(sources["watches"][0]["state"], "lost");
}

#[tokio::test]
async fn a_replica_that_does_not_lead_is_ready_and_says_so() {
    let fixture = Fixture::new();
    fixture.publish(1);
    for (leads, line) in [(true, "this replica leads"), (false, "this replica does not lead")] {
        fixture.leading.send_replace(leads);
        let (status, verbose) = fixture.get("/readyz?verbose").await;
        assert_eq!(status, StatusCode::OK);
        assert!(verbose.ends_with(&format!("\n[+] leader: {line}\n")), "{verbose}");
    }
}

#[tokio::test]
async fn the_snapshot_is_read_in_pages() {
    let fixture = Fixture::new();
    assert_eq!(fixture.get("/debug/snapshot").await.0, StatusCode::SERVICE_UNAVAILABLE);
    fixture.publish(PAGE + 1);
    let first = fixture.json("/debug/snapshot").await;
    assert_eq!((&first["agents"], &first["generation"]), (&json!(PAGE + 1), &json!(1)));
    assert_eq!(first["routes"].as_array().unwrap().len(), PAGE);
    assert_eq!(first["routes"][0]["agent"], "ns/a00000");
    assert_eq!(first["routes"][0]["endpoints"][0]["address"], "10.0.0.1:80");
    let next = first["next"].as_str().unwrap();
    let second = fixture.json(&format!("/debug/snapshot?after={next}")).await;
    assert_eq!(second["routes"].as_array().unwrap().len(), 1);
    assert_eq!(second["next"], json!(null));
    let two = fixture.json("/debug/snapshot?limit=2").await;
    assert_eq!(two["next"], "ns/a00001");
}

#[tokio::test]
async fn metrics_bear_the_names_of_the_reference() {
    let fixture = Fixture::new();
    fixture.publish(3);
    fixture.metrics.count_refused_object(Kind::Agent);
    fixture.metrics.count_response(2, 1);
    fixture.metrics.count_nacks(1);
    let (_, text) = fixture.get("/metrics").await;
    for line in [
        "krypton_controller_agents 3",
        "krypton_controller_endpoints 3",
        "krypton_controller_refused_endpoints 0",
        "krypton_controller_snapshot_generation 1",
        "krypton_controller_gateways 0",
        "krypton_controller_responses_total 1",
        "krypton_controller_upserts_total 2",
        "krypton_controller_removals_total 1",
        "krypton_controller_nacks_total 1",
        "krypton_controller_refused_objects_total{kind=\"Agent\"} 1",
        "krypton_controller_manifest_problems 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn nobody_connected_is_an_empty_list() {
    assert_eq!(Fixture::new().json("/debug/gateways").await, json!([]));
}
