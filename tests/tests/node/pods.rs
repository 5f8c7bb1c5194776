//! What the node gives to tests: pods that run the example agent, reached through the real gateway and by ClusterIP, and
//! failures as a kubelet reports them.

use std::net::SocketAddr;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Service;
use krypton_e2e::client::{Answer, get};
use krypton_e2e::cluster::shared_with_node;
use krypton_e2e::node::images::{AGENT, CRASHING_AGENT, NEXT_AGENT, PUBLISHED_AGENT};
use krypton_e2e::wait::eventually;
use kube::Api;
use serde_json::json;

use crate::conditions::condition_becomes;
use crate::objects::{agent, put};
use crate::support::{
    Krypton, SOON, container_waits, deployment, kubectl, pods_are_ready, pods_of, service, with_namespace,
};

#[tokio::test]
async fn calls_through_the_gateway_reach_pods_and_follow_a_changed_image() {
    with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        put(namespace, agent("echo", json!({ "image": AGENT, "minReplicas": 2 }))).await.unwrap();
        let pods = pods_are_ready(namespace, &pods_of("echo"), 2).await;
        let answer = krypton.is_answered(namespace, "echo", "1").await;
        let by = |answer: &Answer| answer.header("x-agent-name").to_owned();
        assert!(pods.contains(&by(&answer)), "{} of {pods:?}", by(&answer));
        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;

        let image = json!({ "spec": { "image": NEXT_AGENT } }).to_string();
        kubectl(namespace, &["patch", "agent", "echo", "--type=merge", "--patch", &image]).await;
        let answer = krypton.is_answered(namespace, "echo", "2").await;
        assert!(!pods.contains(&by(&answer)), "{} of {pods:?}", by(&answer));
        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;
    })
    .await;
}

#[tokio::test]
async fn a_cluster_ip_is_reached_from_this_machine() {
    let cluster = shared_with_node().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        put(namespace, deployment("by-hand", PUBLISHED_AGENT, 1)).await.unwrap();
        put(namespace, service("by-hand")).await.unwrap();
        let pods = pods_are_ready(namespace, "app=by-hand", 1).await;
        let services: Api<Service> = namespace.api();
        let address = services.get("by-hand").await.unwrap().spec.unwrap().cluster_ip.unwrap();
        let address = SocketAddr::new(address.parse().unwrap(), 80);
        let answer = eventually("kube-proxy leads to the pod", SOON, async || {
            let answer = get(address, "/").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(answer)
        });
        assert_eq!(answer.await.unwrap().header("x-agent-name"), pods[0]);
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_a_crash_loop_whose_log_tells_why() {
    let cluster = shared_with_node().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        put(namespace, deployment("crashing", CRASHING_AGENT, 1)).await.unwrap();
        container_waits(namespace, "app=crashing", &["CrashLoopBackOff"]).await;
        let log = kubectl(namespace, &["logs", "deployment/crashing"]).await;
        assert!(log.contains("invalid value 'none' for '--port <PORT>'"), "{log}");
    });
    test.await.unwrap();
}

#[tokio::test]
async fn an_image_that_nobody_has_is_reported() {
    let cluster = shared_with_node().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let missing = "krypton.test/missing:1";
        put(namespace, deployment("missing", missing, 1)).await.unwrap();
        let message = container_waits(namespace, "app=missing", &["ErrImagePull", "ImagePullBackOff"]).await;
        assert!(message.contains(missing), "{message}");
    });
    test.await.unwrap();
}

#[tokio::test]
async fn the_pods_of_a_deleted_deployment_end_in_order() {
    let cluster = shared_with_node().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        put(namespace, deployment("by-hand", AGENT, 1)).await.unwrap();
        let pods = pods_are_ready(namespace, "app=by-hand", 1).await;
        // Longer than the test may take: only a pod that heeds SIGTERM is gone before.
        let grace = ["delete", "pod", &pods[0], "--grace-period=300", "--wait=true", "--timeout=60s"];
        kubectl(namespace, &grace).await;
        let next = pods_are_ready(namespace, "app=by-hand", 1).await;
        assert_ne!(next, pods);
    });
    test.await.unwrap();
}
