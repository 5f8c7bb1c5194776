//! The agent card, with the URL by which the caller reached us.
//!
//! A gateway in front says in `X-Forwarded-*` what the public URL is; without it the Host is the best we know. A
//! forwarded value that cannot be part of a URL is passed over, as if it had not been sent.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Uri, header};
use serde_json::{Value, json};

use crate::routes::Agent;

pub(crate) async fn card(State(agent): State<Arc<Agent>>, request: Request) -> Json<Value> {
    let url = public_url(request.headers(), request.uri());
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({
        "protocolVersion": "0.3.0",
        "name": agent.name(),
        "description": "Answers a message word by word, with what it was told.",
        "url": url,
        "preferredTransport": "JSONRPC",
        "additionalInterfaces": [{ "url": url, "transport": "JSONRPC" }],
        "version": version,
        "capabilities": { "streaming": true, "pushNotifications": false, "stateTransitionHistory": false },
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [{
            "id": "repeat",
            "name": "Repeat",
            "description": "Repeats what it was told, one word at a time.",
            "tags": ["example", "streaming"],
            "examples": ["The quick brown fox"],
        }],
        "supportsAuthenticatedExtendedCard": false,
    }))
}

/// The URL of `POST /` as the caller sees it.
fn public_url(headers: &HeaderMap, uri: &Uri) -> String {
    let scheme: Scheme = first(headers, "x-forwarded-proto").unwrap_or(Scheme::HTTP);
    let authority: Option<Authority> = first(headers, "x-forwarded-host")
        .or_else(|| first(headers, header::HOST.as_str()))
        .or_else(|| uri.authority().cloned());
    let authority = authority.as_ref().map_or("localhost", Authority::as_str);
    let prefix: Option<PathAndQuery> = first(headers, "x-forwarded-prefix");
    let prefix = prefix.as_ref().map_or("", |prefix| prefix.path().trim_end_matches('/'));
    format!("{scheme}://{authority}{prefix}/")
}

/// The first of a header's comma-separated values, which is the one of the outermost proxy.
fn first<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.split(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(pairs: &[(&'static str, &'static str)], uri: &str) -> String {
        let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        public_url(&pairs.collect(), &uri.parse().unwrap())
    }

    #[test]
    fn the_url_is_the_one_that_the_gateway_tells() {
        let forwarded = [
            ("host", "10.0.0.7:8080"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "agents.example.com:8443, inner"),
            ("x-forwarded-prefix", "/v1/agents/ns/a"),
        ];
        assert_eq!(url(&forwarded, "/"), "https://agents.example.com:8443/v1/agents/ns/a/");
    }

    #[test]
    fn without_a_gateway_it_is_the_host() {
        assert_eq!(url(&[("host", "localhost:8080")], "/"), "http://localhost:8080/");
        assert_eq!(url(&[], "http://h2.example:1/card"), "http://h2.example:1/");
        assert_eq!(url(&[], "/"), "http://localhost/");
    }

    #[test]
    fn what_cannot_be_in_a_url_is_passed_over() {
        let bad = [
            ("host", "h"),
            ("x-forwarded-host", "a b"),
            ("x-forwarded-proto", "a b"),
            ("x-forwarded-prefix", ""),
        ];
        assert_eq!(url(&bad, "/"), "http://h/");
        assert_eq!(url(&[("host", "h"), ("x-forwarded-prefix", "/")], "/"), "http://h/");
    }
}
