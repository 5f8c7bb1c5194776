//! Who wrote what of a live object, as the API server keeps it in `metadata.managedFields`.
//!
//! Owns the reading of it, and the one change that Krypton makes to it: what an earlier writer owns by Update becomes
//! ours by Apply. A forced apply alone would share those fields with the earlier writer, and what it once put there (a
//! sidecar, a port) would stay for good, since its owner never takes it away.

use krypton_crd::keys::FIELD_MANAGER;
use serde_json::{Map, Value, json};

use super::field_path::{FieldPath, Segment};

/// One entry of `metadata.managedFields`. Empty where the entry lacks the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer<'a> {
    /// Name by which the writer calls itself.
    pub manager: &'a str,
    /// `Apply` or `Update`.
    pub operation: &'a str,
    /// Subresource that it wrote through, e.g. `status` or `scale`; `None`: the object itself.
    pub subresource: Option<&'a str>,
    /// When it last changed what it owns, RFC 3339 in UTC; the API server does not say it of what came through `scale`.
    pub time: Option<&'a str>,
}

/// UID of the object that controls `live`.
#[must_use]
pub fn owner_uid(live: &Value) -> Option<&str> {
    let owners = live.pointer("/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?.get("uid")?.as_str()
}

/// All who wrote `live`, in the order in which the API server names them.
#[must_use]
pub fn writers(live: &Value) -> Vec<Writer<'_>> {
    entries(live).iter().map(Writer::of).collect()
}

/// Who, other than Krypton, owns the value at `path`: by itself or by owning a whole that it is part of. Of several,
/// the one that wrote last. `None` also where `path` was taken away, as nobody owns what is not there.
#[must_use]
pub fn foreign_owner_of<'a>(live: &'a Value, path: &FieldPath) -> Option<&'a str> {
    entries(live)
        .iter()
        .filter(|entry| owns(&entry["fieldsV1"], path.segments()))
        .map(Writer::of)
        .filter(|writer| writer.manager != FIELD_MANAGER)
        .max_by_key(|writer| writer.time)
        .map(|writer| writer.manager)
}

/// The JSON patch after which what `managers` own of `live` by Update is ours by Apply; `None` when they own nothing.
/// The next apply then takes away what of it is not wanted.
///
/// Left alone are entries of others, and those about a subresource: status and scale have their own writers. The
/// patch fails when `live` has changed since it was read.
#[must_use]
pub fn take_over(live: &Value, managers: &[&str]) -> Option<Value> {
    let version = live.pointer("/metadata/resourceVersion")?.as_str()?;
    let is_theirs = |writer: &Writer<'_>| {
        writer.operation == "Update" && writer.subresource.is_none() && managers.contains(&writer.manager)
    };
    let is_ours = |writer: &Writer<'_>| {
        writer.operation == "Apply" && writer.subresource.is_none() && writer.manager == FIELD_MANAGER
    };
    let entries = entries(live);
    if !entries.iter().any(|entry| is_theirs(&Writer::of(entry))) {
        return None;
    }
    let (merged, mut kept): (Vec<&Value>, Vec<&Value>) = entries.iter().partition(|entry| {
        let writer = Writer::of(entry);
        is_theirs(&writer) || is_ours(&writer)
    });
    let ours = as_our_apply(&merged);
    kept.push(&ours);
    Some(json!([
        { "op": "test", "path": "/metadata/resourceVersion", "value": version },
        { "op": "replace", "path": "/metadata/managedFields", "value": kept },
    ]))
}

/// One Apply entry of ours that owns what all `entries` own.
fn as_our_apply(entries: &[&Value]) -> Value {
    let mut fields = Map::new();
    for entry in entries {
        if let Some(more) = entry["fieldsV1"].as_object() {
            unite(&mut fields, more);
        }
    }
    // An Update of the object cannot change its status, so nobody owns it by one; an Apply that owned it would ask
    // the API server to take it away.
    fields.remove("f:status");
    let mut ours = json!({
        "manager": FIELD_MANAGER,
        "operation": "Apply",
        // The kinds that we make have one version each.
        "apiVersion": entries.first().map(|entry| entry["apiVersion"].clone()),
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    });
    if let Some(time) = entries.iter().filter_map(|entry| entry["time"].as_str()).max() {
        ours["time"] = time.into();
    }
    ours
}

/// Adds what `more` owns to `fields`.
///
/// In such a tree, an empty object is a value that is owned; one with others inside owns those, and itself only if
/// it also has the member `.`.
fn unite(fields: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (name, inside) in more {
        match (fields.get_mut(name), inside) {
            (Some(Value::Object(known)), Value::Object(inside)) => {
                if known.is_empty() != inside.is_empty() {
                    known.insert(".".to_owned(), json!({}));
                }
                unite(known, inside);
            }
            _ => {
                fields.insert(name.clone(), inside.clone());
            }
        }
    }
}

/// Whether the owner of `tree` owns the value at `path`.
fn owns(tree: &Value, path: &[Segment]) -> bool {
    let Some(tree) = tree.as_object() else { return false };
    let Some((segment, rest)) = path.split_first() else { return true };
    let inside = match segment {
        Segment::Field(name) => tree.get(&format!("f:{name}")),
        Segment::Item(keys) => tree.iter().find_map(|(name, inside)| {
            let found: Map<String, Value> = serde_json::from_str(name.strip_prefix("k:")?).ok()?;
            let is_it =
                found.len() == keys.len() && keys.iter().all(|(key, value)| found.get(*key) == Some(value));
            is_it.then_some(inside)
        }),
        Segment::Index(_) => None,
    };
    match inside {
        // Nothing is told of its inside: it is owned as one value.
        Some(Value::Object(inside)) if inside.is_empty() => true,
        Some(inside) => owns(inside, rest),
        None => false,
    }
}

fn entries(live: &Value) -> &[Value] {
    live.pointer("/metadata/managedFields").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

// === impl Writer ===

impl<'a> Writer<'a> {
    fn of(entry: &'a Value) -> Self {
        let text = |field| entry.get(field).and_then(Value::as_str);
        Self {
            manager: text("manager").unwrap_or_default(),
            operation: text("operation").unwrap_or_default(),
            subresource: text("subresource").filter(|name| !name.is_empty()),
            time: text("time"),
        }
    }
}

#[cfg(test)]
mod tests;
