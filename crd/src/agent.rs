//! The Agent as a user writes it.
//!
//! Owns the fields, their types and what `kubectl explain` says about them. Only `protocol`, `mode`, `port` and
//! `imagePullPolicy` have defaults in the schema: a default that the API server stores can never again be told from a
//! wish, so all others stay unset and get theirs in [`crate::defaults`].

#![expect(
    unreachable_pub,
    reason = "kube's schema derive copies the struct, with its `pub`, into a function"
)]

use std::fmt;
use std::num::NonZeroU16;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::defaults::{default_image_pull_policy, default_port};
use crate::duration::GoDuration;
use crate::image::MAX_IMAGE;
use crate::names::MAX_SUBDOMAIN_BYTES;
use crate::status::AgentStatus;
use crate::{crd, schema};

/// Longest `invocationPath`, in characters: far more than a path needs, and within the API server's budget for rules.
const MAX_INVOCATION_PATH: usize = 1024;

/// What is said of an image that is not there.
pub(crate) const IMAGE_MISSING: &str =
    "must not be empty; name the container image of the agent, e.g. ghcr.io/org/travel-agent:1.4";

/// What the agent is and how calls to it are treated.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "krypton.ai",
    version = "v1alpha1",
    kind = "Agent",
    plural = "agents",
    shortname = "ag",
    category = "krypton",
    category = "all",
    namespaced,
    doc = "An AI agent: an image that speaks A2A, MCP or plain HTTP. Krypton runs its pods and answers for it at /v1/agents/{namespace}/{name} on the gateway.",
    status = "AgentStatus",
    derive = "PartialEq",
    validation = crd::name_rule(),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Protocol", type_ = "string", json_path = ".spec.protocol", priority = 1),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = crd::replica_bounds_rule(), validation = crd::always_on_rule())]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// Container image of the agent, with a tag or a digest, e.g. ghcr.io/org/travel-agent:1.4. Required.
    #[serde(deserialize_with = "required")]
    #[schemars(length(min = 1, max = MAX_IMAGE))]
    #[x_kube(validation = crd::image_rule())]
    pub image: String,

    /// When the image is pulled: Always, IfNotPresent or Never. Default IfNotPresent. Empty leaves the choice to
    /// Kubernetes: Always for the tag latest, IfNotPresent for others.
    #[serde(default = "default_image_pull_policy")]
    #[schemars(schema_with = "schema::image_pull_policy")]
    pub image_pull_policy: ImagePullPolicy,

    /// Secrets in the agent's namespace that hold credentials for the image's registry, each as name: my-secret; as
    /// kubectl create secret docker-registry makes them. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<PullSecret>,

    /// Language or runtime of the agent, e.g. python. For people only; it changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,

    /// Framework the agent is built with, e.g. langgraph. For people only; it changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framework: Option<String>,

    /// What the agent speaks: a2a (Agent2Agent), mcp (Model Context Protocol over streamable HTTP) or http (anything
    /// else). Default a2a.
    #[serde(default)]
    pub protocol: Protocol,

    /// always-on keeps at least minReplicas pods. serverless lets the agent go to minReplicas, which is 0 unless set,
    /// after scaleToZeroAfter without a call; the next call wakes it. Default always-on.
    #[serde(default)]
    pub mode: Mode,

    /// How long a serverless agent stays up after its last call. A duration such as 300s or 1h30m, greater than 0.
    /// Default 300s. Without effect when mode is always-on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_to_zero_after: Option<GoDuration>,

    /// Fewest pods that the autoscaler goes to, 0 or more; at least 1 when mode is always-on. Default 1, or 0 when mode
    /// is serverless. Without effect while replicas is set.
    #[serde(default, deserialize_with = "int32::<0, _>", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 0))]
    pub min_replicas: Option<u32>,

    /// Most pods that the autoscaler goes to, 1 or more and not below minReplicas. Default 10, or minReplicas where that
    /// is more. Without effect while replicas is set.
    #[serde(default, deserialize_with = "int32::<1, _>", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1))]
    pub max_replicas: Option<u32>,

    /// Pins the number of pods and turns the autoscaler off. 0 turns the agent off: calls are answered 503 at once and
    /// do not wake it. A HorizontalPodAutoscaler sets it through the scale subresource, which Kubernetes serves only
    /// once a first value is written here. To unpin, remove the field: kubectl patch agent NAME --type=merge -p
    /// '{"spec":{"replicas":null}}'. Default unset: the autoscaler decides between minReplicas and maxReplicas.
    #[serde(default, deserialize_with = "int32::<0, _>", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 0))]
    pub replicas: Option<u32>,

    /// Calls that one pod works on at a time; further ones wait in a bounded queue, for startupTimeout at most. 0 means
    /// no limit. Default 8. Standing streams do not count, see maxStandingStreams.
    #[serde(default, deserialize_with = "int32::<0, _>", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 0))]
    pub concurrency: Option<u32>,

    /// Standing streams (a GET that accepts text/event-stream, a WebSocket) that one pod holds at a time; further ones
    /// are refused. 0 refuses all. Default 1000.
    #[serde(default, deserialize_with = "int32::<0, _>", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 0))]
    pub max_standing_streams: Option<u32>,

    /// Whether standing streams that are open but silent keep a serverless agent up (hold), or are ended when nothing
    /// else keeps it up (release). Default hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "IdleStreams")]
    pub idle_streams: Option<IdleStreams>,

    /// Port the agent listens on in its container, 1 to 65535. Default 8080.
    #[serde(default = "default_port", deserialize_with = "port")]
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub port: NonZeroU16,

    /// What the port speaks: http (HTTP/1.1) or h2c (HTTP/2 without TLS). Default http.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AppProtocol")]
    pub app_protocol: Option<AppProtocol>,

    /// Path that a call without one lands on: /v1/agents/{namespace}/{name} arrives at the agent as this path, with
    /// the query of the call. Starts with / and has neither ? nor # nor spaces; write other characters
    /// percent-encoded. At most 1024 characters. Default /.
    #[serde(default, deserialize_with = "invocation_path", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_INVOCATION_PATH))]
    #[x_kube(validation = crd::invocation_path_rule())]
    pub invocation_path: Option<String>,

    /// The Host header that the agent sees: preserve (as the caller wrote it) or localhost (localhost:port; the
    /// caller's is in X-Forwarded-Host). Default localhost when protocol is mcp, since the MCP SDKs refuse other names;
    /// else preserve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UpstreamHost")]
    pub upstream_host: Option<UpstreamHost>,

    /// How long the agent may stay silent: from the call being sent to the first byte of the answer, and then between
    /// bytes. A stream that keeps sending is never cut by it, and WebSockets are exempt. A duration such as 300s or
    /// 1h30m, greater than 0. Default 300s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,

    /// Limit of one call from its first byte to its last, streams included. A duration such as 300s or 1h30m, greater
    /// than 0. Default unset: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<GoDuration>,

    /// How long a call may wait for a pod to start or to have room. A duration such as 30s or 2m, greater than 0.
    /// Default 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_timeout: Option<GoDuration>,

    /// How long a pod may go on with running calls after it was told to stop, in a rollout or when scaling down; what
    /// then still runs is cut off. A duration such as 60s or 10m, greater than 0. Default 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<GoDuration>,

    /// Compute resources of the agent's container, as in a Pod: requests (what is reserved on the node) and limits (what
    /// it may use at most), each as quantities by resource, e.g. cpu: 500m and memory: 1Gi. Default none of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::atomic_open_object")]
    pub resources: Option<Map<String, Value>>,

    /// Environment variables of the agent's container, as in a Pod: each a name with a value, or with valueFrom. A value
    /// is a text: write numbers and true in quotes, e.g. "8080". Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::atomic_open_objects")]
    pub env: Vec<Map<String, Value>>,

    /// ConfigMaps and Secrets whose keys become environment variables, as in a Pod: each a configMapRef or a secretRef
    /// with a name, and a prefix where wanted. What env sets wins. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::atomic_open_objects")]
    pub env_from: Vec<Map<String, Value>>,

    /// ServiceAccount of the agent's pods, which must exist; its token is then mounted. Default: an account of the
    /// agent's own, bound to no role, its token not mounted.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_SUBDOMAIN_BYTES))]
    #[x_kube(validation = crd::service_account_rule())]
    pub service_account_name: Option<String>,

    /// Fragment of a PodTemplateSpec (metadata, spec) laid over the one Krypton makes: command, probes, volumes,
    /// nodeSelector, tolerations and so on; lists merge by their Kubernetes keys. What is for the agent's container goes
    /// to the entry named agent of spec.containers; other entries are further containers. The container agent, its port
    /// http and the label krypton.ai/agent stay Krypton's. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::open_object")]
    pub pod_template: Option<Map<String, Value>>,
}

/// When the image is pulled, as in a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImagePullPolicy {
    /// At every start of a pod.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never: the node must have it.
    Never,
    /// Written empty: Kubernetes decides by the image's tag.
    #[serde(rename = "")]
    ByTag,
}

/// A Secret with credentials for the image's registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PullSecret {
    /// Name of the Secret, in the agent's namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// What an agent speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Agent2Agent.
    #[default]
    A2a,
    /// Model Context Protocol over streamable HTTP.
    Mcp,
    /// Plain HTTP.
    Http,
}

/// Whether an agent sleeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Goes to sleep without calls and is woken by one.
    Serverless,
    /// Keeps its pods.
    #[default]
    AlwaysOn,
}

/// The Host header that an agent sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamHost {
    /// As the caller wrote it.
    Preserve,
    /// `localhost` and the agent's port.
    Localhost,
}

/// What an agent's port speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppProtocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 without TLS, known in advance.
    H2c,
}

/// Whether silent standing streams keep a serverless agent up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IdleStreams {
    /// They do.
    #[default]
    Hold,
    /// They do not, and are ended when the agent goes to sleep.
    Release,
}

// === decoding ===

/// A number from `MIN` to 2^31-1, the most that Kubernetes' own counts hold.
fn int32<'de, const MIN: u32, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    struct OrNone<const MIN: u32>;

    impl<'de, const MIN: u32> Visitor<'de> for OrNone<MIN> {
        type Value = Option<u32>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            NumberFrom { min: MIN, max: i32::MAX.unsigned_abs() }.expecting(f)
        }

        fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            let number = NumberFrom { min: MIN, max: i32::MAX.unsigned_abs() };
            deserializer.deserialize_i64(number).map(Some)
        }
    }

    deserializer.deserialize_option(OrNone::<MIN>)
}

/// A port.
fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NonZeroU16, D::Error> {
    let number = deserializer.deserialize_i64(NumberFrom { min: 1, max: u16::MAX.into() })?;
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    port.ok_or_else(|| D::Error::custom("not a port"))
}

/// A whole number within bounds, both of them included.
struct NumberFrom {
    min: u32,
    max: u32,
}

impl Visitor<'_> for NumberFrom {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {} to {}", self.min, self.max)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<u32, E> {
        match u32::try_from(number) {
            Ok(count) if (self.min..=self.max).contains(&count) => Ok(count),
            _ => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<u32, E> {
        match u32::try_from(number) {
            Ok(count) if (self.min..=self.max).contains(&count) => Ok(count),
            _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }
}

/// A text that is not empty.
fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Err(D::Error::custom(IMAGE_MISSING)) } else { Ok(text) }
}

/// A text; the Go system took the empty one for none.
fn non_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// A path as [`crd::invocation_path_rule`] wants it. Checked again here, since manifests from a folder and objects
/// stored under the Go system's definition never met that rule, and the gateway writes the path into a request line.
fn invocation_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(path) = non_empty(deserializer)? else { return Ok(None) };
    let visible = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'<' | b'>' | b'`');
    if path.starts_with('/') && path.len() <= MAX_INVOCATION_PATH && path.bytes().all(visible) {
        return Ok(Some(path));
    }
    Err(D::Error::custom(format_args!("{path:?} {}", crd::INVOCATION_PATH_MESSAGE)))
}
