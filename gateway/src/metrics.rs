//! What the gateway counts, and how it is shown.
//!
//! Owns: the registry and every handle in it. Never looks a label up while a call runs.
//!
//! - What belongs to an Agent is counted in its [`RouteMetrics`], which lives in the Agent's entry of the route
//!   table and is made at its first call. A scrape walks the table, so that a series is there exactly as long
//!   as its Agent is, and a call that outlives its Agent counts where nobody looks.
//! - Calls to names that are no Agent share one [`RouteMetrics`]: guessing names makes no series.
//! - The rest are plain counters and gauges of the process.

mod collector;
mod histogram;
mod route;

use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::route_table::RouteTableHandle;
use collector::TableCollector;

pub use route::{CallRecord, RouteInFlight, RouteLoad, RouteMetrics};

/// The form that [`Metrics::encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The label values of calls to no Agent. No DNS label holds an underscore, so no Agent can have this name.
pub const UNKNOWN: &str = "_unknown";

/// All metrics of the process. The handles are cheap to clone and count without locks.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    unknown: Arc<RouteMetrics>,
    /// Connections of clients that are open.
    pub connections: Gauge,
    /// Lines that the access log dropped since its writer was behind.
    pub access_log_dropped: Counter,
    /// Panics that were caught. Each is a fault of ours.
    pub panics: Counter,
    /// Writes of the snapshot file that failed.
    pub snapshot_file_failures: Counter,
    /// The stream to the controller.
    pub discovery: DiscoveryMetrics,
    /// The stream to the leader.
    pub report: ReportMetrics,
    /// The synthetic probe.
    pub probe: ProbeMetrics,
}

/// What the synthetic probe counts.
#[derive(Debug, Clone, Default)]
pub struct ProbeMetrics {
    /// Probes that run now.
    pub running: Gauge,
    /// Probes that were begun.
    pub started: Counter,
}

/// What the report client counts.
#[derive(Debug, Clone, Default)]
pub struct ReportMetrics {
    /// 1 while a stream to the leader is open.
    pub connected: Gauge,
    /// Streams that were opened.
    pub streams: Counter,
}

/// What the discovery client counts.
#[derive(Debug, Clone, Default)]
pub struct DiscoveryMetrics {
    /// 1 while a stream to a controller is open.
    pub connected: Gauge,
    /// Streams that were opened.
    pub streams: Counter,
    /// Resources that were refused and NACKed.
    pub rejected: Counter,
    /// Addresses that the policy refused and that were left out.
    pub refused_endpoints: Counter,
}

// === impl Metrics ===

impl Metrics {
    /// The metrics of a gateway that serves `table`.
    pub fn new(table: RouteTableHandle) -> Self {
        let mut registry = Registry::with_prefix("krypton");
        let unknown = Arc::new(RouteMetrics::default());
        registry.register_collector(Box::new(TableCollector::new(table, Arc::clone(&unknown))));
        let metrics = Self {
            unknown,
            connections: Gauge::default(),
            access_log_dropped: Counter::default(),
            panics: Counter::default(),
            snapshot_file_failures: Counter::default(),
            discovery: DiscoveryMetrics::default(),
            report: ReportMetrics::default(),
            probe: ProbeMetrics::default(),
            registry,
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let discovery = &self.discovery;
        let gauges = [
            ("connections", "Open connections of clients", &self.connections),
            ("discovery_connected", "Whether a stream to a controller is open", &discovery.connected),
            ("report_connected", "Whether a stream to the leader is open", &self.report.connected),
            ("probes_running", "Synthetic probes that run now", &self.probe.running),
        ];
        let counters = [
            ("access_log_dropped", "Access log lines that were dropped", &self.access_log_dropped),
            ("panics", "Panics that were caught", &self.panics),
            ("snapshot_file_failures", "Failed writes of the snapshot file", &self.snapshot_file_failures),
            ("probes_started", "Synthetic probes that were begun", &self.probe.started),
            ("discovery_streams", "Streams to a controller that were opened", &discovery.streams),
            ("report_streams", "Streams to the leader that were opened", &self.report.streams),
            ("discovery_rejected", "Routes that were refused and NACKed", &discovery.rejected),
            (
                "refused_endpoints",
                "Addresses of routes that must not be dialled",
                &discovery.refused_endpoints,
            ),
        ];
        for (name, help, gauge) in gauges {
            self.registry.register(name, help, gauge.clone());
        }
        for (name, help, counter) in counters {
            self.registry.register(name, help, counter.clone());
        }
        self
    }

    /// Where calls to names that are no Agent are counted.
    pub fn unknown(&self) -> &Arc<RouteMetrics> {
        &self.unknown
    }

    /// Everything, in the form of [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// None that is known: it writes to a string.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests;
