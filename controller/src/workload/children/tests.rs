//! Whole objects against golden files, against Kubernetes' own types, and what changes the hash.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::*;
use crate::workload::first_difference;
use krypton_crd::defaults::PRE_STOP;

/// One Agent per file `NAME.agent.yaml`; its objects in `NAME.children.yaml`.
const GOLDEN: &[&str] = &["image-only", "every-field", "upstream-defaults"];

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/workload/children/golden").join(file)
}

fn golden_agent(name: &str) -> Agent {
    let yaml = std::fs::read_to_string(golden(&format!("{name}.agent.yaml"))).unwrap();
    Agent::from_value(serde_saphyr::from_str(&yaml).unwrap()).unwrap()
}

fn mk_agent(spec: &Value) -> Agent {
    let mut agent = json!({
        "apiVersion": "krypton.ai/v1alpha1",
        "kind": "Agent",
        "metadata": { "name": "a", "namespace": "ns", "uid": "u" },
        "spec": { "image": "i" },
    });
    for (field, value) in spec.as_object().unwrap() {
        agent["spec"][field] = value.clone();
    }
    Agent::from_value(agent).unwrap()
}

fn build(agent: &Agent) -> Children {
    build_children(agent, &agent.spec.effective(), 3).unwrap()
}

fn objects(children: &Children) -> Vec<Value> {
    let account = children.service_account.clone();
    account.into_iter().chain([children.service.clone(), children.deployment.clone()]).collect()
}

fn hash(object: &Value) -> String {
    object["metadata"]["annotations"][APPLIED_ANNOTATION].as_str().unwrap().to_owned()
}

/// With UPDATE_GOLDEN in the environment it writes the files instead, for a person to read before they are committed.
#[test]
fn the_objects_of_an_agent_are_these() {
    for name in GOLDEN {
        let made = objects(&build(&golden_agent(name)));
        let file = golden(&format!("{name}.children.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, serde_saphyr::to_string_multiple(&made).unwrap()).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap();
        let expected: Vec<Value> = serde_saphyr::from_multiple(&expected).unwrap();
        let yaml = serde_saphyr::to_string_multiple(&made).unwrap();
        assert!(made == expected, "{} differs from what is made:\n{yaml}", file.display());
    }
}

/// Reads `object` as `K` and writes it again.
fn through<K: DeserializeOwned + Serialize>(object: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<K>(object.clone()).unwrap()).unwrap()
}

#[test]
fn every_field_is_one_of_kubernetes() {
    for name in GOLDEN {
        let mut children = build(&golden_agent(name));
        // A quantity may also be written as a number, which the type here cannot hold.
        if let Some(gpu) = children
            .deployment
            .pointer_mut("/spec/template/spec/containers/0/resources/limits/nvidia.com~1gpu")
        {
            *gpu = "1".into();
        }
        assert_eq!(through::<Deployment>(&children.deployment), children.deployment, "{name}");
        assert_eq!(through::<Service>(&children.service), children.service, "{name}");
        if let Some(account) = &children.service_account {
            assert_eq!(&through::<ServiceAccount>(account), account, "{name}");
        }
    }
}

#[test]
fn the_hash_is_about_what_the_agent_says_and_not_about_its_size() {
    let agent = mk_agent(&json!({}));
    let spec = agent.spec.effective();
    let one = build_children(&agent, &spec, 1).unwrap();
    let two = build_children(&agent, &spec, 2).unwrap();
    assert_eq!(one.deployment["spec"]["replicas"], 1);
    assert_eq!(two.deployment["spec"]["replicas"], 2);
    assert_eq!(hash(&one.deployment), hash(&two.deployment));
    assert_eq!(hash(&one.deployment).len(), 2 * HASH_BYTES);

    let with_env = build(&mk_agent(&json!({ "env": [{ "name": "A", "value": "1" }] })));
    assert_ne!(hash(&one.deployment), hash(&with_env.deployment));
    assert_eq!(hash(&one.service), hash(&with_env.service));
    // Seen by the hash alone: a variable that is no longer wanted is no difference to an object that still has it.
    let mut live = with_env.deployment.clone();
    live["metadata"]["annotations"] = build(&agent).deployment["metadata"]["annotations"].clone();
    assert_eq!(first_difference(&build(&agent).deployment, &live), None);
}

#[test]
fn what_says_nothing_about_workloads_writes_nothing() {
    let plain = build(&mk_agent(&json!({})));
    let same = build(&mk_agent(&json!({
        "timeout": "1m", "concurrency": 1, "mode": "serverless", "minReplicas": 0, "maxReplicas": 3,
        "scaleToZeroAfter": "1m", "invocationPath": "/x", "protocol": "mcp", "framework": "f", "replicas": 7,
    })));
    assert_eq!(plain, same);
}

#[test]
fn canonical_json_is_sorted_and_has_no_spaces() {
    let mut text = String::new();
    write_canonical(&json!({ "b": [1, "x\"", null, { "z": true, "a": 1.5 }], "a": {} }), &mut text);
    assert_eq!(text, r#"{"a":{},"b":[1,"x\"",null,{"a":1.5,"z":true}]}"#);
}

#[test]
fn the_grace_period_is_the_wait_and_the_drain_in_whole_seconds() {
    assert_eq!(PRE_STOP, Duration::from_secs(5));
    for (drain, expected) in
        [("1s", 6_u64), ("1ns", 6), ("1500ms", 7), ("60s", 65), ("2562047h47m16.854775807s", 9_223_372_036)]
    {
        let children = build(&mk_agent(&json!({ "drainTimeout": drain })));
        let pod = &children.deployment["spec"]["template"]["spec"];
        assert_eq!(pod["terminationGracePeriodSeconds"], expected, "{drain}");
    }
}

#[test]
fn the_pull_policy_is_left_to_kubernetes_where_it_is_empty() {
    for (policy, expected) in [("", Value::Null), ("Never", "Never".into()), ("Always", "Always".into())] {
        let children = build(&mk_agent(&json!({ "imagePullPolicy": policy })));
        let container = &children.deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], expected);
    }
}

#[test]
fn an_account_that_is_named_is_not_made() {
    let own = build(&mk_agent(&json!({})));
    let named = build(&mk_agent(&json!({ "serviceAccountName": "x" })));
    let pod = |children: &Children| children.deployment["spec"]["template"]["spec"].clone();
    assert_eq!(own.service_account.as_ref().unwrap()["automountServiceAccountToken"], false);
    assert_eq!(pod(&own)["serviceAccountName"], "a");
    assert_eq!(pod(&own)["automountServiceAccountToken"], false);
    assert_eq!(named.service_account, None);
    assert_eq!(pod(&named)["serviceAccountName"], "x");
    assert_eq!(pod(&named)["automountServiceAccountToken"], true);
}

#[test]
fn an_agent_that_was_never_stored_has_no_children() {
    for field in ["name", "namespace", "uid"] {
        let mut agent = mk_agent(&json!({}));
        match field {
            "name" => agent.metadata.name = None,
            "namespace" => agent.metadata.namespace = None,
            _ => agent.metadata.uid = None,
        }
        let error = build_children(&agent, &agent.spec.effective(), 1).unwrap_err();
        assert_eq!(error, BuildError::at(&["metadata", field], Problem::NotStored));
    }
}
