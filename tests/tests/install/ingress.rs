//! From an empty node to the first answer through the ingress, with what each step takes; and what the Ingress and the
//! HTTPRoute that the chart renders do to streams.

use std::time::{Duration, Instant};

use krypton_e2e::front::checks::{Outcome, abort, stream, upload};
use krypton_e2e::lockstep::{Base, Format, lockstep};
use krypton_e2e::node::images::AGENT;
use krypton_e2e::node::krypton::TAG;
use serde_json::json;

use crate::conditions::condition_becomes;
use crate::front::{Front, HTTP_ROUTE, INGRESS, ask, keys};
use crate::objects::{agent, put};
use crate::support::{
    RELEASE, SOON, busy_agent, entrance, install_with, is_answered, path, pods_are, with_node,
};

/// Where a client asks who guards an agent.
const PROTECTED_RESOURCE: &str = "/.well-known/oauth-protected-resource";

/// One event a second, for longer than the 15 s that Contour gives a whole answer unless told otherwise.
const EVENTS: u32 = 20;
const PACE: Duration = Duration::from_secs(1);

/// What steps took, printed for a person.
struct Steps(Instant);

// === impl Steps ===

impl Steps {
    fn done(&mut self, what: &str) {
        eprintln!("{what}: {:.1?}", self.0.elapsed());
        self.0 = Instant::now();
    }
}

#[tokio::test]
async fn helm_install_on_an_empty_node_leads_to_the_first_answer_through_the_ingress() {
    with_node(async |namespace| {
        let cluster = namespace.cluster();
        let mut front = Front::start(namespace).await.unwrap();
        let (began, mut steps) = (Instant::now(), Steps(Instant::now()));
        let helm = install_with(cluster, keys(namespace)).await;
        steps.done("helm install");
        put(namespace, agent("echo", json!({ "image": AGENT }))).await.unwrap();
        steps.done("applying an Agent");
        is_answered(namespace, "echo").await;
        steps.done("the first answer through Service krypton-gateway");
        front.is_answered(namespace, "echo", INGRESS).await;
        steps.done("the first answer through the Ingress");
        front.is_answered(namespace, "echo", HTTP_ROUTE).await;
        steps.done("the first answer through the HTTPRoute");
        eprintln!("from nothing to the first answers: {:.1?}", began.elapsed());

        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;
        pods_are(cluster, "gateway", 2, TAG).await;
        pods_are(cluster, "controller", 2, TAG).await;
        assert_eq!(entrance(cluster).await.unwrap().port(), 8080);
        let notes =
            helm.run(&["get", "notes", RELEASE.name, "--namespace", RELEASE.namespace], "").await.unwrap();
        let sentence = format!("kubectl krypton doctor --url http://{INGRESS}");
        assert!(notes.contains("/v1/agents/NAMESPACE/NAME") && notes.contains(&sentence), "{notes}");
        assert_eq!(front.contour.ended().unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn the_rendered_ingress_and_httproute_stream_without_holding_back_or_cutting() {
    with_node(async |namespace| {
        let mut front = Front::start(namespace).await.unwrap();
        install_with(namespace.cluster(), keys(namespace)).await;
        put(namespace, busy_agent("echo", AGENT, json!({ "minReplicas": 1 }))).await.unwrap();
        is_answered(namespace, "echo").await;
        let past = Base::new(entrance(namespace.cluster()).await.unwrap(), &path(namespace, "echo"));
        for host in [INGRESS, HTTP_ROUTE] {
            let base = front.is_answered(namespace, "echo", host).await;
            for format in [Format::Sse, Format::Ndjson] {
                lockstep(&base, format, 50, SOON).await.unwrap();
            }
            abort(&base, &past).await.unwrap();
            assert_eq!(upload(&base, 8 << 20).await.unwrap(), Outcome::Whole, "{host}");
            the_well_known_path_is_ours(&base).await;
        }
        let long = async |host| stream(&front.base(namespace, "echo", host), EVENTS, PACE).await.unwrap();
        let outcomes = tokio::join!(long(INGRESS), long(HTTP_ROUTE));
        assert_eq!(outcomes, (Outcome::Whole, Outcome::Whole));
        assert_eq!(front.contour.ended().unwrap(), None);
    })
    .await;
}

/// Whatever a gateway says there, it is the gateway that says it.
async fn the_well_known_path_is_ours(agent: &Base) {
    let base = Base { path: format!("{PROTECTED_RESOURCE}{}", agent.path), ..agent.clone() };
    let answer = ask(&base).await.unwrap();
    assert!(!answer.code().is_empty(), "{}: {answer:?}", base.host);
    let elsewhere = ask(&Base { path: "/.well-known/agent-card.json".to_owned(), ..base }).await.unwrap();
    assert_eq!((elsewhere.status, elsewhere.code().as_str()), (404, ""), "what is not ours reaches us");
}
