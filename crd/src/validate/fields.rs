//! Each field decoded on its own, by the very code that decodes an Agent.

use serde_json::{Map, Value, json};

use super::{Findings, present, quoted};
use crate::agent::{Agent, AgentSpec, IMAGE_MISSING};
use crate::decode::{DecodeError, decode_spec};

/// The field that holds an Agent's name.
pub(super) const NAME: &str = "metadata.name";

/// Stands in for the image where another field is decoded.
const SOME_IMAGE: &str = "image";

/// An object whose fields were decoded, those apart that could not be.
pub(super) struct Decoded<'o> {
    /// `metadata.name`; `None` where the API server is asked to make one up.
    pub(super) name: Option<&'o str>,
    /// `spec` as it was written.
    pub(super) raw: &'o Map<String, Value>,
    /// The spec, without the fields that could not be decoded.
    pub(super) spec: AgentSpec,
}

/// Decodes all fields of `object`; `None` when it has nothing that further rules could judge.
pub(super) fn check<'o>(object: &'o Value, findings: &mut Findings) -> Option<Decoded<'o>> {
    if let Err(error) = envelope(object) {
        match error {
            DecodeError::Kind { .. } => {
                findings.invalid("kind", error.to_string());
                return None;
            }
            DecodeError::Field { path, reason } => findings.invalid(path, reason),
        }
    }
    let raw = match object.get("spec") {
        Some(Value::Object(spec)) => spec,
        None | Some(Value::Null) => {
            findings.invalid("spec", "is missing; an Agent has at least spec.image");
            return None;
        }
        Some(other) => {
            findings.invalid("spec", format!("is {}; write an object with at least image", quoted(other)));
            return None;
        }
    };
    let spec = decode(raw, findings)?;
    let written = |field: &str| object["metadata"].get(field).and_then(Value::as_str);
    let made_up = written("name").is_none() && written("generateName").is_some();
    let name = (!made_up).then(|| written("name").unwrap_or_default());
    Some(Decoded { name, raw, spec })
}

/// Decodes `object` with a spec that is known to be good: what fails then is its kind or its metadata.
fn envelope(object: &Value) -> Result<Agent, DecodeError> {
    let part = |field: &str| object.get(field).cloned().unwrap_or_default();
    let metadata = match part("metadata") {
        Value::Null => json!({}),
        metadata => metadata,
    };
    Agent::from_value(json!({
        "apiVersion": part("apiVersion"), "kind": part("kind"), "metadata": metadata,
        "spec": { "image": SOME_IMAGE },
    }))
}

fn decode(raw: &Map<String, Value>, findings: &mut Findings) -> Option<AgentSpec> {
    let mut good = Map::from_iter([("image".to_owned(), json!(SOME_IMAGE))]);
    if present(raw, "image").is_none() {
        findings.invalid("spec.image", IMAGE_MISSING);
    }
    for (field, value) in raw.iter().filter(|(_, value)| !value.is_null()) {
        if is_good(field, value, findings) {
            good.insert(field.clone(), value.clone());
        }
    }
    // No field decodes otherwise for the sake of another.
    decode_spec(good).ok()
}

/// Decodes one field; of a list, each entry.
fn is_good(field: &str, value: &Value, findings: &mut Findings) -> bool {
    let before = findings.problems.len();
    match value {
        Value::Array(entries) if !entries.is_empty() => {
            for (place, entry) in entries.iter().enumerate() {
                if let Err((path, reason)) = probe(field, json!([entry])) {
                    // The entry was decoded as the only one. A field that is no list at all has no place either.
                    let was = format!("spec.{field}[0]");
                    let Some(inside) = path.strip_prefix(&was) else {
                        findings.invalid(path, reason);
                        break;
                    };
                    findings.invalid(format!("spec.{field}[{place}]{inside}"), reason);
                }
            }
        }
        _ => {
            if let Err((path, reason)) = probe(field, value.clone()) {
                findings.invalid(path, reason);
            }
        }
    }
    findings.problems.len() == before
}

fn probe(field: &str, value: Value) -> Result<AgentSpec, (String, String)> {
    let mut spec = Map::from_iter([("image".to_owned(), json!(SOME_IMAGE))]);
    spec.insert(field.to_owned(), value);
    decode_spec(spec)
}
