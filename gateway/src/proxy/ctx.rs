//! What one call carries from phase to phase, and the account that is given of it when it ends.
//!
//! However a call ends (answered, failed, its future dropped by a deadline or by the end of the process), its
//! context is dropped, and [`CallCtx`]'s `Drop` is where it is counted and logged: once, always.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};
use tokio::time::Instant;

use super::account::{Account, CallEnd};
use super::error::{CallError, Outcome};
use crate::balance::Tried;
use crate::metrics::RouteInFlight;
use crate::route_table::{ActiveRoute, CallKind, DialMode, EndpointState, InFlight, RouteView};
use crate::server::watch::{CallWatch, Interrupt};

/// One call, from its header to its end.
pub struct CallCtx {
    account: Arc<Account>,
    pub(super) watch: Arc<CallWatch>,
    pub(super) started: Instant,
    /// The request-target as it came: for the log, and to cut the agent's part out of.
    pub(super) target: Vec<u8>,
    pub(super) method: Method,
    pub(super) is_h2: bool,
    pub(super) client: Option<SocketAddr>,
    pub(super) request_id: HeaderValue,
    /// `None` until the agent is found, and for what is not a call to an agent.
    pub(super) agent: Option<Agent>,
    pub(super) kind: CallKind,
    pub(super) upstream: Upstream,
    /// Why the agent did not answer; the first reason stands.
    pub(super) error: Option<CallError>,
    pub(super) outcome: Option<Outcome>,
    /// Of the answer that was begun; `None` until then.
    pub(super) status: Option<u16>,
    pub(super) first_byte: Option<Duration>,
    /// Whether the agent's answer is whole.
    pub(super) is_answered: bool,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) accounting: Accounting,
}

/// What account is given of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accounting {
    /// It is counted and has its line.
    Full,
    /// It has its line; the synthetic probe has counts of its own.
    LogOnly,
    /// None: a health check.
    Nothing,
}

/// The agent that a call goes to.
pub(super) struct Agent {
    pub(super) active: Arc<ActiveRoute>,
    pub(super) view: Arc<RouteView>,
    /// By when the call has to be over.
    pub(super) deadline: Option<Instant>,
    /// Counts the call as running.
    pub(super) running: RouteInFlight,
}

/// How far one attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is no connection yet.
    Dialling,
    /// There is one, and nothing was written.
    Connected,
    /// The request's head was written: the agent may have seen it.
    HeadSent,
}

/// How far a call's attempts have come.
pub(super) struct Upstream {
    pub(super) attempts: u8,
    /// Where the present attempt may go.
    pub(super) mode: DialMode,
    pub(super) tried: Tried,
    /// Where the present attempt is, counted there.
    pub(super) at: Option<InFlight>,
    /// A failed attempt on a pooled connection is to be repeated here, on a fresh one.
    pub(super) again: Option<Arc<EndpointState>>,
    /// How far the present attempt is.
    pub(super) stage: Stage,
    /// Bytes of the request's body that were sent on in the present attempt.
    pub(super) body_sent: u64,
    /// The agent's silence is kept by the watch in the present attempt, not by its read timeout.
    pub(super) is_silence_watched: bool,
    /// Whether the agent's answer has begun in any attempt.
    pub(super) answered: bool,
}

// === impl CallCtx ===

impl CallCtx {
    pub(super) fn new(account: Arc<Account>) -> Self {
        let watch = CallWatch::current();
        watch.begin_call();
        Self {
            account,
            watch,
            started: Instant::now(),
            target: Vec::new(),
            method: Method::GET,
            is_h2: false,
            client: None,
            request_id: HeaderValue::from_static(""),
            agent: None,
            kind: CallKind::Call,
            upstream: Upstream {
                attempts: 0,
                mode: DialMode::Endpoints,
                tried: Tried::default(),
                at: None,
                again: None,
                stage: Stage::Dialling,
                body_sent: 0,
                is_silence_watched: false,
                answered: false,
            },
            error: None,
            outcome: None,
            status: None,
            first_byte: None,
            is_answered: false,
            bytes_in: 0,
            bytes_out: 0,
            accounting: Accounting::Full,
        }
    }

    /// The request id as text: it is ASCII, checked or made here.
    pub(super) fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    /// Whether the call has taken longer than its agent allows.
    pub(super) fn is_overdue(&self) -> bool {
        let deadline = self.agent.as_ref().and_then(|agent| agent.deadline);
        deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Remembers why the agent did not answer, unless something else went wrong before.
    pub(super) fn fail(&mut self, error: CallError) -> &CallError {
        self.error.get_or_insert(error)
    }

    /// How the call ended, by all that is known when nothing more will be.
    fn final_outcome(&self) -> Outcome {
        if let Some(outcome) = self.outcome {
            return outcome;
        }
        // The future was dropped in the middle.
        match self.watch.interrupt() {
            Some(Interrupt::Deadline) if self.is_answered => Outcome::Ok,
            Some(Interrupt::Deadline) if self.is_overdue() => Outcome::MaxDuration,
            Some(Interrupt::Deadline) => Outcome::ClientStalled,
            Some(Interrupt::Drain) | None => Outcome::Shutdown,
        }
    }
}

impl Drop for CallCtx {
    fn drop(&mut self) {
        if self.accounting == Accounting::Nothing {
            return;
        }
        let endpoint = self.upstream.at.as_ref().map(|at| at.endpoint().address());
        self.account.call_ended(&CallEnd {
            is_counted: self.accounting == Accounting::Full,
            request_id: self.request_id(),
            agent: self.agent.as_ref().map(|agent| agent.active.key()),
            metrics: self.agent.as_ref().map(|agent| agent.running.metrics()),
            method: &self.method,
            target: &self.target,
            is_h2: self.is_h2,
            client: self.client,
            status: self.status,
            outcome: self.final_outcome(),
            duration: self.started.elapsed(),
            first_byte: self.first_byte,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            attempts: self.upstream.attempts,
            endpoint,
        });
    }
}
