//! What holds where the author of an Agent said nothing.
//!
//! Owns every default of the Agent API and [`AgentSpec::effective`], a pure function from what was written to plain
//! values that need no further thought. Never writes a default back into the object.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::{AgentSpec, AppProtocol, IdleStreams, ImagePullPolicy, Mode, Protocol, UpstreamHost};
use crate::duration::GoDuration;

/// `port`: where the Go system's agents listen, so that its manifests keep their meaning. The schema stores it.
const PORT: NonZeroU16 = NonZeroU16::new(8080).expect("8080 is not zero");

/// `timeout`: what the ingress guide sets as read timeout; models think long before the first token.
const TIMEOUT: Duration = Duration::from_mins(5);

/// `startupTimeout`: as in the Go system.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);

/// `drainTimeout`: long enough for most answers, short enough for a rollout that a person watches.
const DRAIN_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a pod that was told to stop goes on as if nothing had happened, before its processes hear of it. Meanwhile
/// the news that it is going reaches every gateway, so that no new call is sent to a port that no longer listens.
pub const PRE_STOP: Duration = Duration::from_secs(5);

/// `scaleToZeroAfter`: as in the Go system.
const SCALE_TO_ZERO_AFTER: Duration = Duration::from_mins(5);

/// `concurrency`, calls per pod: as in the Go system.
const CONCURRENCY: u32 = 8;

/// `maxStandingStreams`, streams per pod: they are nearly free, so this only bounds what a runaway client can hold.
const MAX_STANDING_STREAMS: u32 = 1_000;

/// `maxReplicas`: as in the Go system.
const MAX_REPLICAS: u32 = 10;

/// `invocationPath`: as in the Go system.
const INVOCATION_PATH: &str = "/";

/// An Agent's spec with nothing left open. Fields bear the names of the spec's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSpec {
    /// What the agent speaks.
    pub protocol: Protocol,
    /// Whether it sleeps.
    pub mode: Mode,
    /// Port of its container.
    pub port: u16,
    /// What the port speaks.
    pub app_protocol: AppProtocol,
    /// Where a call without a path lands. Starts with `/`.
    pub invocation_path: String,
    /// The Host header it sees.
    pub upstream_host: UpstreamHost,
    /// Longest silence of the agent.
    pub timeout: Duration,
    /// Longest call; `None`: no limit.
    pub max_duration: Option<Duration>,
    /// Longest wait of a call for a pod or for room.
    pub startup_timeout: Duration,
    /// Longest that a pod told to stop goes on with running calls.
    pub drain_timeout: Duration,
    /// Calls per pod at a time; `None`: no limit.
    pub concurrency: Option<NonZeroU32>,
    /// Standing streams per pod at a time.
    pub max_standing_streams: u32,
    /// Whether silent standing streams keep it up.
    pub idle_streams: IdleStreams,
    /// Fewest pods the autoscaler goes to.
    pub min_replicas: u32,
    /// Most pods the autoscaler goes to: at least 1 and at least `min_replicas`.
    pub max_replicas: u32,
    /// Pods as pinned by a person or a HorizontalPodAutoscaler; `None`: the autoscaler decides.
    pub replicas: Option<u32>,
    /// How long a serverless agent stays up after its last call.
    pub scale_to_zero_after: Duration,
}

// === impl AgentSpec ===

impl AgentSpec {
    /// The spec with its defaults filled in.
    pub fn effective(&self) -> EffectiveSpec {
        let or = |set: Option<GoDuration>, default| set.map_or(default, GoDuration::get);
        let min_replicas = self.min_replicas.unwrap_or(match self.mode {
            Mode::AlwaysOn => 1,
            Mode::Serverless => 0,
        });
        // Objects stored before the cross-field rule may have a maximum below the minimum; more pods do less harm.
        let max_replicas = self.max_replicas.unwrap_or(MAX_REPLICAS).max(min_replicas);
        EffectiveSpec {
            protocol: self.protocol,
            mode: self.mode,
            port: self.port.get(),
            app_protocol: self.app_protocol.unwrap_or_default(),
            invocation_path: self.invocation_path.clone().unwrap_or_else(|| INVOCATION_PATH.to_owned()),
            upstream_host: self.upstream_host.unwrap_or(match self.protocol {
                Protocol::Mcp => UpstreamHost::Localhost,
                Protocol::A2a | Protocol::Http => UpstreamHost::Preserve,
            }),
            timeout: or(self.timeout, TIMEOUT),
            max_duration: self.max_duration.map(GoDuration::get),
            startup_timeout: or(self.startup_timeout, STARTUP_TIMEOUT),
            drain_timeout: or(self.drain_timeout, DRAIN_TIMEOUT),
            concurrency: NonZeroU32::new(self.concurrency.unwrap_or(CONCURRENCY)),
            max_standing_streams: self.max_standing_streams.unwrap_or(MAX_STANDING_STREAMS),
            idle_streams: self.idle_streams.unwrap_or_default(),
            min_replicas,
            max_replicas,
            replicas: self.replicas,
            scale_to_zero_after: or(self.scale_to_zero_after, SCALE_TO_ZERO_AFTER),
        }
    }
}

// === defaults that the schema stores ===

/// Field and value of every default that the API server stores. None of them depends on another field, so that writing
/// one never turns into a wish of the author's what was ours.
pub fn stored_defaults() -> [(&'static str, Value); 4] {
    [
        ("imagePullPolicy", json!(default_image_pull_policy())),
        ("mode", json!(Mode::default())),
        ("port", json!(default_port())),
        ("protocol", json!(Protocol::default())),
    ]
}

pub(crate) fn default_port() -> NonZeroU16 {
    PORT
}

pub(crate) fn default_image_pull_policy() -> ImagePullPolicy {
    ImagePullPolicy::IfNotPresent
}

#[cfg(test)]
mod tests;
