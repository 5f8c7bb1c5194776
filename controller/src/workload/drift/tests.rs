//! What is a difference and what is none, by example and for any object.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::*;

fn difference(wanted: &Value, live: &Value) -> Option<String> {
    first_difference(wanted, live).map(|path| path.to_string())
}

#[test]
fn what_the_api_server_adds_or_rewrites_is_no_difference() {
    for (wanted, live) in [
        (json!({ "spec": { "a": 1 } }), json!({ "spec": { "a": 1, "b": 2 }, "status": {} })),
        (json!({ "apiVersion": "v1", "kind": "Service" }), json!({})),
        (json!({ "requests": { "cpu": "1000m" } }), json!({ "requests": { "cpu": "1" } })),
        (json!({ "limits": { "memory": "0.5Gi" } }), json!({ "limits": { "memory": "512Mi" } })),
        (json!({ "limits": { "cpu": 1 } }), json!({ "limits": { "cpu": "1" } })),
        (json!({ "limits": { "cpu": 0.5 } }), json!({ "limits": { "cpu": "500m" } })),
        (json!({ "emptyDir": { "sizeLimit": "1024Mi" } }), json!({ "emptyDir": { "sizeLimit": "1Gi" } })),
        (json!({ "divisor": "1000" }), json!({ "divisor": "1k" })),
        (json!({ "targetPort": 80 }), json!({ "targetPort": "80" })),
        (json!({ "weight": 1.0 }), json!({ "weight": 1 })),
        (
            json!({ "a": {}, "b": [], "c": "", "d": 0, "e": false, "f": null, "g": { "h": { "i": 0 } } }),
            json!({}),
        ),
        (
            json!({ "ports": [{ "containerPort": 80 }] }),
            json!({ "ports": [
                { "containerPort": 80, "protocol": "UDP" },
                { "containerPort": 80, "protocol": "TCP" },
            ] }),
        ),
        (
            json!({ "env": [{ "name": "B", "valueFrom": { "fieldRef": { "fieldPath": "p" } } }] }),
            json!({ "env": [
                { "name": "A", "value": "1" },
                { "name": "B", "valueFrom": { "fieldRef": { "fieldPath": "p", "apiVersion": "v1" } } },
            ] }),
        ),
        (json!({ "nodeSelector": { "a": "" } }), json!({ "nodeSelector": { "a": "" } })),
        (json!({ "labelSelector": { "matchExpressions": [] } }), json!({ "labelSelector": {} })),
    ] {
        assert_eq!(difference(&wanted, &live), None, "{wanted} {live}");
    }
}

#[test]
fn a_difference_is_found_and_named() {
    for (wanted, live, path) in [
        (json!({ "spec": { "a": 1 } }), json!({ "spec": { "a": 2 } }), "spec.a"),
        (json!({ "spec": { "a": 1 } }), json!({}), "spec.a"),
        (json!({ "spec": { "a": 1 } }), json!({ "spec": [] }), "spec"),
        (json!({ "a": null }), json!({ "a": 1 }), "a"),
        (json!({ "a": "" }), json!({ "a": "x" }), "a"),
        (json!({ "requests": { "cpu": "1" } }), json!({ "requests": { "cpu": "2" } }), "requests.cpu"),
        (json!({ "requests": { "cpu": "0" } }), json!({}), "requests.cpu"),
        // Equal as quantities, but these are none.
        (json!({ "labels": { "limits": "1" } }), json!({ "labels": { "limits": "1000m" } }), "labels.limits"),
        (json!({ "value": "1" }), json!({ "value": "1000m" }), "value"),
        // Lists that are one value.
        (json!({ "args": ["a"] }), json!({ "args": ["a", "b"] }), "args"),
        (json!({ "args": ["a", "b"] }), json!({ "args": ["a", "c"] }), "args[1]"),
        (json!({ "args": [] }), json!({ "args": ["a"] }), "args"),
        (json!({ "args": ["a"] }), json!({}), "args"),
        // Lists with keys.
        (
            json!({ "containers": [{ "name": "agent", "image": "i" }] }),
            json!({ "containers": [{ "name": "x" }, { "name": "agent", "image": "j" }] }),
            "containers[name=agent].image",
        ),
        (
            json!({ "containers": [{ "name": "agent" }] }),
            json!({ "containers": [{ "name": "x" }] }),
            "containers[name=agent]",
        ),
        (
            json!({ "env": [{ "name": "A", "value": "1" }] }),
            json!({ "env": [{ "name": "A", "value": "1" }, { "name": "A", "value": "2" }] }),
            "env[name=A].value",
        ),
        (
            json!({ "ports": [{ "port": 80, "targetPort": "http" }] }),
            json!({ "ports": [{ "port": 80, "protocol": "TCP", "targetPort": "proxy" }] }),
            "ports[port=80,protocol=TCP].targetPort",
        ),
        // Maps that are one value: a Service with another selector term has no pods.
        (
            json!({ "spec": { "selector": { "a": "b" } } }),
            json!({ "spec": { "selector": { "a": "b", "version": "2" } } }),
            "spec.selector.version",
        ),
        (json!({ "nodeSelector": { "gpu": "" } }), json!({ "nodeSelector": {} }), "nodeSelector.gpu"),
        (json!({ "labels": { "a.b/c": "" } }), json!({}), "labels[a.b/c]"),
        // Zeros that are kept, since without them the opposite holds.
        (
            json!({ "securityContext": { "allowPrivilegeEscalation": false } }),
            json!({ "securityContext": {} }),
            "securityContext.allowPrivilegeEscalation",
        ),
        (json!({ "automountServiceAccountToken": false }), json!({}), "automountServiceAccountToken"),
        (json!({ "spec": { "replicas": 0 } }), json!({ "spec": {} }), "spec.replicas"),
    ] {
        assert_eq!(difference(&wanted, &live).as_deref(), Some(path), "{wanted} {live}");
    }
}

#[test]
fn a_difference_in_replicas_alone_is_told_apart() {
    let wanted = json!({ "spec": { "replicas": 3, "paused": true } });
    for (live, expected) in [
        (json!({ "spec": { "replicas": 4, "paused": true } }), true),
        (json!({ "spec": { "paused": true } }), true),
        (json!({ "spec": { "replicas": 3, "paused": true } }), false),
        (json!({ "spec": { "replicas": 4 } }), false),
    ] {
        assert_eq!(only_replicas_differ(&wanted, &live), expected, "{live}");
    }
    assert!(!only_replicas_differ(&json!({ "spec": {} }), &json!({ "spec": { "replicas": 4 } })));
}

// === for any object ===

/// A value as a manifest may have it: plain fields, lists with and without keys, quantities.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-3_i64..100).prop_map(Value::from),
        "[a-z0-9]{0,3}".prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let object = btree_map(
            prop::sample::select(vec!["a", "b", "replicas", "resources", "template"]),
            inner.clone(),
            0..4,
        );
        let object = object
            .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>());
        let keyed = (prop::sample::select(vec!["env", "containers", "volumes"]), vec(object.clone(), 0..3));
        let keyed = keyed.prop_map(|(field, items)| {
            let items: Vec<Value> = items
                .into_iter()
                .enumerate()
                .map(|(index, mut item)| {
                    item.insert("name".to_owned(), format!("item{index}").into());
                    Value::Object(item)
                })
                .collect();
            json!({ field: items })
        });
        let texts = btree_map("[a-c]", "[a-z]{0,2}", 0..3).prop_map(|labels| json!({ "labels": labels }));
        let quantities = json!({ "requests": { "cpu": "1500m", "memory": "1.5Gi" } });
        prop_oneof![
            object.prop_map(Value::Object),
            keyed,
            vec(inner, 0..3).prop_map(|items| json!({ "args": items })),
            Just(quantities),
            texts,
        ]
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    any_value().prop_map(|value| json!({ "metadata": { "name": "n" }, "spec": { "inside": value } }))
}

/// `value` as the API server may give it back: more fields, more items with other keys, quantities in its own words.
fn superset(field: &str, value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut more: Map<String, Value> =
                object.iter().map(|(field, value)| (field.clone(), superset(field, value))).collect();
            more.insert("added".to_owned(), json!({ "by": ["the", "server"] }));
            Value::Object(more)
        }
        Value::Array(items) => {
            let mut more: Vec<Value> = items.iter().map(|item| superset("", item)).collect();
            if matches!(field, "env" | "containers" | "volumes") {
                more.insert(0, json!({ "name": "added" }));
                more.reverse();
            }
            more.into()
        }
        Value::String(text) if text == "1500m" => "1.5".into(),
        Value::String(text) if text == "1.5Gi" => "1536Mi".into(),
        other => other.clone(),
    }
}

/// Places of all scalars in `value`, as JSON pointers.
fn leaves(pointer: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(field, value)| leaves(&format!("{pointer}/{field}"), value, found));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| leaves(&format!("{pointer}/{index}"), value, found));
        }
        _ => found.push(pointer.to_owned()),
    }
}

proptest! {
    #[test]
    fn an_object_within_another_is_no_difference(wanted in any_object()) {
        prop_assert_eq!(difference(&wanted, &wanted), None);
        prop_assert_eq!(difference(&wanted, &superset("", &wanted)), None);
    }

    #[test]
    fn any_changed_value_is_found(wanted in any_object(), which in any::<Index>()) {
        let mut found = Vec::new();
        leaves("", &wanted, &mut found);
        let pointer = which.get(&found);
        let mut live = wanted.clone();
        let leaf = live.pointer_mut(pointer).unwrap();
        *leaf = match leaf.take() {
            Value::Bool(value) => (!value).into(),
            Value::Number(number) => (number.as_i64().unwrap() + 1).into(),
            Value::String(text) => format!("{text}x").into(),
            _ => "now".into(),
        };
        prop_assert!(difference(&wanted, &live).is_some(), "{} {}", pointer, live);
    }
}
