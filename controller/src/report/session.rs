//! What one gateway reports, message by message: pure, synchronous.
//!
//! 1. The first message says who it is; from it on the session collects what the gateway holds.
//! 2. The first message without `more` ends that: the gateway is a member, with all that it holds.
//! 3. Every later message is a change of that. Samples of load may come with any message.

use std::time::Duration;

use krypton_discovery::wire::{AgentLoad, LoadSample, ReportRequest};
use krypton_discovery::{AgentKey, Version};

use crate::discovery::incoming::{self, IncomingError, one_line};
use crate::programmed::{Delta, Holding};

/// Samples in one message. A gateway keeps a minute of them, one a second.
const MAX_SAMPLES: usize = 1_024;

/// One gateway's report.
#[derive(Debug)]
pub(super) struct Session {
    /// Resources that it may hold.
    limit: usize,
    /// What it told so far; `None` once it has told everything.
    greeting: Option<Holding>,
}

/// Who reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) build: String,
}

/// What one message says.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// All that the gateway holds, when it has just told the last of it.
    pub(super) joined: Option<Holding>,
    /// What changed at a gateway that has told everything.
    pub(super) delta: Delta,
    pub(super) samples: Vec<Sample>,
}

/// How busy the gateway was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) age: Duration,
    pub(super) loads: Vec<Load>,
    /// The next one goes on with the same moment.
    pub(super) more: bool,
}

/// How busy one Agent was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) key: AgentKey,
    pub(super) in_flight: u32,
    pub(super) waiting: u32,
    pub(super) completed: u64,
}

/// The gateway broke the contract, or asks too much. Its stream is ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReportError {
    #[error("node.id: missing")]
    NoNode,
    #[error("node: only the first message says who it is")]
    NodeAgain,
    #[error("{field}: {error}")]
    Field { field: &'static str, error: IncomingError },
    #[error("held: more than {0}")]
    TooManyHeld(usize),
    #[error("samples: {0}, at most {MAX_SAMPLES}")]
    TooManySamples(usize),
}

// === impl Session ===

impl Session {
    /// Takes the first message of a gateway that may hold `limit` resources.
    pub(super) fn begin(mut first: ReportRequest, limit: usize) -> Result<(Self, Node, Told), ReportError> {
        let node = first.node.take().filter(|node| !node.id.is_empty()).ok_or(ReportError::NoNode)?;
        let node = Node { id: one_line(&node.id), build: one_line(&node.build) };
        let mut session = Self { limit, greeting: Some(Holding::default()) };
        let told = session.take(first)?;
        Ok((session, node, told))
    }

    /// Takes a message.
    pub(super) fn take(&mut self, request: ReportRequest) -> Result<Told, ReportError> {
        let ReportRequest { node, held, removed, rejected, more, samples } = request;
        if node.is_some() {
            return Err(ReportError::NodeAgain);
        }
        if samples.len() > MAX_SAMPLES {
            return Err(ReportError::TooManySamples(samples.len()));
        }
        let in_field = |field| move |error| ReportError::Field { field, error };
        let delta = Delta {
            removed: collect(removed.iter().map(|name| incoming::key(name)), in_field("removed"))?,
            held: collect(held.iter().map(incoming::held), in_field("held"))?,
            rejected: collect(rejected.iter().map(rejected_in), in_field("rejected"))?,
        };
        let samples = collect(samples.into_iter().map(sample_in), in_field("samples"))?;
        let Some(mut holding) = self.greeting.take() else {
            return Ok(Told { joined: None, delta, samples });
        };
        holding.apply(delta);
        self.check(&holding)?;
        if more {
            self.greeting = Some(holding);
            return Ok(Told { samples, ..Told::default() });
        }
        Ok(Told { joined: Some(holding), samples, ..Told::default() })
    }

    /// Whether a gateway may hold as much.
    pub(super) fn check(&self, holding: &Holding) -> Result<(), ReportError> {
        if holding.held() > self.limit { Err(ReportError::TooManyHeld(self.limit)) } else { Ok(()) }
    }
}

// === impl ReportError ===

impl ReportError {
    /// Whether it asks for more than it may, rather than for what makes no sense.
    pub(super) fn is_too_much(&self) -> bool {
        matches!(self, Self::TooManyHeld(_) | Self::TooManySamples(_))
    }
}

fn collect<T>(
    items: impl Iterator<Item = Result<T, IncomingError>>,
    wrap: impl FnOnce(IncomingError) -> ReportError,
) -> Result<Vec<T>, ReportError> {
    items.collect::<Result<_, _>>().map_err(wrap)
}

fn rejected_in(
    rejected: &krypton_discovery::wire::RejectedResource,
) -> Result<(AgentKey, Version, String), IncomingError> {
    let (key, reason) = incoming::rejected(rejected)?;
    match Version::try_from(rejected.version.as_slice()) {
        Ok(version) => Ok((key, version, reason)),
        Err(error) => Err(IncomingError::Version { key, error }),
    }
}

fn sample_in(sample: LoadSample) -> Result<Sample, IncomingError> {
    let loads = sample.agents.into_iter().map(load_in).collect::<Result<_, _>>()?;
    Ok(Sample { age: Duration::from_millis(sample.age_ms), loads, more: sample.more })
}

fn load_in(load: AgentLoad) -> Result<Load, IncomingError> {
    let AgentLoad { name, in_flight, waiting, completed } = load;
    Ok(Load { key: incoming::key(&name)?, in_flight, waiting, completed })
}

#[cfg(test)]
mod tests;
