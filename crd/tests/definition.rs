//! The CustomResourceDefinition as it is shipped.

use std::path::{Path, PathBuf};

use krypton_crd::crd::{agent_crd, agent_crd_yaml};
use krypton_crd::defaults::stored_defaults;
use krypton_crd::{Agent, keys};
use kube::Resource;
use serde_json::{Value, json};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn definition() -> Value {
    serde_json::to_value(agent_crd()).expect("a definition is JSON")
}

/// The schema of the field at `path`, e.g. `/spec/timeout`; empty for the whole Agent.
fn schema(path: &str) -> Value {
    let path = path.replace('/', "/properties/");
    let pointer = format!("/spec/versions/0/schema/openAPIV3Schema{path}");
    definition().pointer(&pointer).expect(&pointer).clone()
}

/// Calls `visit` with every object inside `value`.
fn walk(value: &Value, visit: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object.values().for_each(|value| walk(value, visit));
        }
        Value::Array(items) => items.iter().for_each(|value| walk(value, visit)),
        _ => {}
    }
}

#[test]
fn the_chart_ships_the_definition_of_these_types() {
    let file = repository().join("charts/krypton/files/crds/agents.yaml");
    let shipped = std::fs::read_to_string(&file).unwrap();
    assert!(shipped == agent_crd_yaml(), "{} is out of date: run `make crds` and commit it", file.display());
}

#[test]
fn the_yaml_says_the_same_as_the_definition() {
    let mut read: Value = serde_saphyr::from_str(&agent_crd_yaml()).unwrap();
    let read: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
        serde_json::from_value(read.take()).unwrap();
    assert_eq!(read, agent_crd());
}

#[test]
fn the_names_in_keys_are_those_of_the_type() {
    assert_eq!(Agent::group(&()), keys::GROUP);
    assert_eq!(Agent::version(&()), keys::VERSION);
    assert_eq!(Agent::api_version(&()), keys::API_VERSION);
    assert_eq!(Agent::kind(&()), keys::KIND);
}

#[test]
fn names_are_those_of_the_go_system_and_a_category() {
    let names = &definition()["spec"]["names"];
    assert_eq!(names["plural"], "agents");
    assert_eq!(names["singular"], "agent");
    assert_eq!(names["shortNames"], json!(["ag"]));
    assert_eq!(names["categories"], json!(["krypton", "all"]));
    assert_eq!(definition()["spec"]["scope"], "Namespaced");
}

#[test]
fn only_four_fields_have_a_stored_default() {
    let mut defaults = Vec::new();
    let spec = schema("/spec");
    for (field, schema) in spec["properties"].as_object().unwrap() {
        if let Some(default) = schema.get("default") {
            defaults.push((field.clone(), default.clone()));
        }
    }
    assert_eq!(defaults, stored_defaults().map(|(field, default)| (field.to_owned(), default)));
    let fields = stored_defaults().map(|(field, _)| field);
    assert_eq!(fields, ["imagePullPolicy", "mode", "port", "protocol"]);

    let mut in_all = 0;
    walk(&schema(""), &mut |object| in_all += usize::from(object.contains_key("default")));
    assert_eq!(in_all, 4, "a default hides below the spec");
}

#[test]
fn only_the_image_is_required() {
    assert_eq!(schema("/spec")["required"], json!(["image"]));
    assert_eq!(schema("/status").get("required"), None);
    assert_eq!(schema("")["required"], json!(["spec"]));
}

#[test]
fn nothing_is_nullable_and_no_format_is_unknown_to_kubernetes() {
    walk(&schema(""), &mut |object| {
        assert!(!object.contains_key("nullable"), "{object:?}");
        if let Some(Value::String(format)) = object.get("format") {
            assert!(["int32", "int64", "date-time"].contains(&format.as_str()), "{format}");
        }
    });
}

#[test]
fn every_field_says_what_it_is() {
    for part in ["/spec", "/status"] {
        for (field, schema) in schema(part)["properties"].as_object().unwrap() {
            let description = schema["description"].as_str().unwrap_or_default();
            assert!(
                description.ends_with('.') && !description.contains('\n'),
                "{part}/{field}: {description:?}"
            );
        }
    }
}

#[test]
fn open_fields_stay_open_and_atomic() {
    for field in ["/spec/env", "/spec/envFrom"] {
        let schema = schema(field);
        assert_eq!(schema["x-kubernetes-list-type"], "atomic");
        assert_eq!(
            schema["items"],
            json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
        );
    }
    assert_eq!(schema("/spec/resources")["x-kubernetes-map-type"], "atomic");
    for field in ["/spec/resources", "/spec/podTemplate"] {
        assert_eq!(schema(field)["x-kubernetes-preserve-unknown-fields"], true);
    }
}

#[test]
fn what_rules_read_is_bounded() {
    for field in ["timeout", "maxDuration", "startupTimeout", "drainTimeout", "scaleToZeroAfter"] {
        let schema = schema(&format!("/spec/{field}"));
        assert_eq!(schema["maxLength"], 64, "{field}");
        assert!(schema["pattern"].is_string(), "{field}");
        let rules = schema["x-kubernetes-validations"].as_array().unwrap();
        assert_eq!(rules.len(), 1, "{field}");
        // The API server calls a duration that is too long an error, not a broken rule, and would not overlook it.
        assert_eq!(rules[0]["optionalOldSelf"], true, "{field}");
    }
    for (field, most) in [("invocationPath", 1024), ("image", 512), ("serviceAccountName", 253)] {
        assert_eq!(schema(&format!("/spec/{field}"))["maxLength"], most, "{field}");
    }
}

#[test]
fn rules_over_several_fields_leave_old_objects_writable() {
    let rules = |path| schema(path)["x-kubernetes-validations"].as_array().unwrap().clone();
    assert_eq!((rules("").len(), rules("/spec").len()), (1, 2));
    for rule in rules("").into_iter().chain(rules("/spec")) {
        assert_eq!(rule["optionalOldSelf"], true, "{rule}");
        assert!(rule["rule"].as_str().unwrap().contains("oldSelf.hasValue()"), "{rule}");
    }
}

#[test]
fn status_and_scale_are_subresources() {
    let definition = definition();
    let version = &definition["spec"]["versions"][0];
    assert_eq!(
        version["subresources"],
        json!({
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        })
    );
    assert_eq!(schema("/status/conditions")["x-kubernetes-list-map-keys"], json!(["type"]));
}

#[test]
fn columns_show_the_state_first_and_details_in_wide() {
    let definition = definition();
    let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
    let names = |wide: bool| -> Vec<&str> {
        columns
            .iter()
            .filter(|column| wide == (column["priority"] == json!(1)))
            .filter_map(|column| column["name"].as_str())
            .collect()
    };
    assert_eq!(names(false), ["Ready", "Mode", "Replicas", "URL", "Age"]);
    assert_eq!(names(true), ["Protocol", "Image"]);
}
