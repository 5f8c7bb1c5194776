//! What tests on a node share: Krypton's programs beside it, pods and what became of them, callers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Pod;
use krypton_e2e::cluster::Namespace;
use krypton_e2e::programs::{Controller, Gateway};
use krypton_e2e::wait::eventually;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

/// A pod is ready within a second on an idle machine; this is for one that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// What a caller got.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The pod that answered; empty where none did.
    pub(crate) by: String,
    /// The version of its image.
    pub(crate) version: String,
    pub(crate) body: String,
}

/// A controller that watches one namespace, and a gateway that follows it, as processes of this machine.
pub(crate) struct Krypton {
    pub(crate) gateway: Gateway,
    _controller: Controller,
}

// === impl Krypton ===

impl Krypton {
    /// Starts both, and waits until calls are taken; `args` are the controller's.
    pub(crate) async fn start(namespace: &Namespace, args: &[&str]) -> Self {
        let args: Vec<&str> = ["--namespace", namespace.name()].iter().chain(args).copied().collect();
        let controller = Controller::start_on_cluster(namespace.cluster().kubeconfig(), &args).await.unwrap();
        let gateway = Gateway::start(controller.discovery, &[]).await.unwrap();
        eventually("the gateway is ready", SOON, async || {
            let answer = get(gateway.admin, "/readyz?verbose").await?;
            ensure!(answer.status == StatusCode::OK, "{}", answer.body);
            Ok(())
        })
        .await
        .unwrap();
        Self { gateway, _controller: controller }
    }

    /// Calls the agent `name` until it is answered 200 by an image of that version.
    pub(crate) async fn is_answered(&self, namespace: &Namespace, name: &str, version: &str) -> Answer {
        let target = format!("/v1/agents/{}/{name}/hello", namespace.name());
        eventually(&format!("version {version} of {name} answers"), SOON, async || {
            let answer = get(self.gateway.http, &target).await?;
            ensure!(answer.status == StatusCode::OK && answer.version == version, "{answer:?}");
            Ok(answer)
        })
        .await
        .unwrap()
    }
}

/// `GET target` on a connection of its own.
pub(crate) async fn get(address: SocketAddr, target: &str) -> Result<Answer> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let response = client.get(format!("http://{address}{target}").parse()?).await?;
    let (head, body) = response.into_parts();
    let header = |name: &str| -> Result<String> {
        Ok(head.headers.get(name).map(|value| value.to_str()).transpose()?.unwrap_or_default().to_owned())
    };
    let (by, version) = (header("x-agent-name")?, header("x-agent-version")?);
    let body = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
    Ok(Answer { status: head.status, by, version, body })
}

/// Runs `kubectl` in the namespace; gives back what it printed.
pub(crate) async fn kubectl(namespace: &Namespace, args: &[&str]) -> String {
    let args: Vec<&str> = ["--namespace", namespace.name()].iter().chain(args).copied().collect();
    namespace.cluster().kubectl(&args, "").await.unwrap()
}

/// Waits until exactly `count` pods are there under `labels` (a selector), all ready; gives back their names in order.
pub(crate) async fn pods_are_ready(namespace: &Namespace, labels: &str, count: usize) -> Vec<String> {
    let pods: Api<Pod> = namespace.api();
    eventually(&format!("{count} pods are ready"), SOON, async || {
        let mut names = Vec::new();
        for pod in pods.list(&ListParams::default().labels(labels)).await?.items {
            let name = pod.metadata.name.context("a pod without a name")?;
            let status = pod.status.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            let ready = conditions.iter().any(|found| found.type_ == "Ready" && found.status == "True");
            ensure!(ready, "{name} is not: {conditions:?}, {:?}", status.container_statuses);
            names.push(name);
        }
        ensure!(names.len() == count, "{names:?}");
        names.sort_unstable();
        Ok(names)
    })
    .await
    .unwrap()
}

/// Waits until a container of the pod under `labels` waits for that reason; gives back the message.
pub(crate) async fn container_waits(namespace: &Namespace, labels: &str, reasons: &[&str]) -> String {
    let pods: Api<Pod> = namespace.api();
    eventually(&format!("a container waits: {reasons:?}"), SOON, async || {
        let found = pods.list(&ListParams::default().labels(labels)).await?.items;
        let statuses = found.into_iter().filter_map(|pod| pod.status?.container_statuses).flatten();
        let waiting: Vec<_> = statuses.filter_map(|status| status.state?.waiting).collect();
        let matching =
            waiting.iter().find(|state| reasons.contains(&state.reason.as_deref().unwrap_or_default()));
        let matching = matching.with_context(|| format!("{waiting:?}"))?;
        Ok(matching.message.clone().unwrap_or_default())
    })
    .await
    .unwrap()
}

/// A Deployment called `name` whose pods have the label `app: <name>` and run `image` as an agent.
pub(crate) fn deployment(name: &str, image: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "securityContext": { "runAsNonRoot": true },
                    "containers": [{
                        "name": "agent",
                        "image": image,
                        "ports": [{ "name": "http", "containerPort": 8080 }],
                        "readinessProbe": { "httpGet": { "path": "/", "port": "http" }, "periodSeconds": 1 },
                    }],
                },
            },
        },
    })
}

/// The Service `name` of the Deployment `deployment`; to the agent of that name, its endpoints are the agent's.
pub(crate) fn service(name: &str, deployment: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "labels": { "krypton.ai/agent": name } },
        "spec": {
            "selector": { "app": deployment },
            "ports": [{ "name": "http", "port": 80, "targetPort": "http" }],
        },
    })
}
