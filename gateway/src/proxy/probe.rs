//! The synthetic probe: a stream of known timing and an upload of known size, answered by the gateway itself, so that
//! what stands in front of it can be looked at without an agent.
//!
//! Owns its slots and its metrics. Never touches the route table, and says nothing that is not in this module: whoever
//! may reach the gateway may ask, so all of it is bounded and constant.
//!
//! 1. [`plan`] makes a query into messages with their times.
//! 2. [`Gateway::answer_probe`] takes a slot, which is given back however the call ends.
//! 3. A stream waits for its next message, the client's leaving and the gateway's stop at once; the last ends it
//!    cleanly, since the client knows by the messages whether it has all of them.

mod plan;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Version};
use pingora::ErrorType::{ConnectionClosed, ReadTimedout, WriteTimedout};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::ctx::CallCtx;
use super::error::{CallError, Outcome};
use super::{Gateway, headers, respond};
use crate::metrics::ProbeMetrics;
pub use plan::{DEFAULT_EVENTS, DEFAULT_INTERVAL_MS, EVENTS, INTERVAL_MS, ProbeProblem, SILENCE_MS};
pub(super) use plan::{Format, Message, StreamPlan};

/// Probes that a gateway answers at one time: several people and their tools, and too few to matter.
pub const SLOTS: usize = 8;
/// What an upload may have, bytes: above the body limits that ingresses are commonly set to.
pub const UPLOAD_LIMIT: u64 = 64 * 1024 * 1024;
/// The whole of an upload: as long as the longest silence, so that a trickle does not hold its slot for ever.
pub const UPLOAD_TIME: Duration = Duration::from_mins(15);
/// How long a stopping gateway waits for a client to take what is being written to it.
const LAST_WRITE: Duration = Duration::from_secs(1);
/// Headers of a stream's answer.
const HEADERS: usize = 6;

/// What is asked of the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeRequest {
    Stream(StreamPlan),
    Upload,
}

/// The slots.
#[derive(Debug)]
pub(super) struct Probes {
    slots: Semaphore,
    metrics: ProbeMetrics,
}

/// One probe that runs.
struct Slot<'a> {
    running: Gauge,
    _permit: SemaphorePermit<'a>,
}

/// Why a probe was not answered to its end.
enum Ended {
    /// It is answered with this instead.
    Refused(CallError),
    /// The client cannot be reached any more.
    Lost(Box<pingora::Error>),
}

// === impl Probes ===

impl Probes {
    pub(super) fn new(metrics: ProbeMetrics) -> Self {
        Self { slots: Semaphore::new(SLOTS), metrics }
    }

    fn enter(&self) -> Result<Slot<'_>, CallError> {
        let permit = self.slots.try_acquire().map_err(|_| CallError::ProbeBusy)?;
        self.metrics.running.inc();
        self.metrics.started.inc();
        Ok(Slot { running: self.metrics.running.clone(), _permit: permit })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.running.dec();
    }
}

// === impl Ended ===

impl From<CallError> for Ended {
    fn from(error: CallError) -> Self {
        Self::Refused(error)
    }
}

impl From<Box<pingora::Error>> for Ended {
    fn from(error: Box<pingora::Error>) -> Self {
        Self::Lost(error)
    }
}

// === impl Gateway ===

impl Gateway {
    /// Answers a probe, whole or with an error.
    ///
    /// # Errors
    /// The client left, or does not read.
    pub(super) async fn answer_probe(
        &self,
        session: &mut Session,
        ctx: &mut CallCtx,
        request: ProbeRequest,
    ) -> pingora::Result<()> {
        let answered = match request {
            ProbeRequest::Stream(plan) => self.probe_stream(session, ctx, plan).await,
            ProbeRequest::Upload => self.probe_upload(session, ctx).await,
        };
        match answered {
            Ok(()) => Ok(()),
            Err(Ended::Refused(error)) => self.answer_here(session, ctx, error).await,
            Err(Ended::Lost(error)) => {
                let is_stalled = ctx.watch.is_stalled() || *error.etype() == WriteTimedout;
                ctx.outcome = Some(if is_stalled { Outcome::ClientStalled } else { Outcome::ClientAbort });
                // Where it still listens, half a stream must not look whole.
                ctx.watch.request_reset();
                Err(error)
            }
        }
    }

    // === the stream ===

    async fn probe_stream(
        &self,
        session: &mut Session,
        ctx: &mut CallCtx,
        plan: StreamPlan,
    ) -> Result<(), Ended> {
        if !session.is_body_done() {
            return Err(CallError::BadProbe(ProbeProblem::Body).into());
        }
        if self.drain.stopping().is_cancelled() {
            return Err(CallError::ShuttingDown.into());
        }
        let _slot = self.probes.enter()?;
        if !ctx.is_h2 {
            // What comes now is the client's next request, and must not hide that it leaves.
            ctx.watch.set_upload_done();
        }
        if self.drain.is_draining() {
            session.set_keepalive(None);
        }
        let header = stream_header(session, plan.format, ctx.is_h2)?;
        ctx.status = Some(header.status.as_u16());
        session.write_response_header(Box::new(header), false).await?;
        ctx.first_byte = Some(ctx.started.elapsed());
        let outcome = self.send_messages(session, ctx, plan).await?;
        session.write_response_body(None, true).await?;
        ctx.outcome = Some(outcome);
        Ok(())
    }

    async fn send_messages(
        &self,
        session: &mut Session,
        ctx: &mut CallCtx,
        plan: StreamPlan,
    ) -> pingora::Result<Outcome> {
        // Both from when the first was written.
        let (mut begin, mut last) = (None, Instant::now());
        for message in plan.messages() {
            if !self.wait_for(session, begin.unwrap_or(last) + message.at).await? {
                session.set_keepalive(None);
                return Ok(Outcome::Drained);
            }
            let bytes = encode(message, plan.format, last.elapsed());
            let length = bytes.len() as u64;
            tokio::select! {
                biased;
                written = session.write_response_body(Some(bytes), false) => written?,
                () = self.gives_up() => return pingora::Error::err(WriteTimedout),
            }
            ctx.bytes_out += length;
            last = Instant::now();
            begin.get_or_insert(last);
        }
        Ok(Outcome::Ok)
    }

    /// Waits for `due`. Whether it came: the gateway may stop before.
    async fn wait_for(&self, session: &mut Session, due: Instant) -> pingora::Result<bool> {
        tokio::select! {
            biased;
            () = self.drain.stopping().cancelled() => Ok(false),
            left = session.as_downstream_mut().read_body_or_idle(true) => {
                Err(left.err().unwrap_or_else(|| pingora::Error::new(ConnectionClosed)))
            }
            () = tokio::time::sleep_until(due) => Ok(true),
        }
    }

    /// Comes when a client that does not read would hold the exit.
    async fn gives_up(&self) {
        self.drain.stopping().cancelled().await;
        tokio::time::sleep(LAST_WRITE).await;
    }

    // === the upload ===

    async fn probe_upload(&self, session: &mut Session, ctx: &mut CallCtx) -> Result<(), Ended> {
        let _slot = self.probes.enter()?;
        if announced(session).is_some_and(|length| length > UPLOAD_LIMIT) {
            return Err(CallError::ProbeUploadTooLarge.into());
        }
        let request = session.req_header();
        if request.version == Version::HTTP_11 && request.headers.contains_key(EXPECT) {
            session.as_downstream_mut().write_continue_response().await?;
        }
        let end = Instant::now() + UPLOAD_TIME;
        loop {
            // HTTP/2 has no read timeout in Pingora.
            let by = end.min(Instant::now() + self.policy.upload_timeout);
            match tokio::time::timeout_at(by, session.read_request_body()).await {
                Ok(Ok(Some(chunk))) => ctx.bytes_in += chunk.len() as u64,
                Ok(Ok(None)) => break,
                Ok(Err(error)) if *error.etype() != ReadTimedout => return Err(error.into()),
                Ok(Err(_)) | Err(_) => {
                    session.set_keepalive(None);
                    return Err(CallError::ClientStalled.into());
                }
            }
            if ctx.bytes_in > UPLOAD_LIMIT {
                return Err(CallError::ProbeUploadTooLarge.into());
            }
        }
        if self.drain.is_draining() {
            session.set_keepalive(None);
        }
        let body = format!("{{\"bytes\":{}}}\n", ctx.bytes_in);
        ctx.status = Some(200);
        ctx.first_byte = Some(ctx.started.elapsed());
        let length = body.len() as u64;
        respond::json(session, body).await?;
        ctx.bytes_out = length;
        ctx.outcome = Some(Outcome::Ok);
        Ok(())
    }
}

fn stream_header(session: &mut Session, format: Format, is_h2: bool) -> pingora::Result<ResponseHeader> {
    let mut header = ResponseHeader::build(200, Some(HEADERS))?;
    header.insert_header(CONTENT_TYPE, HeaderValue::from_static(format.content_type()))?;
    header.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    header.insert_header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))?;
    if format == Format::Sse {
        let (name, value) = headers::no_buffering();
        header.insert_header(name, value)?;
    }
    if is_h2 {
        return Ok(header);
    }
    if session.req_header().version < Version::HTTP_11 {
        // HTTP/1.0 knows no chunks: the end of the connection is the end of the answer.
        session.set_keepalive(None);
    } else {
        header.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
    }
    Ok(header)
}

fn encode(message: Message, format: Format, silence: Duration) -> bytes::Bytes {
    // A clock before 1970 is no reason not to answer.
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    message.encode(format, unix.as_millis(), silence.as_millis())
}

fn announced(session: &Session) -> Option<u64> {
    session.req_header().headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
