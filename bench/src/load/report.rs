//! What a run of load found, for a program and for a person.
//!
//! Owns: the document that `--json` prints (fields are added, never renamed), and its table. Never measures.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::clock::{float, nanos};
use super::limits::Used;
use super::record::Seen;
use crate::result::Second;

/// The quantiles that are told.
pub const QUANTILES: [f64; 6] = [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0];

/// A generator that sent this late, at its 99th percentile, measured itself.
const LATE_LIMIT_US: f64 = 1000.0;

/// A generator whose threads ran, or waited for a core, for so much of the time had nothing left to give.
const BUSY_LIMIT_PERCENT: f64 = 90.0;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// What it was about.
    pub kind: Kind,
    /// Length of the measurement.
    pub seconds: f64,
    /// Calls, events, or messages that ended well; of [`Kind::Idle`] the connections that were opened.
    pub completed: u64,
    /// Those that ended well within the measurement, whenever they were due. In an open loop [`Self::completed`] are those
    /// that were due in it: more, where the server cannot keep up.
    pub ended: u64,
    /// Those that did not.
    pub failed: u64,
    /// The failed ones by cause: `connect`, `status_503`, `timeout`, …
    pub failures: BTreeMap<String, u64>,
    /// Quantile and microseconds, rising. In an open loop from the time at which the call was due; of events from the
    /// origin's stamp; of idle connections the time that opening took. Calls that timed out, or had no end when the run
    /// had, are in it with the time that they waited. Empty: nothing ended.
    pub latency_us: Vec<(f64, f64)>,
    /// A row for each second.
    pub series: Vec<Second>,
    /// Bytes of bodies that came.
    pub bytes: u64,
    /// Connections that were made anew.
    pub reconnects: u64,
    /// The generator itself.
    pub generator: Generator,
    /// Only of [`Kind::Sse`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sse: Option<Sse>,
    /// It was stopped before its time: figures are of the time until then.
    #[serde(default)]
    pub interrupted: bool,
}

/// What a run is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Calls and their answers.
    Requests,
    /// Streams of events.
    Sse,
    /// Connections and streams that are only held.
    Idle,
    /// Messages and their echoes.
    WebSocket,
}

/// What the generator needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// In its program.
    pub cpu_seconds_user: f64,
    /// In the kernel.
    pub cpu_seconds_system: f64,
    /// Of as many cores as it has threads.
    pub busy_percent: f64,
    /// Of the time, its threads could have run and had no core.
    pub waited_percent: f64,
    /// It did not sleep: that it was busy means nothing.
    pub busy_poll: bool,
    /// From the time at which a call was due and a connection free to its sending; 0 in a closed loop.
    pub late_us_p99: f64,
    /// It had no CPU left or sent late: the server could have done more.
    pub was_the_limit: bool,
}

/// What came of streams of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sse {
    /// Events that came.
    pub events: u64,
    /// Events that are missing in a sequence.
    pub gaps: u64,
    /// Events that came twice, or after a later one.
    pub duplicates: u64,
    /// Events that shared a read with an earlier one.
    pub coalesced: u64,
    /// Events without a stamp: their latency is not known.
    pub unstamped: u64,
    /// Over the whole run.
    pub streams_opened: u64,
    /// Ended whole; another was opened in its place.
    pub streams_ended: u64,
    /// Ended otherwise; another was opened in its place.
    pub streams_broken: u64,
}

// === impl LoadReport ===

impl LoadReport {
    /// Whether anything was answered as it should be. Held connections are looked at when they are opened.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        match (&self.sse, self.kind) {
            (Some(sse), _) => sse.events > 0,
            (None, Kind::Idle) => true,
            (None, _) => self.completed > 0,
        }
    }

    /// Of what all threads saw together, in `length`.
    #[must_use]
    pub(super) fn new(kind: Kind, length: Duration, seen: &Seen, generator: Generator) -> Self {
        let streams = seen.streams;
        let sse = Sse {
            events: seen.completed,
            gaps: streams.gaps,
            duplicates: streams.duplicates,
            coalesced: streams.coalesced,
            unstamped: streams.unstamped,
            streams_opened: streams.opened,
            streams_ended: streams.ended,
            streams_broken: streams.broken,
        };
        Self {
            kind,
            seconds: length.as_secs_f64(),
            completed: seen.completed,
            ended: seen.ended,
            failed: seen.failed(),
            failures: seen.failures.iter().map(|(cause, count)| (cause.to_string(), *count)).collect(),
            latency_us: quantiles(&seen.latency),
            series: seen
                .seconds
                .iter()
                .map(|second| Second {
                    completed: second.completed,
                    failed: second.failed,
                    p99_us: float(second.latency.value_at_quantile(0.99)) / 1000.0,
                })
                .collect(),
            bytes: seen.bytes,
            reconnects: seen.reconnects,
            generator,
            sse: (kind == Kind::Sse).then_some(sse),
            interrupted: false,
        }
    }

    /// Calls, events or messages per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        if self.seconds > 0.0 { float(self.completed) / self.seconds } else { 0.0 }
    }

    /// Microseconds at one of [`QUANTILES`]; `None` where nothing ended.
    #[must_use]
    pub fn latency_at(&self, quantile: f64) -> Option<f64> {
        self.latency_us.iter().find(|(q, _)| (q - quantile).abs() < 1e-9).map(|(_, us)| *us)
    }
}

fn quantiles<C: hdrhistogram::Counter>(histogram: &Histogram<C>) -> Vec<(f64, f64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    QUANTILES.iter().map(|q| (*q, float(histogram.value_at_quantile(*q)) / 1000.0)).collect()
}

impl Display for LoadReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let noun = match self.kind {
            Kind::Requests => "requests",
            Kind::Sse => "events",
            Kind::Idle => "connections",
            Kind::WebSocket => "messages",
        };
        if self.interrupted {
            writeln!(f, "INTERRUPTED: the figures are of the time until then")?;
        }
        writeln!(f, "{:<12} {} in {:.1} s, {:.1}/s", noun, self.completed, self.seconds, self.per_second())?;
        write!(f, "{:<12} {}", "failed", self.failed)?;
        for (cause, count) in &self.failures {
            write!(f, "  {cause} {count}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "{:<12} {:.1} MiB, {} connections made anew",
            "bodies",
            float(self.bytes) / 1_048_576.0,
            self.reconnects
        )?;
        for (quantile, us) in &self.latency_us {
            let name =
                if *quantile < 1.0 { format!("p{}", round(quantile * 100.0)) } else { "longest".to_owned() };
            writeln!(f, "{name:<12} {:.3} ms", us / 1000.0)?;
        }
        if let Some(sse) = &self.sse {
            writeln!(
                f,
                "{:<12} {} opened, {} ended, {} broken; events: {} missing, {} twice, {} coalesced, {} without a stamp",
                "streams",
                sse.streams_opened,
                sse.streams_ended,
                sse.streams_broken,
                sse.gaps,
                sse.duplicates,
                sse.coalesced,
                sse.unstamped
            )?;
        }
        let used = &self.generator;
        write!(
            f,
            "{:<12} {:.0} % busy, {:.0} % waiting for a core, p99 sent {:.0} us late",
            "generator", used.busy_percent, used.waited_percent, used.late_us_p99
        )?;
        if used.busy_poll {
            write!(f, "\n{:<12} IT POLLED BUSILY, and cannot tell whether it was the limit", "")?;
        }
        if used.was_the_limit {
            let what = if used.is_full() {
                "THE GENERATOR WAS THE LIMIT: the server could have done more"
            } else {
                "SENT LATE: the machine was busy with something else, and latency holds that"
            };
            write!(f, "\n{:<12} {what}", "")?;
        }
        Ok(())
    }
}

/// So that 99.9 is not written 99.90000000000001.
fn round(percent: f64) -> f64 {
    (percent * 1000.0).round() / 1000.0
}

// === impl Generator ===

impl Generator {
    /// Of what the process used in `length`, on `threads` threads. Where it polls busily, that says nothing of its limit.
    #[must_use]
    pub(super) fn new(used: &Used, length: Duration, threads: usize, busy_poll: bool, seen: &Seen) -> Self {
        let mut generator = Self {
            cpu_seconds_user: used.user.as_secs_f64(),
            cpu_seconds_system: used.system.as_secs_f64(),
            busy_percent: used.busy_percent(length, threads),
            waited_percent: used.waited_percent(length, threads),
            busy_poll,
            late_us_p99: float(seen.late.value_at_quantile(0.99)) / 1000.0,
            was_the_limit: false,
        };
        let is_late = generator.late_us_p99 >= LATE_LIMIT_US;
        generator.was_the_limit = nanos(length) > 0 && (generator.is_full() || is_late);
        generator
    }

    /// It had no CPU left.
    fn is_full(&self) -> bool {
        !self.busy_poll && self.busy_percent + self.waited_percent >= BUSY_LIMIT_PERCENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_back_and_told_in_words() {
        let mut seen = Seen::new();
        seen.completed = 2;
        seen.latency.record(20_000_000).unwrap();
        seen.latency.record(1_000_000).unwrap();
        seen.failures.insert(super::super::failure::Failure::Status(503), 4);
        seen.late.record(2_000_000).unwrap();
        let length = Duration::from_secs(2);
        let generator = Generator::new(&Used::default(), length, 1, false, &seen);
        assert!(generator.was_the_limit);
        let mut report = LoadReport::new(Kind::Sse, length, &seen, generator);
        report.interrupted = true;
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<LoadReport>(&text).unwrap(), report);
        let said = report.to_string();
        let busy = Generator { busy_percent: 97.0, ..report.generator };
        let busy = LoadReport { generator: busy, ..report.clone() }.to_string();
        assert!(busy.contains("THE GENERATOR WAS THE LIMIT"), "{busy}");
        for words in ["INTERRUPTED", "1.0/s", "status_503 4", "p99.99", "SENT LATE"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!((report.latency_at(1.0).unwrap() - 20_000.0).abs() < 20.0);
    }

    #[test]
    fn nothing_has_no_latency() {
        let report = LoadReport::new(Kind::Requests, Duration::ZERO, &Seen::new(), Generator::default());
        assert!(report.latency_us.is_empty() && report.sse.is_none());
        assert!(report.per_second().abs() < 1e-9);
    }
}
