//! What the controller tells about an Agent. Nothing reads a status to decide anything.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What is true of an Agent now, written by the controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// One word for a person: Pending (no pod or no gateway is ready yet, or the agent is turned off), Ready (calls are
    /// answered, or wake the agent), Scaling (ready, and on the way to another size), Failed (calls cannot be answered
    /// until something is repaired). Programs read the conditions instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Phase")]
    pub phase: Option<Phase>,

    /// Pods that exist, ready or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// Pods that are ready for calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,

    /// Pods that there should be: spec.replicas where it is set, else what the autoscaler decided. Shown only; writing
    /// it changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,

    /// Label selector of the agent's pods, as text; the scale subresource passes it to a HorizontalPodAutoscaler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// Address of the agent's Service, for calls from inside the cluster, with its port and invocationPath. Such calls
    /// bypass the gateway, and with it queueing, retries and waking up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,

    /// When a call last ended, as far as is known. Written at most every 5 minutes, so it may lag behind by that much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_invocation_at: Option<Time>,

    /// metadata.generation that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Conditions by type: Accepted (the spec is valid and clashes with nothing), ResolvedRefs (what it refers to is
    /// there), Programmed (the gateways have the route), Available (a pod is ready, or none is needed) and Ready, which
    /// sums up the others. Each says why in reason and message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// The state of an Agent in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// No pod or no gateway is ready yet, or the agent is turned off.
    Pending,
    /// Calls are answered, or wake the agent.
    Ready,
    /// Ready, and on the way to another size.
    Scaling,
    /// Calls cannot be answered until something is repaired.
    Failed,
}

// === impl Phase ===

impl Phase {
    /// The word in `status.phase`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Ready => "Ready",
            Self::Scaling => "Scaling",
            Self::Failed => "Failed",
        }
    }
}
