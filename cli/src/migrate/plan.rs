//! What of the Go system's traces is taken away, and what has to wait or stay.
//!
//! Pure: objects in, patches out. Never touches a value that somebody wrote, an object of another release, or a field
//! that it does not know. Every patch names the version of the object that it was made for.

use std::collections::BTreeSet;

use krypton_crd::keys;
use serde_json::{Map, Value, json};

use super::author::{self, Author};
use super::defaults::{DEFAULTS, StoredDefault};
use crate::args::Part;

/// What is known of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The definition of Agents.
    pub(crate) crd: Option<Value>,
    pub(crate) agents: Vec<Value>,
    pub(crate) models: Vec<Value>,
    /// Deployments of the Go system's manager that run, as `namespace/name`.
    pub(crate) go_managers: Vec<String>,
}

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) parts: BTreeSet<Part>,
    pub(crate) release: String,
    pub(crate) release_namespace: String,
    /// Whether defaults go also where nothing tells what was applied.
    pub(crate) unrecorded: bool,
}

/// What kind of object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Crd,
    Agent,
    Model,
}

/// One object to be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    /// Empty for the definition.
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// What changes, as a person reads it; each begins with `-` or `+`.
    pub(crate) lines: Vec<String>,
    /// A merge patch that fails where the object has changed.
    pub(crate) patch: Value,
}

/// All of it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<Change>,
    /// What is left as it is although it is to go, and why, a sentence each.
    pub(crate) left: Vec<String>,
}

// === impl Change ===

impl Change {
    /// `Agent team-a/travel`.
    pub(crate) fn about(&self) -> String {
        match self.kind {
            Kind::Crd => format!("CustomResourceDefinition {}", self.name),
            Kind::Agent => format!("Agent {}/{}", self.namespace, self.name),
            Kind::Model => format!("Model {}/{}", self.namespace, self.name),
        }
    }
}

/// What is to be done about `facts`.
pub(crate) fn plan(facts: &Facts, wanted: &Wanted) -> Plan {
    let mut plan = Plan::default();
    if wanted.parts.contains(&Part::Crd) {
        match &facts.crd {
            Some(crd) => adopt(crd, wanted, &mut plan),
            None => plan.left.push("There is no definition of Agents in this cluster.".to_owned()),
        }
    }
    let defaults = wanted.parts.contains(&Part::Defaults) && {
        let waits = why_defaults_wait(facts).filter(|_| facts.agents.iter().any(has_stored_default));
        plan.left.extend(waits.iter().cloned());
        waits.is_none()
    };
    let finalizers = wanted.parts.contains(&Part::Finalizers) && {
        let waits = why_finalizers_wait(facts);
        plan.left.extend(waits.iter().cloned());
        waits.is_none()
    };
    for agent in &facts.agents {
        clean(agent, Kind::Agent, defaults, finalizers, wanted.unrecorded, &mut plan);
    }
    for model in &facts.models {
        clean(model, Kind::Model, false, finalizers, wanted.unrecorded, &mut plan);
    }
    plan
}

/// Lets Helm take the definition as one of the release's: it refuses to touch what is not marked as its own.
fn adopt(crd: &Value, wanted: &Wanted, plan: &mut Plan) {
    let (name, namespace) = (
        text(crd, "/metadata/annotations", keys::HELM_RELEASE_ANNOTATION),
        text(crd, "/metadata/annotations", keys::HELM_NAMESPACE_ANNOTATION),
    );
    let is_ours = |found: Option<&str>, ours: &str| found.is_none_or(|found| found == ours);
    if !is_ours(name, &wanted.release) || !is_ours(namespace, &wanted.release_namespace) {
        plan.left.push(format!(
            "The definition of Agents belongs to the Helm release {} in {}: it is left to it. Name that release by \
             --release and --system-namespace if it is the one to upgrade.",
            name.unwrap_or("?"),
            namespace.unwrap_or("?")
        ));
        return;
    }
    let managed_by = text(crd, "/metadata/labels", keys::MANAGED_BY_LABEL);
    let mut lines = Vec::new();
    let mut set = |what: &str, key: &str, found: Option<&str>, value: &str| {
        if found == Some(value) {
            return;
        }
        lines.extend(found.map(|found| format!("- metadata.{what}[{key}]: {found}")));
        lines.push(format!("+ metadata.{what}[{key}]: {value}"));
    };
    set("annotations", keys::HELM_RELEASE_ANNOTATION, name, &wanted.release);
    set("annotations", keys::HELM_NAMESPACE_ANNOTATION, namespace, &wanted.release_namespace);
    set("labels", keys::MANAGED_BY_LABEL, managed_by, keys::HELM);
    let metadata = json!({
        "annotations": {
            (keys::HELM_RELEASE_ANNOTATION): wanted.release,
            (keys::HELM_NAMESPACE_ANNOTATION): wanted.release_namespace,
        },
        "labels": { (keys::MANAGED_BY_LABEL): keys::HELM },
    });
    if !lines.is_empty() {
        push(plan, crd, Kind::Crd, lines, metadata, Map::new());
    }
}

/// Why stored defaults cannot go yet.
fn why_defaults_wait(facts: &Facts) -> Option<String> {
    if let Some(manager) = facts.go_managers.first() {
        return Some(format!(
            "Stored defaults of Agents stay while the Go system's manager runs ({manager}): without them it would stop \
             agents' pods. Upgrade the release, then run this again."
        ));
    }
    let crd = facts.crd.as_ref()?;
    let stored = DEFAULTS.iter().filter(|default| crd_stores(crd, default.field));
    let fields: Vec<_> = stored.map(|default| default.field).collect();
    (!fields.is_empty()).then(|| {
        format!(
            "Stored defaults of Agents stay while the definition is the Go system's: the API server would put them back \
             at once ({}). Upgrade the release, then run this again.",
            fields.join(", ")
        )
    })
}

/// Why finalizers cannot go yet.
fn why_finalizers_wait(facts: &Facts) -> Option<String> {
    let carry = facts.agents.iter().chain(&facts.models).any(|object| other_finalizers(object).is_some());
    let manager = facts.go_managers.first().filter(|_| carry)?;
    Some(format!(
        "Finalizers stay while the Go system's manager runs ({manager}): it would put them back at once. Upgrade the \
         release, then run this again."
    ))
}

/// Takes from one object what is to go.
fn clean(object: &Value, kind: Kind, defaults: bool, finalizers: bool, unrecorded: bool, plan: &mut Plan) {
    let mut lines = Vec::new();
    let mut spec = Map::new();
    if defaults {
        for default in &DEFAULTS {
            drop_default(object, default, unrecorded, &mut lines, &mut spec, &mut plan.left);
        }
    }
    let mut metadata = json!({});
    if let Some(others) = other_finalizers(object).filter(|_| finalizers) {
        lines.push(format!("- metadata.finalizers: {}", keys::FINALIZER));
        metadata["finalizers"] = others.into();
    }
    if !lines.is_empty() {
        push(plan, object, kind, lines, metadata, spec);
    }
}

fn drop_default(
    object: &Value,
    default: &StoredDefault,
    unrecorded: bool,
    lines: &mut Vec<String>,
    spec: &mut Map<String, Value>,
    left: &mut Vec<String>,
) {
    let Some(value) = object.pointer("/spec").and_then(|spec| spec.get(default.field)) else { return };
    let is_zero = default.is_zero(value);
    if !is_zero && !default.is(value) {
        return;
    }
    let about = || format!("Agent {}: spec.{} ({})", full_name(object), default.field, shown(value));
    match author::of(object, default.field) {
        // What a person wrote is a wish, even where it is the default; only zero is none that can be kept.
        Author::Somebody(who) if is_zero => left.push(format!(
            "{} was written by {who}, and is refused here: durations are greater than zero. Take it out of the manifest.",
            about()
        )),
        Author::Somebody(_) => {}
        // The Go system's client wrote zeros for what was not set; nobody means them.
        Author::Unknown if !unrecorded && !is_zero => left.push(format!(
            "{} may be a wish or a default: nothing tells what was applied. It stays, unless --unrecorded is given.",
            about()
        )),
        Author::Unknown | Author::Nobody => {
            let mode = object.pointer("/spec/mode").and_then(Value::as_str).unwrap_or_default();
            let then = default.then(mode).map(|then| format!("   (from then on {then})")).unwrap_or_default();
            lines.push(format!("- spec.{}: {}{then}", default.field, shown(value)));
            spec.insert(default.field.to_owned(), Value::Null);
        }
    }
}

fn push(
    plan: &mut Plan,
    object: &Value,
    kind: Kind,
    lines: Vec<String>,
    mut metadata: Value,
    spec: Map<String, Value>,
) {
    let of = |field: &str| text(object, "/metadata", field).unwrap_or_default().to_owned();
    metadata["resourceVersion"] = of("resourceVersion").into();
    let mut patch = json!({ "metadata": metadata });
    if !spec.is_empty() {
        patch["spec"] = spec.into();
    }
    plan.changes.push(Change { kind, namespace: of("namespace"), name: of("name"), lines, patch });
}

/// The finalizers that stay when the Go system's goes; `None` where that is not there.
fn other_finalizers(object: &Value) -> Option<Vec<Value>> {
    let finalizers = object.pointer("/metadata/finalizers")?.as_array()?;
    let others: Vec<Value> = finalizers.iter().filter(|one| *one != keys::FINALIZER).cloned().collect();
    (others.len() < finalizers.len()).then_some(others)
}

fn has_stored_default(agent: &Value) -> bool {
    DEFAULTS.iter().any(|default| {
        let value = agent.pointer("/spec").and_then(|spec| spec.get(default.field));
        let may_go = !matches!(author::of(agent, default.field), Author::Somebody(_));
        may_go && value.is_some_and(|value| default.is(value) || default.is_zero(value))
    })
}

/// Whether the API server puts a default into `field`.
fn crd_stores(crd: &Value, field: &str) -> bool {
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array);
    versions.into_iter().flatten().any(|version| {
        let path = format!("/schema/openAPIV3Schema/properties/spec/properties/{field}/default");
        version.pointer(&path).is_some()
    })
}

fn text<'a>(object: &'a Value, at: &str, key: &str) -> Option<&'a str> {
    object.pointer(at)?.get(key)?.as_str()
}

fn full_name(object: &Value) -> String {
    let of = |field: &str| text(object, "/metadata", field).unwrap_or_default();
    format!("{}/{}", of("namespace"), of("name"))
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests;
