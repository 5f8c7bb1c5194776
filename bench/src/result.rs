//! What a run of the harness found: the file that `run` writes, and that `report` and `compare` read.
//!
//! Owns the form of that file. Never measures and never judges: samples come from [`scenario`](crate::scenario), claims
//! from [`stats`](crate::stats). Fields are added, never renamed: reports of different days are compared.
//!
//! A *scenario* is a kind of load. A *variant* is a peer in one configuration under that load. A *round* is one
//! measurement of every variant, close together in time, so that two variants are compared within rounds only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The newest form; a file with a higher number is refused.
pub const SCHEMA: u32 = 1;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`SCHEMA`] of the program that wrote it.
    pub schema: u32,
    /// When it began, RFC 3339 in UTC.
    pub started: String,
    /// The command line that makes it again.
    pub command: String,
    /// Where it ran.
    pub machine: Machine,
    /// How it ran.
    pub settings: Settings,
    /// Who took part, and who was missing.
    pub peers: Vec<PeerInfo>,
    /// What was measured, in the order in which it ran.
    pub scenarios: Vec<ScenarioResult>,
    /// Why the run ended early; what was measured before is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted: Option<String>,
}

/// Where a run took place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The model of the CPU.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// The operating system's own name for itself.
    pub system: String,
    /// Whether it is a virtual machine, as far as it says so.
    pub virtualized: bool,
}

/// How a run was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Paired rounds of each scenario.
    pub rounds: u32,
    /// Seconds of each measurement.
    pub seconds: f64,
    /// Agents in the table of every peer.
    pub agents: usize,
    /// Cores of the proxy under test.
    pub proxy_cores: Vec<usize>,
    /// Cores of the generator and of the origins.
    pub load_cores: Vec<usize>,
    /// Seconds each, to see that everything works: no figure of such a run says anything about speed.
    pub smoke: bool,
}

/// One who took part, or could not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// `krypton`, `nginx`, …; the same as [`Sample::peer`].
    pub name: String,
    /// As it says itself.
    pub version: String,
    /// The commands that started its processes, in order.
    pub commands: Vec<String>,
    /// Its configuration as it was read, by file name.
    pub files: BTreeMap<String, String>,
    /// Why it took no part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// One scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScenarioResult {
    /// `saturation-1k-64`; what `krypton-bench run` takes.
    pub name: String,
    /// A sentence for a reader of the report.
    pub title: String,
    /// The load in one line: connections, rate, sizes.
    pub load: String,
    /// The figure that the scenario is about.
    pub primary: Metric,
    /// All measurements, in the order in which they were made.
    pub samples: Vec<Sample>,
    /// What the scenario has to say besides figures.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One measurement of one variant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Name of the peer.
    pub peer: String,
    /// Its configuration, where a scenario has several: `buffered`, `log off`, `2 hops`; empty: the only one.
    #[serde(default)]
    pub variant: String,
    /// Which round it belongs to, from 0.
    pub round: u32,
    /// Where a scenario goes over sizes, as agents or cores: which this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<f64>,
    /// The figures.
    pub figures: BTreeMap<Metric, f64>,
    /// Latency from the intended time of sending, in microseconds, by quantile (0.5, 0.99, …), rising.
    #[serde(default)]
    pub latency_us: Vec<(f64, f64)>,
    /// A figure for each second of it.
    #[serde(default)]
    pub seconds: Vec<Second>,
    /// What makes the figures doubtful.
    #[serde(default)]
    pub doubts: Vec<Doubt>,
}

/// One second of a measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Calls or events that ended in it.
    pub completed: u64,
    /// Calls that failed in it.
    pub failed: u64,
    /// Their 99th percentile, in microseconds.
    pub p99_us: f64,
}

/// What a figure says. The unit is part of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Calls that ended well, per second.
    RequestsPerSecond,
    /// Calls that failed.
    Failed,
    /// CPU of all processes of the peer per call, user and system, in microseconds.
    CpuPerRequestUs,
    /// The user part of it.
    UserCpuPerRequestUs,
    /// How often a thread of the peer gave up its core or lost it, per call.
    SwitchesPerRequest,
    /// CPU per event of a stream, in microseconds.
    CpuPerEventUs,
    /// Events per second over all streams.
    EventsPerSecond,
    /// Median latency in microseconds.
    P50Us,
    /// 99th percentile in microseconds.
    P99Us,
    /// 99.9th percentile in microseconds.
    P999Us,
    /// 99.99th percentile in microseconds.
    P9999Us,
    /// Bytes of resident memory of all processes of the peer.
    RssBytes,
    /// Files and sockets that the peer has open.
    OpenFiles,
    /// Bytes of resident memory of the peer that an open connection or stream costs.
    BytesPerConnection,
    /// Bytes of the kernel's socket buffers that it costs, on both of its sides and at both of its ends.
    SocketBytesPerConnection,
    /// Resident memory some seconds after all was closed, divided by that before the first connection.
    RssAfterRatio,
    /// CPU of the peer while nothing is asked of it, in percent of a core.
    IdleCpuPercent,
    /// What the peer used, in percent of one core.
    BusyPercent,
    /// Seconds from the start of the program to its readiness.
    ReadySeconds,
    /// Milliseconds from a change in the API to the first call that uses it, median.
    PropagationP50Ms,
    /// As before, 99th percentile.
    PropagationP99Ms,
    /// Events that came late together with another one in a single read.
    CoalescedPercent,
    /// Microseconds to put the change of one agent into a route table.
    TableUpdateUs,
}

/// Why a figure may be wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// The generator had no CPU left or sent late: the peer could have done more.
    GeneratorWasTheLimit,
    /// Others used the proxy's cores, in percent.
    ForeignCpu(f64),
    /// The hypervisor took the proxy's cores away, in percent.
    Steal(f64),
    /// Calls failed.
    Failures(u64),
    /// The connection tracking of the kernel looked at every packet.
    ConnectionTracking,
    /// The peer ended during the measurement.
    PeerDied,
}

// === impl PeerInfo ===

impl PeerInfo {
    /// Adds the commands and the files of the same peer in another configuration, `label`.
    pub fn add(&mut self, label: &str, other: Self) {
        self.commands.extend(other.commands);
        for (name, text) in other.files {
            if !self.files.values().any(|known| *known == text) {
                self.files.insert(format!("{name} ({label})"), text);
            }
        }
    }

    /// One of which nothing but its name is known.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: String::new(),
            commands: Vec::new(),
            files: BTreeMap::new(),
            missing: None,
        }
    }
}

// === impl Metric ===

impl Metric {
    /// Whether a smaller figure is the better one.
    #[must_use]
    pub fn smaller_is_better(self) -> bool {
        !matches!(self, Self::RequestsPerSecond | Self::EventsPerSecond)
    }

    /// Whether it is read from the processes of the peer: without a proxy there are none.
    #[must_use]
    pub fn is_of_processes(self) -> bool {
        matches!(
            self,
            Self::CpuPerRequestUs
                | Self::UserCpuPerRequestUs
                | Self::SwitchesPerRequest
                | Self::CpuPerEventUs
                | Self::RssBytes
                | Self::OpenFiles
                | Self::BytesPerConnection
                | Self::RssAfterRatio
                | Self::IdleCpuPercent
                | Self::BusyPercent
        )
    }

    /// For the head of a column: what it is, and its unit.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests/s",
            Self::Failed => "failed",
            Self::CpuPerRequestUs => "CPU per request, µs",
            Self::UserCpuPerRequestUs => "user CPU per request, µs",
            Self::SwitchesPerRequest => "context switches per request",
            Self::CpuPerEventUs => "CPU per event, µs",
            Self::EventsPerSecond => "events/s",
            Self::P50Us => "p50, µs",
            Self::P99Us => "p99, µs",
            Self::P999Us => "p99.9, µs",
            Self::P9999Us => "p99.99, µs",
            Self::RssBytes => "resident, bytes",
            Self::OpenFiles => "open files",
            Self::BytesPerConnection => "bytes per connection",
            Self::SocketBytesPerConnection => "socket bytes per connection",
            Self::RssAfterRatio => "resident after close / before",
            Self::IdleCpuPercent => "CPU while idle, %",
            Self::BusyPercent => "busy, %",
            Self::ReadySeconds => "start to ready, s",
            Self::PropagationP50Ms => "change to use, p50, ms",
            Self::PropagationP99Ms => "change to use, p99, ms",
            Self::CoalescedPercent => "events coalesced, %",
            Self::TableUpdateUs => "table update, µs",
        }
    }
}
