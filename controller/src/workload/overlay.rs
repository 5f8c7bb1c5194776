//! An Agent's `podTemplate` laid over the pod template that Krypton makes.
//!
//! Owns how the two become one and what the result must still be. Whether the result is a pod at all is the API
//! server's to say.
//!
//! - Objects merge field by field, lists that Kubernetes keys merge item by item, other lists are replaced.
//! - `null` takes a field away.
//! - What has one of several forms is replaced: a variable, and a probe or hook that names its handler.
//! - Afterwards, [`check`] looks whether the Agent's container, port, label and account are still there. To leave
//!   out silently what contradicts them would let a person believe that it holds.

use krypton_crd::keys::{AGENT_CONTAINER, AGENT_LABEL, HTTP_PORT};
use serde_json::{Map, Value};

use super::field_path::{FieldPath, Segment};
use super::merge_keys::keys_of;
use super::pod::without_nulls;

/// Why no pods can be made of an Agent. Its text names the field of the Agent and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct BuildError {
    /// The field, as seen from the Agent.
    pub path: FieldPath,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is no object where Krypton's own template has one, or an item of a keyed list is none.
    #[error("must be an object")]
    NotAnObject,
    /// It is no list where Krypton's own template has one.
    #[error("must be a list")]
    NotAList,
    /// An item lacks the field by which its list is merged.
    #[error("needs the field {0}, by which the items of this list are told apart")]
    KeyMissing(&'static str),
    /// Two items of a list are the same by its keys.
    #[error("stands twice in its list")]
    Twice,
    /// A pod template has no such field.
    #[error("is not a field of a pod template, which has metadata and spec")]
    UnknownField,
    /// It contradicts what Krypton needs of a pod.
    #[error("{0}")]
    Reserved(&'static str),
    /// The object lacks what every stored object has.
    #[error("is missing; the object does not come from an API server")]
    NotStored,
}

/// Fields that hold one handler and, for probes, its numbers.
const HANDLER_FIELDS: &[&str] = &["livenessProbe", "postStart", "preStop", "readinessProbe", "startupProbe"];

/// What a handler can be; a probe or hook has exactly one.
const HANDLERS: &[&str] = &["exec", "grpc", "httpGet", "sleep", "tcpSocket"];

/// Lays `fragment`, an Agent's `podTemplate`, over `template`.
///
/// # Errors
/// When the two do not fit together.
pub(super) fn lay_over(
    template: &mut Map<String, Value>,
    fragment: &Map<String, Value>,
) -> Result<(), BuildError> {
    let unknown = fragment.keys().find(|field| !matches!(field.as_str(), "metadata" | "spec"));
    match unknown {
        Some(field) => Err(BuildError::at(&[field], Problem::UnknownField)),
        None => merge_object(template, fragment),
    }
    .map_err(of_pod_template)
}

// === merging ===

fn merge_object(base: &mut Map<String, Value>, over: &Map<String, Value>) -> Result<(), BuildError> {
    for (field, value) in over {
        let ours = base.remove(field);
        if !value.is_null() {
            let merged = merge(field, ours, value).map_err(|error| error.within(Segment::field(field)))?;
            base.insert(field.clone(), merged);
        }
    }
    Ok(())
}

/// The value of `field` when `over` is laid over what it was.
fn merge(field: &str, base: Option<Value>, over: &Value) -> Result<Value, BuildError> {
    match (base, over) {
        (Some(Value::Object(base)), Value::Object(over)) => {
            let mut merged = if names_handler(field, over) { Map::new() } else { base };
            merge_object(&mut merged, over)?;
            Ok(Value::Object(merged))
        }
        (Some(Value::Object(_)), _) => Err(Problem::NotAnObject.into()),
        (Some(Value::Array(base)), Value::Array(over)) => merge_list(field, base, over),
        (Some(Value::Array(_)), _) => Err(Problem::NotAList.into()),
        (_, Value::Object(over)) => {
            let mut merged = Map::new();
            merge_object(&mut merged, over)?;
            Ok(Value::Object(merged))
        }
        (_, Value::Array(over)) => merge_list(field, Vec::new(), over),
        (_, scalar) => Ok(scalar.clone()),
    }
}

fn merge_list(field: &str, mut base: Vec<Value>, over: &[Value]) -> Result<Value, BuildError> {
    let Some(keys) = keys_of(field, over) else {
        let items = over.iter().enumerate();
        return items
            .map(|(index, item)| merge("", None, item).map_err(|error| error.within(Segment::Index(index))))
            .collect();
    };
    let mut seen = Vec::with_capacity(over.len());
    for (index, item) in over.iter().enumerate() {
        let at_index = |problem: Problem| BuildError::from(problem).within(Segment::Index(index));
        let item = item.as_object().ok_or_else(|| at_index(Problem::NotAnObject))?;
        let key = keys.of(item).map_err(|missing| at_index(Problem::KeyMissing(missing)))?;
        let at_key = |error: BuildError| error.within(Segment::Item(key.clone()));
        if seen.contains(&key) {
            return Err(at_key(Problem::Twice.into()));
        }
        match keys.find(&key, &base).map(|position| &mut base[position]) {
            // A variable has a value or takes one from elsewhere, never both.
            Some(ours) if field == "env" => *ours = Value::Object(without_nulls(item)),
            Some(Value::Object(ours)) => merge_object(ours, item).map_err(at_key)?,
            _ => {
                let mut new = Map::new();
                merge_object(&mut new, item).map_err(at_key)?;
                base.push(Value::Object(new));
            }
        }
        seen.push(key);
    }
    Ok(Value::Array(base))
}

/// Whether `over` says how a probe or hook looks, and not only how often: merged with another handler it would have
/// two, which no pod may.
fn names_handler(field: &str, over: &Map<String, Value>) -> bool {
    HANDLER_FIELDS.contains(&field)
        && HANDLERS.iter().any(|handler| over.get(*handler).is_some_and(|given| !given.is_null()))
}

// === what must hold afterwards ===

/// Whether `template` still is what the Service, the gateways and the Agent's other fields count on, of which
/// `ours` was made. `port` is the Agent's.
///
/// # Errors
/// The first place that contradicts.
pub(super) fn check(
    template: &Map<String, Value>,
    ours: &Map<String, Value>,
    port: u16,
) -> Result<(), BuildError> {
    check_pod(template, ours).and_then(|()| check_containers(template, ours, port)).map_err(of_pod_template)
}

fn check_pod(template: &Map<String, Value>, ours: &Map<String, Value>) -> Result<(), BuildError> {
    let label = ["metadata", "labels", AGENT_LABEL];
    if value_at(template, &label) != value_at(ours, &label) {
        let reason = "must stay the Agent's name: the Deployment and the Service find the pods by it";
        return Err(BuildError::at(&label, Problem::Reserved(reason)));
    }
    let restart = ["spec", "restartPolicy"];
    if value_at(template, &restart).is_some_and(|policy| policy != "Always") {
        let reason = "can only be Always: the pods of a Deployment are always restarted; leave it out";
        return Err(BuildError::at(&restart, Problem::Reserved(reason)));
    }
    let account = value_at(ours, &["spec", "serviceAccountName"]);
    let other = ["serviceAccountName", "serviceAccount"].into_iter().find(|field| {
        let given = value_at(template, &["spec", field]);
        given != account && (*field == "serviceAccountName" || given.is_some())
    });
    match other {
        Some(field) => {
            let reason = "is given by spec.serviceAccountName of the Agent; set it there";
            Err(BuildError::at(&["spec", field], Problem::Reserved(reason)))
        }
        None => Ok(()),
    }
}

fn check_containers(
    template: &Map<String, Value>,
    ours: &Map<String, Value>,
    port: u16,
) -> Result<(), BuildError> {
    let in_agent = |field: &str, reason| {
        BuildError::at(&["spec", "containers"], Problem::Reserved(reason))
            .then(Segment::Item(vec![("name", AGENT_CONTAINER.into())]))
            .then(Segment::field(field))
    };
    let Some(agent) = agent_container(template) else {
        let reason = "must keep the container agent, which runs the Agent's image";
        return Err(BuildError::at(&["spec", "containers"], Problem::Reserved(reason)));
    };
    if agent.get("image") != agent_container(ours).and_then(|agent| agent.get("image")) {
        return Err(in_agent("image", "is given by spec.image of the Agent; set it there"));
    }
    for list in ["initContainers", "containers"] {
        for container in value_at(template, &["spec", list]).and_then(Value::as_array).into_iter().flatten() {
            check_port_names(list, container, port)?;
        }
    }
    let ports = agent.get("ports").and_then(Value::as_array);
    if !ports.into_iter().flatten().any(|entry| entry["name"] == HTTP_PORT) {
        let reason =
            "must keep the port http, by which calls reach the agent; its number is spec.port of the Agent";
        return Err(in_agent("ports", reason));
    }
    Ok(())
}

/// Whether the name `http` in a container's ports is that of the Agent's port alone: the Service looks for it in all
/// containers.
fn check_port_names(list: &str, container: &Value, port: u16) -> Result<(), BuildError> {
    let entries = container["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let is_agents = list == "containers" && container["name"] == AGENT_CONTAINER;
    let stray = entries.iter().find(|entry| {
        let is_tcp = entry.get("protocol").is_none_or(|protocol| protocol == "TCP");
        entry["name"] == HTTP_PORT && !(is_agents && is_tcp && entry["containerPort"] == port)
    });
    let Some(stray) = stray else { return Ok(()) };
    let reason = "must not be called http, as the agent's port is, whose number is spec.port of the Agent";
    let mut error = BuildError::at(&["spec", list], Problem::Reserved(reason))
        .then(Segment::Item(vec![("name", container["name"].clone())]))
        .then(Segment::field("ports"));
    let key = stray.as_object().zip(keys_of("ports", entries)).and_then(|(entry, keys)| keys.of(entry).ok());
    if let Some(key) = key {
        error = error.then(Segment::Item(key));
    }
    Err(error)
}

fn agent_container(template: &Map<String, Value>) -> Option<&Value> {
    let containers = value_at(template, &["spec", "containers"])?.as_array()?;
    containers.iter().find(|container| container["name"] == AGENT_CONTAINER)
}

fn value_at<'a>(object: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.get(*first)?, |value, field| value.get(*field))
}

fn of_pod_template(error: BuildError) -> BuildError {
    error.within(Segment::field("podTemplate")).within(Segment::field("spec"))
}

// === impl BuildError ===

impl BuildError {
    pub(super) fn at(path: &[&str], problem: Problem) -> Self {
        Self { path: FieldPath::of(path), problem }
    }

    fn within(self, segment: Segment) -> Self {
        Self { path: self.path.within(segment), ..self }
    }

    fn then(self, segment: Segment) -> Self {
        Self { path: self.path.then(segment), ..self }
    }
}

impl From<Problem> for BuildError {
    fn from(problem: Problem) -> Self {
        Self { path: FieldPath::default(), problem }
    }
}

#[cfg(test)]
mod tests;
