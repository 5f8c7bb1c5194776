//! Whether a status is worth a write, and the write.

use krypton_crd::AgentStatus;
use serde_json::{Value, json};

/// Every field of a status, as it is spelled in an object.
const FIELDS: [&str; 9] = [
    "phase",
    "replicas",
    "readyReplicas",
    "desiredReplicas",
    "selector",
    "url",
    "lastInvocationAt",
    "observedGeneration",
    "conditions",
];

/// Whether `after` says anything that `before` does not. The time of the last call is in `after` only where it is due
/// or something else changed, see [`super::build_status`].
#[must_use]
pub fn needs_write(before: Option<&AgentStatus>, after: &AgentStatus) -> bool {
    before != Some(after)
}

/// The merge patch that makes an Agent's status `status`, for its subresource. Fields without a value are removed,
/// whether or not the writer knew of them: the object may hold what the writer could not read.
#[must_use]
pub fn status_patch(status: &AgentStatus) -> Value {
    let mut patch = json!({ "status": status });
    if let Some(fields) = patch["status"].as_object_mut() {
        for field in FIELDS {
            fields.entry(field).or_insert(Value::Null);
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use krypton_crd::Phase;

    use super::*;

    #[test]
    fn a_patch_removes_what_has_no_value() {
        let status = AgentStatus { phase: Some(Phase::Ready), replicas: Some(1), ..AgentStatus::default() };
        assert_eq!(
            status_patch(&status),
            json!({ "status": {
                "phase": "Ready", "replicas": 1, "readyReplicas": null, "desiredReplicas": null, "selector": null,
                "url": null, "lastInvocationAt": null, "observedGeneration": null, "conditions": null,
            }})
        );
    }

    /// A field added to the status must be removable too.
    #[test]
    fn a_patch_knows_every_field() {
        let definition = serde_json::to_value(krypton_crd::crd::agent_crd()).unwrap();
        let status = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        let mut defined: Vec<_> =
            status["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut known = FIELDS.to_vec();
        defined.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, defined);
    }

    #[test]
    fn an_equal_status_is_not_written() {
        let status = AgentStatus { replicas: Some(1), ..AgentStatus::default() };
        assert!(needs_write(None, &status));
        assert!(!needs_write(Some(&status), &status));
        assert!(needs_write(Some(&AgentStatus::default()), &status));
    }
}
