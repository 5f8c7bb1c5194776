//! Whether somebody wrote a field of an object's spec, or the API server's defaults did.
//!
//! The API server tells who *set* a field, and counts a default to whoever made the object. What was *written* is told
//! by two records alone: the annotation of `kubectl apply`, and the fields that a server-side apply owns.

use krypton_crd::keys::{FINALIZER, GO_FIELD_MANAGERS, LAST_APPLIED_ANNOTATION};
use serde_json::Value;

/// Who wrote a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Author {
    /// This one.
    Somebody(String),
    /// Nobody: it is absent from all that was applied.
    Nobody,
    /// Nothing tells.
    Unknown,
}

/// The manager names of `kubectl apply` on the client's side; the annotation says better what was written.
const KUBECTL_APPLY: [&str; 2] = ["kubectl-client-side-apply", "before-first-apply"];

/// What every program made with kubebuilder is called too: the Go system's own is the entry that also owns its finalizer.
const KUBEBUILDER: &str = "manager";

/// What an Update says about a wish.
enum Update {
    /// It is one.
    Wish,
    /// Nothing: what was written is recorded elsewhere, or the Go system wrote it.
    Silent,
    /// The Go system may have written it, or another program of that name.
    Doubtful,
}

/// Who wrote `spec.{field}` of `object`.
pub(crate) fn of(object: &Value, field: &str) -> Author {
    let annotation = object.pointer("/metadata/annotations").and_then(|all| all.get(LAST_APPLIED_ANNOTATION));
    let applied: Option<Value> =
        annotation.and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
    if applied
        .as_ref()
        .is_some_and(|applied| applied.pointer("/spec").is_some_and(|spec| spec.get(field).is_some()))
    {
        return Author::Somebody("kubectl apply".to_owned());
    }
    let mut recorded = applied.is_some();
    let (mut updated_by, mut doubtful) = (None, false);
    for entry in entries(object) {
        let manager = entry["manager"].as_str().unwrap_or_default();
        match entry["operation"].as_str() {
            Some("Apply") if owns(entry, field) => return Author::Somebody(manager.to_owned()),
            Some("Apply") => recorded |= entry.pointer("/fieldsV1/f:spec").is_some(),
            Some("Update") if owns(entry, field) => match update(entry) {
                Update::Wish => updated_by = Some(manager.to_owned()),
                Update::Doubtful => doubtful = true,
                Update::Silent => {}
            },
            _ => {}
        }
    }
    match (recorded, updated_by) {
        // Whoever made the object owns its defaults, but here it was made by an apply: so this one changed the field.
        (true, Some(manager)) => Author::Somebody(manager),
        (true, None) if !doubtful => Author::Nobody,
        (_, None) | (false, _) => Author::Unknown,
    }
}

/// The entries about the object itself, and not about its status or scale.
fn entries(object: &Value) -> impl Iterator<Item = &Value> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().filter(|entry| entry["subresource"].as_str().unwrap_or_default().is_empty())
}

/// What the Update `entry` says of the fields that it owns.
///
/// An apply on the client's side is an Update under any name (`kubectl apply --field-manager`, Argo CD), and owns the
/// defaults of what it made. It is known by its annotation, which tells what was written.
fn update(entry: &Value) -> Update {
    let manager = entry["manager"].as_str().unwrap_or_default();
    let metadata = |part: &str| entry.pointer("/fieldsV1/f:metadata").and_then(|owned| owned.get(part));
    let owns_annotation = metadata("f:annotations")
        .is_some_and(|owned| owned.get(format!("f:{LAST_APPLIED_ANNOTATION}")).is_some());
    if owns_annotation || KUBECTL_APPLY.contains(&manager) {
        return Update::Silent;
    }
    if !GO_FIELD_MANAGERS.contains(&manager) {
        return Update::Wish;
    }
    if manager != KUBEBUILDER {
        return Update::Silent;
    }
    // A set's member is a key of its own: the value as JSON.
    let member = format!("v:\"{FINALIZER}\"");
    if metadata("f:finalizers").is_some_and(|owned| owned.get(member).is_some()) {
        Update::Silent
    } else {
        Update::Doubtful
    }
}

fn owns(entry: &Value, field: &str) -> bool {
    entry.pointer("/fieldsV1/f:spec").is_some_and(|spec| spec.get(format!("f:{field}")).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, operation: &str, fields: &[&str]) -> Value {
        let fields: serde_json::Map<_, _> =
            fields.iter().map(|field| (format!("f:{field}"), json!({}))).collect();
        json!({ "manager": manager, "operation": operation, "fieldsV1": { "f:spec": fields } })
    }

    fn object(applied: Option<&Value>, entries: &[Value]) -> Value {
        let mut object = json!({ "metadata": { "managedFields": entries } });
        if let Some(spec) = applied {
            let text = json!({ "spec": spec }).to_string();
            object["metadata"]["annotations"] = json!({ (LAST_APPLIED_ANNOTATION): text });
        }
        object
    }

    fn somebody(who: &str) -> Author {
        Author::Somebody(who.to_owned())
    }

    #[test]
    fn kubectl_apply_tells_by_its_annotation_and_not_by_what_it_owns() {
        let made = entry("kubectl-client-side-apply", "Update", &["image", "timeout"]);
        let written = object(Some(&json!({ "image": "a", "timeout": "60s" })), std::slice::from_ref(&made));
        assert_eq!(of(&written, "timeout"), somebody("kubectl apply"));
        let defaulted = object(Some(&json!({ "image": "a" })), std::slice::from_ref(&made));
        assert_eq!(of(&defaulted, "timeout"), Author::Nobody);
        let mut rewritten = entry("manager", "Update", &["timeout"]);
        let another = object(Some(&json!({ "image": "a" })), &[made.clone(), rewritten.clone()]);
        assert_eq!(of(&another, "timeout"), Author::Unknown, "many programs are called manager");
        rewritten["fieldsV1"]["f:metadata"] =
            json!({ "f:finalizers": { ".": {}, (format!("v:\"{FINALIZER}\"")): {} } });
        for rewritten in [rewritten, entry("app", "Update", &["timeout"])] {
            let rewritten = object(Some(&json!({ "image": "a" })), &[made.clone(), rewritten]);
            assert_eq!(of(&rewritten, "timeout"), Author::Nobody, "the Go system spelled it anew");
        }
    }

    /// As Argo CD and `kubectl apply --field-manager=ci` do it.
    #[test]
    fn an_apply_on_the_clients_side_is_one_under_any_name() {
        for manager in ["argocd-controller", "ci", "manager"] {
            let mut made = entry(manager, "Update", &["image", "timeout"]);
            made["fieldsV1"]["f:metadata"] =
                json!({ "f:annotations": { ".": {}, (format!("f:{LAST_APPLIED_ANNOTATION}")): {} } });
            let defaulted = object(Some(&json!({ "image": "a" })), std::slice::from_ref(&made));
            assert_eq!(of(&defaulted, "timeout"), Author::Nobody, "{manager}");
            let written = object(Some(&json!({ "image": "a", "timeout": "60s" })), &[made.clone()]);
            assert_eq!(of(&written, "timeout"), somebody("kubectl apply"), "{manager}");
            let edited = object(Some(&json!({})), &[made, entry("kubectl-edit", "Update", &["timeout"])]);
            assert_eq!(of(&edited, "timeout"), somebody("kubectl-edit"), "{manager}");
        }
    }

    #[test]
    fn a_server_side_apply_tells_by_what_it_owns() {
        let applied = entry("argocd", "Apply", &["image", "timeout"]);
        assert_eq!(of(&object(None, std::slice::from_ref(&applied)), "timeout"), somebody("argocd"));
        assert_eq!(of(&object(None, &[applied]), "minReplicas"), Author::Nobody);
    }

    #[test]
    fn an_edit_of_what_was_applied_is_somebodys() {
        let edited = entry("kubectl-edit", "Update", &["timeout"]);
        let object = object(Some(&json!({ "image": "a" })), &[edited]);
        assert_eq!(of(&object, "timeout"), somebody("kubectl-edit"));
        assert_eq!(of(&object, "minReplicas"), Author::Nobody);
    }

    #[test]
    fn of_what_was_created_nothing_tells() {
        let made = entry("kubectl-create", "Update", &["image", "timeout"]);
        assert_eq!(of(&object(None, &[made]), "timeout"), Author::Unknown);
        assert_eq!(of(&json!({}), "timeout"), Author::Unknown);
        // An apply of metadata alone (a label, say) is no record of the spec.
        let labelled = json!({ "manager": "x", "operation": "Apply", "fieldsV1": { "f:metadata": {} } });
        assert_eq!(of(&object(None, &[labelled]), "timeout"), Author::Unknown);
        // Nor is a broken annotation.
        let broken = json!({ "metadata": { "annotations": { (LAST_APPLIED_ANNOTATION): "{" } } });
        assert_eq!(of(&broken, "timeout"), Author::Unknown);
    }

    #[test]
    fn a_write_of_a_subresource_says_nothing() {
        let mut status = entry("x", "Apply", &["timeout"]);
        status["subresource"] = json!("status");
        assert_eq!(of(&object(Some(&json!({})), &[status]), "timeout"), Author::Nobody);
    }
}
