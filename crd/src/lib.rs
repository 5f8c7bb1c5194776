//! The Agent API, `krypton.ai/v1alpha1`: what a user writes, what the controller reads, what the API server checks.
//!
//! Owns the shape of an Agent (spec, status, conditions), its effective defaults, its validation rules, and every
//! name that is spelled on a Kubernetes object. Never does I/O and knows neither the controller nor the gateway.
//!
//! 1. [`crd`] turns the Rust types into the CustomResourceDefinition that `crdgen` prints and the chart installs.
//! 2. [`Agent::from_value`] turns one object into an [`Agent`], or says which field it failed at.
//! 3. [`validate()`] finds all that is wrong with an object, for its author; the webhooks and the status tell it.
//! 4. [`AgentSpec::effective`] fills in what the author left open. Everything downstream reads [`EffectiveSpec`].

pub mod agent;
pub mod conditions;
pub mod crd;
pub mod decode;
pub mod defaults;
pub mod duration;
pub mod keys;
pub mod names;
pub mod status;
pub mod validate;

mod image;
mod schema;

pub use agent::{
    Agent, AgentSpec, AppProtocol, IdleStreams, ImagePullPolicy, Mode, Protocol, PullSecret, UpstreamHost,
};
pub use decode::DecodeError;
pub use defaults::EffectiveSpec;
pub use duration::{DurationError, GoDuration};
pub use names::{AgentName, NameError};
pub use status::{AgentStatus, Phase};
pub use validate::{Findings, Problem, Severity, validate};
