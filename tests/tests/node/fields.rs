//! Fields of an Agent reach the process that runs in its pod: looked up in that process, as the kernel knows it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use krypton_e2e::node::images::AGENT;
use krypton_e2e::wait::eventually;
use kube::Api;
use serde_json::json;

use crate::conditions::condition_becomes;
use crate::objects::{agent, put};
use crate::support::{Krypton, SOON, kubectl, pods_are_ready, pods_of, with_namespace};

/// Where Kubernetes mounts the token of a pod's account.
const TOKEN: &str = "var/run/secrets/kubernetes.io/serviceaccount/token";

/// The process of a container, seen from this machine.
struct Inside(PathBuf);

// === impl Inside ===

impl Inside {
    /// Of the example agent among whose arguments is `mark`.
    fn find(mark: &str) -> Result<Self> {
        let runs = |path: &Path| {
            // Unreadable when the process just ended.
            let command = fs::read(path.join("cmdline")).unwrap_or_default();
            let mut words = command.split(|byte| *byte == 0);
            words.next().is_some_and(|program| program.ends_with(b"krypton-example-agent"))
                && words.any(|word| word == mark.as_bytes())
        };
        let mut processes = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
        Ok(Self(processes.find(|path| runs(path)).context("no such process")?))
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let bytes = fs::read(self.0.join("environ")).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn file(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.join("root").join(path)).ok()
    }

    /// A line of what the kernel says of it, e.g. `Seccomp`.
    fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(self.0.join("status")).unwrap();
        let mut lines = status.lines().filter_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        lines.next().unwrap_or_default().trim().to_owned()
    }
}

#[tokio::test]
async fn each_field_reaches_the_running_process() {
    with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        // Unique on this machine: other runs may have pods of the same kind.
        let mark = format!("{}-full", namespace.name());
        let settings = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" },
            "data": { "AGENT_VERSION": "by-config-map", "FROM_MAP": "map" },
        });
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "secret" },
            "stringData": { "key": "hush", "PORT": "9000" },
        });
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "own" } });
        for object in [settings, secret, account] {
            put(namespace, object).await.unwrap();
        }
        put(namespace, agent("full", full_spec(&mark))).await.unwrap();
        let names = pods_are_ready(namespace, &format!("{},tier=agents", pods_of("full")), 1).await;
        let inside = Inside::find(&mark).unwrap();
        let environment = inside.environment();
        for (name, value) in [
            ("PLAIN", "with \"quotes\" and $(PLAIN)"),
            ("EMPTY", ""),
            ("SECRET", "hush"),
            ("POD", &names[0]),
            ("LIMIT", "128"),
            ("FROM_MAP", "map"),
            ("S_key", "hush"),
        ] {
            assert_eq!(environment.get(name).map(String::as_str), Some(value), "{name}: {environment:?}");
        }
        assert!(inside.file(TOKEN).is_some(), "the token of an account that somebody chose");
        assert_eq!(inside.file("settings/FROM_MAP").as_deref(), Some("map"));
        assert_eq!((inside.status("Seccomp").as_str(), inside.status("NoNewPrivs").as_str()), ("2", "1"));

        // The image's version would be 1, and its port 8080.
        let answer = krypton.is_answered(namespace, "full", "by-config-map").await;
        assert_eq!(answer.header("x-agent-name"), mark);

        let pod = namespace.api::<Pod>().get(&names[0]).await.unwrap();
        let spec = serde_json::to_value(pod.spec).unwrap();
        assert_eq!(spec["serviceAccountName"], "own");
        assert_eq!(
            spec["terminationGracePeriodSeconds"], 12,
            "5 s for the gateways, and drainTimeout in full seconds"
        );
        let status = serde_json::to_value(pod.status).unwrap();
        let reported = &status["containerStatuses"][0]["resources"];
        assert_eq!(reported["limits"], json!({ "cpu": "500m", "memory": "128Mi" }), "{reported}");
        kubectl(namespace, &["exec", &names[0], "--", "/krypton-example-agent", "--version"]).await;
    })
    .await;
}

fn full_spec(mark: &str) -> serde_json::Value {
    json!({
        "image": AGENT,
        "imagePullPolicy": "Never",
        "imagePullSecrets": [{ "name": "registry" }],
        "port": 9000,
        "drainTimeout": "6500ms",
        "serviceAccountName": "own",
        "resources": { "requests": { "cpu": "10m" }, "limits": { "cpu": "0.5", "memory": "128Mi" } },
        "env": [
            { "name": "PLAIN", "value": "with \"quotes\" and $$(PLAIN)" },
            { "name": "EMPTY", "value": "" },
            { "name": "SECRET", "valueFrom": { "secretKeyRef": { "name": "secret", "key": "key" } } },
            { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "LIMIT", "valueFrom": { "resourceFieldRef": { "resource": "limits.memory", "divisor": "1Mi" } } },
        ],
        "envFrom": [
            { "configMapRef": { "name": "settings" } },
            { "secretRef": { "name": "secret" } },
            { "secretRef": { "name": "secret" }, "prefix": "S_" },
        ],
        "podTemplate": {
            "metadata": { "labels": { "tier": "agents" } },
            "spec": {
                "volumes": [{ "name": "settings", "configMap": { "name": "settings" } }],
                "containers": [{
                    "name": "agent",
                    "command": ["/krypton-example-agent", "--name", mark],
                    "volumeMounts": [{ "name": "settings", "mountPath": "/settings" }],
                }],
            },
        },
    })
}

#[tokio::test]
async fn an_agent_of_one_line_gets_no_token_and_a_hardened_process() {
    with_namespace(async |namespace| {
        let _krypton = Krypton::start(namespace).await;
        let mark = format!("{}-plain", namespace.name());
        let named = json!({ "spec": { "containers": [{ "name": "agent", "args": ["--name", mark] }] } });
        put(namespace, agent("plain", json!({ "image": AGENT, "podTemplate": named }))).await.unwrap();
        condition_becomes(namespace, "plain", "Ready", "True", "Ready").await;
        let inside = eventually("its process runs", SOON, async || Inside::find(&mark)).await.unwrap();
        assert_eq!(inside.file(TOKEN), None);
        assert_eq!((inside.status("Seccomp").as_str(), inside.status("NoNewPrivs").as_str()), ("2", "1"));
        let pods: Api<Pod> = namespace.api();
        let listed = pods.list(&kube::api::ListParams::default().labels(&pods_of("plain"))).await.unwrap();
        let spec = listed.items[0].spec.as_ref().unwrap();
        assert_eq!(spec.service_account_name.as_deref(), Some("plain"));
        assert_eq!(spec.termination_grace_period_seconds, Some(65));
    })
    .await;
}
