//! An Agent as the index keeps it: its route, but for the addresses.

use krypton_crd::{Agent, AppProtocol, EffectiveSpec, Protocol, UpstreamHost};
use krypton_discovery as discovery;
use krypton_discovery::{AgentKey, AgentKeyError, InvocationPath, InvocationPathError, Route, Timeouts};

use super::table::Record;
use crate::object::ObjectId;

/// A good Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentObject {
    id: ObjectId,
    key: AgentKey,
    /// Without endpoints and Service, which come from other objects.
    template: Route,
}

/// Why an Agent that could be decoded has no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentProblem {
    /// Its namespace or name cannot stand in a path.
    #[error("metadata: {0}")]
    Name(#[from] AgentKeyError),
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
        let name = agent.metadata.name.as_deref().unwrap_or_default();
        let key = AgentKey::new(namespace, name)?;
        let template = build_template(&agent.spec.effective())?;
        Ok(Self { id: ObjectId::new(namespace, name), key, template })
    }

    /// The route, without endpoints and Service.
    pub(crate) fn template(&self) -> &Route {
        &self.template
    }
}

impl Record for AgentObject {
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
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn mk_agent(name: &str, spec: &serde_json::Value) -> Agent {
        let agent = json!({
            "apiVersion": "krypton.ai/v1alpha1",
            "kind": "Agent",
            "metadata": { "namespace": "ns", "name": name },
            "spec": spec,
        });
        Agent::from_value(agent).unwrap()
    }

    #[test]
    fn a_route_carries_what_the_spec_says() {
        let spec = json!({
            "image": "i", "protocol": "mcp", "port": 9000, "invocationPath": "/mcp", "timeout": "2m",
            "maxDuration": "1h", "startupTimeout": "5s", "concurrency": 0, "maxStandingStreams": 7,
            "appProtocol": "h2c", "replicas": 0,
        });
        let agent = AgentObject::from_agent(&mk_agent("a", &spec)).unwrap();
        let expected = Route {
            protocol: discovery::Protocol::Mcp,
            app_protocol: discovery::AppProtocol::H2c,
            upstream_host: discovery::UpstreamHost::Localhost,
            port: 9000.try_into().unwrap(),
            invocation_path: InvocationPath::new("/mcp").unwrap(),
            timeouts: Timeouts {
                timeout: Duration::from_mins(2),
                max_duration: Some(Duration::from_hours(1)),
                startup_timeout: Duration::from_secs(5),
            },
            concurrency: None,
            max_standing_streams: 7,
            service: None,
            scaled_to_zero: true,
            endpoints: vec![],
        };
        assert_eq!(agent.template(), &expected);
        assert_eq!(agent.agent().as_str(), "ns/a");
    }

    #[test]
    fn what_makes_a_route_impossible_is_named() {
        // Past the decoder, which refuses the same: the index does not depend on it.
        let mut agent = mk_agent("a", &json!({ "image": "i" }));
        agent.spec.invocation_path = Some("/a b".into());
        let bad_path = AgentObject::from_agent(&agent).unwrap_err();
        assert!(bad_path.to_string().starts_with("spec.invocationPath: "), "{bad_path}");
        let bad_name = AgentObject::from_agent(&mk_agent("a.b", &json!({ "image": "i" }))).unwrap_err();
        assert!(bad_name.to_string().starts_with(r#"metadata: name "a.b" is not a DNS label"#), "{bad_name}");
    }
}
