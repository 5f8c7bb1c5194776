//! What an Agent's status says of troubles as a real kubelet, runtime and scheduler report them.

use std::time::Duration;

use anyhow::ensure;
use krypton_e2e::client::get;
use krypton_e2e::node::images::{AGENT, CRASHING_AGENT, NEXT_AGENT};
use krypton_e2e::traffic::Load;
use krypton_e2e::wait::eventually;
use serde_json::{Value, json};

use crate::conditions::{condition, condition_becomes};
use crate::objects::{agent, put};
use crate::support::{Krypton, SOON, change, kubectl, path, pods_are_ready, pods_of, with_namespace};

/// No registry has it.
const MISSING: &str = "krypton.test/missing:1";

/// An Agent in trouble.
struct Trouble {
    name: &'static str,
    /// Fields beside the image.
    spec: Value,
    /// Reason of `Available`.
    reason: &'static str,
    /// Words of its message.
    says: &'static [&'static str],
}

fn trouble(name: &'static str, spec: Value, reason: &'static str, says: &'static [&'static str]) -> Trouble {
    Trouble { name, spec, reason, says }
}

/// The last one is told after 30 s, in which most agents begin to listen.
fn troubles() -> Vec<Trouble> {
    let mut troubles = troubles_of_pods();
    troubles.extend(missing_references());
    let says = &["nothing listens on its port 9999", "spec.port"];
    troubles.push(trouble("port", json!({ "port": 9999 }), "ProbeFailing", says));
    troubles
}

fn troubles_of_pods() -> Vec<Trouble> {
    vec![
        trouble(
            "never",
            json!({ "image": MISSING, "imagePullPolicy": "Never" }),
            "ImagePullFailed",
            &["does not have image \"krypton.test/missing:1\"", "spec.imagePullPolicy is Never"],
        ),
        trouble(
            "pull",
            json!({ "image": MISSING, "imagePullPolicy": "IfNotPresent" }),
            "ImagePullFailed",
            &["image \"krypton.test/missing:1\" cannot be pulled", "krypton.test", "spec.imagePullSecrets"],
        ),
        trouble(
            "crash",
            json!({ "image": CRASHING_AGENT }),
            "CrashLooping",
            &[
                "the agent exited with code 2",
                "invalid value 'none' for '--port <PORT>'",
                "kubectl logs",
                "--previous",
            ],
        ),
        trouble(
            "no-command",
            json!({ "podTemplate": { "spec": { "containers": [{ "name": "agent", "command": ["/nothing"] }] } } }),
            "PodsFailing",
            &["container \"agent\" cannot be started", "/nothing", "spec.podTemplate"],
        ),
        trouble(
            "unschedulable",
            json!({ "resources": { "requests": { "cpu": "1000" } } }),
            "Unschedulable",
            &["No node takes pod", "1 Insufficient cpu. Add room, or ask for less in spec.resources."],
        ),
    ]
}

fn missing_references() -> Vec<Trouble> {
    let from = |source: Value| json!([{ "name": "A", "valueFrom": source }]);
    vec![
        trouble(
            "config-map",
            json!({ "envFrom": [{ "configMapRef": { "name": "nowhere" } }] }),
            "PodsFailing",
            &["ConfigMap \"nowhere\" does not exist", "spec.envFrom[0]"],
        ),
        trouble(
            "secret",
            json!({ "env": from(json!({ "secretKeyRef": { "name": "nowhere", "key": "k" } })) }),
            "PodsFailing",
            &["Secret \"nowhere\" does not exist", "spec.env[0]"],
        ),
        trouble(
            "key",
            json!({ "env": from(json!({ "configMapKeyRef": { "name": "there", "key": "none" } })) }),
            "PodsFailing",
            &["ConfigMap \"there\"", "has no key \"none\"", "spec.env[0]"],
        ),
        trouble(
            "account",
            json!({ "serviceAccountName": "nobody" }),
            "PodsRefused",
            &["ServiceAccount \"nobody\" does not exist", "spec.serviceAccountName"],
        ),
    ]
}

#[tokio::test]
async fn each_trouble_is_told_in_words_to_act_on() {
    with_namespace(async |namespace| {
        let _krypton = Krypton::start(namespace).await;
        let there = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "there" } });
        put(namespace, there).await.unwrap();
        for Trouble { name, mut spec, .. } in troubles() {
            if spec.get("image").is_none() {
                spec["image"] = AGENT.into();
            }
            put(namespace, agent(name, spec)).await.unwrap();
        }
        let mut told = Vec::new();
        for Trouble { name, reason, says, .. } in troubles() {
            let available = condition_becomes(namespace, name, "Available", "False", reason).await;
            eprintln!("{name}: {}", available.message);
            for word in says {
                assert!(available.message.contains(word), "{name}: {word}: {}", available.message);
            }
            let refs = ["config-map", "secret", "key", "account"].contains(&name);
            let (kind, reason) =
                if refs { ("ResolvedRefs", "RefNotFound") } else { ("Ready", "Unavailable") };
            let other = condition(namespace, name, kind).await.unwrap();
            assert_eq!(
                (other.status.as_str(), other.reason.as_str()),
                ("False", reason),
                "{name}: {other:?}"
            );
            told.push((name, available.message));
        }
        // The last one took half a minute, in which the kubelet tried the others again and again.
        for (name, message) in told {
            assert_eq!(condition(namespace, name, "Available").await.unwrap().message, message, "{name}");
        }
        // What was missing comes, and the pod starts without a change of the Agent.
        let missing = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "nowhere" } });
        put(namespace, missing).await.unwrap();
        condition_becomes(namespace, "config-map", "Ready", "True", "Ready").await;
        condition_becomes(namespace, "config-map", "ResolvedRefs", "True", "ResolvedRefs").await;
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_needs_more_memory_than_it_may_have_is_told_so() {
    with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        let spec = json!({ "image": AGENT, "resources": { "limits": { "memory": "12Mi" } } });
        put(namespace, agent("echo", spec)).await.unwrap();
        pods_are_ready(namespace, &pods_of("echo"), 1).await;
        // The example agent holds what it sends.
        let hungry = format!("{}/hello?size={}", path(namespace, "echo"), 16 << 20);
        let told = eventually("Available tells of it", SOON, async || {
            get(krypton.gateway.http, &hungry).await.ok();
            let available = condition(namespace, "echo", "Available").await?;
            ensure!(available.reason == "CrashLooping", "{available:?}");
            Ok(available.message)
        });
        let told = told.await.unwrap();
        eprintln!("memory: {told}");
        assert!(
            told.contains("OOMKilled") && told.contains("raise spec.resources.limits.memory. See why"),
            "{told}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_rollout_to_a_bad_image_leaves_the_old_version_at_work() {
    const LIGHT: Load =
        Load { calls: 1, streams: 1, uploads: 0, pieces: 10, pace: Duration::from_millis(50) };
    with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        put(namespace, agent("echo", json!({ "image": AGENT, "concurrency": 0 }))).await.unwrap();
        let pods = pods_are_ready(namespace, &pods_of("echo"), 1).await;
        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;
        krypton.has_endpoints(namespace, "echo", 1).await;
        let traffic = krypton.traffic(namespace, "echo", LIGHT);

        change(namespace, "echo", json!({ "image": MISSING })).await;
        let ready = condition_becomes(namespace, "echo", "Ready", "False", "RolloutStuck").await;
        eprintln!("bad image: {}", ready.message);
        for words in ["older ones answer calls", MISSING, "cannot be pulled"] {
            assert!(ready.message.contains(words), "{words}: {}", ready.message);
        }
        condition_becomes(namespace, "echo", "Available", "True", "Ready").await;
        let answer = krypton.is_answered(namespace, "echo", "1").await;
        assert_eq!(answer.header("x-agent-name"), pods[0]);
        traffic.goes_on(20).await.unwrap();

        let row = kubectl(namespace, &["get", "agent", "echo", "--no-headers"]).await;
        assert!(row.contains("False"), "{row}");
        change(namespace, "echo", json!({ "image": NEXT_AGENT })).await;
        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;
        krypton.is_answered(namespace, "echo", "2").await;
        traffic.end_whole().await.unwrap();
    })
    .await;
}
