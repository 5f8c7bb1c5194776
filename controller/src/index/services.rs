//! A Service as the index keeps it: where an Agent is reached whichever pods it has.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use krypton_crd::keys;
use krypton_discovery::{AgentKey, Endpoint, EndpointPolicy};

use super::table::Record;
use crate::object::ObjectId;

/// The Service of an Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceObject {
    id: ObjectId,
    agent: AgentKey,
    /// Its ClusterIPs at the port of the Service, the primary one first; at most two, as of two families.
    addresses: Vec<Endpoint>,
}

// === impl ServiceObject ===

impl ServiceObject {
    /// The Service of an Agent: it bears our label and the Agent's name. `None` where it is not one.
    ///
    /// It has no address where it is headless, where the policy forbids its ClusterIP, and where none of its ports
    /// can be told to be the agent's: a wrong port may be somebody else's listener.
    #[must_use]
    pub fn from_service(service: &Service, policy: &EndpointPolicy) -> Option<Self> {
        let namespace = service.metadata.namespace.as_deref()?;
        let name = service.metadata.name.as_deref()?;
        if service.metadata.labels.as_ref()?.get(keys::AGENT_LABEL)? != name {
            return None;
        }
        let addresses = service.spec.as_ref().map(|spec| addresses(spec, policy)).unwrap_or_default();
        Some(Self {
            id: ObjectId::new(namespace, name),
            agent: AgentKey::new(namespace, name).ok()?,
            addresses,
        })
    }

    /// Where to dial it, `None` where there is nothing to dial. Of two families the one that the pods are known by
    /// (`ipv4`), as it is the one known to lead to them; else the Service's primary one.
    pub(super) fn address(&self, ipv4: Option<bool>) -> Option<&Endpoint> {
        let of_the_pods = self.addresses.iter().find(|service| Some(service.address().is_ipv4()) == ipv4);
        of_the_pods.or(self.addresses.first())
    }
}

impl Record for ServiceObject {
    type Agent = AgentKey;

    fn id(&self) -> &ObjectId {
        &self.id
    }

    fn agent(&self) -> &AgentKey {
        &self.agent
    }
}

/// `clusterIPs` begins with `clusterIP`, but what did not come through an API server may have the latter alone.
fn addresses(spec: &ServiceSpec, policy: &EndpointPolicy) -> Vec<Endpoint> {
    let Some(port) = http_port(spec.ports.as_deref().unwrap_or_default()) else { return Vec::new() };
    let secondary = spec.cluster_ips.iter().flatten().skip(1);
    let ips = spec.cluster_ip.iter().chain(secondary).filter_map(|ip| ip.parse::<IpAddr>().ok());
    let allowed = ips.filter(|ip| policy.check(*ip).is_ok());
    allowed.filter_map(|ip| Endpoint::new(SocketAddr::new(ip, port), None).ok()).take(2).collect()
}

/// The port that clients of the Service dial, not the pods' `targetPort`: the TCP port `http`, or the only port, which
/// Kubernetes lets go without a name.
fn http_port(ports: &[ServicePort]) -> Option<u16> {
    let is_tcp = |port: &&ServicePort| port.protocol.as_deref().unwrap_or("TCP") == "TCP";
    let http = match ports {
        [only] if only.name.as_deref().is_none_or(str::is_empty) => Some(only),
        ports => ports.iter().find(|port| port.name.as_deref() == Some(keys::HTTP_PORT)),
    };
    http.filter(is_tcp).and_then(|port| u16::try_from(port.port).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn convert(name: &str, label: &str, spec: &Value) -> Option<ServiceObject> {
        let service = json!({
            "metadata": { "namespace": "ns", "name": name, "labels": { "krypton.ai/agent": label } },
            "spec": spec,
        });
        ServiceObject::from_service(&serde_json::from_value(service).unwrap(), &EndpointPolicy::default())
    }

    /// Empty where there is none.
    fn address(spec: &Value, ipv4: Option<bool>) -> String {
        let service = convert("a", "a", spec).unwrap();
        service.address(ipv4).map(|service| service.address().to_string()).unwrap_or_default()
    }

    #[test]
    fn the_service_of_an_agent_bears_its_name_and_label() {
        assert!(convert("a", "a", &json!({})).is_some());
        assert!(convert("a", "b", &json!({})).is_none());
    }

    #[test]
    fn a_service_without_an_address_to_dial_has_none() {
        let at = |ip: &str| address(&json!({ "clusterIP": ip, "ports": [{ "port": 80 }] }), None);
        assert_eq!(at("10.96.0.1"), "10.96.0.1:80");
        for none in ["None", "", "169.254.169.254"] {
            assert_eq!(at(none), "", "{none}");
        }
    }

    #[test]
    fn the_port_is_the_services_own_and_never_guessed() {
        let at = |ports: Value| address(&json!({ "clusterIP": "10.96.0.1", "ports": ports }), None);
        let other = json!({ "name": "metrics", "port": 9090 });
        let http = json!({ "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080 });
        assert_eq!(at(json!([http])), "10.96.0.1:80");
        assert_eq!(at(json!([other, http])), "10.96.0.1:80");
        assert_eq!(at(json!([{ "name": "", "port": 81 }])), "10.96.0.1:81");
        for none in [
            json!(null),
            json!([]),
            json!([other]),
            json!([{ "port": 80 }, other]),
            json!([{ "protocol": "UDP", "port": 80 }]),
            json!([{ "name": "http", "protocol": "UDP", "port": 80 }]),
            json!([{ "name": "http", "port": 0 }]),
            json!([{ "name": "http", "port": 65_616 }]),
        ] {
            assert_eq!(at(none.clone()), "", "{none}");
        }
    }

    #[test]
    fn of_two_families_the_one_of_the_pods_is_dialled() {
        let both = json!({
            "clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.96.0.1"], "ports": [{ "name": "http", "port": 80 }],
        });
        assert_eq!(address(&both, Some(true)), "10.96.0.1:80");
        assert_eq!(address(&both, Some(false)), "[fd00::1]:80");
        assert_eq!(address(&both, None), "[fd00::1]:80");
        let single =
            json!({ "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{ "port": 80 }] });
        assert_eq!(address(&single, Some(false)), "10.96.0.1:80");
    }
}
