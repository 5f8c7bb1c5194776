//! Calls to the API server: their deadline, and what an error of one means.
//!
//! Owns the way from an answer to a [`Verdict`]. Never repeats a call: the queue does, after a pause.

use std::time::Duration;

use http::Request;
use kube::Client;
use serde::de::DeserializeOwned;

use crate::lease::Term;

/// The longest that one call to the API server may take: as long as an admission webhook may, by default.
pub(crate) const CALL: Duration = Duration::from_secs(10);

/// The way to the API server in one term. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    /// `None` in tests, which have no election.
    term: Option<Term>,
}

/// A call failed for a reason that passes, or is ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The API server did not answer in time.
    #[error("no answer within {} s", CALL.as_secs())]
    TimedOut,
    /// This controller does not lead any more.
    #[error("the term of leadership is over")]
    TermOver,
    /// The object was replaced by another of its name.
    #[error("the object was replaced meanwhile")]
    Replaced,
    /// It answered with an error, or could not be reached.
    #[error("{}", crate::source::kube::sentence(.0))]
    Kube(#[from] kube::Error),
    /// The request cannot be built.
    #[error("request: {0}")]
    Request(#[from] http::Error),
}

/// What an error of the API server means for a child.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// An object of that name is there, or another than the one that was meant.
    Exists,
    /// The object is wrong, and stays so.
    Invalid(String),
    /// It is not allowed now.
    Refused(String),
    /// The namespace is on its way out.
    Vanishing,
    /// It may work the next time.
    Passing,
}

// === impl CallError ===

impl CallError {
    /// What the API server says, where its words help the owner of the Agent: not where it is only busy, or where
    /// somebody else was faster.
    pub(crate) fn told(&self) -> Option<&str> {
        match self {
            Self::Kube(kube::Error::Api(status))
                if !matches!(status.code, 404 | 409 | 422 | 429 | 503 | 504) =>
            {
                Some(&status.message)
            }
            _ => None,
        }
    }
}

// === impl Api ===

impl Api {
    /// Calls through `client` while `term` lasts.
    pub(crate) fn new(client: Client, term: Option<Term>) -> Self {
        Self { client, term }
    }

    /// One call, with a deadline: never longer than the term is sure to last. A process that was stopped for a while
    /// may come here before its election has noticed; then nothing is sent.
    pub(crate) async fn call<T: DeserializeOwned>(&self, request: Request<Vec<u8>>) -> Result<T, CallError> {
        let deadline = self.term.as_ref().map_or(CALL, |term| term.remaining().min(CALL));
        if deadline.is_zero() {
            return Err(CallError::TermOver);
        }
        let answer = tokio::time::timeout(deadline, self.client.request::<T>(request)).await;
        Ok(answer.map_err(|_| CallError::TimedOut)??)
    }

    /// Whether something may be sent now.
    pub(crate) fn may_call(&self) -> bool {
        self.term.as_ref().is_none_or(|term| !term.remaining().is_zero())
    }
}

/// What `error` means.
pub(super) fn verdict(error: &CallError) -> Verdict {
    let CallError::Kube(kube::Error::Api(status)) = error else { return Verdict::Passing };
    let message = || status.message.clone();
    // What server-side apply answers, with 500, to a field that the schema does not have or that has another type.
    let untyped = ["failed to create typed patch object", "failed to convert new object"];
    let causes = status.details.as_ref().map_or(&[][..], |details| details.causes.as_slice());
    let kind = status.details.as_ref().map_or("", |details| details.kind.as_str());
    match status.code {
        409 if status.reason == "AlreadyExists" => Verdict::Exists,
        // An apply that named another uid: the child was replaced by an object of that name.
        422 if status.message.contains("metadata.uid: Invalid value") => Verdict::Exists,
        400 | 413 | 422 => Verdict::Invalid(message()),
        500 if untyped.iter().any(|text| status.message.contains(text)) => Verdict::Invalid(message()),
        403 if causes.iter().any(|cause| cause.reason == "NamespaceTerminating") => Verdict::Vanishing,
        404 if kind == "namespaces" => Verdict::Vanishing,
        403 => Verdict::Refused(message()),
        _ => Verdict::Passing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(code: u16, reason: &str, message: &str) -> Verdict {
        let status = kube::core::Status {
            code,
            reason: reason.into(),
            message: message.into(),
            ..kube::core::Status::default()
        };
        verdict(&CallError::Kube(kube::Error::Api(Box::new(status))))
    }

    fn detailed(code: u16, details: &serde_json::Value) -> Verdict {
        let status =
            json!({ "status": "Failure", "code": code, "message": "x", "reason": "", "details": details });
        verdict(&CallError::Kube(kube::Error::Api(serde_json::from_value(status).unwrap())))
    }

    #[test]
    fn an_error_is_told_apart_by_what_can_be_done_about_it() {
        let unknown = r#"strict decoding error: unknown field "spec.template.spec.nodeSelektor""#;
        assert_eq!(said(400, "BadRequest", unknown), Verdict::Invalid(unknown.into()));
        assert_eq!(said(422, "Invalid", "x"), Verdict::Invalid("x".into()));
        let untyped = "failed to create typed patch object (ns/a; apps/v1, Kind=Deployment): .spec.template.spec.foo: \
                       field not declared in schema";
        assert_eq!(said(500, "InternalError", untyped), Verdict::Invalid(untyped.into()));
        assert_eq!(said(409, "AlreadyExists", "x"), Verdict::Exists);
        let replaced =
            "Deployment.apps \"a\" is invalid: metadata.uid: Invalid value: \"1\": field is immutable";
        assert_eq!(said(422, "Invalid", replaced), Verdict::Exists);
        let quota =
            "deployments.apps \"a\" is forbidden: exceeded quota: q, requested: count/deployments.apps=1";
        assert_eq!(said(403, "Forbidden", quota), Verdict::Refused(quota.into()));
        // A policy's own words are no sign of the namespace's end.
        let worded = "denied: namespaces \"x\" is being terminated soon";
        assert_eq!(said(403, "Forbidden", worded), Verdict::Refused(worded.into()));
        let ending = json!({ "causes": [{ "reason": "NamespaceTerminating", "message": "", "field": "" }] });
        assert_eq!(detailed(403, &ending), Verdict::Vanishing);
        assert_eq!(detailed(404, &json!({ "kind": "namespaces", "name": "ns" })), Verdict::Vanishing);
        assert_eq!(detailed(404, &json!({ "kind": "deployments", "name": "a" })), Verdict::Passing);
        for passing in
            [(409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError"), (503, "x"), (504, "y")]
        {
            assert_eq!(said(passing.0, passing.1, "x"), Verdict::Passing, "{passing:?}");
        }
    }
}
