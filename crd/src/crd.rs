//! The CustomResourceDefinition of the Agent, and the rules the API server checks beyond types.
//!
//! Owns the CEL rules and the last touches to the derived schema. [`agent_crd`] is the one source of the definition:
//! `crdgen`, the chart and the tests all take it from here.
//!
//! Agents stored under the Go system's definition may break any of these rules. They stay writable (labels, status,
//! scale, finalizers): the API server skips rules about a value that did not change, and the rules over several fields
//! do the same by hand, through `oldSelf`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::core::Rule;
use serde_json::Value;

use crate::agent::Agent;
use crate::image::{IMAGE_PATTERN, MAX_IMAGE};
use crate::names::{AGENT_NAME_PATTERN, MAX_NAME_BYTES, SUBDOMAIN_PATTERN};

/// What is wrong with an `invocationPath` that cannot stand in a request line.
pub(crate) const INVOCATION_PATH_MESSAGE: &str = "must start with / and have at most 1024 characters, none of them a space, a control character, ? or # \
     (nor <, > or a backtick); percent-encode others";

/// What is wrong with a name that no Service can have.
pub(crate) const NAME_MESSAGE: &str = "an Agent's name is the name of its Service: at most 63 of a-z, 0-9 and '-', starting with a letter and not \
     ending with '-'";

/// What is wrong with `maxReplicas` below `minReplicas`.
pub(crate) const REPLICA_BOUNDS_MESSAGE: &str = "maxReplicas must not be less than minReplicas";

/// What is wrong with `minReplicas: 0` of an always-on Agent.
pub(crate) const ALWAYS_ON_MESSAGE: &str = "minReplicas must be at least 1 when mode is always-on; leave it out, or set mode to serverless; replicas: 0 alone turns an agent off";

/// What is wrong with an image that no node could pull.
pub(crate) const IMAGE_MESSAGE: &str = "must be an image reference such as ghcr.io/org/travel-agent:1.4: a path of a-z, 0-9 and . _ - between, no \
     spaces, then one tag or digest at most each";

/// What is wrong with a service account's name that none can have.
pub(crate) const SERVICE_ACCOUNT_MESSAGE: &str = "must be the name of a ServiceAccount: at most 253 of a-z, 0-9, '-' and '.', each part between dots starting \
     and ending with a letter or digit";

/// Says how the file came to be, for whoever opens it.
const HEADER: &str = "# Generated from the Rust types by `make crds`. Do not edit.\n";

/// The definition as the API server gets it.
///
/// # Panics
/// Never: the derived definition is JSON and stays a definition, which a test pins.
pub fn agent_crd() -> CustomResourceDefinition {
    let mut crd = serde_json::to_value(Agent::crd()).expect("a definition is JSON");
    polish(&mut crd);
    serde_json::from_value(crd).expect("a polished definition is a definition")
}

/// The definition as YAML, as it stands in the chart.
///
/// # Panics
/// Never: a definition has nothing that YAML cannot say, which a test pins.
pub fn agent_crd_yaml() -> String {
    let mut crd = serde_json::to_value(agent_crd()).expect("a definition is JSON");
    write_whole_numbers(&mut crd);
    let yaml = serde_saphyr::to_string(&crd).expect("a definition can be written as YAML");
    format!("{HEADER}{yaml}")
}

/// Takes out what the derive puts in for Rust's sake: `nullable` (an unset field is left out, never null) and the line
/// breaks of doc comments.
fn polish(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.get("nullable").is_some_and(Value::is_boolean) {
                object.remove("nullable");
            }
            if let Some(Value::String(description)) = object.get_mut("description") {
                *description = description.replace('\n', " ");
            }
            object.values_mut().for_each(polish);
        }
        Value::Array(items) => items.iter_mut().for_each(polish),
        _ => {}
    }
}

/// Writes the bounds of numbers, which are floats in a definition's Rust type, as a person would: `1`, not `1.0`.
fn write_whole_numbers(value: &mut Value) {
    match value {
        Value::Object(object) => object.values_mut().for_each(write_whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(write_whole_numbers),
        Value::Number(number) if number.is_f64() => {
            // A float prints without a fraction where it has none; one that has fails to parse and stays.
            if let Some(Ok(whole)) = number.as_f64().map(|float| float.to_string().parse::<i64>()) {
                *value = whole.into();
            }
        }
        _ => {}
    }
}

/// A new Agent is called as a Service can be called.
pub(crate) fn name_rule() -> Rule {
    Rule::new(format!(
        "oldSelf.hasValue() || (self.metadata.name.size() <= {MAX_NAME_BYTES} && \
         self.metadata.name.matches('{AGENT_NAME_PATTERN}'))"
    ))
    .message(NAME_MESSAGE)
    .optional_old_self(true)
}

/// `maxReplicas` is not below `minReplicas`, where both are written.
pub(crate) fn replica_bounds_rule() -> Rule {
    Rule::new(
        "(oldSelf.hasValue() && oldSelf.value().?minReplicas.orValue(-1) == self.?minReplicas.orValue(-1) \
         && oldSelf.value().?maxReplicas.orValue(-1) == self.?maxReplicas.orValue(-1)) \
         || !has(self.minReplicas) || !has(self.maxReplicas) || self.maxReplicas >= self.minReplicas",
    )
    .message(REPLICA_BOUNDS_MESSAGE)
    .field_path(".maxReplicas")
    .optional_old_self(true)
}

/// An always-on Agent does not go to zero by itself.
pub(crate) fn always_on_rule() -> Rule {
    Rule::new(
        "(oldSelf.hasValue() && oldSelf.value().?minReplicas.orValue(-1) == self.?minReplicas.orValue(-1) \
         && oldSelf.value().mode == 'always-on') \
         || self.mode != 'always-on' || !has(self.minReplicas) || self.minReplicas >= 1",
    )
    .message(ALWAYS_ON_MESSAGE)
    .field_path(".minReplicas")
    .optional_old_self(true)
}

/// `invocationPath` can stand in a request line as it is: visible ASCII without `?` and `#`, which end a path, and
/// without `<`, `>` and the backtick, which the gateway's parser refuses.
pub(crate) fn invocation_path_rule() -> Rule {
    Rule::new(r#"self == '' || self.matches(r'^/[!-"$-;=@-_a-~]*$')"#).message(INVOCATION_PATH_MESSAGE)
}

/// `image` is a reference that a node can pull. The empty and the too long one fail their length instead.
pub(crate) fn image_rule() -> Rule {
    Rule::new(format!("self.size() == 0 || self.size() > {MAX_IMAGE} || self.matches(r'{IMAGE_PATTERN}')"))
        .message(IMAGE_MESSAGE)
}

/// `serviceAccountName` is a name that an account can have; the empty one is none.
pub(crate) fn service_account_rule() -> Rule {
    Rule::new(format!("self == '' || self.matches(r'{SUBDOMAIN_PATTERN}')")).message(SERVICE_ACCOUNT_MESSAGE)
}
