//! Routes of an invented cluster.

use std::net::Ipv4Addr;
use std::time::Duration;

use krypton_discovery::{
    AgentKey, AppProtocol, Endpoint, InvocationPath, Protocol, Route, Timeouts, UpstreamHost, VersionedRoute,
};

/// Agents that one namespace holds.
pub const AGENTS_PER_NAMESPACE: usize = 100;

/// Pods that one agent has.
pub const ENDPOINTS: usize = 4;

/// Namespace and name of the agent `n`.
#[must_use]
pub fn names(n: usize) -> (String, String) {
    (format!("team-{}", n / AGENTS_PER_NAMESPACE), format!("agent-{}", n % AGENTS_PER_NAMESPACE))
}

/// The address of pod `pod` of agent `n`, in 10.0.0.0/8 and never one that routes refuse.
#[must_use]
pub fn address(n: usize, pod: usize) -> Ipv4Addr {
    let [_, a, b, c] = u32::try_from(n * ENDPOINTS + pod).unwrap_or(u32::MAX).to_be_bytes();
    Ipv4Addr::new(10, a, b, c)
}

/// The UID of a pod, as long as Kubernetes makes them.
#[must_use]
pub fn pod_uid(n: usize, pod: usize) -> String {
    format!("00000000-0000-4000-8000-{:012x}", n * ENDPOINTS + pod)
}

/// The route of agent `n`, with `endpoints` of its pods.
///
/// # Panics
/// Never: the names and addresses made here are good.
#[must_use]
pub fn route(n: usize, endpoints: usize) -> VersionedRoute {
    let (namespace, name) = names(n);
    let endpoint = |pod| {
        let address = (address(n, pod), 8080).into();
        Endpoint::new(address, Some(pod_uid(n, pod).into())).expect("an address in 10.0.0.0/8")
    };
    let route = Route {
        protocol: Protocol::Http,
        app_protocol: AppProtocol::Http,
        upstream_host: UpstreamHost::Preserve,
        port: 8080.try_into().expect("above 0"),
        invocation_path: InvocationPath::default(),
        timeouts: Timeouts {
            timeout: Duration::from_mins(5),
            max_duration: None,
            startup_timeout: Duration::from_secs(30),
        },
        concurrency: 8.try_into().ok(),
        max_standing_streams: 1000,
        service: Endpoint::new((Ipv4Addr::new(10, 255, 0, 1), 80).into(), None).ok(),
        scaled_to_zero: false,
        endpoints: (0..endpoints).map(endpoint).collect(),
    };
    VersionedRoute::new(AgentKey::new(&namespace, &name).expect("DNS labels"), route)
}
