//! A call as a client makes it, for the benches of what one costs.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use krypton_discovery::VersionedRoute;
use krypton_gateway::access_log::AccessLine;
use krypton_gateway::proxy::error::Outcome;
use krypton_gateway::proxy::headers::Facts;

/// The id of the call.
pub(crate) const REQUEST_ID: HeaderValue = HeaderValue::from_static("0af7651916cd43dd8448eb211c80319c");

/// What a browser sends, less its cookies.
pub(crate) fn client_headers() -> HeaderMap {
    let headers = [
        ("host", "agents.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "application/json, text/event-stream"),
        ("accept-encoding", "gzip, deflate, br"),
        ("content-type", "application/json"),
        ("content-length", "512"),
        ("authorization", "Bearer 0123456789abcdef0123456789abcdef"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    headers
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect()
}

/// The same through an ingress.
pub(crate) fn proxied_headers() -> HeaderMap {
    let mut headers = client_headers();
    for (name, value) in
        [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https"), ("x-real-ip", "203.0.113.9")]
    {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

/// What the agent is told, with an ingress that is `trusted` or without one.
pub(crate) fn facts(request_id: &HeaderValue, trusted: bool) -> Facts<'_> {
    Facts {
        client: Some([10, 0, 0, 1].into()),
        trusted,
        key: "team-7/agent-42",
        upstream_host: None,
        request_id,
    }
}

/// What is logged of a call of `agent`.
pub(crate) fn access_line(agent: &VersionedRoute) -> AccessLine<'_> {
    AccessLine {
        time: SystemTime::UNIX_EPOCH + Duration::from_hours(500_000),
        request_id: "0af7651916cd43dd8448eb211c80319c",
        agent: Some(agent.key()),
        method: &Method::POST,
        target: b"/v1/agents/team-0/agent-42/v1/messages?stream=true",
        is_h2: false,
        client: Some(([203, 0, 113, 9], 51_234).into()),
        status: Some(200),
        outcome: Outcome::Ok,
        duration: Duration::from_micros(1_234_567),
        time_to_first_byte: Some(Duration::from_micros(2_345)),
        bytes_in: 512,
        bytes_out: 65_536,
        attempts: 1,
        endpoint: Some(([10, 0, 0, 168], 8080).into()),
    }
}
