//! The life of a call, phase by phase in the order in which Pingora calls them.
//!
//! 1. `request_filter`: split the target, find the agent, answer what can be answered here, prepare the headers.
//! 2. `upstream_peer`: choose an endpoint; again for each further attempt.
//! 3. `fail_to_connect`, `error_while_proxy`: decide whether there is one.
//! 4. `upstream_response_filter`, `response_filter`: clean the answer's header; its body passes untouched.
//! 5. `fail_to_proxy`: say why there is no answer, or cut the one that had begun.
//! 6. `logging`: note how it ended. The context's `Drop` counts and logs it.
//!
//! The table is read once, in `request_filter`; everything later reads the context.

mod account;
mod admit;
mod ctx;
pub mod error;
pub mod headers;
mod limits;
pub mod peer;
pub mod probe;
mod progress;
mod respond;
mod tunnel;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Version;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::ErrorType::InvalidHTTPHeader;
use pingora::http::ResponseHeader;
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;

use crate::readiness::Readiness;
use crate::route_table::{CallKind, RouteTableHandle};
use crate::server::Drain;
pub use account::Account;
use admit::Admission;
use ctx::{Accounting, CallCtx, Stage};
use error::{CallError, Outcome};
use headers::{AllowedHosts, TrustedProxies};
use probe::Probes;

/// How the gateway treats calls, as set by its flags.
#[derive(Debug, Clone)]
pub struct CallPolicy {
    /// Whose forwarding headers are believed.
    pub trusted_proxies: TrustedProxies,
    /// Which hosts are served.
    pub allowed_hosts: AllowedHosts,
    /// How long a connection to a pod may take.
    pub connect_timeout: Duration,
    /// How long a client may pause its upload.
    pub upload_timeout: Duration,
    /// How long a client may leave our writes unread.
    pub client_write_timeout: Duration,
    /// Whether the synthetic probe is answered.
    pub answers_probe: bool,
}

/// The proxy: everything that lives longer than a call.
pub struct Gateway {
    table: RouteTableHandle,
    policy: CallPolicy,
    readiness: Readiness,
    drain: Drain,
    account: Arc<Account>,
    probes: Probes,
}

// === impl Gateway ===

impl Gateway {
    /// A proxy for the agents in `table`.
    #[must_use]
    pub fn new(
        table: RouteTableHandle,
        policy: CallPolicy,
        readiness: Readiness,
        drain: Drain,
        account: Arc<Account>,
    ) -> Self {
        let probes = Probes::new(account.probe_metrics());
        Self { table, policy, readiness, drain, account, probes }
    }

    async fn answer_here(
        &self,
        session: &mut Session,
        ctx: &mut CallCtx,
        error: CallError,
    ) -> pingora::Result<()> {
        ctx.outcome = Some(error.disposition().outcome);
        ctx.status = Some(error.disposition().status);
        ctx.watch.let_read();
        if self.drain.is_draining() {
            session.set_keepalive(None);
        }
        let written = respond::error(session, &error, ctx.request_id()).await;
        ctx.error = Some(error);
        if written.is_err() {
            let is_stalled = ctx.watch.is_stalled();
            ctx.outcome = Some(if is_stalled { Outcome::ClientStalled } else { Outcome::ClientAbort });
        }
        written
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = CallCtx;

    fn new_ctx(&self) -> CallCtx {
        CallCtx::new(Arc::clone(&self.account))
    }

    /// None: a module that could hold a body back must not be there.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut CallCtx) -> pingora::Result<bool> {
        let request = session.req_header();
        ctx.target = request.raw_path().to_vec();
        ctx.method = request.method.clone();
        ctx.request_id = headers::request_id(&request.headers, &mut fastrand::Rng::new());
        ctx.is_h2 = request.version == Version::HTTP_2;
        ctx.client = session.client_addr().and_then(|client| client.as_inet()).copied();
        match self.admit(session, ctx) {
            Ok(Admission::Call) => {
                self.limit_client(session, ctx);
                Ok(false)
            }
            Ok(Admission::Health { is_good }) => {
                ctx.accounting = Accounting::Nothing;
                self.limit_waits(session, ctx);
                respond::health(session, is_good).await.map(|()| true)
            }
            Ok(Admission::Probe(request)) => {
                self.limit_waits(session, ctx);
                self.answer_probe(session, ctx, request).await.map(|()| true)
            }
            Err(error) => {
                self.limit_waits(session, ctx);
                self.answer_here(session, ctx, error).await.map(|()| true)
            }
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut CallCtx,
    ) -> pingora::Result<Box<HttpPeer>> {
        let mode = self.table.dial_mode(std::time::Instant::now());
        upstream::choose(session, ctx, mode, self.policy.connect_timeout)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut CallCtx,
        mut error: Box<pingora::Error>,
    ) -> Box<pingora::Error> {
        upstream::dial_failed(ctx, &mut error);
        error
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _: bool,
        _: &HttpPeer,
        _: std::os::fd::RawFd,
        digest: Option<&pingora::protocols::Digest>,
        ctx: &mut CallCtx,
    ) -> pingora::Result<()> {
        ctx.upstream.stage = Stage::Connected;
        if ctx.is_h2 {
            ctx.watch.set_upload_to(digest.and_then(|digest| digest.socket_digest.clone()));
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        is_end: bool,
        ctx: &mut CallCtx,
    ) -> pingora::Result<()> {
        // Pingora asks for the body, be it empty, as soon as the head is written.
        ctx.upstream.stage = Stage::HeadSent;
        ctx.upstream.body_sent += body.as_ref().map_or(0, |chunk| chunk.len() as u64);
        // A repeated attempt sends the same bytes again.
        ctx.bytes_in = ctx.bytes_in.max(ctx.upstream.body_sent);
        if is_end {
            Self::upload_ends(session, ctx);
        }
        if ctx.is_h2 || ctx.upstream.is_silence_watched {
            self.set_deadline(session, ctx);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        ctx: &mut CallCtx,
    ) -> pingora::Result<()> {
        ctx.upstream.answered = true;
        let is_upgrade = answer.status == http::StatusCode::SWITCHING_PROTOCOLS;
        if is_upgrade && !session.is_upgrade_req() {
            return Err(pingora::Error::explain(InvalidHTTPHeader, "a 101 that nobody asked for").into_up());
        }
        let cleanup = headers::clean_response(&answer.headers, is_upgrade);
        for name in &cleanup.remove {
            answer.remove_header(name);
        }
        if let (Some(seconds), Some(at)) = (cleanup.keep_alive, &ctx.upstream.at) {
            at.endpoint().set_keep_alive(seconds);
        }
        if answer.status.is_informational() && !is_upgrade {
            return Ok(());
        }
        ctx.status = Some(answer.status.as_u16());
        ctx.first_byte = Some(ctx.started.elapsed());
        if is_upgrade {
            // A tunnel may be silent for ever; dead peers are found by TCP.
            session.set_read_timeout(None);
        } else if ctx.kind == CallKind::Standing && !headers::is_event_stream(&answer.headers) {
            // It asked for a stream and got an answer, which is to be whole.
            ctx.watch.set_standing(false);
        }
        self.set_deadline(session, ctx);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        ctx: &mut CallCtx,
    ) -> pingora::Result<()> {
        if answer.status.is_informational() {
            return Ok(());
        }
        if headers::is_event_stream(&answer.headers) {
            let (name, value) = headers::no_buffering();
            answer.insert_header(name, value)?;
        }
        if session.req_header().version < Version::HTTP_11 && !ctx.is_h2 {
            // HTTP/1.0 knows no chunks: the end of the connection is the end of the answer.
            if answer.remove_header(&TRANSFER_ENCODING).is_some() {
                session.set_keepalive(None);
            }
            if answer.version == Version::HTTP_2 && !answer.headers.contains_key(CONTENT_LENGTH) {
                // Pingora chunks what comes from HTTP/2, after this; but a header is written only once.
                answer.set_version(Version::HTTP_11);
                session.as_downstream_mut().write_response_header_ref(answer).await?;
            }
        }
        if progress::ends_with_header(&ctx.method, answer) {
            self.answer_ends(session, ctx);
        }
        if self.drain.is_draining() {
            session.set_keepalive(None);
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        is_end: bool,
        ctx: &mut CallCtx,
    ) -> pingora::Result<Option<Duration>> {
        ctx.bytes_out += body.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if is_end {
            self.answer_ends(session, ctx);
        } else if session.is_upgrade_req() || ctx.upstream.is_silence_watched {
            self.set_deadline(session, ctx);
        }
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<pingora::Error>,
        ctx: &mut CallCtx,
        reused: bool,
    ) -> Box<pingora::Error> {
        upstream::attempt_failed(session, ctx, &mut error, reused);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &pingora::Error,
        ctx: &mut CallCtx,
    ) -> FailToProxy {
        if ctx.is_answered && upstream::is_end_of_upload(error) {
            // The client has its whole answer, and does not go on with the upload that is behind it.
            ctx.outcome = Some(Outcome::Ok);
            return FailToProxy { error_code: ctx.status.unwrap_or_default(), can_reuse_downstream: false };
        }
        if let Some(Outcome::ClientAbort | Outcome::ClientStalled) = ctx.outcome {
            // It was our own answer that could not be written.
            return FailToProxy { error_code: ctx.status.unwrap_or_default(), can_reuse_downstream: false };
        }
        let reason = match ctx.error.take() {
            Some(reason) => reason,
            None => upstream::reason(session, ctx, error),
        };
        let disposition = reason.disposition();
        ctx.outcome = Some(disposition.outcome);
        if progress::has_begun(session) {
            if reason == CallError::ShuttingDown && progress::end_cleanly(session).await {
                ctx.outcome = Some(Outcome::Drained);
            } else {
                // Never a clean end that looks like success.
                ctx.watch.request_reset();
            }
        } else if reason != CallError::ClientAbort {
            session.set_keepalive(None);
            self.answer_here(session, ctx, reason).await.ok();
        } else {
            ctx.status = Some(disposition.status);
        }
        FailToProxy { error_code: disposition.status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&pingora::Error>, ctx: &mut CallCtx) {
        if ctx.outcome.is_none() && error.is_none() {
            ctx.outcome = Some(Outcome::Ok);
        }
        if ctx.error.is_none() && error.is_none() && session.was_upgraded() {
            ctx.outcome = Some(Outcome::Ok);
        }
        if ctx.is_answered && error.is_none() && !ctx.is_h2 {
            respond::drain_rest(session).await;
        }
    }

    /// Every failed call has its access line; Pingora's own would be a second one, and not bounded.
    fn suppress_error_log(&self, _: &Session, _: &CallCtx, _: &pingora::Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &CallCtx,
        _: &pingora::Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
