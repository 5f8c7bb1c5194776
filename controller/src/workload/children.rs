//! The objects wanted for one Agent, whole.
//!
//! Owns their names, labels, owner and everything outside the pod template, and the hash by which a change of what is
//! wanted is seen. Names, labels and selectors are those of the Go system, so that its objects are taken over in place.

use krypton_crd::keys::{AGENT_LABEL, APPLIED_ANNOTATION, HTTP_PORT, MANAGED_BY, MANAGED_BY_LABEL};
use krypton_crd::{Agent, AppProtocol, EffectiveSpec};
use kube::Resource;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::overlay::{BuildError, Problem, check, lay_over};
use super::pod::build_pod_template;

/// Old ReplicaSets kept: enough to see what ran before the last few changes. They serve no rollback, since a Deployment
/// that is rolled back by hand is brought back to what its Agent says.
const REVISION_HISTORY: u32 = 3;

/// Seconds without progress after which a rollout is called stuck. Kubernetes' own number: an image of many gigabytes
/// takes minutes, and what fails for a reason that pods tell is seen long before.
const PROGRESS_DEADLINE_SECONDS: u32 = 600;

/// Bytes of a hash that are kept; as many as a route's version has.
const HASH_BYTES: usize = 16;

/// What is wanted for one Agent. Each is a whole object, with `apiVersion` and `kind`.
#[derive(Debug, Clone, PartialEq)]
pub struct Children {
    /// `None` when the Agent names an account, which is then somebody else's.
    pub service_account: Option<Value>,
    /// The Service, which selects pods by the label `krypton.ai/agent`.
    pub service: Value,
    /// The Deployment, with `spec.replicas`.
    pub deployment: Value,
}

/// The name, namespace and owner that all children of one Agent share.
struct Family<'a> {
    name: &'a str,
    namespace: &'a str,
    owner: Value,
}

/// The objects wanted for `agent`, whose effective spec is `spec`, with `replicas` pods.
///
/// # Errors
/// When `podTemplate` contradicts what Krypton needs of a pod, or when `agent` was never stored.
pub fn build_children(agent: &Agent, spec: &EffectiveSpec, replicas: u32) -> Result<Children, BuildError> {
    let family = Family::of(agent)?;
    let has_own_account = agent.spec.service_account_name.is_none();
    Ok(Children {
        service_account: has_own_account.then(|| build_service_account(&family)),
        service: build_service(&family, spec),
        deployment: build_deployment(&family, agent, spec, replicas)?,
    })
}

/// An account without rights, for pods that need none.
fn build_service_account(family: &Family<'_>) -> Value {
    stamped(json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": family.metadata(),
        "automountServiceAccountToken": false,
    }))
}

/// The Service through which Kubernetes keeps the Agent's EndpointSlices.
fn build_service(family: &Family<'_>, spec: &EffectiveSpec) -> Value {
    let mut port =
        json!({ "name": HTTP_PORT, "port": spec.port, "targetPort": HTTP_PORT, "protocol": "TCP" });
    match spec.app_protocol {
        // Kubernetes' own name, for others that read the Service; ours read the Agent.
        AppProtocol::H2c => port["appProtocol"] = "kubernetes.io/h2c".into(),
        AppProtocol::Http => {}
    }
    stamped(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": family.metadata(),
        "spec": { "selector": { AGENT_LABEL: family.name }, "ports": [port] },
    }))
}

fn build_deployment(
    family: &Family<'_>,
    agent: &Agent,
    spec: &EffectiveSpec,
    replicas: u32,
) -> Result<Value, BuildError> {
    let ours = build_pod_template(agent, spec, family.name);
    let mut template = ours.clone();
    if let Some(fragment) = &agent.spec.pod_template {
        lay_over(&mut template, fragment)?;
        check(&template, &ours, spec.port)?;
    }
    let mut deployment = stamped(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": family.metadata(),
        "spec": {
            // Fixed when a Deployment is created: the Go system's, to the letter.
            "selector": { "matchLabels": { AGENT_LABEL: family.name } },
            // A pod goes only when another has become ready in its place.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": { "maxUnavailable": 0, "maxSurge": "25%" },
            },
            "minReadySeconds": 0,
            "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
            "revisionHistoryLimit": REVISION_HISTORY,
            "template": template,
        },
    }));
    // After the hash, which is about what the Agent says and not about its size now.
    deployment["spec"]["replicas"] = replicas.into();
    Ok(deployment)
}

/// `object` with the hash of what it is in its annotations.
fn stamped(mut object: Value) -> Value {
    let mut canonical = String::new();
    write_canonical(&object, &mut canonical);
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(&Sha256::digest(canonical.as_bytes())[..HASH_BYTES]);
    let hash = u128::from_be_bytes(hash);
    object["metadata"]["annotations"] = json!({ APPLIED_ANNOTATION: format!("{hash:032x}") });
    object
}

/// Writes `value` as JSON in the one way that no feature of a library and no order of insertion changes: fields sorted,
/// no spaces.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut fields: Vec<_> = object.iter().collect();
            fields.sort_unstable_by_key(|(field, _)| *field);
            out.push('{');
            for (index, (field, value)) in fields.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                out.push_str(&Value::from(field.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

// === impl Family ===

impl<'a> Family<'a> {
    /// The family of `agent`, which must come from the API server.
    fn of(agent: &'a Agent) -> Result<Self, BuildError> {
        let missing = |field| BuildError::at(&["metadata", field], Problem::NotStored);
        let name = agent.metadata.name.as_deref().ok_or_else(|| missing("name"))?;
        let namespace = agent.metadata.namespace.as_deref().ok_or_else(|| missing("namespace"))?;
        let owner = agent.controller_owner_ref(&()).ok_or_else(|| missing("uid"))?;
        let owner = json!({
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": owner.name,
            "uid": owner.uid,
            "controller": true,
            // Whoever deletes the Agent in the foreground waits until its objects are gone.
            "blockOwnerDeletion": true,
        });
        Ok(Self { name, namespace, owner })
    }

    fn metadata(&self) -> Value {
        json!({
            "name": self.name,
            "namespace": self.namespace,
            "labels": { AGENT_LABEL: self.name, MANAGED_BY_LABEL: MANAGED_BY },
            "ownerReferences": [self.owner],
        })
    }
}

#[cfg(test)]
mod tests;
