//! Gives account of each call that has ended: counts it and hands its line to the access log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;
use krypton_discovery::AgentKey;

use super::error::Outcome;
use crate::access_log::{AccessLine, AccessLogSender};
use crate::metrics::{CallRecord, Metrics, ProbeMetrics, RouteMetrics};

/// Where calls are accounted for.
#[derive(Debug)]
pub struct Account {
    metrics: Arc<Metrics>,
    /// `None` where the access log is off.
    access_log: Option<AccessLogSender>,
}

/// A call that has ended.
pub(super) struct CallEnd<'a> {
    /// Whether it is counted, and not only logged.
    pub(super) is_counted: bool,
    pub(super) request_id: &'a str,
    /// `None` for what was no call to an Agent.
    pub(super) agent: Option<&'a AgentKey>,
    /// The Agent's counts; of all unknown names where there is none.
    pub(super) metrics: Option<&'a Arc<RouteMetrics>>,
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
    /// Counts in `metrics` and writes to `access_log`, where there is one.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, access_log: Option<AccessLogSender>) -> Self {
        Self { metrics, access_log }
    }

    /// Where the synthetic probe counts.
    pub(super) fn probe_metrics(&self) -> ProbeMetrics {
        self.metrics.probe.clone()
    }

    pub(super) fn call_ended(&self, end: &CallEnd<'_>) {
        if end.is_counted {
            end.metrics.unwrap_or(self.metrics.unknown()).record(&CallRecord {
                status: end.status,
                outcome: end.outcome,
                duration: end.duration,
                time_to_first_byte: end.first_byte,
                retries: u32::from(end.attempts.saturating_sub(1)),
            });
        }
        if let Some(access_log) = &self.access_log {
            access_log.log(&AccessLine {
                time: SystemTime::now(),
                request_id: end.request_id,
                agent: end.agent,
                method: end.method,
                target: end.target,
                is_h2: end.is_h2,
                client: end.client,
                status: end.status,
                outcome: end.outcome,
                duration: end.duration,
                time_to_first_byte: end.first_byte,
                bytes_in: end.bytes_in,
                bytes_out: end.bytes_out,
                attempts: end.attempts,
                endpoint: end.endpoint,
            });
        }
    }
}
