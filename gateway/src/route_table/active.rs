//! One Agent's entry in the table, and the immutable view of it that a call works with.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use krypton_discovery::{AgentKey, Endpoint, EndpointPolicy, RefusedAddress, Route, Version, VersionedRoute};

use super::endpoint::{EndpointState, Group};
use crate::metrics::RouteMetrics;

/// An Agent that is in the table. Lives as long as the Agent does, through every change of its route, and then
/// for as long as its last call.
pub struct ActiveRoute {
    key: AgentKey,
    view: ArcSwap<RouteView>,
    /// Made at the first call: most Agents of a large cluster are silent for long.
    metrics: OnceLock<Arc<RouteMetrics>>,
}

/// One version of a route, ready to be called.
pub struct RouteView {
    resource: VersionedRoute,
    /// What the policy allows of the route's endpoints, in their order, without doubles.
    endpoints: Box<[Arc<EndpointState>]>,
    /// The Agent's Service, `None` where it has no address or one that the policy does not allow.
    service: Option<Arc<EndpointState>>,
    /// What the policy does not allow.
    refused: Box<[RefusedEndpoint]>,
}

/// An address that came with a route and must not be dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEndpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// The rule that forbids it.
    pub reason: RefusedAddress,
}

// === impl ActiveRoute ===

impl ActiveRoute {
    pub(super) fn new(view: RouteView) -> Self {
        Self { key: view.key().clone(), view: ArcSwap::from_pointee(view), metrics: OnceLock::new() }
    }

    /// The Agent.
    pub fn key(&self) -> &AgentKey {
        &self.key
    }

    /// The route as it stands. A call loads it once; one that waits for an endpoint loads it again.
    pub fn load(&self) -> Arc<RouteView> {
        self.view.load_full()
    }

    /// Where calls to the Agent are counted.
    pub fn metrics(&self) -> &Arc<RouteMetrics> {
        self.metrics.get_or_init(Arc::default)
    }

    /// The same, `None` while the Agent was never called.
    pub fn metrics_if_called(&self) -> Option<&Arc<RouteMetrics>> {
        self.metrics.get()
    }

    pub(super) fn store(&self, view: RouteView) {
        self.view.store(Arc::new(view));
    }
}

// === impl RouteView ===

impl RouteView {
    /// A view of `resource`. Endpoints that `previous` holds too are taken over with their load.
    pub(super) fn build(
        resource: VersionedRoute,
        previous: Option<&Self>,
        policy: &EndpointPolicy,
        hasher: &foldhash::quality::RandomState,
    ) -> Self {
        let mut refused = Vec::new();
        let mut allowed = |address: SocketAddr| match policy.check(address.ip()) {
            Ok(()) => true,
            Err(reason) => {
                refused.push(RefusedEndpoint { address, reason });
                false
            }
        };
        let known: HashMap<&Endpoint, &Arc<EndpointState>> =
            previous.iter().flat_map(|view| &view.endpoints).map(|state| (state.endpoint(), state)).collect();
        let route = resource.route();
        let mut wanted: Vec<&Endpoint> = route.endpoints.iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|endpoint| allowed(endpoint.address()));
        let state = |endpoint: &&Endpoint| match known.get(*endpoint) {
            Some(state) => Arc::clone(state),
            None => Arc::new(EndpointState::new((*endpoint).clone(), Group::of_pod(endpoint), hasher)),
        };
        let endpoints = wanted.iter().map(state).collect();

        let service = route.service.as_ref().filter(|endpoint| allowed(endpoint.address()));
        let service = service.map(|endpoint| {
            let kept = previous.and_then(|view| view.service.as_ref());
            kept.filter(|state| state.endpoint() == endpoint).cloned().unwrap_or_else(|| {
                let group = Group::Service(resource.key().as_str());
                Arc::new(EndpointState::new(endpoint.clone(), group, hasher))
            })
        });
        Self { resource, endpoints, service, refused: refused.into() }
    }

    /// The Agent.
    pub fn key(&self) -> &AgentKey {
        self.resource.key()
    }

    /// The version that the controller computed.
    pub fn version(&self) -> Version {
        self.resource.version()
    }

    /// What the controller said of the Agent. Its endpoints are as they came: dial [`Self::candidates`].
    pub fn route(&self) -> &Route {
        self.resource.route()
    }

    /// The resource, to store it.
    pub fn resource(&self) -> &VersionedRoute {
        &self.resource
    }

    /// The pods that take new calls.
    pub fn endpoints(&self) -> &[Arc<EndpointState>] {
        &self.endpoints
    }

    /// The Agent's Service as something to dial.
    pub fn service(&self) -> Option<&Arc<EndpointState>> {
        self.service.as_ref()
    }

    /// The addresses that came with the route and that the policy does not allow.
    pub fn refused(&self) -> &[RefusedEndpoint] {
        &self.refused
    }

    /// Where a call may go in this mode: the Service alone, or the pods where there is none.
    pub fn candidates(&self, mode: super::DialMode) -> &[Arc<EndpointState>] {
        match (mode, &self.service) {
            (super::DialMode::ClusterIp, Some(service)) => std::slice::from_ref(service),
            (super::DialMode::ClusterIp, None) | (super::DialMode::Endpoints, _) => &self.endpoints,
        }
    }
}
