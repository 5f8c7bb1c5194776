//! The table of invalid specs, against our own validation. The tests on a real API server read the same table.

use std::collections::BTreeSet;

use krypton_crd::conditions::AcceptedReason;
use krypton_crd::{Agent, validate};
use serde_json::{Value, json};

mod table;

fn agent(spec: &Value) -> Value {
    let mut agent = json!({
        "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "metadata": { "name": "a" },
        "spec": { "image": "example:1", "protocol": "http" },
    });
    let fields = spec.as_object().expect("a spec is an object").clone();
    agent["spec"].as_object_mut().expect("a spec is an object").extend(fields);
    agent
}

#[test]
fn every_invalid_spec_is_found_with_its_field_and_the_way_out() {
    for case in table::invalid_specs() {
        let findings = validate(&agent(&case.spec), None);
        let errors: Vec<_> = findings.errors().collect();
        assert_eq!(errors.len(), 1, "{}: {errors:?}", case.spec);
        assert_eq!(errors[0].field, case.field, "{}: {}", case.spec, errors[0]);
        assert!(errors[0].message.contains(case.says), "{}: {}", case.spec, errors[0]);
    }
}

/// A stored Agent that breaks a rule either says so in its status or can be run.
#[test]
fn what_the_api_server_sees_is_in_fields_that_its_schema_describes() {
    let open = ["spec.env[", "spec.envFrom[", "spec.resources.", "spec.podTemplate."];
    for case in table::invalid_specs() {
        let is_open = open.iter().any(|field| case.field.starts_with(field));
        assert_eq!(case.api_server_says.is_none(), is_open, "{}", case.spec);
    }
}

#[test]
fn every_invalid_spec_is_not_accepted_unless_a_default_settles_it() {
    for case in table::invalid_specs() {
        let object = agent(&case.spec);
        if let Some(refusal) = validate(&object, None).refusal() {
            assert_eq!(refusal.reason, AcceptedReason::InvalidSpec);
            assert!(refusal.message.starts_with(&case.field), "{}", refusal.message);
        } else {
            let effective = Agent::from_value(object).unwrap().spec.effective();
            assert!(effective.max_replicas >= effective.min_replicas, "{}", case.spec);
        }
    }
}

#[test]
fn all_of_the_table_at_once_is_found_at_once() {
    let mut spec = json!({});
    let mut fields = BTreeSet::new();
    for case in table::invalid_specs() {
        for (field, value) in case.spec.as_object().unwrap() {
            if spec.get(field).is_none() && case.spec.as_object().unwrap().len() == 1 {
                spec[field] = value.clone();
                fields.insert(case.field.clone());
            }
        }
    }
    let findings = validate(&agent(&spec), None);
    let found: BTreeSet<_> = findings.errors().map(|problem| problem.field.clone()).collect();
    let missed: Vec<_> = fields.difference(&found).collect();
    assert!(missed.is_empty() && fields.len() > 15, "{missed:?} of {fields:?}");
}

#[test]
fn what_no_field_can_be_is_not_an_agent() {
    for (object, field) in [
        (json!(null), "kind"),
        (json!({ "apiVersion": "v1", "kind": "Pod" }), "kind"),
        (
            json!({ "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "metadata": { "name": "a" } }),
            "spec",
        ),
        (with(agent(&json!({})), "/spec", json!([])), "spec"),
        (
            with(agent(&json!({})), "/metadata", json!({ "name": "a", "labels": { "a": 1 } })),
            "metadata.labels.a",
        ),
        (with(agent(&json!({})), "/metadata", json!({})), "metadata.name"),
        (with(agent(&json!({})), "/metadata", json!({ "name": "1a" })), "metadata.name"),
        (with(agent(&json!({})), "/metadata", json!({ "name": "a".repeat(64) })), "metadata.name"),
    ] {
        let findings = validate(&object, None);
        let fields: Vec<_> = findings.errors().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, [field], "{object}");
    }
    let nameless = with(agent(&json!({})), "/metadata", json!({ "generateName": "a-" }));
    assert_eq!(validate(&nameless, None).problems, []);
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    *object.pointer_mut(pointer).expect(pointer) = value;
    object
}
