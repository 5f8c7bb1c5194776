//! What the gateway changes in headers, and nothing else. Pure: works on header maps.
//!
//! Hop-by-hop headers of requests are Pingora's to remove; those of responses, which it leaves alone, are ours.

use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_TYPE, FORWARDED, HOST, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Version};
use ipnet::IpNet;

use super::error::CallError;
use crate::text::{LONGEST_ADDRESS, push_ip};

/// The id of a call, kept from the client or made here.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Tells nginx in front not to buffer this answer.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

const FORWARDED_PREFIX: &str = "x-forwarded-";
/// Longest request id that is kept.
const MAX_REQUEST_ID: usize = 128;
/// Names that `Connection` may hold: Pingora's own limit.
const MAX_NOMINATED: usize = 9;
/// Headers that a request usually gains here: one growth of the map instead of several.
const ADDED: usize = 8;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The networks whose forwarding headers are believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// Which hosts are served; empty means any. Spelled in lower case, without a port.
#[derive(Debug, Clone, Default)]
pub struct AllowedHosts(Vec<Box<str>>);

/// What the gateway tells the agent of a call.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The peer that sent the request.
    pub client: Option<IpAddr>,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
    /// `namespace/name`.
    pub key: &'a str,
    /// The Host that the agent is to see; `None` keeps the client's.
    pub upstream_host: Option<&'a HeaderValue>,
    /// The call's id.
    pub request_id: &'a HeaderValue,
}

// === impl TrustedProxies ===

impl TrustedProxies {
    /// These networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether `peer` is in one of them.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&peer))
    }
}

// === impl AllowedHosts ===

impl AllowedHosts {
    /// These hosts.
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = String>) -> Self {
        // An empty value is what an unset variable of a manifest becomes: any.
        Self(
            hosts
                .into_iter()
                .filter(|host| !host.is_empty())
                .map(|h| h.to_ascii_lowercase().into())
                .collect(),
        )
    }

    /// Whether `host`, a Host header with or without a port, is served.
    #[must_use]
    pub fn allow(&self, host: &HeaderValue) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Ok(host) = host.to_str() else { return false };
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((v6, _)) => v6,
            None => host.split_once(':').map_or(host, |(name, _)| name),
        };
        self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }
}

// === requests ===

/// The host that the client called, from Host or, in HTTP/2, from `:authority`.
///
/// # Errors
/// HTTP/1.1 and above without either, RFC 9112 §3.2.
pub fn host(
    headers: &HeaderMap,
    authority: Option<&http::uri::Authority>,
    version: Version,
) -> Result<Option<HeaderValue>, CallError> {
    if let Some(host) = headers.get(HOST) {
        return Ok(Some(host.clone()));
    }
    if let Some(authority) = authority {
        return HeaderValue::from_str(authority.as_str()).map(Some).map_err(|_| CallError::BadHeader);
    }
    if version < Version::HTTP_11 { Ok(None) } else { Err(CallError::MissingHost) }
}

/// Refuses a `Connection` header that names a header of ours, since the next hop would drop what we set, and what
/// Pingora would refuse only after an agent was dialled: names that are none, and more than it takes.
///
/// # Errors
/// [`CallError::BadConnectionHeader`].
pub fn check_connection(headers: &HeaderMap) -> Result<(), CallError> {
    let mut count = 0;
    for name in headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|b| *b == b',')) {
        let name = name.trim_ascii();
        if name.is_empty() {
            continue;
        }
        count += 1;
        let name = std::str::from_utf8(name).ok().filter(|name| name.bytes().all(is_token));
        let is_ours =
            |name: &str| is_forwarding(name) || eq(name, HOST.as_str()) || eq(name, X_REQUEST_ID.as_str());
        if count > MAX_NOMINATED || name.is_none_or(is_ours) {
            return Err(CallError::BadConnectionHeader);
        }
    }
    Ok(())
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The client's request id where it is 1 to 128 of `[A-Za-z0-9._-]`, else a new one.
#[must_use]
pub fn request_id(headers: &HeaderMap, rng: &mut fastrand::Rng) -> HeaderValue {
    let is_kept = |id: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    let mut sent = headers.get_all(X_REQUEST_ID).iter();
    match (sent.next().filter(is_kept), sent.next()) {
        (Some(id), None) => id.clone(),
        _ => new_request_id(rng),
    }
}

fn new_request_id(rng: &mut fastrand::Rng) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bits = rng.u128(..);
    let mut id = [0; 32];
    for digit in &mut id {
        *digit = HEX[usize::from(bits.to_le_bytes()[0] & 0xf)];
        bits >>= 4;
    }
    HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("unknown"))
}

/// Makes the client's headers into those that the agent gets. `host` is what [`host`] found.
pub fn prepare_request(headers: &mut HeaderMap, host: Option<HeaderValue>, facts: &Facts<'_>) {
    headers.reserve(ADDED);
    let came_in = Forwarding::take(headers, facts.trusted);
    if let Some(client) = facts.client {
        let mut text = Vec::with_capacity(LONGEST_ADDRESS);
        push_ip(&mut text, client);
        let value = match &came_in.chain {
            Some(chain) => joined(chain.as_bytes(), b", ", &text),
            None => HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok(),
        };
        value.map(|value| headers.insert(X_FORWARDED_FOR, value));
    }
    let prefix = came_in.prefix.as_ref().map_or(&b""[..], |prefix| trim_slash(prefix.as_bytes()));
    joined(prefix, b"/v1/agents/", facts.key.as_bytes())
        .map(|value| headers.insert(X_FORWARDED_PREFIX, value));
    headers.insert(X_FORWARDED_PROTO, came_in.proto.unwrap_or(HeaderValue::from_static("http")));
    if let Some(public) = came_in.host.or_else(|| host.clone()) {
        headers.insert(X_FORWARDED_HOST, public);
    }
    if let Some(seen) = facts.upstream_host.cloned().or(host) {
        headers.insert(HOST, seen);
    }
    headers.insert(X_REQUEST_ID, facts.request_id.clone());
}

/// What a trusted proxy said of the client.
#[derive(Default)]
struct Forwarding {
    /// X-Forwarded-For, all of its lines in one.
    chain: Option<HeaderValue>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
    prefix: Option<HeaderValue>,
}

impl Forwarding {
    /// Takes all forwarding headers out, whoever sent them and however they are spelled, but leaves what only a
    /// trusted proxy may say and nobody here rewrites: Forwarded, X-Real-IP, other X-Forwarded-*.
    fn take(headers: &mut HeaderMap, trusted: bool) -> Self {
        // Most requests carry none.
        if !headers.keys().any(|name| is_forwarding(name.as_str())) {
            return Self::default();
        }
        let mut lines = headers.get_all(X_FORWARDED_FOR).iter();
        let chain = lines.next().cloned().map(|first| {
            lines.fold(first, |all, line| joined(all.as_bytes(), b", ", line.as_bytes()).unwrap_or(all))
        });
        let came_in = Self {
            chain,
            proto: headers.remove(X_FORWARDED_PROTO),
            host: headers.remove(X_FORWARDED_HOST),
            prefix: headers.remove(X_FORWARDED_PREFIX),
        };
        headers.remove(X_FORWARDED_FOR);
        let bad: Vec<HeaderName> = headers
            .keys()
            .filter(|name| is_forwarding(name.as_str()) && (!trusted || name.as_str().contains('_')))
            .cloned()
            .collect();
        for name in bad {
            headers.remove(name);
        }
        if trusted { came_in } else { Self::default() }
    }
}

/// Forwarded, X-Real-IP and X-Forwarded-*, also with `_` for `-`: CGI-like agents cannot tell them apart.
fn is_forwarding(name: &str) -> bool {
    let starts = name.get(..FORWARDED_PREFIX.len()).is_some_and(|start| eq(start, FORWARDED_PREFIX));
    starts || eq(name, FORWARDED.as_str()) || eq(name, X_REAL_IP.as_str())
}

/// Equal but for case and for `_` in place of `-`.
fn eq(name: &str, canonical: &str) -> bool {
    name.len() == canonical.len()
        && name
            .bytes()
            .zip(canonical.bytes())
            .all(|(a, b)| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-'))
}

fn joined(left: &[u8], middle: &[u8], right: &[u8]) -> Option<HeaderValue> {
    let mut value = bytes::BytesMut::with_capacity(left.len() + middle.len() + right.len());
    value.extend_from_slice(left);
    value.extend_from_slice(middle);
    value.extend_from_slice(right);
    HeaderValue::from_maybe_shared(value.freeze()).ok()
}

fn trim_slash(prefix: &[u8]) -> &[u8] {
    prefix.strip_suffix(b"/").unwrap_or(prefix)
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim)
}

// === responses ===

/// What of an agent's answer must not reach the client.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cleanup {
    /// Headers to remove. Empty, and without an allocation, for most answers.
    pub remove: Vec<HeaderName>,
    /// Seconds of the answer's `Keep-Alive: timeout=N`, where it has one.
    pub keep_alive: Option<u64>,
}

/// Finds in an agent's answer what belongs to the hop and what acts on more than the agent.
///
/// `is_upgrade`: a 101, whose Connection and Upgrade have to reach the client.
#[must_use]
pub fn clean_response(headers: &HeaderMap, is_upgrade: bool) -> Cleanup {
    let mut cleanup = Cleanup::default();
    let (mut nominates, mut tells_time) = (false, false);
    // Once over all of them: a look-up for each name that could be there costs more.
    for name in headers.keys() {
        let text = name.as_str();
        nominates |= !is_upgrade && *name == CONNECTION;
        tells_time |= *name == KEEP_ALIVE;
        if acts_beyond_agent(text) || (!is_upgrade && is_hop_by_hop(text)) {
            cleanup.remove.push(name.clone());
        }
    }
    if nominates {
        for nominated in headers.get_all(CONNECTION).iter().flat_map(tokens) {
            let name = HeaderName::from_bytes(nominated.as_bytes()).ok();
            // Never what frames the message, whatever an agent calls it.
            let name = name.filter(|name| !is_framing(name) && headers.contains_key(name));
            cleanup.remove.extend(name.filter(|name| !cleanup.remove.contains(name)));
        }
    }
    if tells_time {
        cleanup.keep_alive = headers.get(KEEP_ALIVE).and_then(keep_alive_timeout);
    }
    cleanup
}

/// What an answer must not say, since it acts on the whole shared origin or on the proxy in front.
fn acts_beyond_agent(name: &str) -> bool {
    matches!(name, "alt-svc" | "clear-site-data" | "strict-transport-security" | "x-sendfile")
        || name.starts_with("x-accel-")
}

/// Hop-by-hop in an answer, RFC 9110 §7.6.1. Transfer-Encoding is Pingora's framing; HTTP/1 trailers are not
/// forwarded, so neither is their announcement.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(name, "keep-alive" | "proxy-connection" | "te" | "trailer" | "upgrade")
}

/// Whether an answer is a stream of events, which nginx in front must be told not to buffer.
#[must_use]
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| has_media_type(value.as_bytes(), b"text/event-stream"))
}

/// The header that tells nginx so.
#[must_use]
pub fn no_buffering() -> (HeaderName, HeaderValue) {
    (X_ACCEL_BUFFERING, HeaderValue::from_static("no"))
}

/// Whether a request asks for a stream of events.
#[must_use]
pub fn accepts_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(http::header::ACCEPT)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|range| has_media_type(range.trim_ascii(), b"text/event-stream"))
}

/// Whether a request offers to speak something else, and that is not WebSocket alone: as Pingora asks it.
#[must_use]
pub fn offers_other_than_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn has_media_type(value: &[u8], media_type: &[u8]) -> bool {
    let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
    value[..end].trim_ascii().eq_ignore_ascii_case(media_type)
}

fn is_framing(name: &HeaderName) -> bool {
    *name == http::header::CONTENT_LENGTH || *name == http::header::TRANSFER_ENCODING || *name == CONNECTION
}

fn keep_alive_timeout(value: &HeaderValue) -> Option<u64> {
    tokens(value).find_map(|token| {
        let (name, seconds) = token.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| seconds.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests;
