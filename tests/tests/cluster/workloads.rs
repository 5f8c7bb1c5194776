//! What the controller makes of an Agent on a real Kubernetes API: its children, and whose they are. There is no kubelet
//! here: pods stay pending.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use krypton_crd::{Agent, keys};
use krypton_e2e::cluster::{Namespace, shared};
use krypton_e2e::wait::eventually;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::objects::{agent, put};
use crate::statuses::{condition, condition_becomes, status_is_current};
use crate::support::{SOON, start_controller};

/// Whoever has more to write does so sooner than this.
const QUIET: Duration = Duration::from_secs(2);

/// Waits until the child `name` is as `check` wants it.
pub(crate) async fn child<K>(namespace: &Namespace, name: &str, check: impl Fn(&K) -> Result<()>) -> K
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = namespace.api();
    eventually(&format!("the {} {name} is as wanted", K::kind(&())), SOON, async || {
        let object = api.get(name).await?;
        check(&object).with_context(|| format!("{object:?}"))?;
        Ok(object)
    })
    .await
    .unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "the form of every check")]
pub(crate) fn any<K>(_: &K) -> Result<()> {
    Ok(())
}

/// `resourceVersion` of each child; the account is made only where the user has none of their own.
async fn versions(namespace: &Namespace, name: &str) -> Vec<Option<String>> {
    vec![
        namespace
            .api::<ServiceAccount>()
            .get_opt(name)
            .await
            .unwrap()
            .and_then(|account| account.resource_version()),
        namespace.api::<Service>().get(name).await.unwrap().resource_version(),
        namespace.api::<Deployment>().get(name).await.unwrap().resource_version(),
    ]
}

/// The container that runs the image.
fn container(deployment: &Deployment) -> &k8s_openapi::api::core::v1::Container {
    &deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0]
}

pub(crate) fn image_is(image: &'static str) -> impl Fn(&Deployment) -> Result<()> {
    move |deployment| {
        ensure!(container(deployment).image.as_deref() == Some(image));
        Ok(())
    }
}

pub(crate) fn replicas_are(count: i32) -> impl Fn(&Deployment) -> Result<()> {
    move |deployment| {
        ensure!(deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(count));
        Ok(())
    }
}

#[tokio::test]
async fn an_agent_gets_an_account_a_service_and_a_deployment_of_its_own() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        put(namespace, agent("echo", json!({ "port": 9000 }))).await.unwrap();
        let uid = namespace.api::<Agent>().get("echo").await.unwrap().uid().unwrap();

        let account: ServiceAccount = child(namespace, "echo", any).await;
        let service: Service = child(namespace, "echo", any).await;
        let deployment: Deployment = child(namespace, "echo", any).await;
        for (owners, labels) in [
            (account.owner_references(), account.labels()),
            (service.owner_references(), service.labels()),
            (deployment.owner_references(), deployment.labels()),
        ] {
            assert_eq!(owners.len(), 1);
            assert_eq!((&owners[0].uid, owners[0].controller), (&uid, Some(true)));
            assert_eq!(labels["krypton.ai/agent"], "echo");
            assert_eq!(labels["app.kubernetes.io/managed-by"], "krypton-runtime");
        }
        let selector = BTreeMap::from([("krypton.ai/agent".to_owned(), "echo".to_owned())]);
        assert_eq!(service.spec.as_ref().unwrap().selector.as_ref(), Some(&selector));
        let ports = service.spec.as_ref().unwrap().ports.as_ref().unwrap();
        assert_eq!((ports.len(), ports[0].name.as_deref(), ports[0].port), (1, Some("http"), 9000));
        let spec = deployment.spec.as_ref().unwrap();
        assert_eq!(spec.selector.match_labels.as_ref(), Some(&selector));
        assert_eq!(spec.template.spec.as_ref().unwrap().containers.len(), 1, "no sidecar");
        assert_eq!(spec.template.spec.as_ref().unwrap().service_account_name.as_deref(), Some("echo"));
        // Kubernetes makes endpoint slices of the Service, with the label that routes are computed from.
        let slices: Api<k8s_openapi::api::discovery::v1::EndpointSlice> = namespace.api();
        eventually("a slice bears the label", SOON, async || {
            let labelled = kube::api::ListParams::default().labels("krypton.ai/agent=echo");
            ensure!(slices.list(&labelled).await?.items.len() == 1);
            Ok(())
        })
        .await
        .unwrap();
    });
    test.await.unwrap();
}

#[tokio::test]
async fn nothing_is_written_once_all_is_as_wanted() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let controller = start_controller(namespace, &[]).await;
        put(namespace, full_agent()).await.unwrap();
        status_is_current(namespace, "full").await;
        let agents: Api<Agent> = namespace.api();
        let settled = settle(namespace, "full").await;

        // A controller that begins anew, and looks at every Agent, writes nothing; the second Agent shows that it did.
        drop(controller);
        let _controller = start_controller(namespace, &[]).await;
        put(namespace, agent("second", json!({}))).await.unwrap();
        status_is_current(namespace, "second").await;
        let after = (versions(namespace, "full").await, agents.get("full").await.unwrap().resource_version());
        assert_eq!(after, settled);
    });
    test.await.unwrap();
}

/// Waits until neither the Agent nor a child was written for a while; gives their versions.
async fn settle(namespace: &Namespace, name: &str) -> (Vec<Option<String>>, Option<String>) {
    let agents: Api<Agent> = namespace.api();
    let (mut before, mut since) = ((Vec::new(), None), Instant::now());
    eventually("nothing is written any more", 2 * SOON, async || {
        let now = (versions(namespace, name).await, agents.get(name).await?.resource_version());
        if now != before {
            (before, since) = (now, Instant::now());
        }
        ensure!(since.elapsed() > QUIET, "written not long ago");
        Ok(before.clone())
    })
    .await
    .unwrap()
}

/// An Agent with every field that reaches a pod.
fn full_agent() -> Value {
    agent(
        "full",
        json!({
            "imagePullPolicy": "Always",
            "imagePullSecrets": [{ "name": "registry" }],
            "port": 9000,
            "resources": {
                "requests": { "cpu": "0.1", "memory": "0.25Gi" },
                "limits": { "cpu": "1000m", "memory": "512Mi" },
            },
            "env": [
                { "name": "A", "value": "1" },
                { "name": "EMPTY", "value": "" },
                { "name": "B", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } },
                { "name": "C", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                { "name": "D", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu" } } },
            ],
            "envFrom": [{ "configMapRef": { "name": "m" } }, { "secretRef": { "name": "s" }, "prefix": "S_" }],
            "drainTimeout": "90s",
            "serviceAccountName": "own",
            "podTemplate": {
                "metadata": { "annotations": { "team": "travel" }, "labels": { "tier": "agents" } },
                "spec": {
                    "nodeSelector": { "disk": "ssd" },
                    "tolerations": [{ "key": "gpu", "operator": "Exists" }],
                    "volumes": [{ "name": "cache", "emptyDir": { "sizeLimit": "1024Mi" } }],
                    "containers": [
                        { "name": "agent", "command": ["/serve"], "volumeMounts": [{ "name": "cache", "mountPath": "/c" }],
                          "readinessProbe": { "httpGet": { "path": "/ready", "port": "http" } } },
                        { "name": "logs", "image": "logs:1" },
                    ],
                },
            },
        }),
    )
}

#[tokio::test]
async fn each_field_reaches_the_pod() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        put(namespace, full_agent()).await.unwrap();
        let deployment: Deployment = child(namespace, "full", any).await;
        let template = deployment.spec.as_ref().unwrap().template.clone();
        let metadata = template.metadata.unwrap();
        assert_eq!(metadata.annotations.unwrap()["team"], "travel");
        assert_eq!(metadata.labels.as_ref().unwrap()["tier"], "agents");
        assert_eq!(metadata.labels.as_ref().unwrap()["krypton.ai/agent"], "full");
        let pod = serde_json::to_value(template.spec.unwrap()).unwrap();
        assert_eq!(pod["serviceAccountName"], "own");
        assert_eq!(pod["imagePullSecrets"], json!([{ "name": "registry" }]));
        assert_eq!(pod["nodeSelector"], json!({ "disk": "ssd" }));
        assert_eq!(pod["tolerations"][0]["key"], "gpu");
        assert_eq!(pod["terminationGracePeriodSeconds"], 95);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let containers = pod["containers"].as_array().unwrap();
        let named = |name| containers.iter().find(|container| container["name"] == name).unwrap();
        let agent = named("agent");
        assert_eq!(named("logs")["image"], "logs:1");
        assert_eq!((&agent["image"], &agent["imagePullPolicy"]), (&json!("example"), &json!("Always")));
        assert_eq!(agent["command"], json!(["/serve"]));
        assert_eq!(agent["ports"][0]["containerPort"], 9000);
        assert_eq!(agent["readinessProbe"]["httpGet"]["path"], "/ready");
        assert!(agent["readinessProbe"]["tcpSocket"].is_null());
        assert_eq!(agent["lifecycle"]["preStop"]["sleep"]["seconds"], 5);
        assert_eq!(agent["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(agent["volumeMounts"][0]["mountPath"], "/c");
        assert_eq!(agent["resources"]["limits"]["memory"], "512Mi");
        let variables: Vec<_> =
            agent["env"].as_array().unwrap().iter().map(|env| env["name"].clone()).collect();
        assert_eq!(variables, ["A", "EMPTY", "B", "C", "D"]);
        assert_eq!(agent["envFrom"][1]["prefix"], "S_");
        // An account of the user's own is used, and none is made.
        assert!(namespace.api::<ServiceAccount>().get_opt("full").await.unwrap().is_none());
    });
    test.await.unwrap();
}

#[tokio::test]
async fn what_is_no_longer_wanted_goes() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        let env = json!([{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }]);
        put(namespace, agent("echo", json!({ "env": env }))).await.unwrap();
        let names = |expected: &'static [&'static str]| {
            move |deployment: &Deployment| {
                let env = container(deployment).env.as_deref().unwrap_or_default();
                ensure!(env.iter().map(|env| env.name.as_str()).collect::<Vec<_>>() == expected);
                Ok(())
            }
        };
        child(namespace, "echo", names(&["A", "B"])).await;
        put(namespace, agent("echo", json!({ "env": [{ "name": "B", "value": "2" }] }))).await.unwrap();
        child(namespace, "echo", names(&["B"])).await;
        put(namespace, agent("echo", json!({}))).await.unwrap();
        child(namespace, "echo", names(&[])).await;
    });
    test.await.unwrap();
}

#[tokio::test]
async fn an_edited_or_deleted_child_is_repaired() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        put(namespace, agent("echo", json!({}))).await.unwrap();
        let before: Deployment = child(namespace, "echo", image_is("example")).await;
        let service: Service = child(namespace, "echo", any).await;

        let edit = ["set", "image", "deployment/echo", "agent=other", "--namespace", namespace.name()];
        cluster.kubectl(&edit, "").await.unwrap();
        child(namespace, "echo", |deployment: &Deployment| {
            ensure!(deployment.metadata.generation > before.metadata.generation, "not edited yet");
            image_is("example")(deployment)
        })
        .await;

        let label = json!({ "metadata": { "labels": { "krypton.ai/agent": null } } });
        let services: Api<Service> = namespace.api();
        services.patch("echo", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
        child(namespace, "echo", |service: &Service| {
            ensure!(service.labels().contains_key("krypton.ai/agent"));
            Ok(())
        })
        .await;
        services.delete("echo", &DeleteParams::default()).await.unwrap();
        child(namespace, "echo", |found: &Service| {
            ensure!(found.uid() != service.uid(), "the old one");
            Ok(())
        })
        .await;
    });
    test.await.unwrap();
}

#[tokio::test]
async fn objects_of_somebody_else_are_never_touched() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let accounts: Api<ServiceAccount> = namespace.api();
        let default = accounts.get("default").await.unwrap();
        let foreign = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "taken" },
            "spec": { "ports": [{ "port": 80 }] },
        });
        put(namespace, foreign).await.unwrap();
        let services: Api<Service> = namespace.api();
        let taken = services.get("taken").await.unwrap();

        let _controller = start_controller(namespace, &[]).await;
        for (name, kind) in [("default", "ServiceAccount"), ("taken", "Service")] {
            put(namespace, agent(name, json!({}))).await.unwrap();
            let accepted = condition_becomes(namespace, name, "Accepted", "False", "NameConflict").await;
            assert!(accepted.message.contains(kind), "{}", accepted.message);
            let ready = condition(namespace, name, "Ready").await.unwrap();
            assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "NotAccepted"));
            let status = namespace.api::<Agent>().get(name).await.unwrap().status.unwrap();
            assert_eq!(status.url, None, "it would name somebody else's Service");
            assert!(namespace.api::<Deployment>().get_opt(name).await.unwrap().is_none(), "pods of no use");
        }
        let untouched = accounts.get("default").await.unwrap();
        assert_eq!(untouched.resource_version(), default.resource_version());
        assert_eq!(services.get("taken").await.unwrap().resource_version(), taken.resource_version());

        // With the conflict gone the Agent is taken up, without a change of its own.
        services.delete("taken", &DeleteParams::default()).await.unwrap();
        condition_becomes(namespace, "taken", "Accepted", "True", "Accepted").await;
        // Deleting the Agent takes only what is its own.
        namespace.api::<Agent>().delete("default", &DeleteParams::default()).await.unwrap();
        assert_eq!(accounts.get("default").await.unwrap().uid(), default.uid());
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_pod_template_that_cannot_be_is_told_once_and_can_be_mended() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        let with = |template: Value| agent("echo", json!({ "podTemplate": template }));
        let unknown = json!({ "spec": { "nodeSelektor": { "a": "b" } } });
        // What our rules see before Kubernetes is asked, and what only Kubernetes knows.
        for (template, reason, said) in [
            (unknown.clone(), "InvalidPodTemplate", "nodeSelektor"),
            (json!({ "spec": { "hostNetwork": "yes" } }), "InvalidPodTemplate", "hostNetwork"),
            (json!({ "spec": { "dnsPolicy": "Sometimes" } }), "InvalidPodTemplate", "dnsPolicy"),
            (json!({ "spec": { "restartPolicy": "Never" } }), "InvalidSpec", "restartPolicy"),
            (json!({ "spec": { "containers": "none" } }), "InvalidSpec", "containers"),
        ] {
            put(namespace, with(template)).await.unwrap();
            eventually(said, SOON, async || {
                let accepted = condition(namespace, "echo", "Accepted").await?;
                ensure!(accepted.reason == reason && accepted.message.contains(said), "{accepted:?}");
                Ok(())
            })
            .await
            .unwrap();
        }
        put(namespace, agent("echo", json!({}))).await.unwrap();
        condition_becomes(namespace, "echo", "Accepted", "True", "Accepted").await;
        let deployment: Deployment = child(namespace, "echo", any).await;

        // With a Deployment there, an apply takes the place of the first creation: its answer is another.
        put(namespace, with(unknown)).await.unwrap();
        let accepted = condition_becomes(namespace, "echo", "Accepted", "False", "InvalidPodTemplate").await;
        assert!(accepted.message.contains("nodeSelektor"), "{}", accepted.message);
        let after = namespace.api::<Deployment>().get("echo").await.unwrap();
        assert_eq!(after.metadata.generation, deployment.metadata.generation, "what runs goes on as it was");
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_deleted_agent_takes_its_children_with_it_and_waits_for_no_finalizer() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        let mut upstream = agent("echo", json!({}));
        upstream["metadata"]["finalizers"] = json!(["krypton.ai/cleanup", "example.com/other"]);
        put(namespace, upstream).await.unwrap();
        let agents: Api<Agent> = namespace.api();
        eventually("only the other finalizer is left", SOON, async || {
            ensure!(agents.get("echo").await?.finalizers() == ["example.com/other"]);
            Ok(())
        })
        .await
        .unwrap();
        child::<Deployment>(namespace, "echo", any).await;

        agents.delete("echo", &DeleteParams::default()).await.unwrap();
        let none = json!({ "metadata": { "finalizers": null } });
        agents.patch("echo", &PatchParams::default(), &Patch::Merge(&none)).await.unwrap();
        eventually("all is gone", SOON, async || {
            ensure!(agents.get_opt("echo").await?.is_none(), "the Agent");
            ensure!(namespace.api::<Deployment>().get_opt("echo").await?.is_none(), "the Deployment");
            ensure!(namespace.api::<Service>().get_opt("echo").await?.is_none(), "the Service");
            ensure!(namespace.api::<ServiceAccount>().get_opt("echo").await?.is_none(), "the account");
            Ok(())
        })
        .await
        .unwrap();
    });
    test.await.unwrap();
}

#[tokio::test]
async fn an_agent_deleted_while_it_is_made_leaves_nothing() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        let agents: Api<Agent> = namespace.api();
        for number in 0..10 {
            let name = format!("brief-{number}");
            put(namespace, agent(&name, json!({}))).await.unwrap();
            agents.delete(&name, &DeleteParams::default()).await.unwrap();
        }
        put(namespace, agent("last", json!({}))).await.unwrap();
        status_is_current(namespace, "last").await;
        eventually("only the last one's children are left", SOON, async || {
            let all = kube::api::ListParams::default().labels("krypton.ai/agent");
            let names = |objects: Vec<String>| ensure_only_last(&objects);
            names(
                namespace.api::<Deployment>().list(&all).await?.iter().map(ResourceExt::name_any).collect(),
            )?;
            names(namespace.api::<Service>().list(&all).await?.iter().map(ResourceExt::name_any).collect())?;
            names(
                namespace
                    .api::<ServiceAccount>()
                    .list(&all)
                    .await?
                    .iter()
                    .map(ResourceExt::name_any)
                    .collect(),
            )
        })
        .await
        .unwrap();
    });
    test.await.unwrap();
}

fn ensure_only_last(names: &[String]) -> Result<()> {
    ensure!(names == ["last"], "{names:?}");
    Ok(())
}

#[tokio::test]
async fn replicas_pin_an_agent_and_its_scale_is_served_as_autoscalers_use_it() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        put(namespace, agent("echo", json!({ "replicas": 2, "minReplicas": 1 }))).await.unwrap();
        child(namespace, "echo", replicas_are(2)).await;
        status_is_current(namespace, "echo").await;

        let scale = format!("/apis/krypton.ai/v1alpha1/namespaces/{}/agents/echo/scale", namespace.name());
        let shown: Value =
            serde_json::from_str(&cluster.kubectl(&["get", "--raw", &scale], "").await.unwrap()).unwrap();
        assert_eq!(shown["spec"]["replicas"], 2);
        assert_eq!(shown["status"]["selector"], "krypton.ai/agent=echo");
        eventually("the scale counts pods", SOON, async || {
            let shown: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", &scale], "").await?)?;
            ensure!(shown["status"]["replicas"] == 2, "{shown}");
            Ok(())
        })
        .await
        .unwrap();
        // A status that is written in between makes it a conflict.
        eventually("the scale is replaced", SOON, async || {
            let shown = cluster.kubectl(&["get", "--raw", &scale], "").await?;
            let mut wanted: Value = serde_json::from_str(&shown)?;
            wanted["spec"]["replicas"] = 4.into();
            cluster.kubectl(&["replace", "--raw", &scale, "--filename=-"], &wanted.to_string()).await
        })
        .await
        .unwrap();
        child(namespace, "echo", replicas_are(4)).await;
        let to_three = ["scale", "agent/echo", "--replicas=3", "--namespace", namespace.name()];
        cluster.kubectl(&to_three, "").await.unwrap();
        child(namespace, "echo", replicas_are(3)).await;

        // Unpinned it keeps its size, within its bounds.
        let unpin = ["patch", "agent/echo", "--namespace", namespace.name(), "--type=merge", "--patch"];
        let spec = r#"{"spec":{"replicas":null,"maxReplicas":2}}"#;
        cluster.kubectl(&[&unpin[..], &[spec]].concat(), "").await.unwrap();
        child(namespace, "echo", replicas_are(2)).await;
    });
    test.await.unwrap();
}

#[tokio::test]
async fn another_writer_of_replicas_is_told_and_repaired() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        put(namespace, agent("echo", json!({}))).await.unwrap();
        child(namespace, "echo", replicas_are(1)).await;
        let scale = ["scale", "deployment/echo", "--replicas=5", "--namespace", namespace.name()];
        cluster.kubectl(&scale, "").await.unwrap();
        child(namespace, "echo", replicas_are(1)).await;
        eventually("a Warning names the writer", SOON, async || {
            let events = ["get", "events", "--namespace", namespace.name(), "--output=json"];
            let events: Value = serde_json::from_str(&cluster.kubectl(&events, "").await?)?;
            let told = events["items"].as_array().context("no items")?.iter().any(|event| {
                event["type"] == "Warning"
                    && event["involvedObject"]["name"] == "echo"
                    && event["message"].as_str().is_some_and(|message| message.contains("kubectl"))
            });
            ensure!(told, "{events}");
            Ok(())
        })
        .await
        .unwrap();
    });
    test.await.unwrap();
}

/// As the Go controller wrote it, by Update under the name of its binary.
pub(crate) async fn create_as_go<K>(namespace: &Namespace, object: Value)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + serde::de::DeserializeOwned
        + serde::Serialize
        + Clone
        + std::fmt::Debug,
{
    let params =
        PostParams { field_manager: Some(keys::GO_FIELD_MANAGERS[0].to_owned()), ..PostParams::default() };
    namespace.api::<K>().create(&params, &serde_json::from_value(object).unwrap()).await.unwrap();
}

/// The Deployment that the Go controller makes, with its sidecar.
pub(crate) fn go_deployment(owner: &Value) -> Value {
    json!({
        "metadata": {
            "name": "echo", "ownerReferences": [owner],
            "labels": { "krypton.ai/agent": "echo", "app.kubernetes.io/managed-by": "krypton-runtime" },
        },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "krypton.ai/agent": "echo" } },
            "template": {
                "metadata": { "labels": { "krypton.ai/agent": "echo" } },
                "spec": {
                    "serviceAccountName": "echo",
                    "containers": [
                        { "name": "agent", "image": "example", "ports": [{ "name": "http", "containerPort": 8080 }] },
                        { "name": "krypton-proxy", "image": "krypton-proxy:0.1.0",
                          "ports": [{ "name": "proxy", "containerPort": 8888 }] },
                    ],
                },
            },
        },
    })
}

/// The Service that it makes, which leads to the sidecar.
pub(crate) fn go_service(owner: &Value) -> Value {
    json!({
        "metadata": {
            "name": "echo", "ownerReferences": [owner],
            "labels": { "krypton.ai/agent": "echo", "app.kubernetes.io/managed-by": "krypton-runtime" },
        },
        "spec": {
            "selector": { "krypton.ai/agent": "echo" },
            "ports": [{ "name": "http", "port": 8080, "targetPort": "proxy" }],
        },
    })
}

/// What names the Agent `echo` as owner.
pub(crate) async fn owner(namespace: &Namespace) -> Value {
    let agent = namespace.api::<Agent>().get("echo").await.unwrap();
    json!({
        "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "name": "echo", "uid": agent.uid(),
        "controller": true, "blockOwnerDeletion": true,
    })
}

#[tokio::test]
async fn the_go_controllers_objects_are_taken_over_without_its_sidecar() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        put(namespace, agent("echo", json!({ "minReplicas": 1, "timeout": "60s" }))).await.unwrap();
        let owner = owner(namespace).await;
        create_as_go::<Deployment>(namespace, go_deployment(&owner)).await;
        create_as_go::<Service>(namespace, go_service(&owner)).await;
        let before = namespace.api::<Service>().get("echo").await.unwrap();

        let controller = start_controller(namespace, &[]).await;
        let deployment: Deployment = child(namespace, "echo", |deployment: &Deployment| {
            let containers = &deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers;
            ensure!(containers.len() == 1 && containers[0].name == "agent", "{containers:?}");
            Ok(())
        })
        .await;
        replicas_are(3)(&deployment).expect("the size that it had");
        let writers: Vec<_> =
            deployment.managed_fields().iter().filter(|entry| entry.subresource.is_none()).collect();
        assert!(
            writers.iter().all(|entry| entry.manager.as_deref() != Some(keys::GO_FIELD_MANAGERS[0])),
            "{writers:?}"
        );
        let service: Service = child(namespace, "echo", |service: &Service| {
            let ports = service.spec.as_ref().unwrap().ports.as_ref().unwrap();
            let target = serde_json::to_value(&ports[0].target_port)?;
            ensure!(ports.len() == 1 && target == "http", "{ports:?}");
            Ok(())
        })
        .await;
        assert_eq!(service.uid(), before.uid(), "the same Service, at the same address");
        condition_becomes(namespace, "echo", "Accepted", "True", "Accepted").await;
        drop(controller);
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_go_controller_that_still_runs_is_given_way_to() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        put(namespace, agent("echo", json!({}))).await.unwrap();
        let owner = owner(namespace).await;
        create_as_go::<Deployment>(namespace, go_deployment(&owner)).await;
        let _controller = start_controller(namespace, &[]).await;
        child(namespace, "echo", |deployment: &Deployment| {
            ensure!(deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers.len() == 1);
            Ok(())
        })
        .await;
        // It writes its sidecar back, as it does whenever it sees the Deployment differ.
        let deployments: Api<Deployment> = namespace.api();
        let go = PostParams {
            field_manager: Some(keys::GO_FIELD_MANAGERS[0].to_owned()),
            ..PostParams::default()
        };
        eventually("its write goes through", SOON, async || {
            let mut wanted = deployments.get("echo").await?;
            wanted.spec = serde_json::from_value(go_deployment(&owner)["spec"].clone())?;
            Ok(deployments.replace("echo", &go, &wanted).await?)
        })
        .await
        .unwrap();
        let accepted = condition_becomes(namespace, "echo", "Accepted", "False", "AnotherController").await;
        assert!(accepted.message.contains("The field manager \"app\""), "{}", accepted.message);
        let sidecars = |deployment: &Deployment| {
            ensure!(deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers.len() == 2);
            Ok(())
        };
        child(namespace, "echo", sidecars).await;
    });
    test.await.unwrap();
}
