//! Gives account of each call that has ended: counts it and hands its line to the access log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use krypton_discovery::AgentKey;

use super::error::Outcome;
use crate::metrics::{CallRecord, Metrics, RouteMetrics};
use crate::route_table::CallKind;

/// Where calls are accounted for.
#[derive(Debug)]
pub struct Account {
    metrics: Arc<Metrics>,
}

/// A call that has ended.
pub(super) struct CallEnd<'a> {
    pub(super) request_id: &'a str,
    /// `None` for what was no call to an Agent.
    pub(super) agent: Option<&'a AgentKey>,
    /// The Agent's counts; of all unknown names where there is none.
    pub(super) metrics: Option<&'a Arc<RouteMetrics>>,
    pub(super) kind: CallKind,
    pub(super) method: &'a Method,
    pub(super) target: &'a [u8],
    pub(super) is_h2: bool,
    pub(super) client: Option<SocketAddr>,
    pub(super) status: Option<u16>,
    pub(super) outcome: Outcome,
    pub(super) duration: Duration,
    pub(super) first_byte: Option<Duration>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) attempts: u8,
    pub(super) endpoint: Option<SocketAddr>,
}

// === impl Account ===

impl Account {
    /// Counts in `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }

    pub(super) fn call_ended(&self, end: &CallEnd<'_>) {
        end.metrics.unwrap_or(self.metrics.unknown()).record(&CallRecord {
            status: end.status,
            outcome: end.outcome,
            duration: end.duration,
            time_to_first_byte: end.first_byte,
            retries: u32::from(end.attempts.saturating_sub(1)),
        });
    }
}
