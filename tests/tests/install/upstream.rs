//! Moving from the release of Krypton in Go: a rolling update of the same Service, which answers throughout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use krypton_crd::Agent;
use krypton_e2e::client::get;
use krypton_e2e::cluster::Namespace;
use krypton_e2e::helm::Helm;
use krypton_e2e::node::images::AGENT;
use krypton_e2e::node::krypton::TAG;
use krypton_e2e::wait::eventually;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::conditions::condition_becomes;
use crate::objects::{agent, put};
use crate::support::{RELEASE, SOON, entrance, path, pods_are, values, with_node};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/install/upstream-chart");

/// Answers of each caller that show that calls go on.
const SOME: usize = 50;

/// Callers of one agent, each call on a connection of its own: the placeholder does not say when it is about to close one.
struct Calls {
    callers: JoinSet<Vec<u16>>,
    ended: Arc<AtomicBool>,
}

// === impl Calls ===

impl Calls {
    async fn start(namespace: &Namespace) -> Self {
        let (address, path) = (entrance(namespace.cluster()).await.unwrap(), path(namespace, "echo"));
        let ended = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..2 {
            let (ended, path) = (Arc::clone(&ended), path.clone());
            callers.spawn(async move {
                let mut statuses = Vec::new();
                while !ended.load(Ordering::Relaxed) || statuses.len() < SOME {
                    // Status 0: no answer.
                    statuses.push(get(address, &path).await.map_or(0, |answer| answer.status));
                }
                statuses
            });
        }
        Self { callers, ended }
    }

    /// All statuses that came.
    async fn end(self) -> Vec<u16> {
        self.ended.store(true, Ordering::Relaxed);
        self.callers.join_all().await.concat()
    }
}

/// What the Go controller makes of the Agent `echo`; its sidecar is an example agent too.
async fn put_deployment_of_go(namespace: &Namespace) {
    let uid = namespace.api::<Agent>().get("echo").await.unwrap().uid();
    let metadata = json!({
        "name": "echo",
        "labels": { "krypton.ai/agent": "echo", "app.kubernetes.io/managed-by": "krypton-runtime" },
        "ownerReferences": [{
            "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "name": "echo", "uid": uid,
            "controller": true, "blockOwnerDeletion": true,
        }],
    });
    let containers = json!([
        { "name": "agent", "image": AGENT, "ports": [{ "name": "http", "containerPort": 8080 }] },
        { "name": "krypton-proxy", "image": AGENT, "args": ["--port", "8888"],
          "ports": [{ "name": "proxy", "containerPort": 8888 }] },
    ]);
    let labels = json!({ "krypton.ai/agent": "echo" });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": containers } },
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": { "selector": labels, "ports": [{ "name": "http", "port": 8080, "targetPort": "proxy" }] },
    });
    for object in [deployment, service] {
        put(namespace, object).await.unwrap();
    }
    eventually("the pod of the Go controller's Deployment is ready", SOON, async || {
        let status = namespace.api::<Deployment>().get("echo").await?.status.unwrap_or_default();
        ensure!(status.ready_replicas == Some(1), "{status:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_release_of_the_go_system_becomes_ours_while_its_service_answers() {
    with_node(async |namespace| {
        let cluster = namespace.cluster();
        let helm = Helm::on(cluster).unwrap();
        let placeholder = format!("placeholder={AGENT}");
        let install = ["install", RELEASE.name, CHART, "--namespace", RELEASE.namespace];
        let settings = ["--create-namespace", "--wait", "--set", &placeholder];
        helm.run(&[&install[..], &settings].concat(), "").await.unwrap();
        put(namespace, agent("echo", json!({ "image": AGENT }))).await.unwrap();
        put_deployment_of_go(namespace).await;
        let before = entrance(cluster).await.unwrap();
        let calls = Calls::start(namespace).await;

        helm.upgrade(RELEASE, &values(TAG), &["--take-ownership"]).await.unwrap();
        pods_are(cluster, "gateway", 2, TAG).await;
        pods_are(cluster, "controller", 2, TAG).await;
        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;
        let statuses = calls.end().await;
        eprintln!("moving from the Go system: {} calls", statuses.len());
        let failed: Vec<_> = statuses.into_iter().filter(|status| *status != 200).collect();
        assert!(failed.is_empty(), "{failed:?}");

        assert_eq!(entrance(cluster).await.unwrap(), before);
        let deployments: Api<Deployment> = Api::namespaced(cluster.client(), RELEASE.namespace);
        let left: Vec<_> = deployments
            .list(&ListParams::default())
            .await
            .unwrap()
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        assert_eq!(left, ["krypton-controller", "krypton-gateway"]);
        let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
        let definition = definitions.get("agents.krypton.ai").await.unwrap();
        let definition: Value = serde_json::to_value(definition).unwrap();
        let timeout =
            definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/timeout");
        assert_eq!(timeout.unwrap().get("default"), None, "the definition is still that of the Go system");
    })
    .await;
}
