//! What can go wrong with a call, and what follows from it: one exhaustive match from the error to status, code,
//! sentence and outcome. Decides; never writes.

use std::fmt::{self, Write as _};

use krypton_discovery::AgentKey;

use super::probe::{ProbeProblem, SLOTS, UPLOAD_LIMIT};

/// Seconds after which a probe is worth another try: probes take seconds to minutes.
const PROBE_RETRY: u8 = 5;

/// How a call ended: the closed set behind the label `outcome` and the access log's field of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The agent's answer reached the client whole, whatever its status.
    Ok,
    /// A standing stream was ended cleanly since the gateway stops.
    Drained,
    /// The request itself cannot be served: bad path, unknown agent, a host that is not allowed.
    Refused,
    /// There is no table yet, no ready endpoint, or the agent is off.
    Unavailable,
    /// The client left.
    ClientAbort,
    /// The client was too slow to send or to read.
    ClientStalled,
    /// No connection to the agent could be made.
    UpstreamRefused,
    /// The agent closed or reset the connection before its answer was whole.
    UpstreamReset,
    /// What the agent sent is not HTTP.
    UpstreamInvalid,
    /// The agent was silent for longer than its `timeout`.
    UpstreamTimeout,
    /// The call took longer than the agent's `maxDuration`.
    MaxDuration,
    /// The gateway stopped before the call ended.
    Shutdown,
    /// A fault of ours.
    Internal,
}

/// Why a call is not answered by the agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No path that the gateway serves.
    #[error("no such path; agents are at /v1/agents/{{namespace}}/{{name}}/")]
    NotFound,
    /// A path of the Go system's model routes.
    #[error("model routes are not part of this gateway; agents are at /v1/agents/{{namespace}}/{{name}}/")]
    ModelsUnsupported,
    /// Below `/v1/agents`, but without a namespace and a name that are DNS labels.
    #[error("expected /v1/agents/{{namespace}}/{{name}}/... where both are DNS labels, undecoded")]
    BadPath,
    /// HTTP/1.1 without Host.
    #[error("an HTTP/1.1 request needs a Host header")]
    MissingHost,
    /// `Connection` names a header that the gateway sets, or what is no name, or too many.
    #[error("the Connection header names a header that the gateway sets, or is not a list of names")]
    BadConnectionHeader,
    /// A header that the gateway has to read is not valid.
    #[error("the request has a header that cannot be forwarded")]
    BadHeader,
    /// The Host is not one of `--allowed-hosts`.
    #[error("this gateway does not serve that host")]
    HostNotAllowed,
    /// The synthetic probe is turned off.
    #[error("probes are turned off at this gateway (--probe false)")]
    ProbeDisabled,
    /// All slots of the synthetic probe are taken.
    #[error("{SLOTS} probes run at this gateway, which is as many as it takes")]
    ProbeBusy,
    /// The synthetic probe cannot do that.
    #[error("{0}")]
    BadProbe(ProbeProblem),
    /// The upload to the synthetic probe is too large.
    #[error("the upload of the probe may have {} MiB", UPLOAD_LIMIT / (1024 * 1024))]
    ProbeUploadTooLarge,
    /// The path takes another method, this one.
    #[error("this path takes {0} only")]
    MethodNotAllowed(&'static str),
    /// No such Agent.
    #[error("agent {0} not found")]
    UnknownAgent(AgentName),
    /// The gateway has no table yet.
    #[error("the gateway has not received its routes yet")]
    NotReady,
    /// The Agent has no pod that takes calls.
    #[error("agent {0} has no ready endpoint")]
    NoEndpoint(AgentKey),
    /// The Agent is pinned to `replicas: 0`.
    #[error("agent {0} is switched off (replicas: 0)")]
    ScaledToZero(AgentKey),
    /// No connection could be made.
    #[error("the agent refused the connection")]
    UpstreamRefused,
    /// No connection could be made in time.
    #[error("the agent did not accept the connection in time")]
    UpstreamConnectTimeout,
    /// The connection broke before the answer.
    #[error("the agent closed the connection before it answered")]
    UpstreamReset,
    /// The answer is not HTTP.
    #[error("the agent's answer is not valid HTTP")]
    UpstreamInvalid,
    /// Silent for too long.
    #[error("the agent was silent for longer than its timeout")]
    UpstreamTimeout,
    /// Took too long in all.
    #[error("the call took longer than the agent's maxDuration")]
    MaxDuration,
    /// The client paused its upload, or did not read, for too long.
    #[error("the client was silent for too long while sending its request")]
    ClientStalled,
    /// The client left.
    #[error("the client closed the connection")]
    ClientAbort,
    /// The gateway stops.
    #[error("the gateway is shutting down")]
    ShuttingDown,
    /// A fault of ours.
    #[error("internal error")]
    Internal,
}

/// The namespace and name that a client asked for, in its own words: DNS labels, but of no Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentName(pub Box<str>);

/// What follows from a [`CallError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disposition {
    /// The status of our answer, where one can still be given.
    pub status: u16,
    /// The `code` of the error body: stable, for programs.
    pub code: &'static str,
    /// How the call is counted.
    pub outcome: Outcome,
    /// Seconds for `Retry-After`, where trying again soon makes sense.
    pub retry_after: Option<u8>,
}

// === impl Outcome ===

impl Outcome {
    /// All outcomes, in the order of their documentation.
    pub const ALL: [Self; 13] = [
        Self::Ok,
        Self::Drained,
        Self::Refused,
        Self::Unavailable,
        Self::ClientAbort,
        Self::ClientStalled,
        Self::UpstreamRefused,
        Self::UpstreamReset,
        Self::UpstreamInvalid,
        Self::UpstreamTimeout,
        Self::MaxDuration,
        Self::Shutdown,
        Self::Internal,
    ];

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Drained => "drained",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::ClientAbort => "client_abort",
            Self::ClientStalled => "client_stalled",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamInvalid => "upstream_invalid",
            Self::UpstreamTimeout => "timeout",
            Self::MaxDuration => "max_duration",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
        }
    }
}

// === impl CallError ===

impl CallError {
    /// What follows. The one place where an error gets its status and its name.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        let (status, code, outcome, retry_after) = match self {
            Self::NotFound => (404, "not_found", Outcome::Refused, None),
            Self::ModelsUnsupported => (404, "models_unsupported", Outcome::Refused, None),
            Self::BadPath => (400, "bad_path", Outcome::Refused, None),
            Self::MissingHost => (400, "missing_host", Outcome::Refused, None),
            Self::BadConnectionHeader => (400, "bad_connection_header", Outcome::Refused, None),
            Self::BadHeader => (400, "bad_header", Outcome::Refused, None),
            Self::HostNotAllowed => (421, "host_not_allowed", Outcome::Refused, None),
            Self::ProbeDisabled => (404, "probe_disabled", Outcome::Refused, None),
            Self::ProbeBusy => (503, "probe_busy", Outcome::Unavailable, Some(PROBE_RETRY)),
            Self::BadProbe(_) => (400, "bad_probe", Outcome::Refused, None),
            Self::ProbeUploadTooLarge => (413, "probe_upload_too_large", Outcome::Refused, None),
            Self::MethodNotAllowed(_) => (405, "method_not_allowed", Outcome::Refused, None),
            Self::UnknownAgent(_) => (404, "agent_not_found", Outcome::Refused, None),
            Self::NotReady => (503, "gateway_not_ready", Outcome::Unavailable, Some(1)),
            Self::NoEndpoint(_) => (503, "no_ready_endpoint", Outcome::Unavailable, Some(1)),
            Self::ScaledToZero(_) => (503, "agent_scaled_to_zero", Outcome::Unavailable, None),
            Self::UpstreamRefused => (502, "upstream_refused", Outcome::UpstreamRefused, None),
            Self::UpstreamConnectTimeout => (502, "upstream_connect_timeout", Outcome::UpstreamRefused, None),
            Self::UpstreamReset => (502, "upstream_reset", Outcome::UpstreamReset, None),
            Self::UpstreamInvalid => (502, "upstream_invalid", Outcome::UpstreamInvalid, None),
            Self::UpstreamTimeout => (504, "upstream_timeout", Outcome::UpstreamTimeout, None),
            Self::MaxDuration => (504, "max_duration", Outcome::MaxDuration, None),
            Self::ClientStalled => (408, "client_stalled", Outcome::ClientStalled, None),
            // 499 is nginx's word for it; the client is not there to see it.
            Self::ClientAbort => (499, "client_abort", Outcome::ClientAbort, None),
            Self::ShuttingDown => (503, "shutting_down", Outcome::Shutdown, Some(1)),
            Self::Internal => (500, "internal", Outcome::Internal, None),
        };
        Disposition { status, code, outcome, retry_after }
    }

    /// The body of our answer: upstream's `{"error": …}` with a code for programs and the request's id.
    #[must_use]
    pub fn body(&self, request_id: &str) -> String {
        let mut body = String::with_capacity(192);
        // Every part is free of quotes, backslashes and control characters: our own sentences, DNS labels, and
        // a request id that was checked. A test holds them to it.
        write!(
            body,
            r#"{{"error":"{self}","code":"{}","requestId":"{request_id}"}}"#,
            self.disposition().code
        )
        .ok();
        body.push('\n');
        body
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<CallError> {
        let key: AgentKey = "team/agent".parse().unwrap();
        vec![
            CallError::NotFound,
            CallError::ModelsUnsupported,
            CallError::BadPath,
            CallError::MissingHost,
            CallError::BadConnectionHeader,
            CallError::BadHeader,
            CallError::HostNotAllowed,
            CallError::ProbeDisabled,
            CallError::ProbeBusy,
            CallError::BadProbe(ProbeProblem::Events),
            CallError::ProbeUploadTooLarge,
            CallError::MethodNotAllowed("GET"),
            CallError::UnknownAgent(AgentName("team/agent".into())),
            CallError::NotReady,
            CallError::NoEndpoint(key.clone()),
            CallError::ScaledToZero(key),
            CallError::UpstreamRefused,
            CallError::UpstreamConnectTimeout,
            CallError::UpstreamReset,
            CallError::UpstreamInvalid,
            CallError::UpstreamTimeout,
            CallError::MaxDuration,
            CallError::ClientStalled,
            CallError::ClientAbort,
            CallError::ShuttingDown,
            CallError::Internal,
        ]
    }

    #[test]
    fn every_body_is_json_with_the_three_fields() {
        for error in all() {
            let body: serde_json::Value = serde_json::from_str(&error.body("id-1")).unwrap();
            assert_eq!(body["error"], error.to_string());
            assert_eq!(body["code"], error.disposition().code);
            assert_eq!(body["requestId"], "id-1");
        }
    }

    #[test]
    fn every_code_is_its_own() {
        let codes: std::collections::BTreeSet<_> = all().iter().map(|e| e.disposition().code).collect();
        assert_eq!(codes.len(), all().len());
    }

    #[test]
    fn every_outcome_is_listed_and_its_own() {
        let names: std::collections::BTreeSet<_> = Outcome::ALL.iter().map(|o| o.as_str()).collect();
        assert_eq!(names.len(), Outcome::ALL.len());
        for error in all() {
            assert!(Outcome::ALL.contains(&error.disposition().outcome));
        }
    }
}
