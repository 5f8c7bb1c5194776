//! Attempts: which endpoint is next, whether there is a next, and why there was no answer.
//!
//! What is ever sent twice: a call whose dial failed, to another endpoint; and once more on a fresh connection,
//! when a pooled one turned out dead before the agent can have seen the request. Nothing else.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use krypton_discovery::AppProtocol;
use pingora::ErrorSource;
use pingora::ErrorType::{
    BindError, ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, H2Error, InvalidH2,
    InvalidHTTPHeader, ReadTimedout, SocketError, WriteError, WriteTimedout,
};
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;

use super::ctx::{CallCtx, Stage};
use super::error::CallError;
use super::peer::{Dial, peer};
use super::tunnel::Dialler;
use crate::balance::{self, MAX_ATTEMPTS};
use crate::route_table::{CallKind, DialMode, InFlight};
use crate::server::watch::Interrupt;

/// The peer of the next attempt.
///
/// # Errors
/// There is none left to try; the context says why.
pub(super) fn choose(
    session: &mut Session,
    ctx: &mut CallCtx,
    mode: DialMode,
    connect: Duration,
) -> pingora::Result<Box<HttpPeer>> {
    let Some(agent) = &ctx.agent else {
        ctx.fail(CallError::Internal);
        return pingora::Error::err(pingora::ErrorType::InternalError);
    };
    let upstream = &mut ctx.upstream;
    let again = upstream.again.take();
    let fresh = again.is_some();
    upstream.mode = mode;
    let candidates = agent.view.candidates(mode);
    let next =
        again.or_else(|| balance::pick(candidates, &upstream.tried, &mut fastrand::Rng::new()).cloned());
    let Some(endpoint) = next else {
        let key = agent.view.key().clone();
        ctx.fail(CallError::NoEndpoint(key));
        return pingora::Error::err(ConnectNoRoute);
    };
    upstream.attempts += 1;
    upstream.stage = Stage::Dialling;
    upstream.body_sent = 0;
    let route = agent.view.route();
    let left = agent.deadline.map(|deadline| deadline.saturating_duration_since(tokio::time::Instant::now()));
    // A drain ends it by hanging up on the agent: the client's side cannot be interrupted.
    let is_ended_from_here = ctx.is_h2 && ctx.kind == CallKind::Standing;
    let within = |limit: Duration| left.map_or(limit, |left| left.min(limit));
    // Over HTTP/2 Pingora waits for the answer with one timeout from the head on, which an upload does not restart.
    let is_uploading = !ctx.is_h2 && !session.is_body_done();
    upstream.is_silence_watched = route.app_protocol == AppProtocol::H2c && is_uploading;
    let is_silence_timed = !session.is_upgrade_req() && !upstream.is_silence_watched;
    let dial = Dial {
        app_protocol: route.app_protocol,
        connect: within(connect),
        // A silence to the call's own deadline ends it with an answer, also where an interruption cannot.
        silence: is_silence_timed.then(|| within(route.timeouts.timeout)),
        // The pool's connections are shared, or were made without the handle, or are no tunnels.
        fresh: fresh || is_ended_from_here || session.is_upgrade_req(),
    };
    let mut peer = peer(&endpoint, dial);
    if session.is_upgrade_req() {
        peer.options.custom_l4 = Some(Arc::new(Dialler { timeout: dial.connect }));
    }
    if is_ended_from_here {
        let watch = Arc::clone(&ctx.watch);
        peer.options.upstream_tcp_sock_tweak_hook = Some(Arc::new(move |socket| watch.hold_agent(socket)));
    }
    upstream.at = Some(InFlight::new(endpoint, ctx.kind));
    Ok(Box::new(peer))
}

/// A dial failed: nothing was sent, so any call may try another endpoint.
pub(super) fn dial_failed(ctx: &mut CallCtx, fault: &mut pingora::Error) {
    let upstream = &mut ctx.upstream;
    if let Some(at) = &upstream.at {
        upstream.tried.insert(at.endpoint());
    }
    let has_other = ctx.agent.as_ref().is_some_and(|agent| {
        agent.view.candidates(upstream.mode).iter().any(|endpoint| !upstream.tried.contains(endpoint))
    });
    let may = has_other && attempts_left(ctx) && !ctx.is_overdue();
    fault.set_retry(may);
}

/// An attempt failed on a connection that was made.
pub(super) fn attempt_failed(session: &Session, ctx: &mut CallCtx, fault: &mut pingora::Error, reused: bool) {
    let is_stale = reused
        && fault.esource() == &ErrorSource::Upstream
        && ctx.watch.interrupt().is_none()
        && !ctx.upstream.answered
        && session.response_written().is_none()
        && !session.as_ref().retry_buffer_truncated();
    let unseen = match fault.etype() {
        // The head could not be written.
        WriteError if ctx.upstream.stage != Stage::HeadSent => true,
        ReadTimedout | WriteTimedout | InvalidHTTPHeader | H2Error | InvalidH2 => false,
        // It ended before any byte of an answer. The agent may have seen it, so only where that is no harm.
        _ => is_idempotent(&ctx.method),
    };
    let may = is_stale && unseen && attempts_left(ctx) && !ctx.is_overdue();
    if may {
        ctx.upstream.again = ctx.upstream.at.as_ref().map(|at| at.endpoint().clone());
    }
    fault.set_retry(may);
}

/// Why there is no answer, or no whole one.
pub(super) fn reason(session: &mut Session, ctx: &CallCtx, fault: &pingora::Error) -> CallError {
    match ctx.watch.interrupt() {
        Some(Interrupt::Drain) => return CallError::ShuttingDown,
        Some(Interrupt::Deadline) if ctx.is_overdue() => return CallError::MaxDuration,
        Some(Interrupt::Deadline) if !session.is_body_done() => return CallError::ClientStalled,
        Some(Interrupt::Deadline) => return CallError::UpstreamTimeout,
        None => {}
    }
    match fault.esource() {
        ErrorSource::Upstream => upstream_reason(session, ctx, fault),
        ErrorSource::Downstream
            if ctx.watch.is_stalled() || matches!(fault.etype(), ReadTimedout | WriteTimedout) =>
        {
            CallError::ClientStalled
        }
        // A header that Pingora refuses only when it is about to be sent on.
        ErrorSource::Downstream if *fault.etype() == InvalidHTTPHeader => CallError::BadHeader,
        ErrorSource::Downstream => CallError::ClientAbort,
        ErrorSource::Internal | ErrorSource::Unset => CallError::Internal,
    }
}

/// Whether `fault` is that the client sends no more.
pub(super) fn is_end_of_upload(fault: &pingora::Error) -> bool {
    fault.esource() == &ErrorSource::Downstream && !matches!(fault.etype(), WriteError | WriteTimedout)
}

fn upstream_reason(session: &mut Session, ctx: &CallCtx, fault: &pingora::Error) -> CallError {
    match fault.etype() {
        ConnectTimedout | ReadTimedout | WriteTimedout if ctx.is_overdue() => CallError::MaxDuration,
        ConnectTimedout => CallError::UpstreamConnectTimeout,
        ConnectRefused | ConnectNoRoute | ConnectError | BindError | SocketError => {
            CallError::UpstreamRefused
        }
        // The agent waits for a client that does not send: the silence is not the agent's. But it is where the
        // client waits for the agent's 100.
        ReadTimedout if !session.is_body_done() && !waits_for_continue(session, ctx) => {
            CallError::ClientStalled
        }
        ReadTimedout | WriteTimedout => CallError::UpstreamTimeout,
        InvalidHTTPHeader | InvalidH2 => CallError::UpstreamInvalid,
        _ if ctx.upstream.stage == Stage::Dialling => CallError::UpstreamRefused,
        _ => CallError::UpstreamReset,
    }
}

fn waits_for_continue(session: &Session, ctx: &CallCtx) -> bool {
    ctx.upstream.body_sent == 0 && session.req_header().headers.contains_key(http::header::EXPECT)
}

fn attempts_left(ctx: &CallCtx) -> bool {
    usize::from(ctx.upstream.attempts) < MAX_ATTEMPTS
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

#[cfg(test)]
mod tests;
