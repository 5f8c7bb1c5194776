//! An EndpointSlice as the index keeps it, and how the slices of one Agent become its endpoints.
//!
//! Only endpoints that may take new calls are kept: ready (or silent about it) and not terminating. Addresses
//! that nobody may dial are refused here, so that they never travel.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use krypton_crd::keys;
use krypton_discovery::{AgentKey, Endpoint, EndpointPolicy, RefusedAddress};

use super::table::Record;
use crate::object::ObjectId;

/// A slice of an Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceObject {
    id: ObjectId,
    agent: AgentKey,
    endpoints: Vec<Endpoint>,
    refused: Vec<RefusedEndpoint>,
}

/// An endpoint that will not be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("endpoint {address:?}: {reason}")]
pub struct RefusedEndpoint {
    /// The address as the slice wrote it.
    pub address: String,
    /// Why not.
    pub reason: RefusedReason,
}

/// Why an endpoint will not be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedReason {
    /// The address cannot be read, or is not of the slice's address type.
    #[error("not an address of type {0}")]
    NotAnAddress(String),
    /// The rules forbid it.
    #[error(transparent)]
    Forbidden(#[from] RefusedAddress),
    /// The slice has no usable port of the name that counts.
    #[error("the slice has no TCP port named \"http\" between 1 and 65535")]
    NoPort,
}

// === impl SliceObject ===

impl SliceObject {
    /// The slice of an Agent: our label and the Service's name label both bear the Agent's name. `None` where
    /// they do not, and for slices of host names.
    #[must_use]
    pub fn from_slice(slice: &EndpointSlice, policy: &EndpointPolicy) -> Option<Self> {
        let labels = slice.metadata.labels.as_ref()?;
        let agent = labels.get(keys::AGENT_LABEL)?;
        if labels.get(keys::SERVICE_NAME_LABEL)? != agent || slice.address_type == "FQDN" {
            return None;
        }
        let namespace = slice.metadata.namespace.as_deref()?;
        let port = http_port(slice);
        let (mut endpoints, mut refused) = (Vec::new(), Vec::new());
        for endpoint in slice.endpoints.iter().filter(|endpoint| takes_calls(endpoint)) {
            match convert(endpoint, &slice.address_type, port, policy) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(reason) => {
                    let address = first_address(endpoint).to_owned();
                    refused.push(RefusedEndpoint { address, reason });
                }
            }
        }
        Some(Self {
            id: ObjectId::new(namespace, slice.metadata.name.as_deref()?),
            agent: AgentKey::new(namespace, agent).ok()?,
            endpoints,
            refused,
        })
    }

    /// What was refused in it.
    #[must_use]
    pub fn refused(&self) -> &[RefusedEndpoint] {
        &self.refused
    }
}

impl Record for SliceObject {
    type Agent = AgentKey;

    fn id(&self) -> &ObjectId {
        &self.id
    }

    fn agent(&self) -> &AgentKey {
        &self.agent
    }
}

/// The endpoints that the slices of one Agent make together: one address family (IPv4 where there is any), each
/// pod once, each address without a pod once. Sorted, so that the result does not tell how it was found.
pub(super) fn merge<'a>(slices: impl Iterator<Item = &'a SliceObject>) -> Vec<Endpoint> {
    let mut candidates: Vec<&Endpoint> = slices.flat_map(|slice| &slice.endpoints).collect();
    let ipv4 = candidates.iter().any(|endpoint| endpoint.address().is_ipv4());
    candidates.retain(|endpoint| endpoint.address().is_ipv4() == ipv4);
    candidates.sort_unstable();

    let mut pods = HashSet::new();
    candidates.retain(|endpoint| endpoint.pod_uid().is_none_or(|uid| pods.insert(uid)));
    let of_pods = candidates.iter().filter(|endpoint| endpoint.pod_uid().is_some());
    let mut addresses: HashSet<SocketAddr> = of_pods.map(|endpoint| endpoint.address()).collect();
    candidates.retain(|endpoint| endpoint.pod_uid().is_some() || addresses.insert(endpoint.address()));
    candidates.into_iter().cloned().collect()
}

/// Whether new calls may go there. Unset conditions count as ready, as the API asks of consumers.
fn takes_calls(endpoint: &SliceEndpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    let is = |read: fn(&k8s_openapi::api::discovery::v1::EndpointConditions) -> Option<bool>| {
        conditions.and_then(read)
    };
    is(|c| c.ready).unwrap_or(true) && !is(|c| c.terminating).unwrap_or(false)
}

fn http_port(slice: &EndpointSlice) -> Option<u16> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let http = ports.iter().find(|port| {
        port.name.as_deref() == Some(keys::HTTP_PORT) && port.protocol.as_deref().unwrap_or("TCP") == "TCP"
    })?;
    u16::try_from(http.port?).ok().filter(|port| *port > 0)
}

/// All addresses of an endpoint are the same pod; the first is the one that Kubernetes' own proxy uses.
fn first_address(endpoint: &SliceEndpoint) -> &str {
    endpoint.addresses.first().map_or("", String::as_str)
}

fn convert(
    endpoint: &SliceEndpoint,
    address_type: &str,
    port: Option<u16>,
    policy: &EndpointPolicy,
) -> Result<Endpoint, RefusedReason> {
    let ip: IpAddr = first_address(endpoint)
        .parse()
        .ok()
        .filter(|ip: &IpAddr| if ip.is_ipv4() { address_type == "IPv4" } else { address_type == "IPv6" })
        .ok_or_else(|| RefusedReason::NotAnAddress(address_type.to_owned()))?;
    policy.check(ip)?;
    let port = port.ok_or(RefusedReason::NoPort)?;
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).map(Into::into);
    Ok(Endpoint::new(SocketAddr::new(ip, port), uid)?)
}

#[cfg(test)]
mod tests;
