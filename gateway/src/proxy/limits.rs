//! The limits of a call that are not the agent's read timeout: what Pingora keeps per session, and the deadline
//! that nothing in Pingora keeps (see [`crate::server::watch`]).

use std::time::Duration;

use http::Version;
use pingora::proxy::Session;
use tokio::time::Instant;

use super::Gateway;
use super::ctx::CallCtx;
use super::respond;
use crate::route_table::CallKind;

/// How long after its `maxDuration` an HTTP/2 call that is still unanswered may be answered with that.
const LATE_ANSWER: Duration = Duration::from_secs(1);

impl Gateway {
    /// Limits of the client's side, which Pingora keeps per session.
    pub(super) fn limit_client(&self, session: &mut Session, ctx: &CallCtx) {
        self.limit_waits(session, ctx);
        session.set_total_drain_timeout(Some(self.policy.upload_timeout));
        // RFC 9110 §15.2: HTTP/1.0 knows no 1xx.
        let is_old = session.req_header().version < Version::HTTP_11;
        session.set_ignore_info_resp(is_old);
        if self.drain.is_draining() {
            session.set_keepalive(None);
        }
        if ctx.kind == CallKind::Standing {
            ctx.watch.set_standing(true);
        }
        if session.is_body_done() {
            Self::upload_ends(session, ctx);
        }
        self.set_deadline(session, ctx);
    }

    /// The request is whole, unless it asks for a tunnel.
    pub(super) fn upload_ends(session: &Session, ctx: &CallCtx) {
        if !ctx.is_h2 && !session.is_upgrade_req() {
            ctx.watch.set_upload_done();
        }
    }

    /// How long the client may keep us waiting, whoever answers it.
    pub(super) fn limit_waits(&self, session: &mut Session, ctx: &CallCtx) {
        session.set_read_timeout(Some(self.policy.upload_timeout));
        if ctx.is_h2 {
            session.set_write_timeout(Some(self.policy.client_write_timeout));
        } else {
            // Pingora's own limit covers bodies only; a header and a last chunk can wait just as long.
            ctx.watch.set_write_limit(self.policy.client_write_timeout);
        }
    }

    /// The deadline that nothing in Pingora keeps: see [`crate::server::watch`].
    pub(super) fn set_deadline(&self, session: &mut Session, ctx: &CallCtx) {
        let Some(agent) = &ctx.agent else { return };
        // An upgrade has no read timeout, since a tunnel may be silent; until there is one, the agent may not be.
        let is_no_tunnel = session.is_upgrade_req() && ctx.status != Some(101);
        let is_watched = is_no_tunnel || ctx.upstream.is_silence_watched;
        let silence = is_watched.then(|| Instant::now() + agent.view.route().timeouts.timeout);
        // HTTP/2 has no read timeout of its own either.
        let pause = if ctx.is_answered { respond::DRAIN_TIME } else { self.policy.upload_timeout };
        ctx.watch.set_upload_limit((ctx.is_h2 && !session.is_body_done()).then_some(pause));
        // Nor can it be interrupted, only dropped: before the answer that is left to the agent's read timeout.
        let is_answerable = ctx.is_h2 && ctx.status.is_none();
        let whole =
            agent.deadline.and_then(|at| if is_answerable { at.checked_add(LATE_ANSWER) } else { Some(at) });
        ctx.watch.set_deadline([whole, silence].into_iter().flatten().min());
    }

    /// The agent's answer is whole. If it did not wait for the upload's end, the rest is only taken as long as
    /// it keeps coming.
    pub(super) fn answer_ends(&self, session: &mut Session, ctx: &mut CallCtx) {
        ctx.is_answered = true;
        if !session.is_body_done() {
            session.set_read_timeout(Some(respond::DRAIN_TIME));
            self.set_deadline(session, ctx);
        }
    }
}
