//! The pods of an Agent before its `podTemplate` is laid over: what makes rollouts lossless, and safe defaults.
//!
//! Owns every number and default of the pod template. One container and no sidecar: the gateway limits, counts and
//! drains calls, so nothing has to sit beside the agent.

use std::time::Duration;

use krypton_crd::defaults::PRE_STOP;
use krypton_crd::keys::{AGENT_CONTAINER, AGENT_LABEL, HTTP_PORT, MANAGED_BY, MANAGED_BY_LABEL};
use krypton_crd::{Agent, EffectiveSpec, ImagePullPolicy};
use serde_json::{Map, Value, json};

/// Seconds between two looks at the port, the least that Kubernetes has: a waking agent is called as soon as it
/// listens, and a look is one connection within the node.
const PROBE_PERIOD_SECONDS: u32 = 1;

/// Looks in a row that must fail before a pod gets no more calls. A process that ended makes its pod unready at once,
/// without any probe; this is about one that lives and refuses connections, mostly since it has too many. To take
/// its pod away for a hiccup would only move the load on to the next.
const PROBE_FAILURES: u32 = 5;

/// The most whole seconds that Go's durations hold, 2^63 ns: the kubelet counts in them.
const MAX_GRACE_SECONDS: u64 = 9_223_372_036;

/// The pod template made from `agent`, whose name is `name`.
pub(super) fn build_pod_template(agent: &Agent, spec: &EffectiveSpec, name: &str) -> Map<String, Value> {
    let account = agent.spec.service_account_name.as_deref();
    let mut pod = json!({
        "containers": [build_container(agent, spec)],
        "serviceAccountName": account.unwrap_or(name),
        // Who names an account wants it used; the Agent's own has no rights that a token could bring.
        "automountServiceAccountToken": account.is_some(),
        // Seven variables for each Service of the namespace, and each Agent is one: a thousand Agents would outgrow
        // what a process may be started with, and an Agent called `db` would set DB_PORT for its neighbours.
        "enableServiceLinks": false,
        "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
        "terminationGracePeriodSeconds": grace_seconds(spec.drain_timeout),
    });
    let secrets = pull_secrets(agent);
    if !secrets.is_empty() {
        pod["imagePullSecrets"] = secrets.into();
    }
    let metadata = json!({ "labels": { AGENT_LABEL: name, MANAGED_BY_LABEL: MANAGED_BY } });
    Map::from_iter([("metadata".to_owned(), metadata), ("spec".to_owned(), pod)])
}

/// The container that runs the Agent's image.
fn build_container(agent: &Agent, spec: &EffectiveSpec) -> Value {
    let mut container = json!({
        "name": AGENT_CONTAINER,
        "image": agent.spec.image,
        "ports": [{ "name": HTTP_PORT, "containerPort": spec.port, "protocol": "TCP" }],
        "readinessProbe": {
            "tcpSocket": { "port": HTTP_PORT },
            "periodSeconds": PROBE_PERIOD_SECONDS,
            "failureThreshold": PROBE_FAILURES,
        },
        "lifecycle": { "preStop": { "sleep": { "seconds": PRE_STOP.as_secs() } } },
        "securityContext": { "allowPrivilegeEscalation": false },
        // What it logged last before it crashed, so that the Agent's status can say why.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if let Some(policy) = pull_policy(agent.spec.image_pull_policy) {
        container["imagePullPolicy"] = policy.into();
    }
    if let Some(resources) = &agent.spec.resources {
        container["resources"] = Value::Object(without_nulls(resources));
    }
    if !agent.spec.env.is_empty() {
        container["env"] = environment(&agent.spec.env).into();
    }
    if !agent.spec.env_from.is_empty() {
        container["envFrom"] = agent.spec.env_from.iter().map(without_nulls).collect();
    }
    container
}

/// How long a pod may take to end: the wait before its processes hear of it, then what running calls may take.
fn grace_seconds(drain: Duration) -> u64 {
    let whole = drain.as_secs() + u64::from(drain.subsec_nanos() > 0);
    whole.saturating_add(PRE_STOP.as_secs()).min(MAX_GRACE_SECONDS)
}

/// The policy as a pod has it; `None` leaves the choice to Kubernetes.
fn pull_policy(policy: ImagePullPolicy) -> Option<&'static str> {
    match policy {
        ImagePullPolicy::Always => Some("Always"),
        ImagePullPolicy::IfNotPresent => Some("IfNotPresent"),
        ImagePullPolicy::Never => Some("Never"),
        ImagePullPolicy::ByTag => None,
    }
}

/// The Secrets of the Agent, each once: the list is keyed by name, and server-side apply refuses it with a name twice.
fn pull_secrets(agent: &Agent) -> Vec<Value> {
    let mut names: Vec<&str> = Vec::new();
    for secret in &agent.spec.image_pull_secrets {
        if !secret.name.is_empty() && !names.contains(&secret.name.as_str()) {
            names.push(&secret.name);
        }
    }
    names.into_iter().map(|name| json!({ "name": name })).collect()
}

/// The variables of the Agent, each once. In a pod the last of several counts, but server-side apply refuses a name
/// that stands twice; so the last one stands at the place of the first.
fn environment(written: &[Map<String, Value>]) -> Vec<Value> {
    let mut variables: Vec<Map<String, Value>> = Vec::with_capacity(written.len());
    for variable in written.iter().map(without_nulls) {
        let name = variable.get("name");
        match variables.iter_mut().find(|earlier| name.is_some() && earlier.get("name") == name) {
            Some(earlier) => *earlier = variable,
            None => variables.push(variable),
        }
    }
    variables.into_iter().map(Value::Object).collect()
}

/// `object` without fields that are null, at any depth: for the API server they are absent, so they would never be
/// found in the live object.
pub(super) fn without_nulls(object: &Map<String, Value>) -> Map<String, Value> {
    fn clean(value: &Value) -> Value {
        match value {
            Value::Object(object) => Value::Object(without_nulls(object)),
            Value::Array(items) => items.iter().map(clean).collect(),
            other => other.clone(),
        }
    }
    object
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(field, value)| (field.clone(), clean(value)))
        .collect()
}
