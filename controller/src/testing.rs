//! Builders that the tests of several modules share.

use std::time::Duration;

use krypton_discovery::{
    AppProtocol, Endpoint, InvocationPath, Protocol, Route, Timeouts, UpstreamHost, VersionedRoute,
};

/// A route of the Agent `key` that differs by `port`, with one endpoint.
pub(crate) fn mk_route(key: &str, port: u16) -> VersionedRoute {
    let route = Route {
        protocol: Protocol::Http,
        app_protocol: AppProtocol::Http,
        upstream_host: UpstreamHost::Preserve,
        port: port.try_into().unwrap(),
        invocation_path: InvocationPath::default(),
        timeouts: Timeouts {
            timeout: Duration::from_secs(1),
            max_duration: None,
            startup_timeout: Duration::from_secs(1),
        },
        concurrency: None,
        max_standing_streams: 1,
        service: None,
        scaled_to_zero: false,
        endpoints: vec![Endpoint::new(([10, 0, 0, 1], port).into(), None).unwrap()],
    };
    VersionedRoute::new(key.parse().unwrap(), route)
}
