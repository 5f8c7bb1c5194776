//! Routes for tests.

use std::time::Duration;

use krypton_discovery::{
    AppProtocol, Endpoint, InvocationPath, Protocol, Route, Timeouts, UpstreamHost, VersionedRoute,
};

/// A plain HTTP route without endpoints.
pub(crate) fn mk_route() -> Route {
    Route {
        protocol: Protocol::Http,
        app_protocol: AppProtocol::Http,
        upstream_host: UpstreamHost::Preserve,
        port: 8080.try_into().unwrap(),
        invocation_path: InvocationPath::default(),
        timeouts: Timeouts {
            timeout: Duration::from_mins(5),
            max_duration: None,
            startup_timeout: Duration::from_secs(30),
        },
        concurrency: None,
        max_standing_streams: 1000,
        service: None,
        scaled_to_zero: false,
        endpoints: Vec::new(),
    }
}

/// An endpoint; an empty `uid` is none.
pub(crate) fn mk_endpoint(address: &str, uid: &str) -> Endpoint {
    Endpoint::new(address.parse().unwrap(), Some(uid.into())).unwrap()
}

/// A resource `key` with endpoints of (address, uid).
pub(crate) fn mk_resource<S: AsRef<str>>(key: &str, endpoints: &[(S, &str)]) -> VersionedRoute {
    mk_resource_with(key, |route| {
        route.endpoints = endpoints.iter().map(|(address, uid)| mk_endpoint(address.as_ref(), uid)).collect();
    })
}

/// A resource `key`, edited.
pub(crate) fn mk_resource_with(key: &str, edit: impl FnOnce(&mut Route)) -> VersionedRoute {
    let mut route = mk_route();
    edit(&mut route);
    VersionedRoute::new(key.parse().unwrap(), route)
}
