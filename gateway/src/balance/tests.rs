//! Never a tried one, always the lighter of two.

use std::collections::HashSet;

use krypton_discovery::EndpointPolicy;
use proptest::prelude::*;

use super::*;
use crate::route_table::test_util::mk_resource;
use crate::route_table::{CallKind, DialMode, InFlight, RouteTableWriter};

/// `count` endpoints of one route.
fn mk_endpoints(count: u8) -> Vec<Arc<EndpointState>> {
    let mut writer = RouteTableWriter::new(EndpointPolicy::default());
    let addresses: Vec<_> = (1..=count).map(|n| (format!("10.0.0.{n}:80"), "")).collect();
    writer.upsert(mk_resource("ns/agent", &addresses));
    let view = writer.handle().get("ns/agent").unwrap().load();
    view.candidates(DialMode::Endpoints).to_vec()
}

#[test]
fn the_only_endpoint_is_picked_until_it_was_tried() {
    let endpoints = mk_endpoints(1);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut tried = Tried::default();
    assert!(pick(&endpoints, &tried, &mut rng).is_some());
    tried.insert(&endpoints[0]);
    assert!(pick(&endpoints, &tried, &mut rng).is_none());
    assert!(pick(&[], &Tried::default(), &mut rng).is_none());
}

#[test]
fn of_two_the_lighter_is_always_picked() {
    let endpoints = mk_endpoints(2);
    let mut rng = fastrand::Rng::with_seed(7);
    let _one_call = InFlight::new(Arc::clone(&endpoints[0]), CallKind::Call);
    let _streams: Vec<_> =
        (0..15).map(|_| InFlight::new(Arc::clone(&endpoints[1]), CallKind::Standing)).collect();
    for _ in 0..100 {
        let picked = pick(&endpoints, &Tried::default(), &mut rng).unwrap();
        assert_eq!(picked.id(), endpoints[1].id(), "15 standing streams weigh less than one call");
    }
}

#[test]
fn equal_endpoints_share_the_calls() {
    let endpoints = mk_endpoints(4);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut held = Vec::new();
    for _ in 0..400 {
        let picked = pick(&endpoints, &Tried::default(), &mut rng).unwrap();
        held.push(InFlight::new(Arc::clone(picked), CallKind::Call));
    }
    let loads: Vec<_> = endpoints.iter().map(|endpoint| endpoint.in_flight()).collect();
    assert!(loads.iter().all(|load| (90..=110).contains(load)), "{loads:?}");
}

#[test]
fn a_pick_allocates_nothing() {
    let endpoints = mk_endpoints(100);
    let mut rng = fastrand::Rng::with_seed(5);
    let mut tried = Tried::default();
    let info = allocation_counter::measure(|| {
        for _ in 0..MAX_ATTEMPTS {
            tried.insert(pick(&endpoints, &tried, &mut rng).unwrap());
        }
    });
    assert_eq!(info.count_total, 0);
}

proptest! {
    #[test]
    fn each_attempt_gets_another_endpoint(count in 0u8..12, seed: u64, busy in prop::collection::vec(0usize..12, 0..30)) {
        let endpoints = mk_endpoints(count);
        let held = busy.iter().filter_map(|n| endpoints.get(*n));
        let _held: Vec<_> = held.map(|e| InFlight::new(Arc::clone(e), CallKind::Call)).collect();
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut tried = Tried::default();
        let mut seen = HashSet::new();
        for _ in 0..MAX_ATTEMPTS {
            let Some(picked) = pick(&endpoints, &tried, &mut rng) else { break };
            prop_assert!(!tried.contains(picked));
            prop_assert!(seen.insert(picked.address()));
            tried.insert(picked);
        }
        prop_assert_eq!(seen.len(), usize::from(count).min(MAX_ATTEMPTS));
    }

    #[test]
    fn the_heaviest_is_never_picked_first(count in 2u8..12, seed: u64, heaviest: prop::sample::Index) {
        let endpoints = mk_endpoints(count);
        let heaviest = heaviest.get(&endpoints);
        let _call = InFlight::new(Arc::clone(heaviest), CallKind::Call);
        let mut rng = fastrand::Rng::with_seed(seed);
        let picked = pick(&endpoints, &Tried::default(), &mut rng).unwrap();
        prop_assert_ne!(picked.id(), heaviest.id());
    }
}
