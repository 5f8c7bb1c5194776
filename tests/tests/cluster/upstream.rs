//! Moving over from the Go implementation: every field of its Agents works here, and so do objects that were stored
//! under its definition, with the defaults, the status and the finalizer that they got there.

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use krypton_crd::Agent;
use krypton_e2e::cluster::{Cluster, Namespace, shared};
use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::programs::Gateway;
use krypton_e2e::wait::eventually;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::crd::{agents, try_create};
use crate::objects::agent;
use crate::statuses::{condition_becomes, status_is_current};
use crate::support::{SOON, get, is_ready, path, start_controller};
use crate::workloads::{any, child};

/// A duration there: any text, with its default.
fn duration(default: &str) -> Value {
    json!({ "type": "string", "default": default })
}

fn integer(minimum: u32, default: u32) -> Value {
    json!({ "type": "integer", "format": "int32", "minimum": minimum, "default": default })
}

/// What its definition says of a spec.
fn spec_schema() -> Value {
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let list = json!({ "type": "array", "items": anything });
    json!({
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": { "type": "string", "minLength": 1 },
            "imagePullPolicy": { "type": "string", "default": "IfNotPresent" },
            "imagePullSecrets": list,
            "runtime": { "type": "string" },
            "framework": { "type": "string" },
            "protocol": { "type": "string", "enum": ["a2a", "mcp", "http"], "default": "a2a" },
            "mode": { "type": "string", "enum": ["serverless", "always-on"], "default": "always-on" },
            "scaleToZeroAfter": duration("300s"),
            "minReplicas": integer(0, 1),
            "maxReplicas": integer(1, 10),
            "concurrency": integer(1, 8),
            "port": { "type": "integer", "format": "int32", "minimum": 1, "maximum": 65535, "default": 8080 },
            "invocationPath": { "type": "string", "default": "/" },
            "resources": anything,
            "env": list,
            "envFrom": list,
            "timeout": duration("60s"),
            "startupTimeout": duration("30s"),
            "serviceAccountName": { "type": "string" },
        },
    })
}

pub(crate) async fn install_upstreams_crd(cluster: &Cluster) {
    let status = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let schema = json!({ "type": "object", "properties": { "spec": spec_schema(), "status": status } });
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "agents.krypton.ai" },
        "spec": {
            "group": "krypton.ai",
            "scope": "Namespaced",
            "names": { "kind": "Agent", "listKind": "AgentList", "plural": "agents", "singular": "agent",
                "shortNames": ["ag"] },
            "versions": [{ "name": "v1alpha1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": schema }, "subresources": { "status": {} } }],
        },
    });
    // By the same field manager as ours will be, so that ours takes its place.
    cluster.kubectl(&["apply", "--server-side", "--filename=-"], &crd.to_string()).await.unwrap();
    let established = ["wait", "--for=condition=Established", "--timeout=30s", "crd/agents.krypton.ai"];
    cluster.kubectl(&established, "").await.unwrap();
}

/// Each of its fields, as its documentation shows them.
fn fields() -> Vec<Value> {
    vec![
        json!({ "imagePullPolicy": "Always" }),
        json!({ "imagePullSecrets": [{ "name": "registry" }] }),
        json!({ "runtime": "python" }),
        json!({ "framework": "langgraph" }),
        json!({ "protocol": "a2a" }),
        json!({ "protocol": "mcp", "invocationPath": "/mcp" }),
        json!({ "mode": "serverless", "scaleToZeroAfter": "5m", "minReplicas": 0 }),
        json!({ "mode": "serverless", "minReplicas": 1, "maxReplicas": 5 }),
        json!({ "minReplicas": 2, "maxReplicas": 2 }),
        json!({ "concurrency": 20 }),
        json!({ "port": 3000 }),
        json!({ "resources": { "requests": { "cpu": "100m", "memory": "128Mi" },
            "limits": { "cpu": 1, "memory": "1Gi" } } }),
        json!({ "env": [{ "name": "MODEL", "value": "small" },
            { "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "keys", "key": "model" } } }] }),
        json!({ "envFrom": [{ "secretRef": { "name": "keys" } }, { "configMapRef": { "name": "settings" } }] }),
        json!({ "timeout": "120s", "startupTimeout": "60s" }),
        json!({ "serviceAccountName": "default" }),
    ]
}

#[tokio::test]
async fn every_field_of_upstream_applies_and_runs() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        let named = fields().into_iter().enumerate().map(|(number, spec)| (format!("agent-{number}"), spec));
        let named: Vec<_> = named.collect();
        let manifests = named.iter().map(|(name, spec)| agent(name, spec.clone()).to_string());
        namespace.apply(&manifests.collect::<Vec<_>>().join("\n---\n")).await.unwrap();
        for (name, spec) in named {
            condition_becomes(namespace, &name, "Accepted", "True", "Accepted").await;
            child::<Service>(namespace, &name, any).await;
            let deployment: Deployment = child(namespace, &name, any).await;
            let deployment = serde_json::to_value(deployment).unwrap();
            reaches_the_pod(&spec, &deployment["spec"]["template"]["spec"]);
        }
    });
    test.await.unwrap();
}

/// What is of the pod's concern in `spec` is in the pod as it was written.
fn reaches_the_pod(spec: &Value, pod: &Value) {
    let container = &pod["containers"][0];
    for field in ["imagePullPolicy", "env", "envFrom"] {
        if let Some(wanted) = spec.get(field) {
            assert_eq!(&container[field], wanted, "{field}");
        }
    }
    for field in ["imagePullSecrets", "serviceAccountName"] {
        if let Some(wanted) = spec.get(field) {
            assert_eq!(&pod[field], wanted, "{field}");
        }
    }
    if let Some(port) = spec.get("port") {
        assert_eq!(&container["ports"][0]["containerPort"], port);
    }
    if let Some(limit) = spec.pointer("/resources/limits/memory") {
        assert_eq!(container.pointer("/resources/limits/memory"), Some(limit));
    }
}

/// Agents as that controller left them: its client writes durations in its own spelling.
pub(crate) fn stored() -> Vec<(&'static str, Value)> {
    vec![
        ("minimal", json!({})),
        ("rewritten", json!({ "timeout": "1m0s", "startupTimeout": "30s", "scaleToZeroAfter": "5m0s" })),
        (
            "serverless",
            json!({ "mode": "serverless", "minReplicas": 0, "scaleToZeroAfter": "1h0m0s", "concurrency": 1 }),
        ),
        (
            "full",
            json!({
                "imagePullPolicy": "Always", "imagePullSecrets": [{ "name": "registry" }], "runtime": "python",
                "framework": "langgraph", "protocol": "mcp", "invocationPath": "/mcp", "minReplicas": 2,
                "port": 9000, "env": [{ "name": "A", "value": "b" }], "envFrom": [{ "secretRef": { "name": "s" } }],
                "resources": { "limits": { "cpu": "500m", "memory": "256Mi" } }, "serviceAccountName": "default",
            }),
        ),
    ]
}

/// Stores one by that definition, with the status and the finalizer that its controller wrote.
pub(crate) async fn store(namespace: &Namespace, name: &str, spec: Value) -> Value {
    let mut object = agent(name, spec);
    object["metadata"]["finalizers"] = json!(["krypton.ai/cleanup"]);
    namespace.apply(&object.to_string()).await.unwrap();
    let status = json!({ "status": {
        "phase": "Ready", "replicas": 1, "readyReplicas": 1, "desiredReplicas": 1, "observedGeneration": 1,
        "url": format!("http://{name}.{}.svc/", namespace.name()),
        "lastInvocationAt": "2026-01-01T00:00:00Z",
        "conditions": [{ "type": "Available", "status": "True", "reason": "Ready", "message": "1/1",
            "lastTransitionTime": "2026-01-01T00:00:00Z" }],
    }});
    let stored = agents(namespace).patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await;
    stored.unwrap().data["spec"].clone()
}

#[tokio::test]
async fn what_was_stored_under_upstreams_definition_runs() {
    let control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    install_upstreams_crd(&cluster).await;
    let test = cluster.with_namespace(async |namespace| {
        let mut specs = Vec::new();
        for (name, spec) in stored() {
            specs.push((name, store(namespace, name, spec).await));
        }
        let (_, minimal) = &specs[0];
        for (field, default) in
            [("timeout", json!("60s")), ("maxReplicas", json!(10)), ("invocationPath", json!("/"))]
        {
            assert_eq!(minimal[field], default, "stored with its default");
        }
        cluster.install_agent_crd().await.unwrap();
        eventually("ours is in use", SOON, async || {
            ensure!(try_create(namespace, "other", json!({ "minReplicas": 0 })).await.is_err());
            Ok(())
        })
        .await
        .unwrap();

        let controller = start_controller(namespace, &[]).await;
        let gateway = Gateway::start(controller.discovery, &[]).await.unwrap();
        is_ready(&gateway).await;
        for (name, spec) in &specs {
            runs(namespace, &gateway, name, spec).await;
        }
    });
    test.await.unwrap();
}

async fn runs(namespace: &Namespace, gateway: &Gateway, name: &str, spec: &Value) {
    condition_becomes(namespace, name, "Accepted", "True", "Accepted").await;
    condition_becomes(namespace, name, "Programmed", "True", "Programmed").await;
    // There is no kubelet, and what the old status said is no longer so.
    condition_becomes(namespace, name, "Ready", "False", "Unavailable").await;
    child::<Service>(namespace, name, any).await;
    if spec.get("serviceAccountName").is_none() {
        child::<ServiceAccount>(namespace, name, any).await;
    }
    let deployment: Deployment = child(namespace, name, any).await;
    let deployment = serde_json::to_value(deployment).unwrap();
    reaches_the_pod(spec, &deployment["spec"]["template"]["spec"]);

    let told = status_is_current(namespace, name).await;
    assert!(told.finalizers().is_empty(), "{name}");
    let status = told.status.unwrap();
    assert!(status.last_invocation_at.is_some(), "{name}: the time of the last call is kept");
    let now = agents(namespace).get(name).await.unwrap();
    assert_eq!(&now.data["spec"], spec, "{name}: the spec is its owner's");
    let answer = get(gateway.http, &path(namespace, name)).await.unwrap();
    assert_eq!(answer.code(), "no_ready_endpoint", "{name}: {answer:?}");
    let agents: Api<Agent> = namespace.api();
    agents.delete(name, &kube::api::DeleteParams::default()).await.unwrap();
}
