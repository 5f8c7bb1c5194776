//! Answers of our own: written whole, on a kept connection where HTTP allows, and so that a client that is still
//! uploading gets to read them.

use std::time::Duration;

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::error::CallError;

/// An upload up to this size is read to its end, so that the connection can be kept.
const SMALL_UPLOAD: usize = 256 * 1024;
/// What is read of a larger one before the connection is closed, so that the client is done sending, or at least
/// has our answer, before the kernel resets the connection. Nothing of it is kept.
const DRAIN_BYTES: usize = 16 * 1024 * 1024;
/// How long that may take.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Headers of an answer of ours.
const HEADERS: usize = 6;

/// Answers with `error`.
///
/// # Errors
/// The client cannot be written to.
pub(super) async fn error(session: &mut Session, error: &CallError, request_id: &str) -> pingora::Result<()> {
    let disposition = error.disposition();
    let mut header = ResponseHeader::build(disposition.status, Some(HEADERS))?;
    header.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
    if let Some(seconds) = disposition.retry_after {
        header.insert_header(RETRY_AFTER, HeaderValue::from(u16::from(seconds)))?;
    }
    if let CallError::MethodNotAllowed(allowed) = error {
        header.insert_header(ALLOW, HeaderValue::from_static(allowed))?;
    }
    write(session, header, error.body(request_id).into()).await
}

/// Answers 200 with `body`, which is JSON.
///
/// # Errors
/// The client cannot be written to.
pub(super) async fn json(session: &mut Session, body: String) -> pingora::Result<()> {
    let mut header = ResponseHeader::build(200, Some(HEADERS))?;
    header.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
    write(session, header, body.into()).await
}

/// Answers a health check: 200 or 503, in plain text as upstream does.
///
/// # Errors
/// The client cannot be written to.
pub(super) async fn health(session: &mut Session, is_good: bool) -> pingora::Result<()> {
    let (status, body) = if is_good { (200, "ok") } else { (503, "not ready") };
    let mut header = ResponseHeader::build(status, Some(HEADERS))?;
    header.insert_header(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))?;
    write(session, header, body.into()).await
}

async fn write(session: &mut Session, mut header: ResponseHeader, body: bytes::Bytes) -> pingora::Result<()> {
    header.insert_header(CONTENT_LENGTH, HeaderValue::from(body.len()))?;
    header.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    header.insert_header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))?;
    let upload = Upload::of(session);
    match upload {
        // It is read to its end below: no reason to close.
        Upload::Small => session.set_close_on_response_before_downstream_finish(false),
        Upload::Large | Upload::Held => session.set_keepalive(None),
        Upload::None => {}
    }
    let has_body = session.req_header().method != Method::HEAD;
    session.write_response_header(Box::new(header), !has_body).await?;
    if has_body {
        session.write_response_body(Some(body), true).await?;
    }
    match upload {
        Upload::Small | Upload::Large => drain(session).await,
        Upload::None | Upload::Held => {}
    }
    Ok(())
}

/// What is still to come from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upload {
    None,
    Small,
    Large,
    /// The client waits for a `100 Continue` that it will not get: it may or may not send.
    Held,
}

impl Upload {
    fn of(session: &mut Session) -> Self {
        if session.is_body_done() {
            return Self::None;
        }
        let header = session.req_header();
        if header.version >= Version::HTTP_11 && header.headers.contains_key(EXPECT) {
            return Self::Held;
        }
        let length: Option<usize> =
            header.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        match length {
            Some(length) if length <= SMALL_UPLOAD => Self::Small,
            Some(_) | None => Self::Large,
        }
    }
}

/// Reads on after an answer that did not wait for the upload's end, so that the client gets to read it.
pub(super) async fn drain_rest(session: &mut Session) {
    match Upload::of(session) {
        Upload::Small | Upload::Large => drain(session).await,
        Upload::None | Upload::Held => {}
    }
}

async fn drain(session: &mut Session) {
    let read = async {
        let mut left = DRAIN_BYTES;
        while left > 0 {
            match session.read_request_body().await {
                Ok(Some(chunk)) => left = left.saturating_sub(chunk.len()),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        false
    };
    if !tokio::time::timeout(DRAIN_TIME, read).await.unwrap_or(false) {
        session.set_keepalive(None);
    }
}
