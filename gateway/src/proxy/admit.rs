//! The first decision of a call: which agent it is for, what is answered here instead, and the request that the
//! agent gets. The table is read here and nowhere else.

use std::sync::Arc;

use http::header::UPGRADE;
use http::{HeaderValue, Method};
use krypton_discovery::UpstreamHost;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::Gateway;
use super::ctx::{Accounting, Agent, CallCtx};
use super::error::{AgentName, CallError};
use super::headers::{self, Facts};
use super::probe::{ProbeRequest, StreamPlan};
use crate::metrics::RouteInFlight;
use crate::path::{self, Target};
use crate::route_table::{ActiveRoute, CallKind};

/// What a request turned out to be.
pub(super) enum Admission {
    Call,
    Health { is_good: bool },
    Probe(ProbeRequest),
}

/// Stands in for the request while that is being rewritten. Takes no memory of its own.
fn placeholder() -> RequestHeader {
    http::Request::new(()).into_parts().0.into()
}

impl Gateway {
    /// Everything about a call that can be decided before the agent is dialled.
    pub(super) fn admit(&self, session: &mut Session, ctx: &mut CallCtx) -> Result<Admission, CallError> {
        let raw = std::mem::take(&mut ctx.target);
        let admitted = self.route(session, ctx, &raw);
        ctx.target = raw;
        admitted
    }

    fn route(&self, session: &mut Session, ctx: &mut CallCtx, raw: &[u8]) -> Result<Admission, CallError> {
        let (key, rest, query) = match path::split(raw) {
            Target::ProbeStream { query } => return self.admit_probe(session, ctx, Some(query)),
            Target::ProbeUpload => return self.admit_probe(session, ctx, None),
            Target::Healthz => return Ok(Admission::Health { is_good: true }),
            Target::Readyz => return Ok(Admission::Health { is_good: self.readiness.is_ready() }),
            Target::Models => return Err(CallError::ModelsUnsupported),
            Target::Unknown => return Err(CallError::NotFound),
            Target::BadAgent => return Err(CallError::BadPath),
            Target::Agent { key, rest, query } => (key, rest, query),
        };
        headers::check_connection(&session.req_header().headers)?;
        let host = self.served_host(session)?;
        if !self.table.has_table() {
            return Err(CallError::NotReady);
        }
        let active = self.table.get(key).ok_or_else(|| CallError::UnknownAgent(AgentName(key.into())))?;
        if headers::offers_other_than_websocket(&session.req_header().headers) {
            // It goes no further (RFC 9110 §7.8 allows it): h2c, which curl and Java offer with any call, would be a way
            // round everything here.
            session.req_header_mut().remove_header(&UPGRADE);
        }
        let is_standing = session.is_upgrade_req()
            || (ctx.method == Method::GET && headers::accepts_event_stream(&session.req_header().headers));
        ctx.kind = if is_standing { CallKind::Standing } else { CallKind::Call };
        self.enter(active, ctx)?;
        self.rewrite(session, ctx, host, (key, rest, query))?;
        Ok(Admission::Call)
    }

    /// The host that the client called, where there is one.
    fn served_host(&self, session: &Session) -> Result<Option<HeaderValue>, CallError> {
        let request = session.req_header();
        let host = headers::host(&request.headers, request.uri.authority(), request.version)?;
        match &host {
            Some(host) if !self.policy.allowed_hosts.allow(host) => Err(CallError::HostNotAllowed),
            _ => Ok(host),
        }
    }

    /// A probe: of the stream, with its `query`, or else of the upload. It needs no table.
    fn admit_probe(
        &self,
        session: &mut Session,
        ctx: &mut CallCtx,
        query: Option<&[u8]>,
    ) -> Result<Admission, CallError> {
        // Whatever becomes of it, it is no call of an agent.
        ctx.accounting = Accounting::LogOnly;
        self.served_host(session)?;
        if !self.policy.answers_probe {
            return Err(CallError::ProbeDisabled);
        }
        // As with calls; and with it, the body would have no end.
        session.req_header_mut().remove_header(&UPGRADE);
        match (query, &ctx.method) {
            (Some(query), &Method::GET) => StreamPlan::parse(query)
                .map(|plan| Admission::Probe(ProbeRequest::Stream(plan)))
                .map_err(CallError::BadProbe),
            (None, &Method::POST) => Ok(Admission::Probe(ProbeRequest::Upload)),
            (Some(_), _) => Err(CallError::MethodNotAllowed("GET")),
            (None, _) => Err(CallError::MethodNotAllowed("POST")),
        }
    }

    /// Puts the agent into the context, where it stays to the call's end.
    fn enter(&self, active: Arc<ActiveRoute>, ctx: &mut CallCtx) -> Result<(), CallError> {
        let view = active.load();
        let max_duration = view.route().timeouts.max_duration;
        let deadline = max_duration.and_then(|limit| ctx.started.checked_add(limit));
        let is_off = view.route().scaled_to_zero;
        let has_endpoint = !view.candidates(self.table.dial_mode(ctx.started.into_std())).is_empty();
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
        // Without a Host, as HTTP/1.0 has it, an agent that is asked in HTTP/1.1 or 2 would refuse the call.
        let is_localhost = route.upstream_host == UpstreamHost::Localhost || host.is_none();
        let localhost =
            is_localhost.then(|| HeaderValue::try_from(format!("localhost:{}", route.port)).ok()).flatten();
        let client = ctx.client.map(|client| client.ip());
        let facts = Facts {
            client,
            trusted: client.is_some_and(|client| self.policy.trusted_proxies.contains(client)),
            key,
            upstream_host: localhost.as_ref(),
            request_id: &ctx.request_id,
        };
        // Through `Parts`: one growth of the map instead of six, and no second map for the case of names.
        let taken = std::mem::replace(session.req_header_mut(), placeholder());
        let mut parts: http::request::Parts = taken.into();
        headers::prepare_request(&mut parts.headers, host, &facts);
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
}
