//! Reads the metrics of all Agents out of the route table when they are asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::histogram::Histogram;
use super::{RouteMetrics, UNKNOWN};
use crate::proxy::error::Outcome;
use crate::route_table::{ActiveRoute, RouteTableHandle};

/// The metrics that depend on what is in the table.
pub(super) struct TableCollector {
    table: RouteTableHandle,
    unknown: Arc<RouteMetrics>,
}

/// An Agent that was called at least once. `None` stands for all names that are no Agent.
struct Called {
    route: Option<Arc<ActiveRoute>>,
    metrics: Arc<RouteMetrics>,
}

type Labels<'a> = [(&'static str, &'a str); 2];

// === impl TableCollector ===

impl TableCollector {
    pub(super) fn new(table: RouteTableHandle, unknown: Arc<RouteMetrics>) -> Self {
        Self { table, unknown }
    }

    /// In the order of their names, so that two scrapes can be compared.
    fn called(&self) -> Vec<Called> {
        let routes = self.table.iter().filter_map(|route| {
            let metrics = Arc::clone(route.metrics_if_called()?);
            Some(Called { route: Some(route), metrics })
        });
        let mut called: Vec<_> = routes.collect();
        called.push(Called { route: None, metrics: Arc::clone(&self.unknown) });
        called.sort_unstable_by(|a, b| a.labels().cmp(&b.labels()));
        called
    }

    fn encode_table(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let age = self.table.age(Instant::now());
        let help = "How long ago a controller last stood behind the route table; 0 while one does";
        let mut metric =
            encoder.encode_descriptor("table_age", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        if let Some(age) = age {
            metric.encode_gauge(&age.as_secs_f64())?;
        }
        let help = "Agents in the route table";
        let mut metric = encoder.encode_descriptor("table_agents", help, None, MetricType::Gauge)?;
        metric.encode_gauge(&self.table.len())?;
        let help = "Changes of the route table";
        let mut metric = encoder.encode_descriptor("table_changes", help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, u64, u64>(&self.table.changes(), None)
    }
}

impl Collector for TableCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        self.encode_table(&mut encoder)?;
        let called = self.called();
        encode_invocations(&mut encoder, &called)?;
        encode_outcomes(&mut encoder, &called)?;

        let help = "How long calls took, from the request's head to the end of the answer";
        encode_histogram(&mut encoder, ("invocation_duration", help), &called, |metrics| &metrics.duration)?;
        let help = "How long the first byte of the answer took, from the request's head";
        encode_histogram(&mut encoder, ("time_to_first_byte", help), &called, |m| &m.time_to_first_byte)?;

        encode_gauge(&mut encoder, ("in_flight", "Calls that run now"), &called, |m| &m.in_flight)?;
        let help = "Event streams and upgraded connections that are open now";
        encode_gauge(&mut encoder, ("standing_streams", help), &called, |m| &m.standing_streams)?;

        let help = "Attempts to reach an agent after the first of a call";
        let mut metric = encoder.encode_descriptor("retries", help, None, MetricType::Counter)?;
        for agent in &called {
            encode_count(&mut metric, &agent.labels(), agent.metrics.retries.load(Ordering::Relaxed))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for TableCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableCollector").finish_non_exhaustive()
    }
}

// === impl Called ===

impl Called {
    fn labels(&self) -> Labels<'_> {
        let (name, namespace) = self
            .route
            .as_ref()
            .map_or((UNKNOWN, UNKNOWN), |route| (route.key().name(), route.key().namespace()));
        [("agent", name), ("namespace", namespace)]
    }
}

fn encode_invocations(encoder: &mut DescriptorEncoder<'_>, called: &[Called]) -> std::fmt::Result {
    let help = "Calls that ended, by the status that the client was sent";
    let mut metric = encoder.encode_descriptor("invocations", help, None, MetricType::Counter)?;
    for agent in called {
        let [name, namespace] = agent.labels();
        for (status, count) in agent.metrics.statuses.read() {
            encode_count(&mut metric, &[name, namespace, ("status", &status)], count)?;
        }
    }
    Ok(())
}

fn encode_outcomes(encoder: &mut DescriptorEncoder<'_>, called: &[Called]) -> std::fmt::Result {
    let help = "Calls that ended, by how they ended";
    let mut metric = encoder.encode_descriptor("outcomes", help, None, MetricType::Counter)?;
    for agent in called {
        let [name, namespace] = agent.labels();
        for outcome in Outcome::ALL {
            let count = agent.metrics.outcomes[outcome as usize].load(Ordering::Relaxed);
            if count > 0 {
                encode_count(&mut metric, &[name, namespace, ("outcome", outcome.as_str())], count)?;
            }
        }
    }
    Ok(())
}

fn encode_count<const N: usize>(
    metric: &mut MetricEncoder<'_>,
    labels: &[(&'static str, &str); N],
    count: u64,
) -> std::fmt::Result {
    metric.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(&count, None)
}

fn encode_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    called: &[Called],
    gauge: impl Fn(&RouteMetrics) -> &AtomicI64,
) -> std::fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for agent in called {
        let value = gauge(&agent.metrics).load(Ordering::Relaxed);
        metric.encode_family(&agent.labels())?.encode_gauge(&value)?;
    }
    Ok(())
}

fn encode_histogram(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    called: &[Called],
    histogram: impl Fn(&RouteMetrics) -> &Histogram,
) -> std::fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for agent in called {
        let read = histogram(&agent.metrics).read();
        metric.encode_family(&agent.labels())?.encode_histogram::<NoLabelSet>(
            read.sum_seconds,
            read.count,
            &read.buckets,
            None,
        )?;
    }
    Ok(())
}
