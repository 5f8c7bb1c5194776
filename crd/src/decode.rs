//! One object in, one Agent out, or the field it failed at.
//!
//! Owns the one place where JSON becomes an [`Agent`]. It takes one object at a time, so that an Agent which does not
//! decode never hides another. Fields it does not know are ignored, as the API server prunes them.

use serde_json::{Map, Value};

use crate::agent::{Agent, AgentSpec};
use crate::keys::{API_VERSION, KIND};

/// Longest reason, in characters: a refused value may be as large as an object.
const MAX_REASON: usize = 512;

/// Why an object is not an Agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The object is of another kind.
    #[error("not an Agent of krypton.ai/v1alpha1 but {kind:?} of {api_version:?}")]
    Kind {
        /// `apiVersion` as written; empty where there is none.
        api_version: String,
        /// `kind` as written; empty where there is none.
        kind: String,
    },
    /// A field has a value that it cannot have.
    #[error("{path}: {reason}")]
    Field {
        /// The field, e.g. `spec.timeout` or `spec.env[2]`; for a missing field, the object that lacks it.
        path: String,
        /// What is wrong with it; names the value.
        reason: String,
    },
}

// === impl Agent ===

impl Agent {
    /// Decodes one Agent.
    ///
    /// A null in `spec` is an absent field, as it is for the API server. A status that cannot be read is left out: it
    /// says nothing that is not worked out again.
    ///
    /// # Errors
    /// When the object is not an Agent, or when a field has a value that it cannot have.
    pub fn from_value(mut object: Value) -> Result<Self, DecodeError> {
        let written = |field| object.get(field).and_then(Value::as_str).unwrap_or_default();
        if written("apiVersion") != API_VERSION || written("kind") != KIND {
            return Err(DecodeError::Kind {
                api_version: shortened(written("apiVersion")),
                kind: shortened(written("kind")),
            });
        }
        if let Some(Value::Object(spec)) = object.get_mut("spec") {
            spec.retain(|_, value| !value.is_null());
        }
        let status = object.as_object_mut().and_then(|object| object.remove("status"));
        let mut agent: Self =
            serde_path_to_error::deserialize(object).map_err(|error| DecodeError::Field {
                path: error.path().to_string(),
                reason: shortened(&error.inner().to_string()),
            })?;
        agent.status = status.and_then(|status| serde_json::from_value(status).ok());
        Ok(agent)
    }
}

/// Decodes a spec alone, e.g. one field of it beside an image.
///
/// # Errors
/// The field and what is wrong with it, as [`Agent::from_value`] says it.
pub(crate) fn decode_spec(spec: Map<String, Value>) -> Result<AgentSpec, (String, String)> {
    serde_path_to_error::deserialize(Value::Object(spec))
        .map_err(|error| (format!("spec.{}", error.path()), shortened(&error.inner().to_string())))
}

pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests;
