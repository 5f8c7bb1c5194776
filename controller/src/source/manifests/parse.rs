//! One file's bytes to objects: pure.
//!
//! A file is broken as a whole if it cannot be read as YAML or JSON. A document in it that is not a good object
//! is a problem of its own. Objects of kinds that routes do not need are left alone, so that the very files one
//! applies to a cluster can lie in the folder.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use krypton_crd::{Agent, keys};
use krypton_discovery::EndpointPolicy;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_saphyr::Spanned;

use crate::index::{AgentObject, Record as _, ServiceObject, SliceObject};
use crate::object::{Kind, ObjectId};

/// The largest file that is read. 4 MiB hold some ten thousand Agents.
pub(super) const MAX_FILE_BYTES: usize = 4 << 20;

/// Problems kept of one file: enough to see what is wrong with it.
const MAX_PROBLEMS: usize = 100;

/// The longest reason of a problem: a refused value may be as large as the file.
const MAX_REASON_BYTES: usize = 512;

/// The namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// A good object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ManifestObject {
    Agent(AgentObject),
    EndpointSlice(SliceObject),
    Service(ServiceObject),
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The good objects, each with its document.
    pub(super) objects: Vec<(Position, ManifestObject)>,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
    /// What was left alone, e.g. `ConfigMap default/settings`.
    pub(super) ignored: Vec<String>,
    /// Whether the file could not be read at all.
    pub(super) broken: bool,
}

/// Where in a file something stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Which document that is not empty, from 1.
    pub(super) document: Option<usize>,
    pub(super) line: Option<u64>,
    pub(super) column: Option<u64>,
}

/// What is wrong with a document or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) position: Position,
    pub(super) reason: String,
}

/// What became of one object.
#[expect(clippy::large_enum_variant, reason = "one at a time, and only from one function to the next")]
enum Outcome {
    Good(ManifestObject),
    Ignored(String),
}

// === impl ManifestObject ===

impl ManifestObject {
    /// Its kind and name.
    pub(super) fn id(&self) -> (Kind, ObjectId) {
        match self {
            Self::Agent(agent) => (Kind::Agent, agent.id().clone()),
            Self::EndpointSlice(slice) => (Kind::EndpointSlice, slice.id().clone()),
            Self::Service(service) => (Kind::Service, service.id().clone()),
        }
    }
}

// === impl Parsed ===

impl Parsed {
    /// A file that cannot be read.
    pub(super) fn broken(position: Position, reason: &str) -> Self {
        let problem = Problem { position, reason: shortened(reason) };
        Self { problems: vec![problem], broken: true, ..Self::default() }
    }

    fn take(&mut self, position: Position, object: Value, policy: &EndpointPolicy) {
        let items = match items_of(object) {
            Ok(items) => items,
            Err(object) => return self.take_one(position, object, "", policy),
        };
        for (n, item) in items.into_iter().enumerate() {
            self.take_one(position, item, &format!("items[{n}]."), policy);
        }
    }

    fn take_one(&mut self, position: Position, object: Value, prefix: &str, policy: &EndpointPolicy) {
        match convert(object, policy) {
            Ok(Outcome::Good(object)) => self.objects.push((position, object)),
            Ok(Outcome::Ignored(what)) => self.ignored.push(what),
            Err(reason) => self.add_problem(position, &format!("{prefix}{reason}")),
        }
    }

    fn add_problem(&mut self, position: Position, reason: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { position, reason: shortened(reason) });
        }
    }
}

/// Reads a file. `json` tells the format that its name promises.
pub(super) fn parse(bytes: &[u8], json: bool, policy: &EndpointPolicy) -> Parsed {
    if bytes.is_empty() {
        return Parsed::broken(
            Position::default(),
            "the file is empty; remove it to remove its objects, as a file being written is empty too",
        );
    }
    if bytes.len() > MAX_FILE_BYTES {
        return Parsed::broken(Position::default(), "the file is larger than 4 MiB");
    }
    if let Some(at) = first_binary_byte(bytes) {
        let reason = format!("the file is not text: byte {at} is {:#04x}", bytes[at]);
        return Parsed::broken(Position::default(), &reason);
    }
    let documents = if json { json_documents(bytes) } else { yaml_documents(bytes) };
    let mut parsed = Parsed::default();
    match documents {
        Ok(documents) => {
            for (position, document) in documents {
                parsed.take(position, document, policy);
            }
            parsed
        }
        Err(Problem { position, reason }) => Parsed::broken(position, &reason),
    }
}

/// Control characters that no manifest holds, and what is not UTF-8.
fn first_binary_byte(bytes: &[u8]) -> Option<usize> {
    let control = |b: &u8| *b == 0x7f || (*b < b' ' && !matches!(b, b'\t' | b'\n' | b'\r'));
    let invalid = std::str::from_utf8(bytes).err().map(|error| error.valid_up_to());
    bytes.iter().position(control).into_iter().chain(invalid).min()
}

fn yaml_documents(mut bytes: &[u8]) -> Result<Vec<(Position, Value)>, Problem> {
    let mut documents = Vec::new();
    for document in serde_saphyr::read_with_options::<_, Spanned<Value>>(&mut bytes, yaml_options()) {
        let number = documents.len() + 1;
        let document = document.map_err(|error| {
            let at = error.location();
            let position = Position {
                document: Some(number),
                line: at.map(|at| at.line()),
                column: at.map(|at| at.column()),
            };
            Problem { position, reason: error.without_snippet().to_string() }
        })?;
        let at = document.defined;
        let position = Position { document: Some(number), line: Some(at.line()), column: Some(at.column()) };
        documents.push((position, document.value));
    }
    Ok(documents)
}

/// Limits against documents that are small to write and large to hold. A list of five thousand Agents has about
/// 150,000 nodes; people who use anchors in manifests use a few.
fn yaml_options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: 1_000_000,
            max_total_scalar_bytes: 2 * MAX_FILE_BYTES,
            max_anchors: 1_000,
            max_aliases: 1_000,
            max_merge_keys: 1_000,
        },
        with_snippet: false,
    };
    options.alias_limits.max_total_replayed_events = 20_000;
    options
}

fn json_documents(bytes: &[u8]) -> Result<Vec<(Position, Value)>, Problem> {
    let mut documents = Vec::new();
    for document in serde_json::Deserializer::from_slice(bytes).into_iter::<Value>() {
        let number = Some(documents.len() + 1);
        let document = document.map_err(|error| {
            let (line, column) = (error.line() as u64, error.column() as u64);
            let position = Position { document: number, line: Some(line), column: Some(column) };
            Problem { position, reason: error.to_string() }
        })?;
        documents.push((Position { document: number, line: None, column: None }, document));
    }
    Ok(documents)
}

/// The items of a list kind (`List`, `AgentList`, …). Items of a typed list may leave out what they are.
fn items_of(mut object: Value) -> Result<Vec<Value>, Value> {
    let text = |object: &Value, field: &str| object.get(field).and_then(Value::as_str).map(str::to_owned);
    let Some(kind) = text(&object, "kind").and_then(|kind| kind.strip_suffix("List").map(str::to_owned))
    else {
        return Err(object);
    };
    let api_version = text(&object, "apiVersion").unwrap_or_default();
    let Some(Value::Array(mut items)) = object.get_mut("items").map(Value::take) else {
        return Err(object);
    };
    for item in items.iter_mut().filter_map(Value::as_object_mut).filter(|_| !kind.is_empty()) {
        item.entry("kind").or_insert_with(|| json!(kind));
        item.entry("apiVersion").or_insert_with(|| json!(api_version));
    }
    Ok(items)
}

fn convert(mut object: Value, policy: &EndpointPolicy) -> Result<Outcome, String> {
    let Some(fields) = object.as_object_mut() else {
        return Err("not an object with apiVersion, kind and metadata".to_owned());
    };
    let text = |field: &str| fields.get(field).and_then(Value::as_str).map(str::to_owned);
    let kind = text("kind").ok_or("kind: missing")?;
    let api_version = text("apiVersion").ok_or("apiVersion: missing")?;
    let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Err("metadata: missing".to_owned());
    };
    metadata.remove("managedFields");
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if metadata.get("namespace").is_none_or(|namespace| namespace.is_null() || namespace == "") {
        metadata.insert("namespace".to_owned(), json!(DEFAULT_NAMESPACE));
    }
    let told = format!("{kind} {name}");
    let refuse = |reason: String| format!("{told}: {reason}");
    let (group, _) = api_version.split_once('/').unwrap_or_default();
    match (group, kind.as_str()) {
        _ if name.is_empty() => Err(refuse("metadata.name: missing".to_owned())),
        (keys::GROUP, keys::KIND) => {
            let agent = Agent::from_value(object).map_err(|error| refuse(error.to_string()))?;
            let agent = AgentObject::from_agent(&agent).map_err(|error| refuse(error.to_string()))?;
            Ok(Outcome::Good(ManifestObject::Agent(agent)))
        }
        ("discovery.k8s.io", "EndpointSlice") => {
            let slice: EndpointSlice = decode(object).map_err(refuse)?;
            let slice = SliceObject::from_slice(&slice, policy).map(ManifestObject::EndpointSlice);
            Ok(slice.map_or(Outcome::Ignored(format!("{told} (not of an Agent)")), Outcome::Good))
        }
        ("", "Service") => {
            let service: Service = decode(object).map_err(refuse)?;
            let service = ServiceObject::from_service(&service, policy).map(ManifestObject::Service);
            Ok(service.map_or(Outcome::Ignored(format!("{told} (not of an Agent)")), Outcome::Good))
        }
        _ => Ok(Outcome::Ignored(told)),
    }
}

fn decode<T: DeserializeOwned>(object: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(object).map_err(|error| error.to_string())
}

fn shortened(reason: &str) -> String {
    reason[..reason.floor_char_boundary(MAX_REASON_BYTES)].to_owned()
}

#[cfg(test)]
mod tests;
