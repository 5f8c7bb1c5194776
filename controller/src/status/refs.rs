//! What a spec refers to and Kubernetes does not find.
//!
//! Kubernetes looks a reference up only when a pod is created (service account) or started (environment), and tells in
//! a sentence what it missed; nothing here asks for Secrets or ConfigMaps, so the controller needs no right to read
//! them. A volume whose Secret is missing is told of in an Event of the pod alone and is not seen here: such a pod
//! stays in `ContainerCreating`.

use krypton_crd::AgentSpec;
use serde_json::{Map, Value};

use super::text::between;

/// A reference that leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MissingRef<'a> {
    kind: &'static str,
    name: &'a str,
    /// The key that its object lacks; `None`: the object itself is missing.
    key: Option<&'a str>,
}

// === impl MissingRef ===

impl<'a> MissingRef<'a> {
    /// What the kubelet misses, from the message of a container that cannot be configured.
    pub(super) fn of_container(message: &'a str) -> Option<Self> {
        for (kind, word) in [("Secret", "secret \""), ("ConfigMap", "configmap \"")] {
            if let Some(name) = between(message, word, "\" not found") {
                return Some(Self { kind, name, key: None });
            }
        }
        let (_, rest) = message.split_once("couldn't find key ")?;
        let (key, rest) = rest.split_once(" in ")?;
        let (kind, rest) = rest.split_once(' ')?;
        let kind = if kind == "Secret" { "Secret" } else { "ConfigMap" };
        let (_, name) = rest.split_once('/')?;
        Some(Self { kind, name: name.split_whitespace().next()?, key: Some(key) })
    }

    /// What the API server misses, from the message with which it refused a pod.
    pub(super) fn of_refusal(message: &'a str) -> Option<Self> {
        let name = between(message, "serviceaccount \"", "\" not found")?;
        Some(Self { kind: "ServiceAccount", name, key: None })
    }

    /// A sentence that says what is missing, which field asks for it, and what to do.
    pub(super) fn tell(&self, namespace: &str, spec: Option<&AgentSpec>) -> String {
        let Self { kind, name, key } = self;
        let missing = match key {
            Some(key) => format!("{kind} {name:?} in namespace {namespace} has no key {key:?}"),
            None => format!("{kind} {name:?} does not exist in namespace {namespace}"),
        };
        let asked = match spec.and_then(|spec| self.field(spec)) {
            Some(field) => format!(", but {field} refers to it"),
            None => String::new(),
        };
        let todo = match (*kind, key) {
            ("ServiceAccount", _) => "Create it or name another",
            (_, Some(_)) => "Add the key or mark the reference optional",
            (_, None) => "Create it or mark the reference optional",
        };
        format!("{missing}{asked}. {todo}.")
    }

    /// The field of `spec` that has this reference.
    fn field(&self, spec: &AgentSpec) -> Option<String> {
        let (from, of_key) = match self.kind {
            "ServiceAccount" => {
                let set = spec.service_account_name.as_deref() == Some(self.name);
                return set.then(|| "spec.serviceAccountName".to_owned());
            }
            "Secret" => ("secretRef", "secretKeyRef"),
            _ => ("configMapRef", "configMapKeyRef"),
        };
        let named = |reference: Option<&Value>| {
            reference.and_then(|reference| reference.get("name")).and_then(Value::as_str) == Some(self.name)
        };
        let in_env = |entry: &Map<String, Value>| {
            let reference = entry.get("valueFrom").and_then(|source| source.get(of_key));
            let key = reference.and_then(|reference| reference.get("key")).and_then(Value::as_str);
            named(reference) && (self.key.is_none() || key == self.key)
        };
        if let Some(at) = spec.env.iter().position(in_env) {
            return Some(format!("spec.env[{at}]"));
        }
        let at = spec.env_from.iter().position(|entry| named(entry.get(from)))?;
        Some(format!("spec.envFrom[{at}]"))
    }
}
