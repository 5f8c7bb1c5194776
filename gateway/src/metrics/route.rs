//! What is counted of one Agent. Counting is atomic adds and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::Histogram;
use crate::proxy::error::Outcome;
use crate::route_table::CallKind;

/// How many different statuses one Agent has series for. Few agents answer with more than a handful; one that
/// answers with all five hundred must not fill the monitoring.
const STATUSES: usize = 16;

/// The counts of one Agent.
#[derive(Debug, Default)]
pub struct RouteMetrics {
    pub(super) statuses: Statuses,
    pub(super) outcomes: [AtomicU64; Outcome::ALL.len()],
    pub(super) duration: Histogram,
    pub(super) time_to_first_byte: Histogram,
    pub(super) in_flight: AtomicI64,
    pub(super) standing_streams: AtomicI64,
    pub(super) retries: AtomicU64,
}

/// How busy one Agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteLoad {
    /// Calls that run now, without standing streams.
    pub in_flight: u32,
    /// Calls that ended since the Agent came into the table, however they did.
    pub completed: u64,
}

/// One call that has ended.
#[derive(Debug, Clone, Copy)]
pub struct CallRecord {
    /// The status that the client was sent, `None` where it left before there was one.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// From the request's head to the end.
    pub duration: Duration,
    /// From the request's head to the first byte of the answer, `None` where there was none.
    pub time_to_first_byte: Option<Duration>,
    /// Attempts after the first.
    pub retries: u32,
}

/// A call that runs: counted in the Agent's gauge until this is dropped.
#[derive(Debug)]
pub struct RouteInFlight {
    metrics: Arc<RouteMetrics>,
    kind: CallKind,
}

/// How often each status was sent. The first [`STATUSES`] different ones have a place, the rest share one.
#[derive(Debug, Default)]
pub(super) struct Statuses {
    /// A code of 0 marks a free place; a place once taken is never given up.
    places: [(AtomicU16, AtomicU64); STATUSES],
    other: AtomicU64,
    none: AtomicU64,
}

// === impl RouteMetrics ===

impl RouteMetrics {
    /// Counts a call that has ended.
    pub fn record(&self, call: &CallRecord) {
        self.statuses.count(call.status);
        self.outcomes[call.outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.duration.observe(call.duration);
        if let Some(elapsed) = call.time_to_first_byte {
            self.time_to_first_byte.observe(elapsed);
        }
        if call.retries > 0 {
            self.retries.fetch_add(call.retries.into(), Ordering::Relaxed);
        }
    }

    /// How busy the Agent is. Costs calls nothing: it is read off what is counted anyway.
    pub fn load(&self) -> RouteLoad {
        let running = self.in_flight.load(Ordering::Relaxed);
        RouteLoad {
            in_flight: u32::try_from(running.max(0)).unwrap_or(u32::MAX),
            completed: self.outcomes.iter().map(|count| count.load(Ordering::Relaxed)).sum(),
        }
    }

    fn gauge(&self, kind: CallKind) -> &AtomicI64 {
        match kind {
            CallKind::Call => &self.in_flight,
            CallKind::Standing => &self.standing_streams,
        }
    }
}

// === impl RouteInFlight ===

impl RouteInFlight {
    /// Counts a call as running.
    #[must_use = "the call is counted only while this is held"]
    pub fn new(metrics: Arc<RouteMetrics>, kind: CallKind) -> Self {
        metrics.gauge(kind).fetch_add(1, Ordering::Relaxed);
        Self { metrics, kind }
    }

    /// The Agent's counts.
    pub fn metrics(&self) -> &Arc<RouteMetrics> {
        &self.metrics
    }
}

impl Drop for RouteInFlight {
    fn drop(&mut self) {
        self.metrics.gauge(self.kind).fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Statuses ===

impl Statuses {
    fn count(&self, status: Option<u16>) {
        let counter = match status {
            None => &self.none,
            Some(status @ 100..=599) => self.place(status),
            Some(_) => &self.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn place(&self, status: u16) -> &AtomicU64 {
        for (code, count) in &self.places {
            let taken = match code.load(Ordering::Relaxed) {
                0 => code
                    .compare_exchange(0, status, Ordering::Relaxed, Ordering::Relaxed)
                    .unwrap_or_else(|by| by),
                taken => taken,
            };
            // 0: this call has just taken the place.
            if taken == 0 || taken == status {
                return count;
            }
        }
        &self.other
    }

    /// Label value and count of each status that was sent.
    pub(super) fn read(&self) -> impl Iterator<Item = (String, u64)> {
        let placed =
            self.places.iter().map(|(code, count)| (code.load(Ordering::Relaxed).to_string(), count));
        let shared = [("other".to_owned(), &self.other), ("none".to_owned(), &self.none)];
        let all = placed.chain(shared).map(|(label, count)| (label, count.load(Ordering::Relaxed)));
        all.filter(|(_, count)| *count > 0)
    }
}
