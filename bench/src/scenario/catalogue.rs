//! Which scenarios there are. Pure.
//!
//! Owns names, loads and who takes part in what. Never runs anything.

use std::time::Duration;

use crate::peers::PeerKind;
use crate::result::Metric;
use crate::stats::{Build, scenarios};

/// A kind of load, with a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    /// What `krypton-bench run` takes.
    pub(super) name: &'static str,
    /// A sentence for the report.
    pub(super) title: &'static str,
    /// What it is about.
    pub(super) primary: Metric,
    pub(super) kind: Kind,
    /// Whether `--quick` runs it.
    pub(super) quick: bool,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Calls.
    Calls { call: Call, pace: Pace, set: Set },
    /// Streams of events.
    Events { streams: u32, interval: Duration },
    /// Connections that are open and silent.
    Held { what: Held, count: u32 },
    /// Agents come and go, while others are called.
    Churn,
    /// Krypton alone, with so many agents.
    Table { agents: &'static [usize] },
    /// Krypton's route table alone, with so many agents.
    TableUpdate { agents: &'static [usize] },
    /// An endpoint goes away while it is called.
    EndpointFailure,
    /// From the start of the gateway to its readiness.
    Start,
    /// Krypton alone, on so many cores.
    Cores { cores: &'static [usize] },
}

/// One kind of call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// Bytes of the answer.
    pub(super) answer: u32,
    /// Bytes of the request's body; `None`: a GET.
    pub(super) body: Option<u32>,
    pub(super) connections: u32,
    /// Calls at a time on one connection, which speaks HTTP/2 then.
    pub(super) h2_streams: Option<u32>,
}

/// How calls are paced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// As fast as answers come.
    Closed,
    /// So many a second.
    Rate(u32),
    /// Half of what the slowest peer can do: all are compared at one rate that none has trouble with.
    HalfOfTheSlowest,
    /// This share of what the peer itself can do.
    ShareOfOwn(f64),
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// Each peer as it is best for agents: unbuffered, with its log.
    Peers,
    /// As [`Set::Peers`], and Krypton also without its log.
    AndKryptonLogOff,
    /// As [`Set::Peers`], and those that buffer also as they do by default.
    AlsoBuffered,
    /// Each peer without its log.
    LogOff,
    /// Only those that speak HTTP/2 without TLS.
    SpeaksH2c,
}

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// Streams after their first event.
    Streams,
    /// Connections after one call.
    KeepAlives,
}

/// A peer in one configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) peer: PeerKind,
    /// Only Krypton comes in two.
    pub(super) build: Build,
    pub(super) buffered: bool,
    pub(super) log: bool,
    pub(super) h2c: bool,
}

/// The usual call.
pub(super) const SMALL: Call = Call { answer: 1024, body: None, connections: 64, h2_streams: None };

const fn calls(name: &'static str, title: &'static str, call: Call, pace: Pace, set: Set) -> Scenario {
    let primary = match pace {
        Pace::Closed => Metric::RequestsPerSecond,
        Pace::HalfOfTheSlowest => Metric::CpuPerRequestUs,
        Pace::Rate(_) | Pace::ShareOfOwn(_) => Metric::P99Us,
    };
    Scenario { name, title, primary, kind: Kind::Calls { call, pace, set }, quick: false }
}

const fn quick(scenario: Scenario) -> Scenario {
    Scenario { quick: true, ..scenario }
}

const fn other(name: &'static str, title: &'static str, primary: Metric, kind: Kind) -> Scenario {
    Scenario { name, title, primary, kind, quick: false }
}

/// All of them, in the order in which they run.
pub(super) const ALL: &[Scenario] = &[
    quick(calls(
        scenarios::SAME_RATE,
        "CPU per call of 1 KiB over 64 connections, all at one rate",
        SMALL,
        Pace::HalfOfTheSlowest,
        Set::AndKryptonLogOff,
    )),
    calls("same-rate-log-off", "The same without access logs", SMALL, Pace::HalfOfTheSlowest, Set::LogOff),
    calls(
        "saturation-1k-1",
        "Calls of 1 KiB, one after the other",
        Call { connections: 1, ..SMALL },
        Pace::Closed,
        Set::Peers,
    ),
    quick(calls(
        "saturation-1k-64",
        "Calls of 1 KiB over 64 connections, as fast as they go",
        SMALL,
        Pace::Closed,
        Set::Peers,
    )),
    calls(
        "saturation-1k-512",
        "Calls of 1 KiB over 512 connections, as fast as they go",
        Call { connections: 512, ..SMALL },
        Pace::Closed,
        Set::Peers,
    ),
    quick(calls(
        "post-4k",
        "POST of 4 KiB of JSON, answered by 1 KiB: the shape of an agent's call",
        Call { body: Some(4096), ..SMALL },
        Pace::Closed,
        Set::Peers,
    )),
    calls(
        "h2c-1k",
        "Calls of 1 KiB over 8 connections of HTTP/2 with 8 calls at a time each",
        Call { connections: 8, h2_streams: Some(8), ..SMALL },
        Pace::Closed,
        Set::SpeaksH2c,
    ),
    quick(calls(
        scenarios::BODIES_64K,
        "Answers of 64 KiB over 64 connections, all at one rate",
        Call { answer: 65_536, ..SMALL },
        Pace::HalfOfTheSlowest,
        Set::AlsoBuffered,
    )),
    calls(
        "uploads-1m",
        "Uploads of 1 MiB over 16 connections",
        Call { body: Some(1 << 20), connections: 16, ..SMALL },
        Pace::Closed,
        Set::AlsoBuffered,
    ),
    calls("rate-2k", "Latency at 2,000 calls a second", SMALL, Pace::Rate(2000), Set::Peers),
    calls("rate-5k", "Latency at 5,000 calls a second", SMALL, Pace::Rate(5000), Set::Peers),
    calls("rate-80", "Latency at 80 % of what each can do", SMALL, Pace::ShareOfOwn(0.8), Set::Peers),
    quick(other(
        scenarios::SSE,
        "200 streams with 100 events a second each",
        Metric::CpuPerEventUs,
        Kind::Events { streams: 200, interval: Duration::from_millis(10) },
    )),
    other(
        "sse-5000x1",
        "5,000 streams with an event a second each",
        Metric::CpuPerEventUs,
        Kind::Events { streams: 5000, interval: Duration::from_secs(1) },
    ),
    other(
        scenarios::IDLE_STREAMS,
        "Open streams that are silent",
        Metric::BytesPerConnection,
        Kind::Held { what: Held::Streams, count: HELD },
    ),
    other(
        scenarios::IDLE_KEEP_ALIVE,
        "Open connections without a call",
        Metric::BytesPerConnection,
        Kind::Held { what: Held::KeepAlives, count: HELD },
    ),
    other(
        "growth-agents",
        "Calls of 1 KiB with 100, 5,000 and 100,000 agents",
        Metric::CpuPerRequestUs,
        Kind::Table { agents: SIZES },
    ),
    other(
        scenarios::TABLE_UPDATE,
        "One agent changed in a table of 100, 5,000 and 100,000",
        Metric::TableUpdateUs,
        Kind::TableUpdate { agents: SIZES },
    ),
    other(
        "churn",
        "10 agents a second come and go among 5,000 while others are called",
        Metric::PropagationP99Ms,
        Kind::Churn,
    ),
    other(
        "endpoint-failure",
        "One of three endpoints ends while it is called",
        Metric::Failed,
        Kind::EndpointFailure,
    ),
    other("start", "From the start of the gateway to its readiness", Metric::ReadySeconds, Kind::Start),
    other(
        scenarios::CORES,
        "Calls of 1 KiB on 1 and 2 cores",
        Metric::CpuPerRequestUs,
        Kind::Cores { cores: &[1, 2] },
    ),
];

/// Connections that are held open.
const HELD: u32 = 10_000;

/// Tables over which growth is shown.
const SIZES: &[usize] = &[100, 5000, 100_000];

// === impl Scenario ===

impl Scenario {
    /// The load in one line.
    pub(super) fn load(&self) -> String {
        match self.kind {
            Kind::Calls { call, pace, .. } => format!("{call}, {pace}"),
            Kind::Events { streams, interval } => {
                format!("{streams} streams, an event every {} ms on each", interval.as_millis())
            }
            Kind::Held { count, .. } => format!("{count} connections"),
            Kind::Churn => {
                "10 Agents made and deleted a second through the API server; calls at 80 %".to_owned()
            }
            Kind::Table { .. } | Kind::Cores { .. } => format!("{SMALL}, as fast as answers come"),
            Kind::EndpointFailure => format!("{SMALL}, 500 a second; an endpoint is ended by force half-way"),
            Kind::TableUpdate { .. } => "the endpoints of one agent in turn, in this process".to_owned(),
            Kind::Start => "the controller runs; the gateway has no table on disk".to_owned(),
        }
    }

    /// Whether generator and origin are not to sleep: where CPU or the most that can be done is all that a scenario is
    /// about. Latency would suffer where the two share a core, and so would the gateway where it is on it too, as in
    /// [`Kind::Cores`].
    pub(super) fn busy_poll(&self) -> bool {
        match self.kind {
            // With one connection calls a second are latency.
            Kind::Calls { call: Call { connections: 1, .. }, .. } => false,
            Kind::Calls { pace, .. } => matches!(pace, Pace::Closed | Pace::HalfOfTheSlowest),
            ref other => matches!(other, Kind::Table { .. }),
        }
    }

    /// Who takes part, of `peers`, Krypton in each of `builds`.
    pub(super) fn variants(&self, peers: &[PeerKind], builds: &[Build]) -> Vec<Variant> {
        let all = peers.iter().flat_map(|peer| {
            let builds = if *peer == PeerKind::Krypton { builds } else { &[Build::Plain] };
            builds.iter().map(|build| Variant::best(*peer, *build))
        });
        all.flat_map(|best| self.of(best)).collect()
    }

    /// Why it cannot be run with these, by root or not.
    pub(super) fn obstacle(&self, peers: &[PeerKind], builds: &[Build], root: bool) -> Option<&'static str> {
        if self.variants(peers, builds).is_empty() {
            return Some("none of --peers takes part in it");
        }
        let needs_root = matches!(self.kind, Kind::Churn) && !root;
        needs_root.then_some("it needs root, for addresses that the Kubernetes API takes as endpoints")
    }

    /// In which configurations one takes part, the usual one first.
    fn of(&self, best: Variant) -> Vec<Variant> {
        let is = |peer| best.peer == peer;
        let log_off = Variant { log: false, ..best };
        match self.kind {
            Kind::Calls { set: Set::AndKryptonLogOff, .. } if is(PeerKind::Krypton) => vec![best, log_off],
            Kind::Calls { set: Set::AlsoBuffered, .. } if is(PeerKind::Nginx) => {
                vec![best, Variant { buffered: true, ..best }]
            }
            Kind::Calls { set: Set::LogOff, .. } => vec![log_off],
            Kind::Calls { set: Set::SpeaksH2c, .. } if is(PeerKind::Go) => Vec::new(),
            Kind::Calls { set: Set::SpeaksH2c, .. } => vec![Variant { h2c: true, ..best }],
            // Without a proxy nobody goes round a dead endpoint.
            Kind::EndpointFailure if is(PeerKind::Direct) => Vec::new(),
            Kind::Calls { .. } | Kind::Events { .. } | Kind::Held { .. } | Kind::EndpointFailure => {
                vec![best]
            }
            // Of the others it is about Krypton alone.
            _ if is(PeerKind::Krypton) => vec![best],
            _ => Vec::new(),
        }
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.body {
            Some(body) => write!(f, "POST of {body} bytes, answers of {} bytes", self.answer)?,
            None => write!(f, "GET, answers of {} bytes", self.answer)?,
        }
        let s = if self.connections == 1 { "" } else { "s" };
        write!(f, ", {} connection{s}", self.connections)?;
        self.h2_streams.map_or(Ok(()), |streams| write!(f, " with {streams} calls at a time"))
    }
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => write!(f, "as fast as answers come"),
            Self::Rate(rate) => write!(f, "{rate} a second"),
            Self::HalfOfTheSlowest => write!(f, "half of what the slowest peer can do"),
            Self::ShareOfOwn(share) => write!(f, "{:.0} % of what the peer can do", share * 100.0),
        }
    }
}

// === impl Variant ===

impl Variant {
    /// One as it is best for agents: unbuffered, with its log.
    fn best(peer: PeerKind, build: Build) -> Self {
        Self { peer, build, buffered: false, log: true, h2c: false }
    }

    /// Its name with that of the peer.
    pub(super) fn named(self) -> String {
        format!("{} {}", self.peer, self.label()).trim_end().to_owned()
    }

    /// What the report calls it beside the peer's name; empty for the usual one.
    pub(super) fn label(self) -> String {
        let words = [
            (self.peer == PeerKind::Go, "2 hops"),
            (self.buffered, "buffered"),
            (!self.log, "log off"),
            (self.h2c, "h2c"),
        ];
        let words = words.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word);
        self.build.variant(&words.collect::<Vec<_>>().join(", "))
    }
}

/// The scenarios that `names` mean: whole names, or their beginnings. None given: all.
///
/// # Errors
/// A name that means none; with those that there are.
pub(super) fn choose(names: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    for name in names {
        // Every name begins with an empty one, which is what an unset variable of a script becomes.
        if name.is_empty() || !ALL.iter().any(|scenario| scenario.name.starts_with(name.as_str())) {
            let all: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
            anyhow::bail!("there is no scenario {name:?}; there are {}", all.join(", "));
        }
    }
    let chosen = |scenario: &&Scenario| {
        let exact = names.iter().any(|name| name == scenario.name);
        let begins = |name: &String| {
            scenario.name.starts_with(name.as_str()) && !ALL.iter().any(|other| other.name == name)
        };
        names.is_empty() || exact || names.iter().any(begins)
    };
    Ok(ALL.iter().filter(chosen).collect())
}

#[cfg(test)]
mod tests;
