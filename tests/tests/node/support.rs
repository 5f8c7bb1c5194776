//! What tests on a node share: Krypton's programs beside it, pods and what became of them, callers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use krypton_crd::Agent;
use krypton_e2e::client::{Answer, get};
use krypton_e2e::cluster::{Namespace, shared_with_node};
use krypton_e2e::programs::{Controller, Gateway};
use krypton_e2e::traffic::{Load, Traffic};
use krypton_e2e::wait::eventually;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

/// A pod is ready within a second on an idle machine; this is for one that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// Two hundred calls a second beside twenty streams, which take eight seconds each: longer than a pod that was told to
/// stop goes on taking calls (5 s), shorter than what [`DRAIN`] gives it to finish.
pub(crate) const HEAVY: Load =
    Load { calls: 8, streams: 20, uploads: 1, pieces: 32, pace: Duration::from_millis(250) };

/// `spec.drainTimeout` of agents under [`HEAVY`] load.
pub(crate) const DRAIN: &str = "12s";

/// A controller that watches one namespace, and a gateway that follows it, as processes of this machine.
pub(crate) struct Krypton {
    pub(crate) gateway: Gateway,
    pub(crate) controller: Controller,
}

// === impl Krypton ===

impl Krypton {
    /// Starts both, and waits until calls are taken.
    pub(crate) async fn start(namespace: &Namespace) -> Self {
        let args = ["--namespace", namespace.name(), "--lease-namespace", namespace.name()];
        let controller = Controller::start_on_cluster(namespace.cluster().kubeconfig(), &args).await.unwrap();
        let gateway = start_gateway(&controller, &[]).await;
        Self { gateway, controller }
    }

    /// Calls the agent `name` until it is answered 200 by an image of that version.
    pub(crate) async fn is_answered(&self, namespace: &Namespace, name: &str, version: &str) -> Answer {
        eventually(&format!("version {version} of {name} answers"), SOON, async || {
            let answer = get(self.gateway.http, &path(namespace, name)).await?;
            ensure!(answer.status == 200 && answer.header("x-agent-version") == version, "{answer:?}");
            Ok(answer)
        })
        .await
        .unwrap()
    }

    /// Waits until the gateway has that many endpoints for the agent `name`.
    pub(crate) async fn has_endpoints(&self, namespace: &Namespace, name: &str, count: usize) {
        let what = format!("the gateway has {count} endpoints of {name}");
        eventually(&what, SOON, async || {
            let found = endpoints(&self.gateway, namespace, name).await?;
            ensure!(found == count, "{found}");
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Calls the agent `name` as `load` says.
    pub(crate) fn traffic(&self, namespace: &Namespace, name: &str, load: Load) -> Traffic {
        Traffic::start(&[self.gateway.http], &path(namespace, name), load)
    }
}

/// Gives `test` a namespace of its own on the node, with Agents.
pub(crate) async fn with_namespace(test: impl AsyncFnOnce(&Namespace)) {
    let cluster = shared_with_node().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    cluster.with_namespace(test).await.unwrap();
}

/// A gateway of `controller` that takes calls; `args` are added.
pub(crate) async fn start_gateway(controller: &Controller, args: &[&str]) -> Gateway {
    let gateway = Gateway::start(controller.discovery, args).await.unwrap();
    eventually("the gateway is ready", SOON, async || {
        let answer = get(gateway.admin, "/readyz?verbose").await?;
        ensure!(answer.status == 200, "{}", answer.text());
        Ok(())
    })
    .await
    .unwrap();
    gateway
}

/// Where calls to the agent `name` go.
pub(crate) fn path(namespace: &Namespace, name: &str) -> String {
    format!("/v1/agents/{}/{name}", namespace.name())
}

/// How many endpoints a gateway has for the agent `name`; an error while it has no such route.
pub(crate) async fn endpoints(gateway: &Gateway, namespace: &Namespace, name: &str) -> Result<usize> {
    let (table, name) =
        (get(gateway.admin, "/debug/routes").await?.json(), format!("{}/{name}", namespace.name()));
    let routes = table["routes"].as_array().context("no routes")?;
    let route = routes.iter().find(|route| route["name"] == name.as_str()).context("no such route")?;
    Ok(route["endpoints"].as_array().context("no endpoints")?.len())
}

/// An Agent of plain HTTP under [`HEAVY`] load: every call goes to a pod at once, and each pod may finish its streams.
pub(crate) fn busy_agent(name: &str, image: &str, replicas: u32) -> Value {
    let spec = json!({ "image": image, "replicas": replicas, "concurrency": 0, "drainTimeout": DRAIN });
    crate::objects::agent(name, spec)
}

/// Writes fields of an Agent's spec.
pub(crate) async fn change(namespace: &Namespace, name: &str, spec: Value) {
    let agents: Api<Agent> = namespace.api();
    let patch = Patch::Merge(json!({ "spec": spec }));
    agents.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// The label by which an agent's pods are found.
pub(crate) fn pods_of(name: &str) -> String {
    format!("krypton.ai/agent={name}")
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

/// The Service of the Deployment `name`.
pub(crate) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": {
            "selector": { "app": name },
            "ports": [{ "name": "http", "port": 80, "targetPort": "http" }],
        },
    })
}
