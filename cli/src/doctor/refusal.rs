//! Why a call did not reach the gateway's probe, in a sentence.

use std::io::ErrorKind;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use tokio::time::timeout;

use super::verdict::Verdict;
use crate::http::{Answer, HttpError};
use crate::url::Url;

/// Most of an answer that is read for its sentence.
const MAX_BODY: usize = 64 * 1024;

/// For how long: it may be a stream that never ends. A gateway's own error comes at once.
const BODY: Duration = Duration::from_secs(5);

/// The gateway's error, as far as it is told here.
#[derive(Debug, Deserialize)]
pub(crate) struct GatewayError {
    pub(crate) error: String,
    pub(crate) code: String,
    #[serde(default, rename = "requestId")]
    pub(crate) request_id: String,
}

// === impl GatewayError ===

impl GatewayError {
    /// The gateway's error in `body`; `None` where somebody else wrote it.
    pub(crate) fn parse(body: &str) -> Option<Self> {
        serde_json::from_str(body).ok()
    }
}

/// Whether an answer is in the form of the gateway's own errors, before its body is read.
pub(crate) fn is_of_gateway(answer: &Answer) -> bool {
    answer.header("content-type").starts_with("application/json")
        && answer.header("x-content-type-options") == "nosniff"
}

/// What an error on the way means.
pub(crate) fn of_error(error: &HttpError, url: &Url) -> Verdict {
    let other = url.other_scheme();
    let more = match error {
        HttpError::Resolve { .. } => {
            "; give the address by --resolve HOST:PORT:ADDR if DNS does not have it yet".to_owned()
        }
        HttpError::NotTls { .. } => format!("; try {other}"),
        HttpError::Tls { error, .. } if error.kind() == ErrorKind::UnexpectedEof => {
            format!("; it ended the connection: if the port speaks plain HTTP, try {other}")
        }
        HttpError::Tls { .. } => {
            "; check the ingress' certificate (tls of the Ingress, the Gateway's listener), or give its CA by --cacert"
                .to_owned()
        }
        HttpError::Connect { .. } | HttpError::ConnectTimeout { .. } => {
            "; nothing listens there, or a firewall is in between".to_owned()
        }
        HttpError::Exchange(_) if url.https() => String::new(),
        HttpError::Exchange(_) => format!("; if the port speaks TLS, try {other}"),
        HttpError::Trust(_) | HttpError::TooLarge(_) | HttpError::Slow(_) => String::new(),
    };
    Verdict::NotRouted { why: format!("{error}{more}") }
}

/// What an answer means that is not the probe's.
pub(crate) async fn of_answer(answer: Answer, url: &Url) -> Verdict {
    let (status, location) = (answer.status, answer.header("location").to_owned());
    let kind = answer.header("content-type").to_owned();
    let body = timeout(BODY, answer.text(MAX_BODY)).await.ok().and_then(Result::ok).unwrap_or_default();
    judge(status, &location, &kind, &body, url)
}

fn judge(status: StatusCode, location: &str, kind: &str, body: &str, url: &Url) -> Verdict {
    if let Some(error) = GatewayError::parse(body) {
        return of_gateway(&error, url);
    }
    let code = status.as_u16();
    let why = match code {
        200 => format!(
            "something answers 200 that is not a gateway ({kind}): the path /v1/agents of {url} leads elsewhere"
        ),
        300..=399 => format!(
            "{code}, redirected to {location}: give that URL, or take the redirect off the path /v1/agents; agents' \
             clients do not follow one with a POST"
        ),
        401 | 403 => format!(
            "{code}: what is in front asks for credentials or refuses them; give some by \
             -H 'authorization: …', or let GET and POST /v1/agents/_probe/ through"
        ),
        404 => format!(
            "404, and not by a gateway: nothing routes /v1/agents of {url} to the Service krypton-gateway, port 8080; \
             is the host right, is the path a prefix, is the Ingress' class or the HTTPRoute's Gateway the right one?"
        ),
        // As nginx and programs in Go say it, and most that follow them.
        400 if !url.https() && body.contains("HTTPS") => {
            format!("{code}: the port speaks TLS; try {}", url.other_scheme())
        }
        502..=504 => format!(
            "{code}, and not by a gateway: what is in front has no gateway to call, or cannot reach one; look at the \
             endpoints of the Service krypton-gateway, and at NetworkPolicies"
        ),
        _ => format!("{code}, and not by a gateway: what is in front answers by itself"),
    };
    let hint = if code == 404 && !url.path().is_empty() { at_the_root(url) } else { String::new() };
    Verdict::NotRouted { why: format!("{why}{hint}") }
}

/// Where the URL has a path, which few fronts take off.
fn at_the_root(url: &Url) -> String {
    format!(
        "; /v1/agents is expected at the root of the URL, unless what is in front takes {} off: try {}",
        url.path(),
        url.root()
    )
}

fn of_gateway(error: &GatewayError, url: &Url) -> Verdict {
    match error.code.as_str() {
        "probe_disabled" => Verdict::ProbeDisabled,
        "probe_busy" => Verdict::ProbeUnavailable {
            why: "the gateway answers as many probes as it may; try again in a minute".to_owned(),
        },
        "bad_path" | "not_found" | "models_unsupported" if !url.path().is_empty() => {
            Verdict::ProbeUnavailable {
                why: format!("the gateway knows no path below {}{}", url.path(), at_the_root(url)),
            }
        }
        "not_found" => Verdict::ProbeUnavailable {
            why: "the gateway gets another path than /v1/agents/_probe/: what is in front rewrites it"
                .to_owned(),
        },
        // Before there was a probe, its path was no path.
        "bad_path" => Verdict::ProbeUnavailable {
            why: "the gateways have no probe: they are older than this program; upgrade them".to_owned(),
        },
        "host_not_allowed" => Verdict::NotRouted {
            why: "the gateway does not serve that host: add it to allowedHosts of the chart".to_owned(),
        },
        code => Verdict::ProbeUnavailable { why: format!("the gateway answers {code}: {}", error.error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(status: u16, body: &str) -> String {
        why_below("https://agents.example.com", status, body)
    }

    fn why_below(url: &str, status: u16, body: &str) -> String {
        let url = url.parse().unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let verdict = judge(status, "https://login.example.com/", "text/html", body, &url);
        format!("{verdict}: {}", verdict.sentence())
    }

    #[test]
    fn every_answer_that_is_not_ours_gets_a_sentence() {
        for (status, sentence) in [
            (200, "NotRouted: something answers 200"),
            (302, "redirected to https://login.example.com/"),
            (401, "asks for credentials"),
            (403, "asks for credentials"),
            (404, "nothing routes /v1/agents"),
            (503, "has no gateway to call"),
            (418, "answers by itself"),
        ] {
            assert!(why(status, "<html>").contains(sentence), "{}", why(status, "<html>"));
        }
    }

    #[test]
    fn a_path_in_the_url_is_told() {
        let (url, hint) = ("https://a/foo", "/v1/agents is expected at the root of the URL");
        let error = |code| format!(r#"{{"error":"e","code":"{code}","requestId":"1"}}"#);
        for (status, body) in
            [(404, "<html>".to_owned()), (400, error("bad_path")), (404, error("not_found"))]
        {
            let why = why_below(url, status, &body);
            assert!(why.contains(hint) && why.ends_with("takes /foo off: try https://a"), "{why}");
            assert!(!why.contains("older than this program"), "{why}");
        }
        assert!(!why(404, "<html>").contains(hint));
    }

    #[test]
    fn a_port_that_speaks_tls_is_told() {
        let body = "<center>The plain HTTP request was sent to HTTPS port</center>";
        let why = why_below("http://a:8443", 400, body);
        assert!(why.ends_with("the port speaks TLS; try https://a:8443"), "{why}");
        assert!(why_below("https://a", 400, body).contains("answers by itself"));
    }

    #[test]
    fn the_gateways_own_errors_are_told_by_their_code() {
        let error = |code| format!(r#"{{"error":"e","code":"{code}","requestId":"1"}}"#);
        assert!(why(404, &error("probe_disabled")).starts_with("ProbeDisabled"));
        assert!(why(503, &error("probe_busy")).contains("try again"));
        assert!(why(404, &error("not_found")).contains("what is in front rewrites it"));
        assert!(why(400, &error("bad_path")).contains("older than this program"));
        assert!(why(421, &error("host_not_allowed")).contains("allowedHosts"));
        assert!(why(503, &error("gateway_not_ready")).contains("gateway_not_ready: e"));
    }
}
