//! An Agent as the index keeps it: its route, but for the addresses.

use krypton_crd::{Agent, AppProtocol, EffectiveSpec, NameError, Protocol, UpstreamHost};
use krypton_discovery as discovery;
use krypton_discovery::{AgentKey, AgentKeyError, InvocationPath, InvocationPathError, Route, Timeouts};

use super::table::Record;
use crate::object::ObjectId;

/// A good Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentObject {
    id: ObjectId,
    key: AgentKey,
    /// Of the Agent's spec, as its source numbers it.
    generation: i64,
    /// Without endpoints and Service, which come from other objects.
    template: Route,
}

/// Why an Agent that could be decoded has no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentProblem {
    /// Its name cannot be that of its Service.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its namespace cannot stand in a path.
    #[error("metadata: {0}")]
    Key(#[from] AgentKeyError),
    /// Its invocation path is not a path.
    #[error("spec.invocationPath: {0}")]
    InvocationPath(#[from] InvocationPathError),
    /// Its port is 0.
    #[error("spec.port: 0 is not a port")]
    PortZero,
}

// === impl AgentObject ===

impl AgentObject {
    /// What `agent` says about its route.
    ///
    /// # Errors
    /// Names the field that makes a route impossible.
    pub fn from_agent(agent: &Agent) -> Result<Self, AgentProblem> {
        let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
        let name = agent.agent_name()?;
        let key = AgentKey::new(namespace, name.as_str())?;
        let template = build_template(&agent.spec.effective())?;
        // A folder of manifests numbers nothing.
        let generation = agent.metadata.generation.unwrap_or_default();
        Ok(Self { id: ObjectId::new(namespace, name.as_str()), key, generation, template })
    }

    /// `metadata.generation`, 0 where there is none.
    pub(crate) fn generation(&self) -> i64 {
        self.generation
    }

    /// The route, without endpoints and Service.
    pub(crate) fn template(&self) -> &Route {
        &self.template
    }
}

impl Record for AgentObject {
    type Agent = AgentKey;

    fn id(&self) -> &ObjectId {
        &self.id
    }

    fn agent(&self) -> &AgentKey {
        &self.key
    }
}

fn build_template(spec: &EffectiveSpec) -> Result<Route, AgentProblem> {
    Ok(Route {
        protocol: match spec.protocol {
            Protocol::A2a => discovery::Protocol::A2a,
            Protocol::Mcp => discovery::Protocol::Mcp,
            Protocol::Http => discovery::Protocol::Http,
        },
        app_protocol: match spec.app_protocol {
            AppProtocol::Http => discovery::AppProtocol::Http,
            AppProtocol::H2c => discovery::AppProtocol::H2c,
        },
        upstream_host: match spec.upstream_host {
            UpstreamHost::Preserve => discovery::UpstreamHost::Preserve,
            UpstreamHost::Localhost => discovery::UpstreamHost::Localhost,
        },
        port: spec.port.try_into().map_err(|_| AgentProblem::PortZero)?,
        invocation_path: InvocationPath::new(&spec.invocation_path)?,
        timeouts: Timeouts {
            timeout: spec.timeout,
            max_duration: spec.max_duration,
            startup_timeout: spec.startup_timeout,
        },
        concurrency: spec.concurrency,
        max_standing_streams: spec.max_standing_streams,
        service: None,
        scaled_to_zero: spec.replicas == Some(0),
        endpoints: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
