//! One question of the API server, and the answer. No I/O.
//!
//! A question that is not about writing an Agent itself is answered yes: webhook configurations are written by people,
//! and a too wide one must not stop the cluster.

use krypton_crd::defaults::stored_defaults;
use krypton_crd::validate::summary;
use krypton_crd::{Agent, Problem, keys};
use kube::Resource as _;
use kube::core::DynamicObject;
use kube::core::admission::{
    AdmissionRequest, AdmissionResponse, AdmissionReview, META_API_VERSION_V1, META_KIND, Operation,
};
use kube::core::response::{Status, StatusCause, StatusDetails};
use serde_json::{Value, json};

/// Problems in one answer; a broken object may have thousands.
const MAX_CAUSES: usize = 32;

/// Warnings in one answer.
const MAX_WARNINGS: usize = 8;

/// Characters of a warning; the API server cuts longer ones off.
const MAX_WARNING: usize = 256;

/// What the API server asks.
pub(super) type Question = AdmissionRequest<DynamicObject>;

/// A webhook: a question in, an answer out.
pub(super) type Answer = fn(&Question) -> AdmissionResponse;

/// Why a body is no question.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReviewError {
    /// It is not JSON of that shape.
    #[error("not an AdmissionReview: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is of another kind or version.
    #[error("not an AdmissionReview of admission.k8s.io/v1 but {kind:?} of {api_version:?}")]
    Kind {
        /// `kind` as it came.
        kind: String,
        /// `apiVersion` as it came.
        api_version: String,
    },
    /// It asks nothing.
    #[error("an AdmissionReview without a request")]
    NoRequest,
}

/// Reads a question.
pub(super) fn parse(body: &[u8]) -> Result<Question, ReviewError> {
    let review: AdmissionReview<DynamicObject> = serde_json::from_slice(body)?;
    let types = &review.types;
    if types.kind != META_KIND || types.api_version != META_API_VERSION_V1 {
        let (kind, api_version) = (types.kind.clone(), types.api_version.clone());
        return Err(ReviewError::Kind { kind, api_version });
    }
    review.try_into().map_err(|_| ReviewError::NoRequest)
}

/// Fills in the defaults that the schema stores too, where the object came without them. No others: a default that
/// depends on another field would turn into a wish once it is stored.
pub(super) fn mutate(question: &Question) -> AdmissionResponse {
    let response = AdmissionResponse::from(question);
    let Some(object) = written_agent(question) else { return response };
    let Some(Value::Object(spec)) = object.data.get("spec") else { return response };
    if object.metadata.deletion_timestamp.is_some() {
        return response;
    }
    let missing =
        stored_defaults().into_iter().filter(|(field, _)| spec.get(*field).is_none_or(Value::is_null));
    let patch: Vec<Value> = missing
        .map(|(field, value)| json!({ "op": "add", "path": format!("/spec/{field}"), "value": value }))
        .collect();
    if patch.is_empty() {
        return response;
    }
    let patch = serde_json::from_value(Value::Array(patch)).expect("additions of JSON values are a patch");
    response.with_patch(patch).expect("a patch is JSON")
}

/// Refuses what the change makes wrong, all of it in one answer, and tells what is suspicious.
pub(super) fn validate(question: &Question) -> AdmissionResponse {
    let mut response = AdmissionResponse::from(question);
    let Some(object) = written_agent(question) else { return response };
    let old = question.old_object.as_ref().map(as_json);
    let findings = krypton_crd::validate(&as_json(object), old.as_ref());
    let warnings: Vec<String> = findings
        .warnings()
        .take(MAX_WARNINGS)
        .map(|problem| problem.to_string().chars().take(MAX_WARNING).collect())
        .collect();
    if !warnings.is_empty() {
        response.warnings = Some(warnings);
    }
    let errors: Vec<&Problem> = findings.errors().collect();
    if !errors.is_empty() {
        response.allowed = false;
        response.result = invalid(&question.name, &errors);
    }
    response
}

/// The Agent that is to be written, if that is what the question is about.
fn written_agent(question: &Question) -> Option<&DynamicObject> {
    let resource = &question.resource;
    let is_agent = resource.group == keys::GROUP && resource.resource == Agent::plural(&());
    let is_whole = question.sub_resource.as_deref().unwrap_or_default().is_empty();
    let is_written = matches!(question.operation, Operation::Create | Operation::Update);
    question.object.as_ref().filter(|_| is_agent && is_whole && is_written)
}

fn as_json(object: &DynamicObject) -> Value {
    serde_json::to_value(object).expect("what came as JSON is JSON")
}

/// The status that the API server itself gives for an invalid object: kubectl shows its causes, a line each.
fn invalid(name: &str, errors: &[&Problem]) -> Status {
    let cause = |problem: &&Problem| StatusCause {
        reason: "FieldValueInvalid".to_owned(),
        message: problem.message.clone(),
        field: problem.field.clone(),
    };
    let mut causes: Vec<StatusCause> = errors.iter().take(MAX_CAUSES).map(cause).collect();
    if errors.len() > MAX_CAUSES {
        let message = format!("and {} more", errors.len() - MAX_CAUSES);
        causes.push(StatusCause { reason: String::new(), message, field: "spec".to_owned() });
    }
    let details = StatusDetails {
        name: name.to_owned(),
        group: keys::GROUP.to_owned(),
        kind: keys::KIND.to_owned(),
        uid: String::new(),
        causes,
        retry_after_seconds: 0,
    };
    Status::failure(&summary(errors), "Invalid").with_code(422).with_details(details)
}

#[cfg(test)]
mod tests;
