//! An Agent of the Go controller's is taken over while calls go on: with its objects as that wrote them, and pods that
//! have a sidecar.

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;
use krypton_crd::{Agent, keys};
use krypton_e2e::cluster::Namespace;
use krypton_e2e::node::images::AGENT;
use krypton_e2e::traffic::Load;
use krypton_e2e::wait::eventually;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::conditions::condition_becomes;
use crate::objects::{agent, put};
use crate::support::{Krypton, SOON, pods_are_ready, pods_of, with_namespace};

/// The Lease by which controllers agree on a leader.
const LEASE: &str = "krypton-controller";

/// By Update under the name of the Go controller's binary.
async fn create_as_go<K>(namespace: &Namespace, object: Value)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug,
{
    let params =
        PostParams { field_manager: Some(keys::GO_FIELD_MANAGERS[0].to_owned()), ..PostParams::default() };
    namespace.api::<K>().create(&params, &serde_json::from_value(object).unwrap()).await.unwrap();
}

/// What the Go controller makes of the Agent `echo`, but for the image of its sidecar: that is an example agent too.
async fn create_objects_of_go(namespace: &Namespace, replicas: u32) {
    let uid = namespace.api::<Agent>().get("echo").await.unwrap().uid();
    let metadata = json!({
        "name": "echo",
        "labels": { "krypton.ai/agent": "echo", "app.kubernetes.io/managed-by": "krypton-runtime" },
        "ownerReferences": [{
            "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "name": "echo", "uid": uid,
            "controller": true, "blockOwnerDeletion": true,
        }],
    });
    let pod = json!({
        "containers": [
            { "name": "agent", "image": AGENT, "ports": [{ "name": "http", "containerPort": 8080 }] },
            { "name": "krypton-proxy", "image": AGENT, "args": ["--port", "8888", "--agent-version", "sidecar"],
              "ports": [{ "name": "proxy", "containerPort": 8888 }] },
        ],
    });
    create_as_go::<Deployment>(
        namespace,
        json!({
            "metadata": metadata,
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": { "krypton.ai/agent": "echo" } },
                "template": { "metadata": { "labels": { "krypton.ai/agent": "echo" } }, "spec": pod },
            },
        }),
    )
    .await;
    create_as_go::<Service>(
        namespace,
        json!({
            "metadata": metadata,
            "spec": {
                "selector": { "krypton.ai/agent": "echo" },
                "ports": [{ "name": "http", "port": 8080, "targetPort": "proxy" }],
            },
        }),
    )
    .await;
}

/// Keeps our controller from leading: it serves gateways, and writes nothing.
async fn hold_lease(namespace: &Namespace) {
    let lease = json!({
        "metadata": { "name": LEASE },
        "spec": {
            "holderIdentity": "somebody-else",
            "leaseDurationSeconds": 3600,
            "acquireTime": micros(),
            "renewTime": micros(),
        },
    });
    let lease: Lease = serde_json::from_value(lease).unwrap();
    namespace.api::<Lease>().create(&PostParams::default(), &lease).await.unwrap();
}

fn micros() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[tokio::test]
async fn the_go_systems_pods_are_replaced_under_load() {
    const PODS: usize = 2;
    with_namespace(async |namespace| {
        put(namespace, agent("echo", json!({ "image": AGENT, "minReplicas": 2, "concurrency": 0 })))
            .await
            .unwrap();
        create_objects_of_go(namespace, 2).await;
        let old = pods_are_ready(namespace, &pods_of("echo"), PODS).await;
        hold_lease(namespace).await;
        let krypton = Krypton::start(namespace).await;
        krypton.is_answered(namespace, "echo", "sidecar").await;
        krypton.has_endpoints(namespace, "echo", PODS).await;
        let traffic = krypton.traffic(namespace, "echo", Load::MIXED);
        traffic.goes_on(20).await.unwrap();

        namespace.api::<Lease>().delete(LEASE, &DeleteParams::default()).await.unwrap();
        eventually("only pods without a sidecar are left", SOON, async || {
            let pods = namespace.api::<Pod>().list(&ListParams::default().labels(&pods_of("echo"))).await?;
            let names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
            ensure!(names.len() == PODS && names.iter().all(|name| !old.contains(name)), "{names:?}");
            ensure!(pods.iter().all(|pod| pod.spec.as_ref().is_some_and(|spec| spec.containers.len() == 1)));
            Ok(())
        })
        .await
        .unwrap();
        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;
        krypton.is_answered(namespace, "echo", "1").await;
        traffic.goes_on(20).await.unwrap();
        let report = traffic.end_whole().await.unwrap();
        eprintln!("taking over: {report:?}");
    })
    .await;
}
