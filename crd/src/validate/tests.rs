//! What a change is refused for, what is told without refusing, and that the message can be relied on. The table of
//! invalid specs has a test of its own.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::agent::Agent;

fn mk_agent(spec: &Value) -> Value {
    let mut agent = json!({
        "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "metadata": { "name": "a" },
        "spec": { "image": "example:1" },
    });
    agent["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    agent
}

fn fields<'f>(problems: impl Iterator<Item = &'f Problem>) -> Vec<&'f str> {
    problems.map(|problem| problem.field.as_str()).collect()
}

/// What the change from `old` to `new` is refused for.
fn refused(old: &Value, new: &Value) -> Vec<String> {
    let findings = validate(&mk_agent(new), Some(&mk_agent(old)));
    findings.errors().map(|problem| problem.field.clone()).collect()
}

#[test]
fn a_spec_with_every_field_of_the_go_system_is_found_nothing_with() {
    let spec = json!({
        "image": "ghcr.io/org/travel-agent:1.4", "imagePullPolicy": "", "imagePullSecrets": [{ "name": "registry" }],
        "runtime": "python", "framework": "langgraph", "protocol": "mcp", "mode": "serverless",
        "scaleToZeroAfter": "10m", "minReplicas": 0, "maxReplicas": 4, "concurrency": 16, "port": 9000,
        "invocationPath": "/mcp", "timeout": "60s", "startupTimeout": "30s", "serviceAccountName": "traveller",
        "resources": {
            "requests": { "cpu": "100m", "memory": "1G", "hugepages-2Mi": "4Mi" },
            "limits": { "cpu": 1, "ephemeral-storage": null, "memory": "1Gi", "nvidia.com/gpu": 1, "hugepages-2Mi": "4Mi" },
        },
        "env": [
            { "name": "MODEL", "value": "small" }, { "name": "my.option", "value": "" }, { "name": "UNSET" },
            { "name": "KEY", "value": "", "valueFrom": { "secretKeyRef": { "name": "keys", "key": "k", "optional": true } } },
            { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        ],
        "envFrom": [{ "prefix": "A_", "secretRef": { "name": "keys" } }, { "configMapRef": { "name": "options" } }],
    });
    assert_eq!(validate(&mk_agent(&spec), None), Findings::default());
}

#[test]
fn a_pod_template_as_people_write_it_is_found_nothing_with() {
    let spec = json!({ "port": 9000, "drainTimeout": "10s", "podTemplate": {
        "metadata": { "labels": { "krypton.ai/agent": "a" }, "annotations": { "scrape": "true" } },
        "spec": {
            "restartPolicy": "Always", "hostNetwork": false, "terminationGracePeriodSeconds": 15, "nodeSelector": null,
            "initContainers": [{ "name": "fetch", "image": "fetch:1" }],
            "containers": [
                { "name": "agent", "command": ["run"], "ports": [
                    { "name": "http", "containerPort": 9000 }, { "name": "debug", "containerPort": 9001 },
                ] },
                { "name": "sidecar", "image": "sidecar:1" },
            ],
        },
    } });
    assert_eq!(validate(&mk_agent(&spec), None), Findings::default());
}

#[test]
fn what_is_suspicious_is_told_and_not_refused() {
    for (spec, field, says) in [
        (json!({ "image": "example" }), "spec.image", "use a version, or imagePullPolicy Always"),
        (json!({ "image": "example:latest" }), "spec.image", "may change"),
        (json!({ "mode": "serverless", "minReplicas": 1 }), "spec.minReplicas", "never sleeps"),
        (json!({ "timeout": "300ms" }), "spec.timeout", "write seconds, e.g. 300s"),
        (json!({ "imagePullSecrets": [{}] }), "spec.imagePullSecrets[0].name", "Kubernetes ignores it"),
        (
            json!({ "imagePullSecrets": [{ "name": "A" }] }),
            "spec.imagePullSecrets[0].name",
            "can be no Secret's",
        ),
        (json!({ "env": [{ "name": "A" }, { "name": "A" }] }), "spec.env[1].name", "the last one counts"),
        (json!({ "resources": { "cpu": "1" } }), "spec.resources.cpu", "write requests or limits"),
        (
            json!({ "podTemplate": { "metadata": { "labels": { "krypton.ai/agent": "b" } } } }),
            "spec.podTemplate.metadata.labels[krypton.ai/agent]",
            "stays the Agent's name",
        ),
        (
            json!({ "podTemplate": { "spec": { "hostNetwork": true } } }),
            "spec.podTemplate.spec.hostNetwork",
            "takes port 8080 of the node",
        ),
        (
            json!({ "podTemplate": { "spec": { "terminationGracePeriodSeconds": 30 } } }),
            "spec.podTemplate.spec.terminationGracePeriodSeconds",
            "30 is less than drainTimeout and 5 s, 65 in all",
        ),
        (
            json!({ "podTemplate": { "spec": { "containers": [{ "name": "b", "image": "b", "ports": [{ "name": "http" }] }] } } }),
            "spec.podTemplate.spec.containers[0].ports[0].name",
            "call this one something else",
        ),
    ] {
        let findings = validate(&mk_agent(&spec), None);
        assert_eq!(fields(findings.warnings()), [field], "{spec}");
        assert!(findings.problems[0].message.contains(says), "{spec}: {}", findings.problems[0]);
        assert_eq!((findings.errors().count(), findings.refusal()), (0, None), "{spec}");
    }
    let policy = json!({ "image": "example:latest", "imagePullPolicy": "Always" });
    assert_eq!(validate(&mk_agent(&policy), None), Findings::default());
}

#[test]
fn an_old_problem_that_did_not_change_is_not_refused() {
    let old = json!({
        "timeout": "soon", "minReplicas": 3, "maxReplicas": 2, "env": [{}], "image": "a b",
        "resources": { "requests": { "cpu": 2 }, "limits": { "cpu": 1 } },
    });
    let change = |change: Value| {
        let mut new = old.clone();
        new.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        refused(&old, &new)
    };
    assert_eq!(change(json!({ "concurrency": 4, "replicas": 2 })), [""; 0]);
    assert_eq!(change(json!({ "concurrency": -1 })), ["spec.concurrency"]);
    // Another wrong value is a new problem, so is another entry, and fields that contradict each other otherwise.
    assert_eq!(change(json!({ "timeout": "later" })), ["spec.timeout"]);
    assert_eq!(change(json!({ "maxReplicas": 1 })), ["spec.maxReplicas"]);
    assert_eq!(change(json!({ "minReplicas": 4 })), ["spec.maxReplicas"]);
    assert_eq!(change(json!({ "env": [{}, {}] })), ["spec.env[1].name"]);
    let more = json!({ "requests": { "cpu": 3 }, "limits": { "cpu": 1 } });
    assert_eq!(change(json!({ "resources": more })), ["spec.resources.requests[cpu]"]);
    // Repairing one of several is never in the way of the others.
    assert_eq!(change(json!({ "timeout": "5s" })), [""; 0]);
}

#[test]
fn metadata_status_and_the_end_are_never_refused() {
    let old = mk_agent(&json!({ "timeout": "soon" }));
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    labelled["status"] = json!({ "phase": "Ready" });
    assert_eq!(validate(&labelled, Some(&old)), Findings::default());

    let mut ending = mk_agent(&json!({ "timeout": "later" }));
    ending["metadata"]["deletionTimestamp"] = json!("2026-05-27T10:00:00Z");
    assert_eq!(validate(&ending, Some(&old)), Findings::default());
    assert_eq!(validate(&ending, None), Findings::default());
}

#[test]
fn a_warning_is_told_once() {
    let old = json!({ "mode": "serverless", "minReplicas": 1 });
    let mut new = old.clone();
    new["concurrency"] = json!(4);
    assert_eq!(validate(&mk_agent(&new), Some(&mk_agent(&old))), Findings::default());
}

#[test]
fn a_refusal_names_the_first_fields_and_counts_the_rest() {
    let env: Vec<_> = (0..1_000).map(|_| json!({})).collect();
    let refusal = validate(&mk_agent(&json!({ "env": env, "port": 0 })), None).refusal().unwrap();
    assert_eq!(refusal.reason, AcceptedReason::InvalidSpec);
    assert!(refusal.message.starts_with(
        "spec.port: invalid value: integer `0`, expected a whole number from 1 to 65535; \
         spec.env[0].name: is missing; give the variable a name; spec.env[1].name: "
    ));
    assert!(refusal.message.ends_with("; and 993 more"), "{}", refusal.message);

    let mut nameless = mk_agent(&json!({ "port": 0 }));
    nameless["metadata"]["name"] = json!("1a");
    let refusal = validate(&nameless, None).refusal().unwrap();
    assert_eq!(refusal.reason, AcceptedReason::InvalidName);
    assert!(refusal.message.contains("metadata.name: \"1a\": an Agent's name is the name of its Service"));
}

#[test]
fn a_contradiction_that_is_stored_can_be_run() {
    for spec in [json!({ "minReplicas": 3, "maxReplicas": 2 }), json!({ "minReplicas": 0 })] {
        let findings = validate(&mk_agent(&spec), None);
        assert_eq!((findings.errors().count(), findings.refusal()), (1, None));
    }
}

/// Any JSON, with the names and values that mean something made likely.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        proptest::sample::select(vec!["agent", "http", "1Gi", "5s", "", "serverless", "a b"])
            .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text,
    ];
    let key = proptest::sample::select(vec![
        "name",
        "value",
        "valueFrom",
        "secretKeyRef",
        "secretRef",
        "requests",
        "limits",
        "cpu",
        "metadata",
        "labels",
        "spec",
        "containers",
        "ports",
        "containerPort",
        "key",
        "x",
    ]);
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..4).prop_map(|entries| entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

fn any_spec() -> impl Strategy<Value = Value> {
    let field = proptest::sample::select(vec![
        "image",
        "port",
        "mode",
        "timeout",
        "env",
        "envFrom",
        "resources",
        "podTemplate",
        "imagePullSecrets",
        "minReplicas",
        "serviceAccountName",
        "invocationPath",
        "x",
    ]);
    proptest::collection::vec((field, any_json()), 0..6)
        .prop_map(|entries| entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

proptest! {
    #[test]
    fn what_is_found_nothing_with_decodes_and_what_does_not_decode_is_found(spec in any_spec()) {
        let object = mk_agent(&spec);
        let refusal = validate(&object, None).refusal();
        let decoded = Agent::from_value(object);
        prop_assert!(decoded.is_ok() || refusal.is_some(), "{:?}", decoded);
    }

    #[test]
    fn no_object_makes_it_panic(object in any_json()) {
        validate(&object, None);
    }

    #[test]
    fn going_back_to_what_was_there_brings_nothing_in(old in any_spec(), label in "[a-z]{1,8}") {
        let mut new = mk_agent(&old);
        new["metadata"]["labels"] = json!({ "label": label });
        new["spec"]["runtime"] = json!("python");
        let findings = validate(&new, Some(&mk_agent(&old)));
        prop_assert_eq!(findings, Findings::default());
    }
}
