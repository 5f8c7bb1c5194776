//! What a `podTemplate` does, what it may not do, and what holds whatever it says.

use krypton_crd::Agent;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::workload::pod::build_pod_template;
use crate::workload::{build_children, first_difference};

fn mk_agent(pod_template: &Value) -> Agent {
    let agent = json!({
        "apiVersion": "krypton.ai/v1alpha1",
        "kind": "Agent",
        "metadata": { "name": "a", "namespace": "ns", "uid": "u" },
        "spec": {
            "image": "i",
            "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
            "resources": { "limits": { "cpu": "1" } },
            "podTemplate": pod_template,
        },
    });
    Agent::from_value(agent).unwrap()
}

/// The pod template of an Agent with this `podTemplate`.
fn overlaid(pod_template: &Value) -> Result<Value, BuildError> {
    let agent = mk_agent(pod_template);
    build_children(&agent, &agent.spec.effective(), 1)
        .map(|children| children.deployment["spec"]["template"].clone())
}

/// As [`overlaid`], for a fragment of the container `agent`; gives the container.
fn overlaid_container(mut fragment: Value) -> Result<Value, BuildError> {
    fragment["name"] = "agent".into();
    overlaid(&json!({ "spec": { "containers": [fragment] } }))
        .map(|template| template["spec"]["containers"][0].clone())
}

#[test]
fn an_empty_fragment_changes_nothing() {
    let plain = overlaid(&json!({})).unwrap();
    for fragment in [json!({ "spec": {} }), json!({ "metadata": {}, "spec": { "containers": [] } })] {
        assert_eq!(overlaid(&fragment).unwrap(), plain, "{fragment}");
    }
}

#[test]
fn fields_of_the_pod_merge() {
    let template = overlaid(&json!({
        "metadata": { "annotations": { "a": "b" }, "labels": { "team": "x", "krypton.ai/agent": "a" } },
        "spec": {
            "nodeSelector": { "gpu": "" },
            "securityContext": { "runAsUser": 1000 },
            "enableServiceLinks": null,
            "affinity": { "nodeAffinity": null },
            "terminationGracePeriodSeconds": 900,
            "automountServiceAccountToken": true,
            "restartPolicy": "Always",
            "serviceAccountName": "a",
        },
    }))
    .unwrap();
    assert_eq!(template["metadata"]["annotations"], json!({ "a": "b" }));
    assert_eq!(template["metadata"]["labels"]["team"], "x");
    assert_eq!(template["metadata"]["labels"]["krypton.ai/agent"], "a");
    let pod = &template["spec"];
    assert_eq!(pod["nodeSelector"], json!({ "gpu": "" }));
    assert_eq!(
        pod["securityContext"],
        json!({ "runAsUser": 1000, "seccompProfile": { "type": "RuntimeDefault" } })
    );
    assert_eq!(pod.get("enableServiceLinks"), None);
    assert_eq!(pod["affinity"], json!({}));
    assert_eq!(pod["terminationGracePeriodSeconds"], 900);
    assert_eq!(pod["automountServiceAccountToken"], true);
}

#[test]
fn other_containers_stand_behind_the_agents() {
    let template = overlaid(&json!({ "spec": { "containers": [
        { "name": "side", "image": "s", "command": ["c", { "x": null }], "stdin": null },
        { "name": "agent", "command": ["/run"] },
    ] } }))
    .unwrap();
    let containers = template["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 2);
    assert_eq!(containers[0]["name"], "agent");
    assert_eq!(containers[0]["image"], "i");
    assert_eq!(containers[0]["command"], json!(["/run"]));
    assert_eq!(containers[1], json!({ "name": "side", "image": "s", "command": ["c", {}] }));
}

#[test]
fn fields_of_the_container_merge() {
    let container = overlaid_container(json!({
        "env": [
            { "name": "B", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "C", "value": "3", "valueFrom": null },
        ],
        "resources": { "limits": { "memory": "1Gi" } },
        "ports": [
            { "containerPort": 8080, "hostPort": 80 },
            { "name": "quic", "containerPort": 8080, "protocol": "UDP" },
        ],
        "imagePullPolicy": "Always",
        "image": "i",
    }))
    .unwrap();
    assert_eq!(
        container["env"],
        json!([
            { "name": "A", "value": "1" },
            { "name": "B", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "C", "value": "3" },
        ])
    );
    assert_eq!(container["resources"], json!({ "limits": { "cpu": "1", "memory": "1Gi" } }));
    assert_eq!(
        container["ports"],
        json!([
            { "name": "http", "containerPort": 8080, "protocol": "TCP", "hostPort": 80 },
            { "name": "quic", "containerPort": 8080, "protocol": "UDP" },
        ])
    );
    assert_eq!(container["imagePullPolicy"], "Always");
}

#[test]
fn a_probe_or_hook_has_one_handler() {
    let plain = overlaid_container(json!({})).unwrap();
    for (fragment, field, expected) in [
        (
            json!({ "readinessProbe": { "httpGet": { "port": "http" } } }),
            "readinessProbe",
            json!({ "httpGet": { "port": "http" } }),
        ),
        (
            json!({ "readinessProbe": { "tcpSocket": { "port": 1 } } }),
            "readinessProbe",
            json!({ "tcpSocket": { "port": 1 } }),
        ),
        (
            json!({ "readinessProbe": { "periodSeconds": 7, "httpGet": null } }),
            "readinessProbe",
            json!({ "tcpSocket": { "port": "http" }, "periodSeconds": 7, "failureThreshold": 5 }),
        ),
        (json!({ "readinessProbe": null }), "readinessProbe", Value::Null),
        (
            json!({ "lifecycle": { "preStop": { "exec": { "command": ["x"] } } } }),
            "lifecycle",
            json!({ "preStop": { "exec": { "command": ["x"] } } }),
        ),
        (
            json!({ "lifecycle": { "postStart": { "exec": { "command": ["x"] } } } }),
            "lifecycle",
            json!({ "preStop": plain["lifecycle"]["preStop"], "postStart": { "exec": { "command": ["x"] } } }),
        ),
        (
            json!({ "livenessProbe": { "httpGet": { "port": 1 } } }),
            "livenessProbe",
            json!({ "httpGet": { "port": 1 } }),
        ),
    ] {
        assert_eq!(overlaid_container(fragment.clone()).unwrap()[field], expected, "{fragment}");
    }
}

#[test]
fn a_pod_that_contradicts_is_refused_by_field() {
    for (fragment, message) in [
        (json!({ "containers": [] }), "spec.podTemplate.containers: is not a field of a pod template"),
        (json!({ "metadata": null }), "spec.podTemplate.metadata.labels[krypton.ai/agent]: must stay"),
        (
            json!({ "metadata": { "labels": { "krypton.ai/agent": "b" } } }),
            "spec.podTemplate.metadata.labels[krypton.ai/agent]: must stay the Agent's name",
        ),
        (
            json!({ "metadata": { "labels": null } }),
            "spec.podTemplate.metadata.labels[krypton.ai/agent]: must stay",
        ),
        (json!({ "metadata": { "labels": ["a"] } }), "spec.podTemplate.metadata.labels: must be an object"),
        (json!({ "spec": "x" }), "spec.podTemplate.spec: must be an object"),
        (json!({ "spec": null }), "spec.podTemplate.spec.serviceAccountName: is given by"),
        (json!({ "spec": { "restartPolicy": "Never" } }), "spec.podTemplate.spec.restartPolicy: can only be"),
        (
            json!({ "spec": { "serviceAccountName": "b" } }),
            "spec.podTemplate.spec.serviceAccountName: is given by spec.serviceAccountName of the Agent",
        ),
        (json!({ "spec": { "serviceAccount": "b" } }), "spec.podTemplate.spec.serviceAccount: is given by"),
        (
            json!({ "spec": { "containers": null } }),
            "spec.podTemplate.spec.containers: must keep the container",
        ),
        (json!({ "spec": { "containers": {} } }), "spec.podTemplate.spec.containers: must be a list"),
        (
            json!({ "spec": { "containers": ["x"] } }),
            "spec.podTemplate.spec.containers[0]: must be an object",
        ),
        (
            json!({ "spec": { "containers": [{ "command": ["x"] }] } }),
            "spec.podTemplate.spec.containers[0]: needs the field name",
        ),
        (
            json!({ "spec": { "volumes": [{ "name": "v" }, { "name": "v" }] } }),
            "spec.podTemplate.spec.volumes[name=v]: stands twice in its list",
        ),
        (
            json!({ "spec": { "initContainers": [
                { "name": "s", "ports": [{ "containerPort": 1, "name": "http" }] },
            ] } }),
            "spec.podTemplate.spec.initContainers[name=s].ports[containerPort=1,protocol=TCP]: must not be called",
        ),
    ] {
        let error = overlaid(&fragment).expect_err(&fragment.to_string()).to_string();
        assert!(error.starts_with(message), "{fragment}: {error}");
    }
}

#[test]
fn a_container_that_contradicts_is_refused_by_field() {
    for (fragment, message) in [
        (json!({ "image": "j" }), "image: is given by spec.image"),
        (json!({ "image": null }), "image: is given by spec.image"),
        (json!({ "ports": null }), "ports: must keep the port http"),
        (json!({ "ports": [{ "containerPort": 8080, "name": "web" }] }), "ports: must keep the port http"),
        (
            json!({ "ports": [{ "containerPort": 9090, "name": "http" }] }),
            "ports[containerPort=9090,protocol=TCP]: must not be",
        ),
        (
            json!({ "ports": [{ "containerPort": 8080, "name": "http", "protocol": "UDP" }] }),
            "ports[containerPort=8080,protocol=UDP]: must not be",
        ),
        (json!({ "env": { "A": "1" } }), "env: must be a list"),
        (json!({ "securityContext": true }), "securityContext: must be an object"),
    ] {
        let error = overlaid_container(fragment.clone()).expect_err(&fragment.to_string()).to_string();
        let message = format!("spec.podTemplate.spec.containers[name=agent].{message}");
        assert!(error.starts_with(&message), "{fragment}: {error}");
    }
}

// === whatever a podTemplate says ===

/// A value of fields that pod templates have, mostly in places where they do not belong.
fn any_fragment() -> impl Strategy<Value = Value> {
    const FIELDS: &[&str] = &[
        "annotations",
        "args",
        "containers",
        "env",
        "image",
        "initContainers",
        "krypton.ai/agent",
        "labels",
        "lifecycle",
        "metadata",
        "name",
        "ports",
        "preStop",
        "protocol",
        "readinessProbe",
        "restartPolicy",
        "securityContext",
        "serviceAccountName",
        "spec",
        "tcpSocket",
        "volumes",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        prop::sample::select(vec!["a", "agent", "http", "i", "Always"]).prop_map(Value::from),
        prop::sample::select(vec![8080, 1]).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            3 => btree_map(prop::sample::select(FIELDS), inner.clone(), 0..4)
                .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
            1 => vec(inner, 0..3).prop_map(Value::from),
        ]
    });
    // Mostly well formed down to the container, so that what is inside is reached.
    let container = btree_map(prop::sample::select(FIELDS), value.clone(), 0..3).prop_map(|fields| {
        let mut container: Map<String, Value> = fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        container.insert("name".to_owned(), "agent".into());
        json!({ "spec": { "containers": [container] } })
    });
    let pod = btree_map(prop::sample::select(FIELDS), value.clone(), 0..3)
        .prop_map(|fields| json!({ "spec": fields }));
    prop_oneof![3 => container, 2 => pod, 1 => value.prop_filter("an object", Value::is_object)]
}

proptest! {
    #[test]
    fn what_calls_depend_on_survives_or_the_fragment_is_refused(fragment in any_fragment()) {
        if let Ok(template) = overlaid(&fragment) {
            prop_assert_eq!(&template["metadata"]["labels"]["krypton.ai/agent"], "a");
            prop_assert_eq!(&template["spec"]["serviceAccountName"], "a");
            let containers = template["spec"]["containers"].as_array().unwrap();
            let agents: Vec<_> = containers.iter().filter(|container| container["name"] == "agent").collect();
            prop_assert_eq!(agents.len(), 1);
            prop_assert_eq!(&agents[0]["image"], "i");
            let ports = agents[0]["ports"].as_array().unwrap();
            let http: Vec<_> = ports.iter().filter(|port| port["name"] == "http").collect();
            prop_assert_eq!(http.len(), 1);
            prop_assert_eq!(&http[0]["containerPort"], 8080);
            prop_assert_eq!(&http[0]["protocol"], "TCP");
        }
    }

    #[test]
    fn what_the_fragment_says_is_in_the_result(fragment in any_fragment()) {
        if let Ok(template) = overlaid(&fragment) {
            let said = Value::Object(without_nulls(fragment.as_object().unwrap()));
            let difference = first_difference(&said, &template).map(|path| path.to_string());
            prop_assert_eq!(difference, None, "{}", template);
        }
    }

    #[test]
    fn laying_the_same_over_twice_is_laying_it_over_once(fragment in any_fragment()) {
        let agent = mk_agent(&json!({}));
        let mut template = build_pod_template(&agent, &agent.spec.effective(), "a");
        let fragment = fragment.as_object().unwrap();
        if lay_over(&mut template, fragment).is_ok() {
            let once = template.clone();
            lay_over(&mut template, fragment).unwrap();
            prop_assert_eq!(template, once);
        }
    }
}
