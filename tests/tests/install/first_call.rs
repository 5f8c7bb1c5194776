//! From an empty node to the first answer, with what each step takes.

use std::time::Instant;

use krypton_e2e::node::images::AGENT;
use krypton_e2e::node::krypton::TAG;
use serde_json::json;

use crate::conditions::condition_becomes;
use crate::objects::{agent, put};
use crate::support::{RELEASE, entrance, install, is_answered, pods_are, with_node};

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
async fn helm_install_on_an_empty_node_leads_to_the_first_answer() {
    with_node(async |namespace| {
        let cluster = namespace.cluster();
        let (began, mut steps) = (Instant::now(), Steps(Instant::now()));
        let helm = install(cluster).await;
        steps.done("helm install");
        put(namespace, agent("echo", json!({ "image": AGENT }))).await.unwrap();
        steps.done("applying an Agent");
        is_answered(namespace, "echo").await;
        steps.done("the first answer through Service krypton-gateway");
        eprintln!("from nothing to the first answer: {:.1?}", began.elapsed());

        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;
        pods_are(cluster, "gateway", 2, TAG).await;
        pods_are(cluster, "controller", 2, TAG).await;
        assert_eq!(entrance(cluster).await.unwrap().port(), 8080);
        let notes =
            helm.run(&["get", "notes", RELEASE.name, "--namespace", RELEASE.namespace], "").await.unwrap();
        assert!(notes.contains("/v1/agents/NAMESPACE/NAME"), "{notes}");
    })
    .await;
}
