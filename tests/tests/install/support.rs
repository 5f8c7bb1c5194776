//! What tests of an install share: a node of their own, Helm, and what became of a release.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Pod, Service};
use krypton_e2e::client::get;
use krypton_e2e::cluster::{Cluster, Namespace};
use krypton_e2e::helm::{Helm, Release};
use krypton_e2e::node::Node;
use krypton_e2e::node::krypton::{REGISTRY, TAG};
use krypton_e2e::traffic::{Load, Traffic};
use krypton_e2e::wait::eventually;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

/// Pods start within seconds; this is for a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_mins(2);

/// What the guide installs.
pub(crate) const RELEASE: Release<'_> = Release { name: "krypton", namespace: "krypton-system" };

/// Gives `test` a namespace on a node of its own that has the images of Krypton itself.
pub(crate) async fn with_node(test: impl AsyncFnOnce(&Namespace)) {
    static TURN: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(1);
    let _turn = TURN.acquire().await.unwrap();
    let node = Node::start().await.unwrap();
    node.load_krypton().await.unwrap();
    let cluster = node.cluster().await.unwrap();
    let outcome = AssertUnwindSafe(cluster.with_namespace(test)).catch_unwind().await;
    if outcome.is_err() {
        tell_state(&cluster).await;
    }
    drop(node);
    outcome.unwrap_or_else(|panic| resume_unwind(panic)).unwrap();
}

/// For the person in front of a failed run: the node is gone when they look.
async fn tell_state(cluster: &Cluster) {
    for args in [
        &["get", "pods", "--all-namespaces", "--output=wide"][..],
        &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
        &[
            "logs",
            "--namespace",
            RELEASE.namespace,
            "--selector=app.kubernetes.io/component=controller",
            "--tail=30",
            "--prefix",
        ],
        &[
            "logs",
            "--namespace",
            RELEASE.namespace,
            "--selector=app.kubernetes.io/component=gateway",
            "--tail=30",
            "--prefix",
        ],
    ] {
        let said = cluster.kubectl(args, "").await.unwrap_or_else(|error| format!("{error:#}"));
        eprintln!("--- kubectl {}\n{said}", args.join(" "));
    }
}

/// The defaults, but for where the images are.
pub(crate) fn values(tag: &str) -> String {
    values_with(tag, json!({}))
}

/// Those keys beside them.
pub(crate) fn values_with(tag: &str, mut keys: Value) -> String {
    keys["image"] = json!({ "registry": REGISTRY, "tag": tag });
    keys.to_string()
}

/// Installs the chart as the guide says.
pub(crate) async fn install(cluster: &Cluster) -> Helm {
    install_with(cluster, json!({})).await
}

/// Installs the chart with those keys beside the defaults.
pub(crate) async fn install_with(cluster: &Cluster, keys: Value) -> Helm {
    let helm = Helm::on(cluster).unwrap();
    helm.install(RELEASE, &values_with(TAG, keys), &["--create-namespace"]).await.unwrap();
    helm
}

/// `kubectl` in the release's namespace.
pub(crate) async fn kubectl(cluster: &Cluster, args: &[&str]) -> Result<String> {
    cluster.kubectl(&[&["--namespace", RELEASE.namespace][..], args].concat(), "").await
}

/// Where calls go: the Service that an ingress is told.
pub(crate) async fn entrance(cluster: &Cluster) -> Result<SocketAddr> {
    let services: Api<Service> = Api::namespaced(cluster.client(), RELEASE.namespace);
    let spec = services.get("krypton-gateway").await?.spec.context("no spec")?;
    let port = spec.ports.iter().flatten().find(|port| port.name.as_deref() == Some("http"));
    let port = u16::try_from(port.context("no port called http")?.port)?;
    Ok(SocketAddr::new(spec.cluster_ip.context("no address")?.parse()?, port))
}

/// Where calls to the agent `name` go.
pub(crate) fn path(namespace: &Namespace, name: &str) -> String {
    format!("/v1/agents/{}/{name}", namespace.name())
}

/// Calls the agent `name` until it is answered 200.
pub(crate) async fn is_answered(namespace: &Namespace, name: &str) {
    eventually(&format!("the first answer of {name}"), SOON, async || {
        let answer = get(entrance(namespace.cluster()).await?, &path(namespace, name)).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Waits until a component of the release (gateway, controller) has that many pods of that image tag, all ready, and no
/// others.
pub(crate) async fn pods_are(cluster: &Cluster, component: &str, count: usize, tag: &str) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), RELEASE.namespace);
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
    eventually(&format!("{count} ready pods of {component}:{tag} and no others"), 2 * SOON, async || {
        let mut names = Vec::new();
        for pod in pods.list(&selector).await? {
            let image =
                pod.spec.iter().flat_map(|spec| &spec.containers).find_map(|found| found.image.as_ref());
            ensure!(
                image.is_some_and(|image| image.ends_with(&format!(":{tag}"))),
                "{}: {image:?}",
                pod.name_any()
            );
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let ready = conditions.filter(|found| found.type_ == "Ready").any(|found| found.status == "True");
            ensure!(ready && pod.metadata.deletion_timestamp.is_none(), "{} is not ready", pod.name_any());
            names.push(pod.name_any());
        }
        ensure!(names.len() == count, "{names:?}");
        Ok(names)
    })
    .await
    .unwrap()
}

/// Calls the agent `name` through the Service as `load` says.
pub(crate) async fn traffic(namespace: &Namespace, name: &str, load: Load) -> Traffic {
    let entrance = entrance(namespace.cluster()).await.unwrap();
    let traffic = Traffic::start(&[entrance], &path(namespace, name), load);
    traffic.goes_on(50).await.unwrap();
    traffic
}

/// Ends the load, of which no call may have failed, and tells how much it was.
pub(crate) async fn end(traffic: Traffic, what: &str) {
    traffic.goes_on(50).await.unwrap();
    let report = traffic.end_whole().await.unwrap();
    eprintln!("{what}: {report:?}, {:.0} calls a second, none failed", report.calls_per_second());
}

/// An Agent of plain HTTP whose every call goes to a pod at once.
pub(crate) fn busy_agent(name: &str, image: &str, mut spec: Value) -> Value {
    spec["image"] = image.into();
    spec["concurrency"] = 0.into();
    crate::objects::agent(name, spec)
}
