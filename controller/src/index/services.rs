//! A Service as the index keeps it: the ClusterIP of an Agent.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use krypton_crd::keys;
use krypton_discovery::{AgentKey, EndpointPolicy};

use super::table::Record;
use crate::object::ObjectId;

/// The Service of an Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceObject {
    id: ObjectId,
    agent: AgentKey,
    cluster_ip: Option<IpAddr>,
}

// === impl ServiceObject ===

impl ServiceObject {
    /// The Service of an Agent: it bears our label and the Agent's name. `None` where it is not one.
    ///
    /// A headless Service, and one whose address the policy forbids, has no ClusterIP.
    #[must_use]
    pub fn from_service(service: &Service, policy: &EndpointPolicy) -> Option<Self> {
        let namespace = service.metadata.namespace.as_deref()?;
        let name = service.metadata.name.as_deref()?;
        if service.metadata.labels.as_ref()?.get(keys::AGENT_LABEL)? != name {
            return None;
        }
        let cluster_ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
        let cluster_ip = cluster_ip.and_then(|ip| ip.parse::<IpAddr>().ok());
        Some(Self {
            id: ObjectId::new(namespace, name),
            agent: AgentKey::new(namespace, name).ok()?,
            cluster_ip: cluster_ip.filter(|ip| policy.check(*ip).is_ok()),
        })
    }

    /// The address, `None` where there is none.
    pub(super) fn cluster_ip(&self) -> Option<IpAddr> {
        self.cluster_ip
    }
}

impl Record for ServiceObject {
    fn id(&self) -> &ObjectId {
        &self.id
    }

    fn agent(&self) -> &AgentKey {
        &self.agent
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn convert(name: &str, label: &str, ip: &str) -> Option<ServiceObject> {
        let service = json!({
            "metadata": { "namespace": "ns", "name": name, "labels": { "krypton.ai/agent": label } },
            "spec": { "clusterIP": ip },
        });
        ServiceObject::from_service(&serde_json::from_value(service).unwrap(), &EndpointPolicy::default())
    }

    #[test]
    fn the_service_of_an_agent_bears_its_name_and_label() {
        assert_eq!(convert("a", "a", "10.96.0.1").unwrap().cluster_ip(), "10.96.0.1".parse().ok());
        assert_eq!(convert("a", "b", "10.96.0.1"), None);
        assert_eq!(convert("a", "a", "None").unwrap().cluster_ip(), None);
        assert_eq!(convert("a", "a", "").unwrap().cluster_ip(), None);
        assert_eq!(convert("a", "a", "169.254.169.254").unwrap().cluster_ip(), None);
    }
}
