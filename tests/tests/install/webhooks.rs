//! The webhooks of an installed release, as its API server asks them: switched on by an upgrade, with a certificate that
//! the controllers make, and away again.

use anyhow::{Result, ensure};
use krypton_e2e::cluster::{Cluster, Namespace};
use krypton_e2e::node::images::AGENT;
use krypton_e2e::node::krypton::TAG;
use krypton_e2e::programs::kubectl_krypton;
use krypton_e2e::wait::eventually;
use serde_json::json;

use crate::objects::{agent, put};
use crate::support::{RELEASE, SOON, install, kubectl, pods_are, values_with, with_node};

/// What only the webhooks refuse.
fn unseen_by_the_schema() -> String {
    agent("bad", json!({ "image": AGENT, "env": [{ "name": "PORT", "value": 8080 }] })).to_string()
}

#[tokio::test]
async fn webhooks_refuse_and_default_through_the_api_server_and_lock_nobody_out() {
    with_node(async |namespace| {
        let cluster = namespace.cluster();
        let helm = install(cluster).await;
        let with_webhooks = values_with(TAG, json!({ "manager": { "enableWebhooks": true } }));
        helm.upgrade(RELEASE, &with_webhooks, &[]).await.unwrap();
        pods_are(cluster, "controller", 2, TAG).await;
        is_refused(namespace).await;
        let bundle = ca_bundles(cluster).await.unwrap();

        put(namespace, agent("good", json!({ "image": AGENT }))).await.unwrap();
        let stored = ["get", "agent", "good", "--namespace", namespace.name(), "--output"];
        let path = "jsonpath={.spec.port} {.spec.mode} {.spec.imagePullPolicy}";
        let stored = cluster.kubectl(&[&stored[..], &[path]].concat(), "").await.unwrap();
        assert_eq!(stored, "8080 always-on IfNotPresent");
        was_asked(cluster, "mutate").await;
        was_asked(cluster, "validate").await;
        let ran = kubectl_krypton(cluster, &["doctor"]).await.unwrap();
        assert!(ran.answer.contains("(CaBundle)") && !ran.answer.contains("PROBLEM"), "{}", ran.answer);

        // Nothing is rendered that would set it back.
        helm.upgrade(RELEASE, &with_webhooks, &[]).await.unwrap();
        assert_eq!(ca_bundles(cluster).await.unwrap(), bundle);
        is_refused(namespace).await;

        kubectl(cluster, &["scale", "deployment/krypton-controller", "--replicas=0"]).await.unwrap();
        pods_are(cluster, "controller", 0, TAG).await;
        eventually("Agents are written while nobody answers", SOON, async || {
            namespace.apply(&unseen_by_the_schema()).await
        })
        .await
        .unwrap();
    })
    .await;
}

/// By a webhook, which the API server reaches a moment after it was told of it.
async fn is_refused(namespace: &Namespace) {
    let apply = ["apply", "--namespace", namespace.name(), "--dry-run=server", "--filename", "-"];
    eventually("the webhook refuses what the schema does not", SOON, async || {
        let refused = namespace.cluster().kubectl(&apply, &unseen_by_the_schema()).await;
        let refusal = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
        let sentence =
            "The Agent \"bad\" is invalid: spec.env[0].value: 8080 is not a text; write \"8080\", in quotes";
        ensure!(refusal.contains(sentence), "{refusal}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Those of both configurations.
async fn ca_bundles(cluster: &Cluster) -> Result<String> {
    let mut bundles = String::new();
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        let path = "jsonpath={.webhooks[0].clientConfig.caBundle}";
        let bundle = cluster.kubectl(&["get", kind, "krypton-webhooks", "--output", path], "").await?;
        ensure!(!bundle.is_empty(), "{kind} has none");
        bundles.push_str(&bundle);
    }
    Ok(bundles)
}

/// By the API server's own count: what the webhooks fill in is what the schema stores too.
async fn was_asked(cluster: &Cluster, verb: &str) {
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"], "").await.unwrap();
    let name = format!("name=\"{verb}.agents.krypton.ai\"");
    let asked = metrics.lines().any(|line| {
        line.starts_with("apiserver_admission_webhook_request_total{")
            && line.contains(&name)
            && line.contains("code=\"200\"")
            && line.contains("rejected=\"false\"")
    });
    assert!(asked, "{verb} was never asked");
}
