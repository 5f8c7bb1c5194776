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
mod ctx;
pub mod error;
pub mod headers;
pub mod peer;
mod progress;
mod respond;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::TRANSFER_ENCODING;
use http::{HeaderValue, Method, Version};
use krypton_discovery::UpstreamHost;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use tokio::time::Instant;

use crate::metrics::RouteInFlight;
use crate::path::{self, Target};
use crate::readiness::Readiness;
use crate::route_table::{ActiveRoute, CallKind, RouteTableHandle};
use crate::server::Drain;
pub use account::Account;
use ctx::{Agent, CallCtx};
use error::{AgentName, CallError, Outcome};
use headers::{AllowedHosts, Facts, TrustedProxies};

/// How long after its `maxDuration` an HTTP/2 call that is still unanswered may be answered with that.
const LATE_ANSWER: Duration = Duration::from_secs(1);

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
}

/// The proxy: everything that lives longer than a call.
pub struct Gateway {
    table: RouteTableHandle,
    policy: CallPolicy,
    readiness: Readiness,
    drain: Drain,
    account: Arc<Account>,
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
        Self { table, policy, readiness, drain, account }
    }

    /// Everything about a call that can be decided before the agent is dialled.
    fn admit(&self, session: &mut Session, ctx: &mut CallCtx) -> Result<Admission, CallError> {
        let raw = std::mem::take(&mut ctx.target);
        let admitted = self.route(session, ctx, &raw);
        ctx.target = raw;
        admitted
    }

    fn route(&self, session: &mut Session, ctx: &mut CallCtx, raw: &[u8]) -> Result<Admission, CallError> {
        let (key, rest, query) = match path::split(raw) {
            Target::Healthz => return Ok(Admission::Probe { is_good: true }),
            Target::Readyz => return Ok(Admission::Probe { is_good: self.readiness.is_ready() }),
            Target::Models => return Err(CallError::ModelsUnsupported),
            Target::Unknown => return Err(CallError::NotFound),
            Target::BadAgent => return Err(CallError::BadPath),
            Target::Agent { key, rest, query } => (key, rest, query),
        };
        let request = session.req_header();
        headers::check_connection(&request.headers)?;
        let host = headers::host(&request.headers, request.uri.authority(), request.version)?;
        if let Some(host) = &host
            && !self.policy.allowed_hosts.allow(host)
        {
            return Err(CallError::HostNotAllowed);
        }
        if !self.table.has_table() {
            return Err(CallError::NotReady);
        }
        let active = self.table.get(key).ok_or_else(|| CallError::UnknownAgent(AgentName(key.into())))?;
        let is_standing = session.is_upgrade_req()
            || (ctx.method == Method::GET && headers::accepts_event_stream(&session.req_header().headers));
        ctx.kind = if is_standing { CallKind::Standing } else { CallKind::Call };
        self.enter(active, ctx)?;
        self.rewrite(session, ctx, host, (key, rest, query))?;
        Ok(Admission::Call)
    }

    /// Puts the agent into the context, where it stays to the call's end.
    fn enter(&self, active: Arc<ActiveRoute>, ctx: &mut CallCtx) -> Result<(), CallError> {
        let view = active.load();
        let max_duration = view.route().timeouts.max_duration;
        let deadline = max_duration.and_then(|limit| ctx.started.checked_add(limit));
        let is_off = view.route().scaled_to_zero;
        let has_endpoint = !view.candidates(self.table.dial_mode(std::time::Instant::now())).is_empty();
        let key = view.key().clone();
        let running = RouteInFlight::new(Arc::clone(active.metrics()), ctx.kind);
        ctx.agent = Some(Agent { active, view, deadline, running });
        if is_off {
            return Err(CallError::ScaledToZero(key));
        }
        if has_endpoint { Ok(()) } else { Err(CallError::NoEndpoint(key)) }
    }

    /// Makes the client's request into the one that the agent gets.
    fn rewrite(
        &self,
        session: &mut Session,
        ctx: &CallCtx,
        host: Option<HeaderValue>,
        (key, rest, query): (&str, &[u8], &[u8]),
    ) -> Result<(), CallError> {
        let Some(agent) = &ctx.agent else { return Err(CallError::Internal) };
        let route = agent.view.route();
        let localhost = match route.upstream_host {
            UpstreamHost::Preserve => None,
            UpstreamHost::Localhost => HeaderValue::try_from(format!("localhost:{}", route.port)).ok(),
        };
        let client = ctx.client.map(|client| client.ip());
        let facts = Facts {
            client,
            trusted: client.is_some_and(|client| self.policy.trusted_proxies.contains(client)),
            key,
            upstream_host: localhost.as_ref(),
            request_id: &ctx.request_id,
        };
        // Through `Parts`: one growth of the map instead of six, and no second map for the case of names.
        let taken = std::mem::replace(session.req_header_mut(), placeholder()?);
        let has_upgrade = taken.headers.contains_key(http::header::UPGRADE);
        let mut parts: http::request::Parts = taken.into();
        headers::prepare_request(&mut parts.headers, host, &facts);
        debug_assert_eq!(has_upgrade, parts.headers.contains_key(http::header::UPGRADE));
        let mut request = RequestHeader::from(parts);
        let result = match rest {
            [] => request.set_raw_path(&[route.invocation_path.as_str().as_bytes(), query].concat()),
            // The two are one slice of the target, but a slice cannot say so.
            rest if query.is_empty() => request.set_raw_path(rest),
            rest => request.set_raw_path(&[rest, query].concat()),
        };
        *session.req_header_mut() = request;
        result.map_err(|_| CallError::BadHeader)
    }

    /// Limits of the client's side, which Pingora keeps per session.
    fn limit_client(&self, session: &mut Session, ctx: &CallCtx) {
        session.set_read_timeout(Some(self.policy.upload_timeout));
        session.set_write_timeout(Some(self.policy.client_write_timeout));
        session.set_total_drain_timeout(Some(self.policy.upload_timeout));
        // RFC 9110 §15.2: HTTP/1.0 knows no 1xx.
        let is_old = session.req_header().version < Version::HTTP_11;
        session.set_ignore_info_resp(is_old);
        if self.drain.is_draining() {
            session.set_keepalive(None);
        }
        if ctx.kind == CallKind::Standing {
            ctx.watch.set_standing();
        }
        self.set_deadline(session, ctx);
    }

    /// The deadline that nothing in Pingora keeps: see [`crate::server::watch`].
    fn set_deadline(&self, session: &mut Session, ctx: &CallCtx) {
        let Some(agent) = &ctx.agent else { return };
        let now = Instant::now();
        // An upgrade has no read timeout, since it may be silent later; its answer may not be.
        let is_unanswered_upgrade = ctx.status.is_none() && session.is_upgrade_req();
        let silence = is_unanswered_upgrade.then(|| now + agent.view.route().timeouts.timeout);
        // HTTP/2 has no read timeout of its own either.
        let pause = if ctx.is_answered { respond::DRAIN_TIME } else { self.policy.upload_timeout };
        let upload = (ctx.is_h2 && !session.is_body_done()).then(|| now + pause);
        // Nor can it be interrupted, only dropped: before the answer that is left to the agent's read timeout.
        let is_answerable = ctx.is_h2 && ctx.status.is_none();
        let whole =
            agent.deadline.and_then(|at| if is_answerable { at.checked_add(LATE_ANSWER) } else { Some(at) });
        ctx.watch.set_deadline([whole, silence, upload].into_iter().flatten().min());
    }

    /// The agent's answer is whole. If it did not wait for the upload's end, the rest is only taken as long as
    /// it keeps coming.
    fn answer_ends(&self, session: &mut Session, ctx: &mut CallCtx) {
        ctx.is_answered = true;
        if !session.is_body_done() {
            session.set_read_timeout(Some(respond::DRAIN_TIME));
            self.set_deadline(session, ctx);
        }
    }

    async fn answer_here(
        &self,
        session: &mut Session,
        ctx: &mut CallCtx,
        error: CallError,
    ) -> pingora::Result<()> {
        ctx.outcome = Some(error.disposition().outcome);
        ctx.status = Some(error.disposition().status);
        if self.drain.is_draining() {
            session.set_keepalive(None);
        }
        let written = respond::error(session, &error, ctx.request_id()).await;
        ctx.error = Some(error);
        if written.is_err() {
            ctx.outcome = Some(Outcome::ClientAbort);
        }
        written
    }
}

/// What a request turned out to be.
enum Admission {
    Call,
    Probe { is_good: bool },
}

/// Stands in for the request while that is being rewritten.
fn placeholder() -> Result<RequestHeader, CallError> {
    RequestHeader::build_no_case(Method::GET, b"/", Some(0)).map_err(|_| CallError::Internal)
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
            Ok(Admission::Probe { is_good }) => {
                ctx.is_probe = true;
                respond::probe(session, is_good).await.map(|()| true)
            }
            Err(error) => {
                session.set_read_timeout(Some(self.policy.upload_timeout));
                session.set_write_timeout(Some(self.policy.client_write_timeout));
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
        _: Option<&pingora::protocols::Digest>,
        ctx: &mut CallCtx,
    ) -> pingora::Result<()> {
        ctx.upstream.connected = true;
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        ctx: &mut CallCtx,
    ) -> pingora::Result<()> {
        ctx.upstream.body_sent += body.as_ref().map_or(0, |chunk| chunk.len() as u64);
        // A repeated attempt sends the same bytes again.
        ctx.bytes_in = ctx.bytes_in.max(ctx.upstream.body_sent);
        if ctx.is_h2 {
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
