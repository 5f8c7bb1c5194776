//! Plain HTTP: tells the caller what arrived, or sends the filler or the events that the knobs ask for.
//!
//! Nothing is decoded or normalised: the target is the text between the method and the version, and a header's
//! value is read byte by byte, so that the report loses nothing. The request's body is counted, not kept.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde_json::json;

use crate::answer::{self, Content};
use crate::connection::Connection;
use crate::knobs::{BadKnob, Knobs};
use crate::routes::Agent;

/// A longer body is counted and digested, and not shown.
const SHOWN_BODY_BYTES: usize = 64 << 10;
const DEFAULT_SIZE_BYTES: usize = 64;
const DEFAULT_EVENTS: u32 = 10;
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

/// What arrived.
#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    pid: u32,
    /// The other side of the connection: equal for two calls on one connection.
    peer: String,
    method: &'a str,
    /// As it came: path and query undecoded.
    target: String,
    version: String,
    /// In the order of arrival but for equal names, which stand together; names in lower case. A value's character
    /// U+0000 to U+00FF stands for that byte.
    headers: Vec<(&'a str, String)>,
    body: BodyReport,
}

#[derive(Serialize)]
struct BodyReport {
    bytes: u64,
    /// CRC-32 (ISO-HDLC, as in zip) in eight hexadecimal digits.
    crc32: String,
    /// Absent when the body is longer than 64 KiB or not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// A request's body after it was read to its end.
pub(crate) struct ReceivedBody {
    bytes: u64,
    digest: crc32fast::Hasher,
    /// Whole while it is not longer than [`SHOWN_BODY_BYTES`], empty beyond.
    shown: Vec<u8>,
}

/// The body did not arrive whole. The client is gone in most cases, so that nobody reads this.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive whole")]
pub(crate) struct BrokenBody(#[source] axum::Error);

pub(crate) async fn echo(State(agent): State<Arc<Agent>>, request: Request) -> Response {
    let knobs = match Knobs::parse(request.headers(), request.uri().query()) {
        Ok(knobs) => knobs,
        Err(bad) => return bad_request(&bad),
    };
    let connection = connection(&request);
    let (head, body) = request.into_parts();
    let body = match ReceivedBody::read(body, knobs.read_pace).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let content = filler(&knobs).unwrap_or_else(|| {
        let report = Report {
            name: agent.name(),
            pid: std::process::id(),
            peer: connection.peer().to_string(),
            method: head.method.as_str(),
            target: head.uri.to_string(),
            version: format!("{:?}", head.version),
            headers: listed(&head.headers),
            body: body.report(),
        };
        Content::Report(serde_json::to_vec(&report).expect("strings and numbers make JSON").into())
    });
    answer::respond(content, &knobs, connection, head.version).await
}

/// The connection a request came on.
pub(crate) fn connection(request: &Request) -> Connection {
    request.extensions().get::<Connection>().expect("put there for every request of a connection").clone()
}

/// 400 that names the knob.
pub(crate) fn bad_request(bad: &BadKnob) -> Response {
    let body = json!({ "error": bad.to_string(), "knob": bad.knob() });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// What the knobs ask for instead of a report.
fn filler(knobs: &Knobs) -> Option<Content> {
    let letters = |bytes: usize| {
        let mut letters = LETTERS.repeat(bytes.div_ceil(LETTERS.len()));
        letters.truncate(bytes);
        Bytes::from(letters)
    };
    if knobs.sse == Some(true) {
        let count = knobs.chunks.unwrap_or(DEFAULT_EVENTS);
        return Some(Content::Events { pad: letters(knobs.size.unwrap_or(0)), count });
    }
    let asked = knobs.chunks.is_some() || knobs.size.is_some();
    asked.then(|| Content::Filler {
        chunk: letters(knobs.size.unwrap_or(DEFAULT_SIZE_BYTES)),
        count: knobs.chunks.unwrap_or(1),
    })
}

fn listed(headers: &HeaderMap) -> Vec<(&str, String)> {
    let text = |value: &http::HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect()
}

// === impl ReceivedBody ===

impl ReceivedBody {
    /// Reads to the end, waiting `pace` after each piece.
    ///
    /// # Errors
    /// The client left or broke the framing of its body.
    pub(crate) async fn read(mut body: Body, pace: Duration) -> Result<Self, BrokenBody> {
        let mut received = Self { bytes: 0, digest: crc32fast::Hasher::new(), shown: Vec::new() };
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(BrokenBody)?.into_data() {
                received.add(&data);
                answer::pause(pace).await;
            }
        }
        Ok(received)
    }

    fn add(&mut self, data: &[u8]) {
        self.digest.update(data);
        self.bytes += data.len() as u64;
        if self.bytes <= SHOWN_BODY_BYTES as u64 {
            self.shown.extend_from_slice(data);
        } else {
            self.shown = Vec::new();
        }
    }

    /// The body, unless it is too long to be shown or not UTF-8.
    pub(crate) fn text(&self) -> Option<String> {
        let whole = self.bytes == self.shown.len() as u64;
        whole.then(|| String::from_utf8(self.shown.clone()).ok())?
    }

    fn report(self) -> BodyReport {
        BodyReport { bytes: self.bytes, text: self.text(), crc32: format!("{:08x}", self.digest.finalize()) }
    }
}

// === impl BrokenBody ===

impl IntoResponse for BrokenBody {
    fn into_response(self) -> Response {
        log::debug!(error:% = self.0; "Body broken off");
        (StatusCode::BAD_REQUEST, Json(json!({ "error": self.to_string() }))).into_response()
    }
}
