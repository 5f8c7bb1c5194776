//! What an Agent's status says on a real Kubernetes API, and what kubectl makes of it. There is no kubelet here: a test
//! says what one would have reported.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use krypton_crd::Agent;
use krypton_e2e::cluster::{Namespace, shared};
use krypton_e2e::programs::{Controller, Gateway};
use krypton_e2e::wait::eventually;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

pub(crate) use crate::conditions::{condition, condition_becomes};
use crate::objects::{agent, put};
use crate::support::{SOON, is_ready, metric_becomes, start_controller};

/// Waits until the Agent's status is about its current generation.
pub(crate) async fn status_is_current(namespace: &Namespace, name: &str) -> Agent {
    let agents: Api<Agent> = namespace.api();
    eventually(&format!("the status of {name} is current"), SOON, async || {
        let agent = agents.get(name).await?;
        let status = agent.status.as_ref().context("no status")?;
        ensure!(status.observed_generation == agent.metadata.generation, "{status:?}");
        Ok(agent)
    })
    .await
    .unwrap()
}

/// Waits until the agent has that many pods; gives their names.
async fn pods(namespace: &Namespace, name: &str, count: usize) -> Vec<String> {
    let pods: Api<Pod> = namespace.api();
    eventually(&format!("{name} has {count} pods"), SOON, async || {
        let ours = pods.list(&ListParams::default().labels(&format!("krypton.ai/agent={name}"))).await?;
        let alive = ours.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let names: Vec<_> = alive.map(ResourceExt::name_any).collect();
        ensure!(names.len() == count, "{names:?}");
        Ok(names)
    })
    .await
    .unwrap()
}

/// Says what a kubelet would have reported.
async fn report(namespace: &Namespace, pod: &str, status: Value) {
    let pods: Api<Pod> = namespace.api();
    let status = json!({ "status": status });
    pods.patch_status(pod, &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
}

fn container(state: &Value, last: &Value, restarts: u32) -> Value {
    json!({
        "phase": "Running",
        "containerStatuses": [{
            "name": "agent", "image": "example", "imageID": "", "ready": false, "restartCount": restarts,
            "state": state, "lastState": last,
        }],
    })
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({ "waiting": { "reason": reason, "message": message } })
}

fn running() -> Value {
    json!({
        "phase": "Running",
        "conditions": [{ "type": "Ready", "status": "True" }, { "type": "ContainersReady", "status": "True" }],
        "containerStatuses": [{
            "name": "agent", "image": "example", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } }, "lastState": {},
        }],
    })
}

/// What a kubelet or scheduler reports, and what the Agent says then: reason of `Available`, words of its message.
fn troubles() -> Vec<(Value, &'static str, &'static [&'static str])> {
    let nothing = || json!({});
    vec![
        (
            json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/3 nodes are available: 3 Insufficient cpu." }] }),
            "Unschedulable",
            &["Insufficient cpu"],
        ),
        (
            container(
                &waiting("ErrImagePull", "failed to resolve reference \"example\": not found"),
                &nothing(),
                0,
            ),
            "ImagePullFailed",
            &["example", "not found"],
        ),
        (
            container(
                &waiting("CrashLoopBackOff", "back-off 10s restarting failed container"),
                &json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled",
                    "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z" } }),
                3,
            ),
            "CrashLooping",
            &["memory"],
        ),
    ]
}

#[tokio::test]
async fn why_pods_do_not_run_is_told_in_words_to_act_on() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        for (number, (reported, reason, words)) in troubles().into_iter().enumerate() {
            let name = format!("agent-{number}");
            put(namespace, agent(&name, json!({}))).await.unwrap();
            let pods = pods(namespace, &name, 1).await;
            report(namespace, &pods[0], reported).await;
            let available = condition_becomes(namespace, &name, "Available", "False", reason).await;
            for word in words {
                assert!(available.message.contains(word), "{word}: {}", available.message);
            }
            let ready = condition(namespace, &name, "Ready").await.unwrap();
            assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Unavailable"));
            report(namespace, &pods[0], running()).await;
            condition_becomes(namespace, &name, "Available", "True", "Ready").await;
        }
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_quota_and_a_missing_account_are_told() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        put(namespace, agent("lost", json!({ "serviceAccountName": "nobody" }))).await.unwrap();
        let refs = condition_becomes(namespace, "lost", "ResolvedRefs", "False", "RefNotFound").await;
        assert!(refs.message.contains("nobody"), "{}", refs.message);

        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "none" },
            "spec": { "hard": { "pods": "0" } },
        });
        put(namespace, quota).await.unwrap();
        eventually("the quota is counted", SOON, async || {
            let quotas: Api<k8s_openapi::api::core::v1::ResourceQuota> = namespace.api();
            let status = quotas.get("none").await?.status.context("no status")?;
            ensure!(status.hard.is_some());
            Ok(())
        })
        .await
        .unwrap();
        put(namespace, agent("many", json!({}))).await.unwrap();
        let available = condition_becomes(namespace, "many", "Available", "False", "QuotaExceeded").await;
        assert!(available.message.contains("none"), "{}", available.message);
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_route_is_programmed_once_every_gateway_has_it_and_stays_so() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let controller = start_controller(namespace, &[]).await;
        let first = Gateway::start(controller.discovery, &["--node-id", "first"]).await.unwrap();
        is_ready(&first).await;
        put(namespace, agent("echo", json!({}))).await.unwrap();
        condition_becomes(namespace, "echo", "Programmed", "True", "Programmed").await;
        let settled = status_is_current(namespace, "echo").await;

        // Gateways that come and go change nothing about this generation.
        drop(first);
        let second = Gateway::start(controller.discovery, &["--node-id", "second"]).await.unwrap();
        metric_becomes(second.admin, "krypton_report_connected", 1.0).await;
        // One that hangs has not acknowledged what comes next, and is named.
        second.process.pause();
        put(namespace, agent("later", json!({}))).await.unwrap();
        condition_becomes(namespace, "later", "Programmed", "Unknown", "Pending").await;
        // A new leader names nobody before it has had time to hear from all.
        eventually("the gateway is named", SOON, async || {
            let pending = condition(namespace, "later", "Programmed").await?;
            ensure!(pending.message.contains("second"), "{}", pending.message);
            Ok(())
        })
        .await
        .unwrap();
        let same = namespace.api::<Agent>().get("echo").await.unwrap();
        let programmed = |agent: &Agent| {
            let conditions = &agent.status.as_ref().unwrap().conditions;
            conditions.iter().find(|condition| condition.type_ == "Programmed").cloned()
        };
        assert_eq!(programmed(&same), programmed(&settled));
    });
    test.await.unwrap();
}

#[tokio::test]
async fn an_agent_without_gateways_says_so() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        put(namespace, agent("echo", json!({}))).await.unwrap();
        condition_becomes(namespace, "echo", "Programmed", "False", "NoGateways").await;
    });
    test.await.unwrap();
}

#[tokio::test]
async fn kubectl_waits_and_shows_columns() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let controller = start_controller(namespace, &[]).await;
        let _gateway = Gateway::start(controller.discovery, &[]).await.unwrap();
        put(namespace, agent("echo", json!({}))).await.unwrap();
        let pods = pods(namespace, "echo", 1).await;
        report(namespace, &pods[0], running()).await;
        let wait =
            ["wait", "--for=condition=Ready", "agent/echo", "--timeout=30s", "--namespace", namespace.name()];
        cluster.kubectl(&wait, "").await.unwrap();
        let rows = cluster
            .kubectl(&["get", "ag", "--namespace", namespace.name(), "--output=wide"], "")
            .await
            .unwrap();
        let columns: Vec<_> = rows.lines().next().unwrap().split_whitespace().collect();
        for column in ["NAME", "READY", "MODE", "REPLICAS", "URL", "PROTOCOL", "IMAGE", "AGE"] {
            assert!(columns.contains(&column), "{column}: {rows}");
        }
        let row: Vec<_> = rows.lines().nth(1).unwrap().split_whitespace().collect();
        assert!(row.contains(&"True") && row.contains(&"always-on"), "{rows}");
    });
    test.await.unwrap();
}

#[tokio::test]
async fn the_last_call_is_told_seldom() {
    /// Long enough for the load of the call to be reported, once a second.
    const REPORTED: Duration = Duration::from_secs(30);
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let controller = start_controller(namespace, &[]).await;
        let gateway = Gateway::start(controller.discovery, &[]).await.unwrap();
        put(namespace, agent("echo", json!({}))).await.unwrap();
        condition_becomes(namespace, "echo", "Programmed", "True", "Programmed").await;
        let called = |answer: crate::support::Answer| answer.code();
        assert_eq!(called(crate::support::call(&gateway, namespace).await), "no_ready_endpoint");
        let agents: Api<Agent> = namespace.api();
        let first = eventually("the call is told", REPORTED, async || {
            let status = agents.get("echo").await?.status.context("no status")?;
            status.last_invocation_at.context("not told")
        })
        .await
        .unwrap();
        for _ in 0..5 {
            crate::support::call(&gateway, namespace).await;
        }
        // Another Agent's first call, made later, is told: so the reports of these have come.
        put(namespace, agent("other", json!({}))).await.unwrap();
        condition_becomes(namespace, "other", "Programmed", "True", "Programmed").await;
        crate::support::get(gateway.http, &crate::support::path(namespace, "other")).await.unwrap();
        eventually("the other's call is told", REPORTED, async || {
            let status = agents.get("other").await?.status.context("no status")?;
            status.last_invocation_at.context("not told")
        })
        .await
        .unwrap();
        let second = agents.get("echo").await.unwrap().status.unwrap().last_invocation_at.unwrap();
        assert_eq!(first, second);
    });
    test.await.unwrap();
}

/// The notes of the Agent's Events about its timeout.
async fn timeout_events(namespace: &Namespace, name: &str) -> Result<Vec<String>> {
    let events: Api<Event> = namespace.api();
    let all = events.list(&ListParams::default()).await?;
    let about = |event: &&Event| {
        event.reason.as_deref() == Some("TimeoutReachesIngress")
            && event.regarding.as_ref().is_some_and(|regarding| regarding.name.as_deref() == Some(name))
    };
    let ours: Vec<_> = all.iter().filter(about).collect();
    ensure!(ours.iter().all(|event| event.series.is_none()), "repeated: {ours:?}");
    ensure!(ours.iter().all(|event| event.type_.as_deref() == Some("Warning")), "{ours:?}");
    Ok(ours.into_iter().filter_map(|event| event.note.clone()).collect())
}

async fn timeout_events_become(namespace: &Namespace, name: &str, count: usize) -> Vec<String> {
    eventually(&format!("{name} has {count} Events about its timeout"), SOON, async || {
        let notes = timeout_events(namespace, name).await?;
        ensure!(notes.len() == count, "{notes:?}");
        Ok(notes)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_timeout_that_the_ingress_cuts_is_told_once_over_restarts() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let behind = async |read_timeout: &str| {
            start_controller(namespace, &["--ingress-read-timeout", read_timeout]).await
        };
        let stop = async |mut controller: Controller| {
            controller.process.terminate();
            controller.process.ended(SOON).await.unwrap();
        };
        let first = behind("5m").await;
        put(namespace, agent("slow", json!({}))).await.unwrap();
        put(namespace, agent("quick", json!({ "timeout": "4m59s" }))).await.unwrap();
        let notes = timeout_events_become(namespace, "slow", 1).await;
        assert!(notes[0].contains("spec.timeout is 5m by default"), "{notes:?}");
        assert!(notes[0].contains("silent for 5m:"), "{notes:?}");
        condition_becomes(namespace, "slow", "Accepted", "True", "Accepted").await;
        stop(first).await;

        // The next leader looks at both, and knows what was told.
        let second = behind("5m").await;
        put(namespace, agent("slow", json!({ "concurrency": 4 }))).await.unwrap();
        put(namespace, agent("quick", json!({ "timeout": "5m30s" }))).await.unwrap();
        timeout_events_become(namespace, "quick", 1).await;
        status_is_current(namespace, "slow").await;
        timeout_events_become(namespace, "slow", 1).await;
        put(namespace, agent("slow", json!({ "timeout": "7m" }))).await.unwrap();
        timeout_events_become(namespace, "slow", 2).await;
        stop(second).await;

        // Another value of the ingress is told of where it is reached.
        let third = behind("6m").await;
        let notes = timeout_events_become(namespace, "slow", 3).await;
        assert!(notes.iter().any(|note| note.contains("is 7m,") && note.contains("for 6m:")), "{notes:?}");
        put(namespace, agent("quick", json!({ "timeout": "5m30s", "concurrency": 4 }))).await.unwrap();
        status_is_current(namespace, "quick").await;
        timeout_events_become(namespace, "quick", 1).await;
        stop(third).await;
    });
    test.await.unwrap();
}
