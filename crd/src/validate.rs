//! All that is wrong with an Agent, each with its field and the way out.
//!
//! Owns [`validate`], a pure function over the object as it was written. It says what the schema and its rules say, in
//! the same words where the rule is ours, and what those cannot see but Kubernetes or a node would refuse later:
//! quantities, environment variables, the shape of `podTemplate`. It never changes an object, never asks the cluster
//! (whether a Secret exists is found out elsewhere), and is no second parser: types, enums, ranges and durations are
//! judged by decoding ([`crate::decode`]).
//!
//! 1. `fields` decodes each field on its own, so that one mistake does not hide the next.
//! 2. `rules` judges what was decoded: names, fields that do not go together, settings that are likely a mistake.
//! 3. `container` and `pod_template` judge the parts that are open in the schema.
//! 4. For a change, what the old object already had is taken out, as the API server does it.

mod container;
mod fields;
mod pod_template;
mod quantity;
mod rules;

use std::collections::HashSet;
use std::fmt;

use serde_json::Value;

use crate::conditions::AcceptedReason;
use crate::decode::shortened;

/// Problems that one message names; a broken object may have thousands.
const NAMED: usize = 8;

/// What a problem means for the Agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It cannot run. Refused when written; `Accepted=False` where it is stored already.
    Invalid,
    /// Fields contradict each other. Refused when written; a stored Agent runs, as [`crate::AgentSpec::effective`]
    /// takes a side.
    Contradictory,
    /// It can run, but hardly as its author thinks. Told, never refused.
    Suspicious,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where, as Kubernetes writes it: `spec.env[2].name`, `spec.resources.limits[cpu]`.
    pub field: String,
    /// What is wrong and what to write instead. Repeats the values it is about, so that equal problems are the same.
    pub message: String,
}

/// What [`validate`] found, in the order of the object's fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Everything found.
    pub problems: Vec<Problem>,
}

/// Why a stored Agent is not run: reason and message of its condition `Accepted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// [`AcceptedReason::InvalidName`] or [`AcceptedReason::InvalidSpec`].
    pub reason: AcceptedReason,
    /// The fields, what is wrong with each, and the way out.
    pub message: String,
}

/// Finds all that is wrong with `object`, an Agent as JSON.
///
/// With `old`, the object that it replaces, only what the change brings in is found: a change of metadata or status
/// alone brings in nothing. An object under deletion is never found fault with: it must be able to lose its finalizers.
pub fn validate(object: &Value, old: Option<&Value>) -> Findings {
    if object.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null()) {
        return Findings::default();
    }
    let Some(old) = old else { return Findings::of(object) };
    if object.get("spec") == old.get("spec") {
        return Findings::default();
    }
    let mut findings = Findings::of(object);
    let known: HashSet<Problem> = Findings::of(old).problems.into_iter().collect();
    findings.problems.retain(|problem| !known.contains(problem));
    findings
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

// === impl Findings ===

impl Findings {
    fn of(object: &Value) -> Self {
        let mut findings = Self::default();
        if let Some(decoded) = fields::check(object, &mut findings) {
            rules::check(&decoded, &mut findings);
            container::check(decoded.raw, &mut findings);
            pod_template::check(&decoded, &mut findings);
        }
        findings
    }

    /// What a writer is refused for.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity != Severity::Suspicious)
    }

    /// What a writer is told without being refused.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Suspicious)
    }

    /// Why the object cannot be run, if it cannot. `None` also means that [`crate::Agent::from_value`] decodes it.
    pub fn refusal(&self) -> Option<Refusal> {
        let invalid: Vec<&Problem> =
            self.problems.iter().filter(|problem| problem.severity == Severity::Invalid).collect();
        if invalid.is_empty() {
            return None;
        }
        let reason = if invalid.iter().any(|problem| problem.field == fields::NAME) {
            AcceptedReason::InvalidName
        } else {
            AcceptedReason::InvalidSpec
        };
        Some(Refusal { reason, message: summary(&invalid) })
    }

    fn invalid(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Invalid, field, message);
    }

    fn add(&mut self, severity: Severity, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { severity, field: field.into(), message: message.into() });
    }
}

/// The first of `problems` in one text, and how many there are beside them.
pub fn summary(problems: &[&Problem]) -> String {
    let mut text: Vec<String> = problems.iter().take(NAMED).map(ToString::to_string).collect();
    if problems.len() > NAMED {
        text.push(format!("and {} more", problems.len() - NAMED));
    }
    text.join("; ")
}

/// A value as an error repeats it: JSON, cut short.
fn quoted(value: &Value) -> String {
    shortened(&value.to_string())
}

/// The value of `key`, where null is absent as it is for the API server.
fn present<'v>(object: &'v serde_json::Map<String, Value>, key: &str) -> Option<&'v Value> {
    object.get(key).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests;
