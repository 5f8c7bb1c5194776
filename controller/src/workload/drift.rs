//! Whether a live object is what is wanted.
//!
//! Owns the comparison. Only what is wanted is compared: fields that the API server fills in, status, and what others
//! add (an annotation, a variable of another name) are no difference, since an apply would not take them away. So
//! a field that is no longer wanted is not seen here; the hash in `krypton.ai/applied` tells that.
//!
//! The API server writes some values its own way. Those are compared by what they mean: a quantity by value, an empty
//! value as absent where it is dropped. Anything else would be a difference for ever, and a write for ever.

use serde_json::{Map, Number, Value};

use super::field_path::{FieldPath, Segment};
use super::merge_keys::keys_of;
use super::quantity::nanos;

/// How the inside of a field is compared. What is chosen for a field holds for all inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Fields of Kubernetes' types.
    Fields,
    /// A map whose keys are somebody's words: an empty value is a value.
    Texts,
    /// One value for server-side apply: whatever stands there and is not wanted is a difference.
    Exact,
    /// Quantities.
    Quantities,
}

/// Maps of texts.
const TEXTS: &[&str] = &["annotations", "labels"];

/// Objects that are one value (`x-kubernetes-map-type: atomic`) and of which the API server fills in nothing.
const EXACT: &[&str] =
    &["configMapKeyRef", "labelSelector", "namespaceSelector", "nodeSelector", "secretKeyRef", "selector"];

/// Quantities, or maps of them.
const QUANTITIES: &[&str] = &["divisor", "limits", "overhead", "requests", "sizeLimit", "storage"];

/// Fields whose zero the API server keeps and whose absence means something else, mostly the opposite.
const ABSENCE_DIFFERS: &[&str] = &[
    "allowPrivilegeEscalation",
    "automountServiceAccountToken",
    "defaultMode",
    "enableServiceLinks",
    "fsGroup",
    "hostUsers",
    "maxSurge",
    "maxUnavailable",
    "mode",
    "replicas",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsUser",
    "terminationGracePeriodSeconds",
    "tolerationSeconds",
];

/// The first place where `live` lacks what is wanted; `None` when there is nothing to do.
///
/// `apiVersion` and `kind` of the object are not compared: objects of a list come without them.
#[must_use]
pub fn first_difference(wanted: &Value, live: &Value) -> Option<FieldPath> {
    let (Some(wanted), Some(live)) = (wanted.as_object(), live.as_object()) else {
        return (wanted != live).then(FieldPath::default);
    };
    wanted
        .iter()
        .filter(|(field, _)| !matches!(field.as_str(), "apiVersion" | "kind"))
        .find_map(|(field, value)| in_field(field, value, live.get(field), Mode::Fields))
}

/// Whether `spec.replicas` is other than wanted and all else is as wanted.
#[must_use]
pub fn only_replicas_differ(wanted: &Value, live: &Value) -> bool {
    let replicas = "/spec/replicas";
    let differ = match (wanted.pointer(replicas), live.pointer(replicas)) {
        (Some(wanted), live) => live != Some(wanted),
        (None, _) => false,
    };
    if !differ {
        return false;
    }
    let mut without = wanted.clone();
    if let Some(spec) = without.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("replicas");
    }
    first_difference(&without, live).is_none()
}

/// The difference in `field`, as seen from the object that it is in.
fn in_field(field: &str, wanted: &Value, live: Option<&Value>, around: Mode) -> Option<FieldPath> {
    let mode = mode_of(field, around);
    let difference = match (wanted, live) {
        (Value::Null, None | Some(Value::Null)) => None,
        (Value::Object(wanted), None) => in_object(wanted, &Map::new(), mode),
        (Value::Array(wanted), None) if wanted.is_empty() => None,
        (scalar, None) if is_dropped(field, scalar, mode) => None,
        (_, None) => Some(FieldPath::default()),
        (wanted, Some(live)) => in_value(field, wanted, live, mode),
    };
    difference.map(|path| path.within(Segment::field(field)))
}

fn in_value(field: &str, wanted: &Value, live: &Value, mode: Mode) -> Option<FieldPath> {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => in_object(wanted, live, mode),
        (Value::Array(wanted), Value::Array(live)) => in_list(field, wanted, live, mode),
        (wanted, live) => (!is_same(wanted, live, mode)).then(FieldPath::default),
    }
}

fn in_object(wanted: &Map<String, Value>, live: &Map<String, Value>, mode: Mode) -> Option<FieldPath> {
    let missing = wanted.iter().find_map(|(field, value)| in_field(field, value, live.get(field), mode));
    if missing.is_some() || mode != Mode::Exact {
        return missing;
    }
    let extra = live.iter().find(|(field, value)| !value.is_null() && !wanted.contains_key(*field));
    extra.map(|(field, _)| FieldPath::of(&[field]))
}

fn in_list(field: &str, wanted: &[Value], live: &[Value], mode: Mode) -> Option<FieldPath> {
    if let Some(difference) = in_keyed_list(field, wanted, live, mode) {
        return difference;
    }
    if wanted.len() != live.len() {
        return Some(FieldPath::default());
    }
    wanted.iter().zip(live).enumerate().find_map(|(index, (wanted, live))| {
        in_value("", wanted, live, mode).map(|path| path.within(Segment::Index(index)))
    })
}

/// As [`in_list`] for a list whose items are told apart by keys; the outer `None` when they are not.
#[expect(clippy::option_option, reason = "whether the list has keys, and then whether it differs")]
fn in_keyed_list(field: &str, wanted: &[Value], live: &[Value], mode: Mode) -> Option<Option<FieldPath>> {
    let keys = keys_of(field, wanted)?;
    let items: Vec<_> = wanted
        .iter()
        .map(|item| item.as_object().and_then(|item| Some((keys.of(item).ok()?, item))))
        .collect::<Option<_>>()?;
    Some(items.into_iter().find_map(|(key, item)| {
        let found = keys.find(&key, live).and_then(|position| live[position].as_object());
        let difference = match found {
            Some(found) => in_object(item, found, mode),
            None => Some(FieldPath::default()),
        };
        difference.map(|path| path.within(Segment::Item(key)))
    }))
}

fn mode_of(field: &str, around: Mode) -> Mode {
    match around {
        Mode::Fields if TEXTS.contains(&field) => Mode::Texts,
        Mode::Fields if EXACT.contains(&field) => Mode::Exact,
        Mode::Fields if QUANTITIES.contains(&field) => Mode::Quantities,
        inherited => inherited,
    }
}

/// Whether the API server keeps no trace of `value` in `field`, and means by its absence the same.
fn is_dropped(field: &str, value: &Value, mode: Mode) -> bool {
    let is_zero = match value {
        Value::Null => return true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    };
    is_zero && mode == Mode::Fields && !ABSENCE_DIFFERS.contains(&field)
}

fn is_same(wanted: &Value, live: &Value, mode: Mode) -> bool {
    let by_value = |one: &str, other: &str| {
        mode == Mode::Quantities && nanos(one).is_some_and(|value| nanos(other) == Some(value))
    };
    match (wanted, live) {
        (Value::Number(wanted), Value::Number(live)) => is_same_number(wanted, live),
        (Value::String(wanted), Value::String(live)) => wanted == live || by_value(wanted, live),
        // A quantity, or a port, may be written as a number and is stored as a text.
        (Value::Number(number), Value::String(text)) | (Value::String(text), Value::Number(number)) => {
            let number = number.to_string();
            number == *text || by_value(&number, text)
        }
        (wanted, live) => wanted == live,
    }
}

fn is_same_number(wanted: &Number, live: &Number) -> bool {
    wanted == live || (wanted.is_f64() != live.is_f64() && wanted.as_f64() == live.as_f64())
}

#[cfg(test)]
mod tests;
