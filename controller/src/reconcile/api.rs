//! Calls to the API server: their deadline, and what an error of one means.
//!
//! Owns the way from an answer to a [`Verdict`]. Never repeats a call: the queue does, after a pause.

use std::time::Duration;

use http::Request;
use kube::Client;

/// The longest that one call to the API server may take: as long as an admission webhook may, by default.
pub(crate) const CALL: Duration = Duration::from_secs(10);

/// A call failed for a reason that passes, or is ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The API server did not answer in time.
    #[error("no answer within {} s", CALL.as_secs())]
    TimedOut,
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

/// One call, with a deadline.
pub(crate) async fn call<T: serde::de::DeserializeOwned>(
    client: &Client,
    request: Request<Vec<u8>>,
) -> Result<T, CallError> {
    let answer = tokio::time::timeout(CALL, client.request::<T>(request)).await;
    Ok(answer.map_err(|_| CallError::TimedOut)??)
}

/// What `error` means.
pub(super) fn verdict(error: &CallError) -> Verdict {
    let CallError::Kube(kube::Error::Api(status)) = error else { return Verdict::Passing };
    let message = || status.message.clone();
    // What server-side apply answers to a field that the schema does not have, or that has another type.
    let untyped =
        ["failed to create typed patch object", "field not declared in schema", "unable to convert"];
    match status.code {
        409 if status.reason == "AlreadyExists" => Verdict::Exists,
        // An apply that named another uid: the child was replaced by an object of that name.
        422 if status.message.contains("metadata.uid: Invalid value") => Verdict::Exists,
        400 | 413 | 422 => Verdict::Invalid(message()),
        500 if untyped.iter().any(|text| status.message.contains(text)) => Verdict::Invalid(message()),
        403 | 404
            if status.message.contains("being terminated") || status.message.contains("namespaces \"") =>
        {
            Verdict::Vanishing
        }
        403 => Verdict::Refused(message()),
        _ => Verdict::Passing,
    }
}

#[cfg(test)]
mod tests {
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
        let ending = "unable to create new content in namespace ns because it is being terminated";
        assert_eq!(said(403, "Forbidden", ending), Verdict::Vanishing);
        assert_eq!(said(404, "NotFound", "namespaces \"ns\" not found"), Verdict::Vanishing);
        for passing in
            [(409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError"), (503, "x"), (504, "y")]
        {
            assert_eq!(said(passing.0, passing.1, "x"), Verdict::Passing, "{passing:?}");
        }
    }
}
