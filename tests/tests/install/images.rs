//! The images of Krypton itself, as pods: they start without root, and find each other by name.

use std::net::SocketAddr;

use anyhow::ensure;
use k8s_openapi::api::core::v1::{Pod, Service};
use krypton_e2e::client::get;
use krypton_e2e::cluster::Namespace;
use krypton_e2e::node::krypton::{NEXT_TAG, REGISTRY, image};
use krypton_e2e::wait::eventually;
use kube::Api;
use serde_json::{Value, json};

use crate::support::{SOON, with_node};

const MANIFEST: &str = "apiVersion: krypton.ai/v1alpha1\nkind: Agent\nmetadata: {name: echo, namespace: default}\n\
                        spec: {image: none, replicas: 0}\n";

/// A pod called `name`, as strict about itself as a chart's.
fn pod(name: &str, image: &str, args: &[&str]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": { "runAsNonRoot": true },
            "volumes": [{ "name": "manifests", "configMap": { "name": "manifests" } }],
            "containers": [{
                "name": name,
                "image": image,
                "args": args,
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                    "readOnlyRootFilesystem": true,
                },
                "volumeMounts": [{ "name": "manifests", "mountPath": "/manifests" }],
            }],
        },
    })
}

fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": [{ "port": port }] },
    })
}

async fn cluster_ip(namespace: &Namespace, name: &str, port: u16) -> SocketAddr {
    let services: Api<Service> = namespace.api();
    let address = services.get(name).await.unwrap().spec.unwrap().cluster_ip.unwrap();
    SocketAddr::new(address.parse().unwrap(), port)
}

#[tokio::test]
async fn a_gateway_in_a_pod_finds_its_controller_by_the_name_of_a_service() {
    with_node(async |namespace| {
        let manifests = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "manifests" },
            "data": { "echo.yaml": MANIFEST },
        });
        let serve =
            ["--manifests", "/manifests", "--discovery-listen", "0.0.0.0:9090", "--discovery-plaintext"];
        let discovery = format!("http://controller.{}.svc:9090", namespace.name());
        let next = format!("{REGISTRY}/krypton-gateway:{NEXT_TAG}");
        for object in [
            manifests,
            pod("controller", &image("krypton-controller"), &serve),
            service("controller", 9090),
            pod("gateway", &next, &["--discovery", &discovery]),
            service("gateway", 8080),
        ] {
            namespace.apply(&object.to_string()).await.unwrap();
        }
        let calls = cluster_ip(namespace, "gateway", 8080).await;
        eventually("the gateway knows the agent of the controller's manifests", SOON, async || {
            let answer = get(calls, "/v1/agents/default/echo/").await?;
            ensure!(answer.code() == "agent_scaled_to_zero", "{answer:?}");
            Ok(())
        })
        .await
        .unwrap();

        let pods: Api<Pod> = namespace.api();
        for name in ["controller", "gateway"] {
            let status = pods.get(name).await.unwrap().status.unwrap();
            let restarts: Vec<_> =
                status.container_statuses.iter().flatten().map(|found| found.restart_count).collect();
            assert_eq!(restarts, [0], "{name}");
        }
    })
    .await;
}
