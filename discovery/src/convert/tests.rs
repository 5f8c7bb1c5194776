//! What goes out comes back in, and nothing bad does.

use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn mk_route() -> Route {
    Route {
        protocol: Protocol::Mcp,
        app_protocol: AppProtocol::Http,
        upstream_host: UpstreamHost::Localhost,
        port: NonZeroU16::new(8080).unwrap(),
        invocation_path: InvocationPath::new("/mcp").unwrap(),
        timeouts: Timeouts {
            timeout: Duration::from_mins(5),
            max_duration: None,
            startup_timeout: Duration::from_secs(30),
        },
        concurrency: NonZeroU32::new(8),
        max_standing_streams: 1000,
        service: Some(Endpoint::new("10.96.0.1:80".parse().unwrap(), None).unwrap()),
        scaled_to_zero: false,
        endpoints: vec![Endpoint::new("10.0.0.1:8080".parse().unwrap(), Some("uid-1".into())).unwrap()],
    }
}

fn mk_resource(edit: impl FnOnce(&mut wire::RouteResource)) -> wire::RouteResource {
    let route = VersionedRoute::new("ns/agent".parse().unwrap(), mk_route());
    let mut resource = wire::RouteResource::from(&route);
    edit(&mut resource);
    resource
}

fn reason(edit: impl FnOnce(&mut wire::Route)) -> String {
    let resource = mk_resource(|resource| edit(resource.route.as_mut().unwrap()));
    let rejected = VersionedRoute::try_from(resource).unwrap_err();
    assert_eq!(rejected.name, "ns/agent");
    rejected.reason.to_string()
}

#[test]
fn a_refused_resource_names_the_field() {
    let name = VersionedRoute::try_from(mk_resource(|r| "no slash".clone_into(&mut r.name))).unwrap_err();
    assert_eq!(name.to_string(), r#"no slash: name: "no slash" is not of the form namespace/name"#);
    let version = VersionedRoute::try_from(mk_resource(|r| r.version.truncate(3))).unwrap_err();
    assert_eq!(version.to_string(), "ns/agent: version has 3 bytes, expected 16");
    let route = VersionedRoute::try_from(mk_resource(|r| r.route = None)).unwrap_err();
    assert_eq!(route.to_string(), "ns/agent: route: missing");

    assert_eq!(reason(|r| r.protocol = 0), "protocol: unknown value 0");
    assert_eq!(reason(|r| r.app_protocol = 99), "app_protocol: unknown value 99");
    assert_eq!(reason(|r| r.upstream_host = -1), "upstream_host: unknown value -1");
    assert_eq!(reason(|r| r.port = 0), "port: 0 is not a port");
    assert_eq!(reason(|r| r.port = 65_536), "port: 65536 is not a port");
    assert_eq!(reason(|r| r.timeouts = None), "timeouts: missing");
    assert_eq!(
        reason(|r| r.timeouts.as_mut().unwrap().timeout_ms = 0),
        "timeouts.timeout_ms: must be above 0"
    );
    assert_eq!(
        reason(|r| r.timeouts.as_mut().unwrap().startup_timeout_ms = 0),
        "timeouts.startup_timeout_ms: must be above 0"
    );
    assert_eq!(reason(|r| r.invocation_path.clear()), "invocation_path: path does not begin with '/'");
    let service = |edit: fn(&mut wire::Endpoint)| reason(|r| edit(r.service.as_mut().unwrap()));
    assert_eq!(
        service(|s| s.address = vec![1, 2]),
        "service.address: an address has 4 or 16 bytes, this one 2"
    );
    assert_eq!(service(|s| s.address = vec![0; 4]), "service: 0.0.0.0 is the unspecified address");
    assert_eq!(service(|s| s.port = 0), "service.port: 0 is not a port");
    assert_eq!(
        reason(|r| r.endpoints[0].address.clear()),
        "endpoints.address: an address has 4 or 16 bytes, this one 0"
    );
    assert_eq!(
        reason(|r| r.endpoints[0].address = vec![0; 4]),
        "endpoints[0]: 0.0.0.0 is the unspecified address"
    );
    assert_eq!(reason(|r| r.endpoints[0].port = 0), "endpoints.port: 0 is not a port");
    assert_eq!(
        reason(|r| r.endpoints = vec![r.endpoints[0].clone(); 20_001]),
        "endpoints: 20001, at most 20000"
    );
}

#[test]
fn a_limit_below_a_millisecond_does_not_become_none() {
    let timeouts = Timeouts {
        timeout: Duration::from_nanos(1),
        max_duration: Some(Duration::from_nanos(1)),
        startup_timeout: Duration::MAX,
    };
    let back = Timeouts::try_from(wire::Timeouts::from(timeouts)).unwrap();
    assert_eq!(back.timeout, Duration::from_millis(1));
    assert_eq!(back.max_duration, Some(Duration::from_millis(1)));
    assert_eq!(back.startup_timeout, Duration::from_millis(u64::MAX));
}

#[test]
fn the_order_of_endpoints_is_not_part_of_the_version() {
    let key: AgentKey = "ns/agent".parse().unwrap();
    let endpoint = |n: u8| Endpoint::new(SocketAddr::from(([10, 0, 0, n], 80)), None).unwrap();
    let with = |endpoints: Vec<Endpoint>| VersionedRoute::new(key.clone(), Route { endpoints, ..mk_route() });
    let version = with(vec![endpoint(1), endpoint(2)]).version();
    assert_eq!(with(vec![endpoint(2), endpoint(1), endpoint(2)]).version(), version);
    assert_ne!(with(vec![endpoint(1)]).version(), version);
}

/// The version is a promise between releases: a controller of the next one must compute the same, or every
/// upgrade resends every route. Change this value only when the route itself gains a meaning.
#[test]
fn the_version_of_a_route_stands() {
    let route = VersionedRoute::new("ns/agent".parse().unwrap(), mk_route());
    assert_eq!(route.version().to_string(), "15725e062ed80f5aaba667a0316dac31");
}

prop_compose! {
    fn any_endpoint()(ip in any::<IpAddr>(), port in 1u16.., uid in "[a-z0-9-]{0,36}") -> Option<Endpoint> {
        Endpoint::new(SocketAddr::new(ip, port), Some(uid.into())).ok()
    }
}

prop_compose! {
    fn any_service()(ip in any::<IpAddr>(), port in 1u16..) -> Option<Endpoint> {
        Endpoint::new(SocketAddr::new(ip, port), None).ok()
    }
}

prop_compose! {
    fn any_route()(
        protocol in prop_oneof![Just(Protocol::A2a), Just(Protocol::Mcp), Just(Protocol::Http)],
        app_protocol in prop_oneof![Just(AppProtocol::Http), Just(AppProtocol::H2c)],
        upstream_host in prop_oneof![Just(UpstreamHost::Preserve), Just(UpstreamHost::Localhost)],
        port in any::<NonZeroU16>(),
        path in "/[a-zA-Z0-9%/._~;=-]{0,40}",
        (timeout, startup) in (1u64..1 << 40, 1u64..1 << 40),
        max_duration in prop::option::of(1u64..1 << 40),
        concurrency in any::<u32>(),
        max_standing_streams in any::<u32>(),
        service in prop_oneof![Just(None), any_service()],
        scaled_to_zero in any::<bool>(),
        endpoints in prop::collection::vec(any_endpoint(), 0..8),
    ) -> Route {
        Route {
            protocol,
            app_protocol,
            upstream_host,
            port,
            invocation_path: InvocationPath::new(&path).unwrap(),
            timeouts: Timeouts {
                timeout: Duration::from_millis(timeout),
                max_duration: max_duration.map(Duration::from_millis),
                startup_timeout: Duration::from_millis(startup),
            },
            concurrency: NonZeroU32::new(concurrency),
            max_standing_streams,
            service,
            scaled_to_zero,
            endpoints: endpoints.into_iter().flatten().collect(),
        }
    }
}

proptest! {
    #[test]
    fn what_goes_out_comes_back_in(route in any_route()) {
        let sent = VersionedRoute::new("ns/agent".parse().unwrap(), route);
        let bytes = wire::RouteResource::from(&sent).encode_to_vec();
        let received = VersionedRoute::try_from(wire::RouteResource::decode(bytes.as_slice()).unwrap()).unwrap();
        prop_assert_eq!(received.key(), sent.key());
        prop_assert_eq!(received.version(), sent.version());
        prop_assert_eq!(received.route(), sent.route());
        // The receiver would compute the same version: nothing is lost on the way.
        let again = VersionedRoute::new(received.key().clone(), received.route().as_ref().clone());
        prop_assert_eq!(again.version(), sent.version());
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        if let Ok(response) = wire::DeltaRoutesResponse::decode(bytes.as_slice()) {
            for upsert in response.upserts {
                VersionedRoute::try_from(upsert).ok();
            }
        }
    }
}
