//! One measurement: load on a peer, and what the peer used meanwhile.
//!
//! Owns the window: what is counted begins when the generator says that it measures, and ends when it says that it has.
//! Calls that were due in it may end after that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::load::LoadReport;
use crate::peers::Peer;
use crate::procfs::{self, MachineUse, Usage};
use crate::result::{Doubt, Metric, Sample};

/// Foreign use of the proxy's cores from which a figure is doubted, in percent.
const FOREIGN: f64 = 5.0;

/// Stolen time from which a figure is doubted, in percent.
const STEAL: f64 = 2.0;

/// What is read at both ends of a window.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    at: Instant,
    used: Usage,
    machine: MachineUse,
}

/// What happened between two readings.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) time: Duration,
    /// Memory and open files as they are at its end.
    pub(super) used: Usage,
    /// Of the proxy's cores, by others than the peer, in percent of those cores.
    foreign: f64,
    steal: f64,
    conntrack: bool,
}

// === impl Reading ===

impl Reading {
    pub(super) fn of(peer: &Peer) -> anyhow::Result<Self> {
        Self::of_pids(&peer.pids())
    }

    pub(super) fn of_pids(pids: &[u32]) -> anyhow::Result<Self> {
        Ok(Self { at: Instant::now(), used: procfs::usage(pids)?, machine: procfs::machine()? })
    }

    /// Bytes of the socket buffers of all the machine.
    pub(super) fn socket_memory(&self) -> u64 {
        self.machine.socket_memory
    }

    pub(super) fn rss(&self) -> u64 {
        self.used.rss
    }

    /// What happened since `before`, on the proxy's `cores`.
    pub(super) fn since(&self, before: &Self, cores: &[usize]) -> Window {
        let time = self.at.duration_since(before.at);
        let used = self.used.since(before.used);
        let machine = procfs::between(&before.machine, &self.machine);
        Window {
            time,
            used,
            foreign: machine.foreign_percent(cores, time, used.cpu()),
            steal: machine.steal_percent(cores, time),
            conntrack: machine.conntrack.is_some_and(|followed| followed > 0),
        }
    }
}

// === impl Window ===

impl Window {
    /// Of one core, in percent.
    pub(super) fn busy(&self) -> f64 {
        self.used.cpu().as_secs_f64() / self.time.as_secs_f64() * 100.0
    }

    /// CPU for each of so many, in microseconds.
    pub(super) fn each_us(&self, count: u64) -> f64 {
        self.used.cpu().as_secs_f64() * 1e6 / to_f64(count.max(1))
    }

    pub(super) fn doubts(&self) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        if self.foreign > FOREIGN {
            doubts.push(Doubt::ForeignCpu(round(self.foreign)));
        }
        if self.steal > STEAL {
            doubts.push(Doubt::Steal(round(self.steal)));
        }
        if self.conntrack {
            doubts.push(Doubt::ConnectionTracking);
        }
        doubts
    }
}

/// The figures of calls.
pub(super) fn calls(report: &LoadReport, window: &Window) -> Sample {
    let mut figures = latency(report);
    // At a rate that a peer cannot keep up with, most calls of the window end after it; they are not its work in it.
    figures.insert(Metric::RequestsPerSecond, to_f64(report.ended) / report.seconds);
    figures.insert(Metric::Failed, to_f64(report.failed));
    figures.insert(Metric::CpuPerRequestUs, window.each_us(report.ended));
    let calls = to_f64(report.ended.max(1));
    figures.insert(Metric::UserCpuPerRequestUs, window.used.user.as_secs_f64() * 1e6 / calls);
    let switches = to_f64(window.used.voluntary) + to_f64(window.used.involuntary);
    figures.insert(Metric::SwitchesPerRequest, switches / calls);
    sample(report, window, figures)
}

/// The figures of streams.
pub(super) fn events(report: &LoadReport, window: &Window) -> Sample {
    let mut figures = latency(report);
    let events = report.sse.as_ref().map_or(0, |sse| sse.events);
    let coalesced = report.sse.as_ref().map_or(0, |sse| sse.coalesced);
    figures.insert(Metric::EventsPerSecond, to_f64(events) / report.seconds);
    figures.insert(Metric::Failed, to_f64(report.failed));
    figures.insert(Metric::CpuPerEventUs, window.each_us(events));
    figures.insert(Metric::CoalescedPercent, to_f64(coalesced) / to_f64(events.max(1)) * 100.0);
    sample(report, window, figures)
}

fn latency(report: &LoadReport) -> BTreeMap<Metric, f64> {
    let named =
        [(0.5, Metric::P50Us), (0.99, Metric::P99Us), (0.999, Metric::P999Us), (0.9999, Metric::P9999Us)];
    let at = |quantile: f64| {
        report.latency_us.iter().find(|(q, _)| (q - quantile).abs() < 1e-9).map(|(_, value)| *value)
    };
    named.into_iter().filter_map(|(quantile, metric)| Some((metric, at(quantile)?))).collect()
}

fn sample(report: &LoadReport, window: &Window, mut figures: BTreeMap<Metric, f64>) -> Sample {
    figures.insert(Metric::BusyPercent, window.busy());
    figures.insert(Metric::RssBytes, to_f64(window.used.rss));
    figures.insert(Metric::OpenFiles, to_f64(window.used.fds));
    let mut doubts = window.doubts();
    if report.generator.was_the_limit {
        doubts.push(Doubt::GeneratorWasTheLimit);
    }
    if report.failed > 0 {
        doubts.push(Doubt::Failures(report.failed));
    }
    Sample {
        peer: String::new(),
        variant: String::new(),
        round: 0,
        x: None,
        figures,
        latency_us: report.latency_us.clone(),
        seconds: report.series.clone(),
        doubts,
    }
}

fn round(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}

/// Counts here are far below what a float tells apart.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
pub(super) fn to_f64(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Generator, Kind};

    #[test]
    fn a_peer_that_cannot_keep_up_is_counted_by_what_it_did() {
        let report = LoadReport {
            kind: Kind::Requests,
            seconds: 2.0,
            // All that were due, most of them too late.
            completed: 10_000,
            ended: 4_000,
            failed: 0,
            failures: BTreeMap::new(),
            latency_us: Vec::new(),
            series: Vec::new(),
            bytes: 0,
            reconnects: 0,
            generator: Generator::default(),
            sse: None,
            interrupted: false,
        };
        let window = Window {
            time: Duration::from_secs(2),
            used: Usage {
                user: Duration::from_secs(1),
                system: Duration::from_secs(1),
                voluntary: 8_000,
                ..Usage::default()
            },
            foreign: 0.0,
            steal: 0.0,
            conntrack: false,
        };
        let sample = calls(&report, &window);
        let figures = [
            (Metric::RequestsPerSecond, 2_000.0),
            (Metric::CpuPerRequestUs, 500.0),
            (Metric::SwitchesPerRequest, 2.0),
        ];
        for (metric, expected) in figures {
            assert!((sample.figures[&metric] - expected).abs() < 1e-6, "{metric:?}: {sample:?}");
        }
    }
}
