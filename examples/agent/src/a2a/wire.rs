//! JSON-RPC 2.0 and A2A 0.3 as they are on the wire. Parsing refuses what the agent could not answer; nothing here
//! knows a task's life.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One well-formed call.
#[derive(Debug)]
pub(super) struct Call {
    /// A string or an integer; A2A has no notifications, so there always is one.
    pub(super) id: Value,
    pub(super) method: String,
    params: Value,
}

/// Why a call has no result. Codes and texts: JSON-RPC 2.0 §5.1 and A2A 0.3 §8.2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("Invalid JSON payload")]
    Parse,
    #[error("Request payload validation error")]
    InvalidRequest,
    #[error("Method not found")]
    MethodNotFound,
    #[error("Invalid parameters: {0}")]
    InvalidParams(String),
    #[error("Task not found")]
    TaskNotFound,
    #[error("Task cannot be canceled")]
    TaskNotCancelable,
    #[error("Push Notification is not supported")]
    PushNotificationNotSupported,
    #[error("This operation is not supported")]
    UnsupportedOperation,
    #[error("Incompatible content types")]
    ContentTypeNotSupported,
    #[error("Authenticated Extended Card is not configured")]
    ExtendedCardNotConfigured,
}

/// Parameters of `message/send` and `message/stream`.
#[derive(Debug, Deserialize)]
pub(super) struct SendParams {
    pub(super) message: Message,
    configuration: Option<Configuration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    blocking: Option<bool>,
    history_length: Option<usize>,
}

/// Parameters of the methods that name a task.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskParams {
    pub(super) id: String,
    /// How many of the latest messages to show; all when unset.
    pub(super) history_length: Option<usize>,
}

/// What a client says. Members that mean nothing to this agent are kept and shown in the history.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    #[serde(default)]
    kind: MessageKind,
    #[serde(rename = "messageId")]
    id: String,
    role: Role,
    parts: Vec<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) context_id: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum MessageKind {
    #[default]
    Message,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    User,
    Agent,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Part {
    Text {
        text: String,
    },
    File {
        #[serde(flatten)]
        rest: Map<String, Value>,
    },
    Data {
        #[serde(flatten)]
        rest: Map<String, Value>,
    },
}

/// A successful response.
pub(super) fn success(id: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// A response that says what was wrong. `id` is null when the call's could not be read.
pub(super) fn failure(id: &Value, error: &Error) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": error.code(), "message": error.to_string() } })
}

// === impl Call ===

impl Call {
    /// Reads a call.
    ///
    /// # Errors
    /// `Parse` when it is not JSON, `InvalidRequest` when it is not one JSON-RPC 2.0 request with an id.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Request {
            jsonrpc: String,
            id: Value,
            method: String,
            #[serde(default)]
            params: Value,
        }
        let value: Value = serde_json::from_slice(body).map_err(|_| Error::Parse)?;
        let Request { jsonrpc, id, method, params } =
            serde_json::from_value(value).map_err(|_| Error::InvalidRequest)?;
        if jsonrpc != "2.0" || !(id.is_string() || id.is_i64() || id.is_u64()) {
            return Err(Error::InvalidRequest);
        }
        Ok(Self { id, method, params })
    }

    /// The parameters, in the shape of the method.
    ///
    /// # Errors
    /// `InvalidParams` that says which member is wrong.
    pub(super) fn params<T: DeserializeOwned>(&self) -> Result<T, Error> {
        T::deserialize(&self.params).map_err(|error| Error::InvalidParams(error.to_string()))
    }
}

// === impl Error ===

impl Error {
    fn code(&self) -> i32 {
        match self {
            Self::Parse => -32700,
            Self::InvalidRequest => -32600,
            Self::MethodNotFound => -32601,
            Self::InvalidParams(_) => -32602,
            Self::TaskNotFound => -32001,
            Self::TaskNotCancelable => -32002,
            Self::PushNotificationNotSupported => -32003,
            Self::UnsupportedOperation => -32004,
            Self::ContentTypeNotSupported => -32005,
            Self::ExtendedCardNotConfigured => -32007,
        }
    }
}

// === impl SendParams ===

impl SendParams {
    /// Whether `message/send` answers only when the task has ended. It does unless told otherwise.
    pub(super) fn is_blocking(&self) -> bool {
        self.configuration.as_ref().and_then(|configuration| configuration.blocking).unwrap_or(true)
    }

    pub(super) fn history_length(&self) -> Option<usize> {
        self.configuration.as_ref().and_then(|configuration| configuration.history_length)
    }
}

// === impl Message ===

impl Message {
    /// All its text; `None` when it has no text part.
    pub(super) fn text(&self) -> Option<String> {
        let texts: Vec<_> = self
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Text { text } => Some(text.as_str()),
                Part::File { .. } | Part::Data { .. } => None,
            })
            .collect();
        (!texts.is_empty()).then(|| texts.join(" "))
    }
}
