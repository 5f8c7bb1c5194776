//! A release that changes while calls go on: an upgrade, a rollback, an uninstall and what outlives it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use krypton_crd::Agent;
use krypton_e2e::cluster::Namespace;
use krypton_e2e::helm::CHART;
use krypton_e2e::node::images::AGENT;
use krypton_e2e::node::krypton::{NEXT_TAG, TAG};
use krypton_e2e::traffic::Load;
use krypton_e2e::wait::eventually;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::conditions::condition_becomes;
use crate::objects::put;
use crate::support::{
    RELEASE, SOON, busy_agent, end, install, is_answered, kubectl, pods_are, traffic, values, with_node,
};

/// Two hundred calls a second beside fifty streams of eight seconds: longer than a gateway that was told to stop goes on
/// taking connections (5 s), shorter than what it gives running calls to finish (300 s).
const HEAVY: Load = Load { calls: 8, streams: 50, uploads: 1, pieces: 32, pace: Duration::from_millis(250) };

/// One that no version has.
const NEW_FIELD: &str = "region";

#[tokio::test]
async fn an_upgrade_and_its_rollback_under_load_lose_no_call() {
    with_node(async |namespace| {
        let cluster = namespace.cluster();
        let helm = install(cluster).await;
        put(namespace, busy_agent("echo", AGENT, json!({ "minReplicas": 2 }))).await.unwrap();
        is_answered(namespace, "echo").await;
        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;
        let old = pods_are(cluster, "gateway", 2, TAG).await;
        pods_are(cluster, "controller", 2, TAG).await;

        let upgrade = traffic(namespace, "echo", HEAVY).await;
        helm.upgrade(RELEASE, &values(NEXT_TAG), &[]).await.unwrap();
        let new = pods_are(cluster, "gateway", 2, NEXT_TAG).await;
        assert!(new.iter().all(|pod| !old.contains(pod)), "{old:?}, {new:?}");
        pods_are(cluster, "controller", 2, NEXT_TAG).await;
        end(upgrade, "helm upgrade").await;

        let rollback = traffic(namespace, "echo", HEAVY).await;
        helm.rollback(RELEASE, &[]).await.unwrap();
        pods_are(cluster, "gateway", 2, TAG).await;
        pods_are(cluster, "controller", 2, TAG).await;
        end(rollback, "helm rollback").await;
        // The controllers that came back go on leading.
        let agents: Api<Agent> = namespace.api();
        let more = Patch::Merge(json!({ "spec": { "minReplicas": 3 } }));
        agents.patch("echo", &PatchParams::default(), &more).await.unwrap();
        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;
    })
    .await;
}

#[tokio::test]
async fn a_rollback_with_a_new_field_in_use_keeps_the_agent_served_and_writable() {
    with_node(async |namespace| {
        let cluster = namespace.cluster();
        let helm = install(cluster).await;
        let newer = chart_with_a_new_field();
        let newer = newer.path().to_str().unwrap();
        let upgrade = ["upgrade", RELEASE.name, newer, "--namespace", RELEASE.namespace, "--values=-"];
        helm.run(&upgrade, &values(NEXT_TAG)).await.unwrap();
        pods_are(cluster, "gateway", 2, NEXT_TAG).await;
        pods_are(cluster, "controller", 2, NEXT_TAG).await;
        put(namespace, newer_agent()).await.unwrap();
        is_answered(namespace, "echo").await;
        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;
        assert_eq!(new_field(namespace).await, "north");

        let rollback = traffic(namespace, "echo", HEAVY).await;
        helm.rollback(RELEASE, &[]).await.unwrap();
        pods_are(cluster, "gateway", 2, TAG).await;
        pods_are(cluster, "controller", 2, TAG).await;
        end(rollback, "helm rollback with a new field in use").await;
        // To a reader it is gone at once, and a writer who still has it is told.
        assert_eq!(new_field(namespace).await, "");
        let refused = put(namespace, newer_agent()).await.unwrap_err();
        assert!(format!("{refused:#}").contains(NEW_FIELD), "{refused:#}");
        let agents: Api<Agent> = namespace.api();
        let more = Patch::Merge(json!({ "spec": { "minReplicas": 3 } }));
        agents.patch("echo", &PatchParams::default(), &more).await.unwrap();
        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;

        // That write, as any, stored the Agent without it: it does not come back by itself.
        helm.run(&upgrade, &values(NEXT_TAG)).await.unwrap();
        pods_are(cluster, "controller", 2, NEXT_TAG).await;
        assert_eq!(new_field(namespace).await, "");
        put(namespace, newer_agent()).await.unwrap();
        assert_eq!(new_field(namespace).await, "north");
        is_answered(namespace, "echo").await;
    })
    .await;
}

/// The repository's chart, as a later version could be: its definition of the Agent has one field more.
fn chart_with_a_new_field() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copy = Command::new("cp").arg("-r").arg(format!("{CHART}/.")).arg(folder.path()).status().unwrap();
    assert!(copy.success());
    let definition = folder.path().join("files/crds/agents.yaml");
    let old = fs::read_to_string(&definition).unwrap();
    let known = "              appProtocol:\n";
    let new = format!("              {NEW_FIELD}:\n                type: string\n{known}");
    assert_eq!(old.matches(known).count(), 1);
    fs::write(&definition, old.replace(known, &new)).unwrap();
    folder
}

fn newer_agent() -> Value {
    busy_agent("echo", AGENT, json!({ "minReplicas": 2, NEW_FIELD: "north" }))
}

/// What the Agent has in that field; empty where it does not.
async fn new_field(namespace: &Namespace) -> String {
    let path = format!("jsonpath={{.spec.{NEW_FIELD}}}");
    let get = ["get", "agent", "echo", "--namespace", namespace.name(), "--output", &path];
    namespace.cluster().kubectl(&get, "").await.unwrap()
}

#[tokio::test]
async fn agents_outlive_an_uninstall_and_are_taken_up_again() {
    with_node(async |namespace| {
        let cluster = namespace.cluster();
        let helm = install(cluster).await;
        put(namespace, busy_agent("echo", AGENT, json!({ "minReplicas": 1 }))).await.unwrap();
        is_answered(namespace, "echo").await;
        let pods: Api<Pod> = namespace.api();
        let of_echo = ListParams::default().labels("krypton.ai/agent=echo");
        let names = async || -> anyhow::Result<Vec<String>> {
            let found = pods.list(&of_echo).await?;
            Ok(found.iter().map(|pod| format!("{} {:?}", pod.name_any(), pod.uid())).collect())
        };
        let before = names().await.unwrap();

        let said = helm.uninstall(RELEASE, &[]).await.unwrap();
        assert!(said.contains("agents.krypton.ai"), "Helm does not say what it keeps: {said}");
        eventually("no pod of the release is left", SOON, async || {
            let left = kubectl(cluster, &["get", "pods", "--output=name"]).await?;
            ensure!(left.is_empty(), "{left}");
            Ok(())
        })
        .await
        .unwrap();
        let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
        definitions.get("agents.krypton.ai").await.unwrap();
        namespace.api::<Agent>().get("echo").await.unwrap();
        assert_eq!(names().await.unwrap(), before);

        install(cluster).await;
        is_answered(namespace, "echo").await;
        assert_eq!(names().await.unwrap(), before);
        // Taken up: what changes is carried out again.
        let agents: Api<Agent> = namespace.api();
        let more = Patch::Merge(json!({ "spec": { "minReplicas": 2 } }));
        agents.patch("echo", &PatchParams::default(), &more).await.unwrap();
        eventually("a second pod is wanted", SOON, async || {
            let deployment = namespace.api::<Deployment>().get("echo").await?;
            let wanted = deployment.spec.context("no spec")?.replicas;
            ensure!(wanted == Some(2), "{wanted:?}");
            Ok(())
        })
        .await
        .unwrap();
        let system: Api<Pod> = Api::namespaced(cluster.client(), RELEASE.namespace);
        assert!(!system.list(&ListParams::default()).await.unwrap().items.is_empty());
    })
    .await;
}
