//! A child as it is in the cluster, trimmed to what is compared. Pure.

use krypton_crd::keys;
use serde_json::Value;

use crate::workload::owner_uid;

/// The container that the Go controller puts beside the agent's.
const GO_SIDECAR: &str = "krypton-proxy";

/// The field managers whose Updates become ours with the next apply: the Go controller's, and that of the POST by
/// which we create. Else their fields would stay when we no longer want them.
pub(crate) const TAKEN_OVER: [&str; 3] =
    [keys::GO_FIELD_MANAGERS[0], keys::GO_FIELD_MANAGERS[1], keys::FIELD_MANAGER];

/// A Deployment, Service or service account that exists.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Live {
    /// Without `managedFields`, often its larger half.
    object: Value,
    /// The name under which the Go controller has fields in it.
    go_manager: Option<&'static str>,
    to_be_taken_over: bool,
}

// === impl Live ===

impl Live {
    /// Keeps what is needed of `object`, as the API server gave it.
    pub(crate) fn new(mut object: Value) -> Self {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let updates = |manager: &'static str| {
            entries.into_iter().flatten().filter(move |entry| {
                entry["manager"] == manager
                    && entry["operation"] == "Update"
                    && entry.get("subresource").is_none()
            })
        };
        let go_manager = keys::GO_FIELD_MANAGERS.into_iter().find(|manager| updates(manager).any(is_of_go));
        let to_be_taken_over = go_manager.is_some() || updates(keys::FIELD_MANAGER).next().is_some();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        Self { object, go_manager, to_be_taken_over }
    }

    /// The name under which the Go controller has fields in it; `None`: it has none.
    pub(crate) fn go_manager(&self) -> Option<&'static str> {
        self.go_manager
    }

    /// Whether Updates are to become ours before the next apply.
    pub(crate) fn is_to_be_taken_over(&self) -> bool {
        self.to_be_taken_over
    }

    /// The object, without `managedFields`.
    pub(crate) fn object(&self) -> &Value {
        &self.object
    }

    /// Whether it is a child of the Agent with that uid.
    pub(crate) fn is_child_of(&self, uid: &str) -> bool {
        owner_uid(&self.object) == Some(uid)
    }

    /// Whether it was made for an earlier Agent called `name`, which is gone: then Kubernetes takes it away.
    pub(crate) fn is_left_over_of(&self, name: &str) -> bool {
        let owners = self.object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        owners.into_iter().flatten().any(|owner| {
            owner["controller"] == true
                && owner["apiVersion"] == keys::API_VERSION
                && owner["kind"] == keys::KIND
                && owner["name"] == name
        })
    }

    /// Whether it is on its way out.
    pub(crate) fn is_deleting(&self) -> bool {
        self.object.pointer("/metadata/deletionTimestamp").is_some()
    }

    /// Its uid.
    pub(crate) fn uid(&self) -> &str {
        self.text("/metadata/uid")
    }

    /// Its `resourceVersion`.
    pub(crate) fn version(&self) -> &str {
        self.text("/metadata/resourceVersion")
    }

    /// What was wanted when it was last written, as a hash.
    pub(crate) fn applied(&self) -> Option<&str> {
        applied(&self.object)
    }

    /// `spec.replicas`, for a Deployment.
    pub(crate) fn replicas(&self) -> Option<u32> {
        replicas(&self.object)
    }

    fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Others write under these names too. The Go controller is told by what only it writes: the owner, or its sidecar.
fn is_of_go(entry: &Value) -> bool {
    entry.pointer("/fieldsV1/f:metadata/f:ownerReferences").is_some()
        || entry["fieldsV1"].to_string().contains(GO_SIDECAR)
}

/// The hash that a wanted or a live object bears.
pub(crate) fn applied(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(keys::APPLIED_ANNOTATION)?.as_str()
}

/// `spec.replicas` of a wanted or a live object.
pub(crate) fn replicas(object: &Value) -> Option<u32> {
    object.pointer("/spec/replicas").and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok())
}

/// Whether `version` is newer than `other`. Versions of one kind grow, and are numbers on every API server of
/// Kubernetes; one that is none is taken for newer where it differs, so that nothing old is trusted.
pub(crate) fn is_newer(version: &str, other: &str) -> bool {
    match (version.parse::<u64>(), other.parse::<u64>()) {
        (Ok(version), Ok(other)) => version > other,
        _ => version != other,
    }
}
