//! What a controller, or whoever answers in its place, may send to a gateway: whatever it is, it is refused by name
//! or becomes a value that survives the way back and forth.
//!
//! Each input is decoded as it stands and again merged into a good resource, so that the search begins behind the
//! first checks.

#![no_main]

use krypton_discovery::{VersionedRoute, wire};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(|data: &[u8]| {
    if let Ok(response) = wire::DeltaRoutesResponse::decode(data) {
        response.upserts.into_iter().for_each(check);
    }
    let mut resource = good();
    if resource.merge(data).is_ok() {
        check(resource);
    }
    // Fields of the route itself, one message less to find.
    let mut resource = good();
    if resource.route.get_or_insert_default().merge(data).is_ok() {
        check(resource);
    }
});

fn check(sent: wire::RouteResource) {
    match VersionedRoute::try_from(sent.clone()) {
        Err(rejected) => {
            assert_eq!(rejected.name, sent.name, "a NACK names what was sent");
            assert_eq!(rejected.version, sent.version);
            assert!(!rejected.reason.to_string().is_empty());
        }
        Ok(route) => {
            let bytes = wire::RouteResource::from(&route).encode_to_vec();
            let decoded = wire::RouteResource::decode(bytes.as_slice()).expect("what we encode, we decode");
            let again = VersionedRoute::try_from(decoded).expect("what we took, we take again");
            assert_eq!(again, route);
            assert_eq!(again.route(), route.route());
            assert_eq!(wire::RouteResource::from(&again).encode_to_vec(), bytes);
        }
    }
}

fn good() -> wire::RouteResource {
    let endpoint = wire::Endpoint { address: vec![10, 0, 0, 1], port: 8080, pod_uid: "uid".to_owned() };
    wire::RouteResource {
        name: "ns/agent".to_owned(),
        version: vec![7; 16],
        route: Some(wire::Route {
            protocol: wire::Protocol::Mcp.into(),
            app_protocol: wire::AppProtocol::Http.into(),
            upstream_host: wire::UpstreamHost::Preserve.into(),
            port: 8080,
            invocation_path: "/mcp".to_owned(),
            timeouts: Some(wire::Timeouts { timeout_ms: 1, max_duration_ms: 0, startup_timeout_ms: 1 }),
            endpoints: vec![endpoint],
            service: Some(wire::Endpoint { address: vec![10, 96, 0, 1], port: 80, pod_uid: String::new() }),
            ..wire::Route::default()
        }),
    }
}
