//! What the gateway is to reach, as ratios inside one run on one core of the proxy, the gateway as released: 5,000
//! agents, metrics and access log on.
//!
//! Owns the numbers and the names of the scenarios that they are about. Never measures.
//!
//! Which build a sample is of stands in its variant: the word `pgo` in front says that the gateway was built with a
//! profile, so `pgo, log off` is such a build without access log. One run can hold both.

use crate::result::Metric;

/// The scenarios that have a target.
pub mod scenarios {
    /// 1 KiB bodies over 64 connections, every peer at the same rate, half of what the slowest can.
    pub const SAME_RATE: &str = "same-rate-1k-64";
    /// 64 KiB bodies.
    pub const BODIES_64K: &str = "bodies-64k";
    /// 200 streams of 100 events a second each.
    pub const SSE: &str = "sse-200x100";
    /// Connections that nothing is asked on.
    pub const IDLE_KEEP_ALIVE: &str = "idle-keep-alive";
    /// Streams that nothing comes on, and what is left of them.
    pub const IDLE_STREAMS: &str = "idle-streams";
    /// One agent changed in a table; `x` is how many agents it holds.
    pub const TABLE_UPDATE: &str = "table-update";
    /// 64 connections, as fast as they go; `x` is how many cores the proxy has.
    pub const CORES: &str = "growth-cores";
}

/// Agents in the table of every peer, unless a scenario is about the size of it.
pub(super) const AGENTS: usize = 5000;

/// How a gateway was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// A release build as anybody makes it.
    Plain,
    /// As in the release images: optimised with a profile.
    Pgo,
}

/// One that is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side {
    /// [`Sample::peer`](crate::result::Sample::peer).
    pub peer: &'static str,
    /// [`Sample::variant`](crate::result::Sample::variant) without the word for the build.
    pub variant: &'static str,
    /// [`Sample::x`](crate::result::Sample::x).
    pub x: Option<f64>,
}

/// What is held against the bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// How many times as large the figure is as that of the other.
    AtMostRatio(Side),
    /// How much larger it is than that of the other, in the metric's unit.
    AtMostAbove(Side),
    /// The figure itself, in the metric's unit.
    AtMostAbsolute,
}

/// A target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// For a reader.
    pub text: &'static str,
    /// The scenario that shows it.
    pub scenario: &'static str,
    /// The figure.
    pub metric: Metric,
    /// Whose figure.
    pub subject: Side,
    /// Against what.
    pub kind: Kind,
    /// The bound for a plain build.
    pub plain: f64,
    /// The bound for one with a profile.
    pub pgo: f64,
    /// Cores of the machine below which it cannot be measured.
    pub needs_cores: usize,
}

const KRYPTON: Side = Side { peer: "krypton", variant: "", x: None };

const fn peer(peer: &'static str, variant: &'static str) -> Side {
    Side { peer, variant, x: None }
}

const fn at(x: f64) -> Side {
    Side { x: Some(x), ..KRYPTON }
}

const fn target(text: &'static str, scenario: &'static str, metric: Metric) -> Target {
    let (subject, kind) = (KRYPTON, Kind::AtMostAbsolute);
    Target { text, scenario, metric, subject, kind, plain: f64::NAN, pgo: f64::NAN, needs_cores: 1 }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target(
        "CPU per request, 1 KiB, 64 connections, against nginx",
        scenarios::SAME_RATE,
        Metric::CpuPerRequestUs,
    )
    .times(peer("nginx", ""), 1.6, 1.25),
    target(
        "CPU per request, 1 KiB, 64 connections, against Envoy",
        scenarios::SAME_RATE,
        Metric::CpuPerRequestUs,
    )
    .times(peer("envoy", ""), 0.6, 0.45),
    target(
        "CPU per request, 1 KiB, 64 connections, against the Go gateway of two hops",
        scenarios::SAME_RATE,
        Metric::CpuPerRequestUs,
    )
    .times(peer("go", "2 hops"), 1.0 / 8.0, 1.0 / 12.0),
    target(
        "CPU per request, 64 KiB bodies, against nginx buffered",
        scenarios::BODIES_64K,
        Metric::CpuPerRequestUs,
    )
    .times(peer("nginx", "buffered"), 0.95, 0.75),
    target("SSE, CPU per event, against nginx unbuffered", scenarios::SSE, Metric::CpuPerEventUs).times(
        peer("nginx", ""),
        1.45,
        1.25,
    ),
    // What the way without a proxy takes is in both, and goes out in the difference.
    target("SSE, median latency added over direct, above that of nginx", scenarios::SSE, Metric::P50Us)
        .above(peer("nginx", ""), 100.0),
    target("Memory of an idle keep-alive connection", scenarios::IDLE_KEEP_ALIVE, Metric::BytesPerConnection)
        .absolute(26.0 * 1024.0),
    target("Memory of an open SSE stream", scenarios::IDLE_STREAMS, Metric::BytesPerConnection)
        .absolute(46.0 * 1024.0),
    target(
        "Resident 10 s after all streams closed, against empty",
        scenarios::IDLE_STREAMS,
        Metric::RssAfterRatio,
    )
    .absolute(2.0),
    target(
        "CPU per request with the access log, against without",
        scenarios::SAME_RATE,
        Metric::CpuPerRequestUs,
    )
    .times(peer("krypton", "log off"), 1.08, 1.08),
    target("One agent changed among 5,000", scenarios::TABLE_UPDATE, Metric::TableUpdateUs)
        .of(at(5_000.0))
        .absolute(10.0),
    target("One agent changed among 100,000", scenarios::TABLE_UPDATE, Metric::TableUpdateUs)
        .of(at(100_000.0))
        .absolute(20.0),
    Target {
        needs_cores: 4,
        ..target("CPU per request with two cores, against one", scenarios::CORES, Metric::CpuPerRequestUs)
            .of(at(2.0))
            .times(at(1.0), 1.1, 1.1)
    },
];

// === impl Build ===

impl Build {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Pgo];

    /// The word for it in a variant; empty for the plain one.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Pgo => "pgo",
        }
    }

    /// For a reader.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Plain => "plain build",
            Self::Pgo => "PGO build",
        }
    }

    /// For a column of builds.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Pgo => "PGO",
        }
    }

    /// Which of them a variant of the gateway is of.
    #[must_use]
    pub fn of(variant: &str) -> Self {
        match variant.split(',').next() {
            Some("pgo") => Self::Pgo,
            _ => Self::Plain,
        }
    }

    /// The name of a variant of the gateway in this build.
    #[must_use]
    pub fn variant(self, variant: &str) -> String {
        match (self.word(), variant) {
            ("", only) | (only, "") => only.to_owned(),
            (word, variant) => format!("{word}, {variant}"),
        }
    }
}

// === impl Side ===

impl Side {
    /// The name of the variant of a run with this build. Only the gateway itself comes in builds.
    #[must_use]
    pub fn variant_in(&self, build: Build) -> String {
        if self.peer == KRYPTON.peer { build.variant(self.variant) } else { self.variant.to_owned() }
    }
}

// === impl Target ===

impl Target {
    /// The bound for a build.
    #[must_use]
    pub fn bound(&self, build: Build) -> f64 {
        match build {
            Build::Plain => self.plain,
            Build::Pgo => self.pgo,
        }
    }

    /// Whether its scenario goes over sizes, and does not follow the settings of the run.
    #[must_use]
    pub fn brings_its_own_sizes(&self) -> bool {
        self.subject.x.is_some()
    }

    const fn of(self, subject: Side) -> Self {
        Self { subject, ..self }
    }

    const fn times(self, against: Side, plain: f64, pgo: f64) -> Self {
        Self { kind: Kind::AtMostRatio(against), plain, pgo, ..self }
    }

    const fn above(self, against: Side, bound: f64) -> Self {
        Self { kind: Kind::AtMostAbove(against), plain: bound, pgo: bound, ..self }
    }

    const fn absolute(self, bound: f64) -> Self {
        Self { kind: Kind::AtMostAbsolute, plain: bound, pgo: bound, ..self }
    }
}
