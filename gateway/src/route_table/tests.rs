//! A change touches what it names and nothing else.

use std::collections::BTreeMap;

use krypton_discovery::RefusedAddress;
use proptest::prelude::*;

use super::test_util::{mk_resource, mk_resource_with};
use super::*;

fn mk_writer() -> RouteTableWriter {
    RouteTableWriter::new(EndpointPolicy::default())
}

#[test]
fn a_route_is_found_by_its_borrowed_name_without_allocating() {
    let mut writer = mk_writer();
    for n in 0..5_000 {
        writer.upsert(mk_resource(&format!("ns/agent-{n}"), &[("10.0.0.1:80", "")]));
    }
    let table = writer.handle();
    assert_eq!(table.len(), 5_000);
    // The first look-up of a thread registers it with arc-swap.
    assert!(table.get("ns/agent-0").is_some());
    let info = allocation_counter::measure(|| {
        let view = table.get("ns/agent-4999").unwrap().load();
        assert_eq!(view.key().as_str(), "ns/agent-4999");
        assert_eq!(view.candidates(table.dial_mode(Instant::now())).len(), 1);
        assert!(table.get("ns/nobody").is_none());
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn an_endpoint_that_stays_keeps_its_load() {
    let mut writer = mk_writer();
    let table = writer.handle();
    writer.upsert(mk_resource("ns/a", &[("10.0.0.1:80", "one"), ("10.0.0.2:80", "two")]));
    let route = table.get("ns/a").unwrap();
    let before = route.load();
    let call = InFlight::new(Arc::clone(&before.endpoints()[0]), CallKind::Call);
    let stream = InFlight::new(Arc::clone(&before.endpoints()[0]), CallKind::Standing);

    writer.upsert(mk_resource("ns/a", &[("10.0.0.1:80", "one"), ("10.0.0.2:80", "other pod")]));
    let after = table.get("ns/a").unwrap();
    assert!(Arc::ptr_eq(&route, &after), "the entry itself is the same");
    let after = after.load();
    assert!(Arc::ptr_eq(&before.endpoints()[0], &after.endpoints()[0]));
    assert_eq!((after.endpoints()[0].in_flight(), after.endpoints()[0].standing()), (1, 1));
    assert_eq!(after.endpoints()[0].load(), 17);
    // The address was given to another pod: neither its load nor its connections are the same.
    assert_ne!(before.endpoints()[1].group_key(), after.endpoints()[1].group_key());
    drop((call, stream));
    assert_eq!(after.endpoints()[0].load(), 0);
}

#[test]
fn connections_belong_to_a_pod_or_else_to_an_address() {
    let mut writer = mk_writer();
    writer.upsert(mk_resource_with("ns/a", |route| {
        route.service = Some(test_util::mk_endpoint("10.0.0.3:80", ""));
        route.endpoints = vec![
            test_util::mk_endpoint("10.0.0.1:80", "pod"),
            test_util::mk_endpoint("10.0.0.2:80", "pod"),
            test_util::mk_endpoint("10.0.0.3:80", ""),
        ];
    }));
    let view = writer.handle().get("ns/a").unwrap().load();
    let keys: Vec<_> = view.endpoints().iter().map(|e| e.group_key()).collect();
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[0], keys[2]);
    let service = view.service().unwrap();
    assert_eq!(service.address(), "10.0.0.3:80".parse().unwrap());
    assert!(!keys.contains(&service.group_key()), "a Service's connections are nobody else's");
}

#[test]
fn a_removed_route_is_gone_for_new_calls_only() {
    let mut writer = mk_writer();
    let table = writer.handle();
    writer.upsert(mk_resource("ns/a", &[("10.0.0.1:80", "")]));
    let running = table.get("ns/a").unwrap();
    assert!(writer.remove("ns/a"));
    assert!(!writer.remove("ns/a"));
    assert!(table.get("ns/a").is_none());
    assert!(table.is_empty());
    assert_eq!(running.load().endpoints().len(), 1);
}

#[test]
fn the_same_version_changes_nothing() {
    let mut writer = mk_writer();
    let table = writer.handle();
    writer.upsert(mk_resource("ns/a", &[("10.0.0.1:80", "")]));
    let before = table.get("ns/a").unwrap().load();
    writer.upsert(mk_resource("ns/a", &[("10.0.0.1:80", "")]));
    assert_eq!(table.changes(), 1);
    assert!(Arc::ptr_eq(&before, &table.get("ns/a").unwrap().load()));
}

#[test]
fn what_the_policy_refuses_is_left_out_and_named() {
    let mut writer = mk_writer();
    let with = |writer: &mut RouteTableWriter, good: &str| {
        writer.upsert(mk_resource_with("ns/a", |route| {
            let endpoints = ["127.0.0.1:80", good].map(|address| test_util::mk_endpoint(address, ""));
            route.endpoints = endpoints.into();
            route.service = Some(test_util::mk_endpoint("169.254.169.254:80", ""));
        }))
    };
    let refused = with(&mut writer, "10.0.0.2:80");
    assert_eq!(with(&mut writer, "10.0.0.1:80"), [], "named once, however the rest changes");
    let reasons: Vec<_> = refused.iter().map(|refused| refused.reason).collect();
    let (loopback, metadata) = ("127.0.0.1".parse().unwrap(), "169.254.169.254".parse().unwrap());
    assert_eq!(reasons, [RefusedAddress::Loopback(loopback), RefusedAddress::LinkLocal(metadata)]);
    let view = writer.handle().get("ns/a").unwrap().load();
    let kept: Vec<_> = view.endpoints().iter().map(|e| e.address().to_string()).collect();
    assert_eq!(kept, ["10.0.0.1:80"]);
    assert!(view.service().is_none());
    assert_eq!(view.refused(), refused);
}

#[test]
fn a_stale_table_dials_the_service() {
    let mut writer = mk_writer();
    let table = writer.handle();
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    assert!(!table.has_table());
    assert_eq!((table.dial_mode(start), table.age(start)), (DialMode::Endpoints, None));

    writer.set_freshness(Freshness::FromDisk { loaded: start, age: Duration::from_mins(1) });
    assert!(table.has_table());
    assert_eq!(table.dial_mode(start), DialMode::ClusterIp);
    assert_eq!(table.age(later(5)), Some(Duration::from_secs(65)));

    writer.set_freshness(Freshness::Live);
    assert_eq!(
        (table.dial_mode(later(99)), table.age(later(99))),
        (DialMode::Endpoints, Some(Duration::ZERO))
    );

    writer.set_freshness(Freshness::Lost { since: start });
    assert_eq!(table.dial_mode(later(29)), DialMode::Endpoints);
    assert_eq!(table.dial_mode(later(30)), DialMode::ClusterIp);
    assert_eq!(table.age(later(31)), Some(Duration::from_secs(31)));
}

#[test]
fn a_route_without_a_service_stays_with_its_endpoints() {
    let mut writer = mk_writer();
    let table = writer.handle();
    writer.upsert(mk_resource("ns/without", &[("10.0.0.1:80", "")]));
    // At the port of the Service; that of the pods is another.
    let service = Some(test_util::mk_endpoint("10.96.0.1:80", ""));
    writer.upsert(mk_resource_with("ns/with", |route| route.service = service));
    let addresses = |key: &str, mode| {
        let view = table.get(key).unwrap().load();
        view.candidates(mode).iter().map(|e| e.address().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(addresses("ns/without", DialMode::ClusterIp), ["10.0.0.1:80"]);
    assert_eq!(addresses("ns/with", DialMode::ClusterIp), ["10.96.0.1:80"]);
    assert!(addresses("ns/with", DialMode::Endpoints).is_empty());
}

#[test]
fn a_service_that_stays_keeps_its_load() {
    let mut writer = mk_writer();
    let with = |port: u16| {
        mk_resource_with("ns/a", |route| {
            route.service = Some(test_util::mk_endpoint(&format!("10.96.0.1:{port}"), ""));
            route.max_standing_streams = port.into();
        })
    };
    let table = writer.handle();
    let service = || Arc::clone(table.get("ns/a").unwrap().load().service().unwrap());
    writer.upsert(with(80));
    let before = service();
    writer.upsert(mk_resource_with("ns/a", |route| {
        route.service = Some(test_util::mk_endpoint("10.96.0.1:80", ""));
    }));
    assert!(Arc::ptr_eq(&before, &service()));
    writer.upsert(with(81));
    assert!(!Arc::ptr_eq(&before, &service()));
}

proptest! {
    #[test]
    fn the_table_holds_what_was_written_last(
        edits in prop::collection::vec((0u8..20, prop::option::of(1u16..5)), 0..200),
    ) {
        let mut writer = mk_writer();
        let table = writer.handle();
        let mut model = BTreeMap::new();
        for (agent, port) in edits {
            let key = format!("ns/agent-{agent}");
            if let Some(port) = port {
                writer.upsert(mk_resource(&key, &[(format!("10.0.0.1:{port}"), "")]));
                model.insert(key, port);
            } else {
                prop_assert_eq!(writer.remove(&key), model.remove(&key).is_some());
            }
        }
        let port = |route: &ActiveRoute| route.load().endpoints()[0].address().port();
        let held: BTreeMap<_, _> = table.iter().map(|r| (r.key().to_string(), port(&r))).collect();
        prop_assert_eq!(table.len(), model.len());
        prop_assert_eq!(writer.held().count(), model.len());
        for (key, expected) in &model {
            prop_assert_eq!(table.get(key).map(|route| port(&route)), Some(*expected));
        }
        prop_assert_eq!(held, model);
    }
}
