//! Whatever happens, a gateway ends up with the snapshot, but for what it refuses.

use std::collections::{BTreeMap, BTreeSet};

use krypton_discovery::{Endpoint, Route, wire};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::snapshot::AgentRoute;
use crate::testing::mk_route;

/// A gateway that refuses every resource whose port is in `refuses`.
#[derive(Default)]
struct Gateway {
    held: BTreeMap<AgentKey, VersionedRoute>,
    refuses: BTreeSet<u16>,
}

impl Gateway {
    fn versions(&self) -> Vec<(AgentKey, Version)> {
        self.held.values().map(|route| (route.key().clone(), route.version())).collect()
    }

    fn take(&mut self, response: Response) -> Vec<Rejection> {
        let mut rejections = Vec::new();
        for route in response.upserts {
            if self.refuses.contains(&route.route().port.get()) {
                rejections.push(Rejection { key: route.key().clone(), reason: "port".into() });
            } else {
                self.held.insert(route.key().clone(), route);
            }
        }
        for key in response.removed {
            assert!(self.held.remove(&key).is_some(), "{key} was removed but never held");
        }
        rejections
    }

    /// Answers until there is nothing left to send; how many responses it took.
    fn settle(&mut self, session: &mut Session, snapshot: &Snapshot) -> usize {
        let mut responses = 0;
        while let Some(response) = session.next(snapshot, None) {
            let nonce = response.nonce;
            let rejections = self.take(response);
            session.answer(nonce, &rejections).unwrap();
            responses += 1;
        }
        responses
    }
}

fn key(n: usize) -> AgentKey {
    AgentKey::new("ns", &format!("a{n}")).unwrap()
}

fn edit(snapshot: Snapshot, n: usize, port: Option<u16>) -> Snapshot {
    let route = port.map(|port| mk_route(key(n).as_str(), port).into());
    snapshot.with([(key(n), route)]).unwrap_or(snapshot)
}

fn flat(snapshot: &Snapshot) -> BTreeMap<AgentKey, VersionedRoute> {
    snapshot.iter().map(|route| (route.key().clone(), route.clone())).collect()
}

#[test]
fn the_first_response_comes_even_if_nothing_differs() {
    let snapshot = edit(Snapshot::default(), 1, Some(80));
    let mut session = Session::new([(key(1), mk_route("ns/a1", 80).version())]);
    let response = session.next(&snapshot, None).unwrap();
    assert_eq!(response, Response { nonce: 1, upserts: vec![], removed: vec![], more: false, leader: None });
    assert_eq!(session.next(&snapshot, None), None);
    session.answer(1, &[]).unwrap();
    assert_eq!(session.next(&snapshot, None), None);
    assert_eq!(session.complete_generation(), Some(snapshot.generation()));
}

#[test]
fn a_reconnect_resends_nothing_and_removes_what_is_gone() {
    let snapshot = edit(edit(Snapshot::default(), 1, Some(80)), 2, Some(80));
    let stale = mk_route("ns/a2", 79).version();
    let held = [(key(1), mk_route("ns/a1", 80).version()), (key(2), stale), (key(3), stale)];
    let response = Session::new(held).next(&snapshot, None).unwrap();
    assert_eq!(response.upserts, [mk_route("ns/a2", 80)]);
    assert_eq!(response.removed, [key(3)]);
}

#[test]
fn another_leader_is_told_though_no_route_changed_and_a_generation_alone_is_not() {
    let snapshot = edit(Snapshot::default(), 1, Some(80));
    let mut session = Session::new([(key(1), mk_route("ns/a1", 80).version())]);
    let mut told = |snapshot: &Snapshot, leader| {
        let response = session.next(snapshot, leader)?;
        session.answer(response.nonce, &[]).unwrap();
        assert_eq!((response.upserts, response.removed, response.more), (vec![], vec![], false));
        Some(response.leader)
    };
    assert_eq!(told(&snapshot, Some("a:1")), Some(Some("a:1".into())));
    assert_eq!(told(&snapshot, Some("a:1")), None);
    assert_eq!(told(&snapshot, Some("b:1")), Some(Some("b:1".into())));
    assert_eq!(told(&snapshot, None), Some(None));

    let route = mk_route("ns/a1", 80);
    let next = snapshot.with([(key(1), Some(AgentRoute { route, generation: 2 }))]).unwrap();
    assert_eq!(told(&next, None), None);
}

#[test]
fn only_one_response_is_outstanding_and_a_slow_gateway_skips_what_was_between() {
    let first = edit(Snapshot::default(), 1, Some(80));
    let mut session = Session::new([]);
    assert!(session.next(&first, None).is_some());
    let second = edit(first, 1, Some(81));
    assert_eq!(session.next(&second, None), None);
    let third = edit(second, 1, Some(82));
    session.answer(1, &[]).unwrap();
    assert_eq!(session.next(&third, None).unwrap().upserts, [mk_route("ns/a1", 82)]);
}

#[test]
fn what_was_refused_is_sent_again_only_when_it_changes_or_after_a_reconnect() {
    let good = edit(Snapshot::default(), 1, Some(80));
    let mut gateway = Gateway { refuses: [81].into(), ..Gateway::default() };
    let mut session = Session::new([]);
    gateway.settle(&mut session, &good);

    let bad = edit(good.clone(), 1, Some(81));
    assert_eq!(gateway.settle(&mut session, &bad), 1);
    assert_eq!(gateway.held[&key(1)], mk_route("ns/a1", 80));
    assert_eq!(session.rejected().collect::<Vec<_>>(), [(&key(1), "port")]);
    assert_eq!(session.next(&edit(bad.clone(), 2, Some(80)), None).unwrap().upserts, [mk_route("ns/a2", 80)]);

    let mut again = Session::new(gateway.versions());
    assert_eq!(again.next(&bad, None).unwrap().upserts, [mk_route("ns/a1", 81)]);

    let mut session = Session::new(gateway.versions());
    gateway.settle(&mut session, &bad);
    assert_eq!(gateway.settle(&mut session, &edit(bad, 1, Some(82))), 1);
    assert_eq!(gateway.held[&key(1)], mk_route("ns/a1", 82));
    assert_eq!(session.rejected().count(), 0);
}

#[test]
fn a_wrong_answer_is_a_protocol_error() {
    let snapshot = edit(Snapshot::default(), 1, Some(80));
    let mut session = Session::new([]);
    assert_eq!(session.answer(1, &[]), Err(ProtocolError::Nonce { got: 1, expected: None }));
    session.next(&snapshot, None).unwrap();
    assert_eq!(session.answer(7, &[]), Err(ProtocolError::Nonce { got: 7, expected: Some(1) }));
    let other = Rejection { key: "ns/other".parse().unwrap(), reason: String::new() };
    assert_eq!(session.answer(1, &[other]), Err(ProtocolError::NotSent("ns/other".parse().unwrap())));
}

#[test]
fn responses_are_bounded_in_number_and_size() {
    let many = (0..5_000).map(|n| (key(n), Some(mk_route(key(n).as_str(), 80).into())));
    let snapshot = Snapshot::default().with(many).unwrap();
    let mut gateway = Gateway::default();
    let mut session = Session::new([]);
    let first = session.next(&snapshot, None).unwrap();
    assert_eq!((first.upserts.len(), first.more), (MAX_CHANGES, true));
    let rejections = gateway.take(first);
    session.answer(1, &rejections).unwrap();
    assert_eq!(session.complete_generation(), None);
    assert_eq!(gateway.settle(&mut session, &snapshot), 2);
    assert_eq!(gateway.held, flat(&snapshot));

    let large = (0..40).map(|n| (key(n), Some(mk_large(n).into())));
    let snapshot = Snapshot::default().with(large).unwrap();
    let mut session = Session::new([]);
    let mut responses = 0;
    while let Some(response) = session.next(&snapshot, None) {
        let upserts = response.upserts.iter().map(Into::into).collect();
        let message =
            wire::DeltaRoutesResponse { nonce: 1, upserts, more: response.more, ..Default::default() };
        assert!(message.encoded_len() <= MAX_RESPONSE_BYTES, "{}", message.encoded_len());
        session.answer(response.nonce, &[]).unwrap();
        responses += 1;
    }
    assert!((3..=6).contains(&responses), "{responses}");
}

fn mk_large(n: usize) -> VersionedRoute {
    let route = mk_route(key(n).as_str(), 80);
    let endpoints = (0..1_000_u16).map(|port| {
        let uid = format!("00000000-0000-0000-0000-{port:012}");
        Endpoint::new(([0xfd00, 0, 0, 0, 0, 0, 0, 1], port + 1).into(), Some(uid.into())).unwrap()
    });
    let route = Route { endpoints: endpoints.collect(), ..Route::clone(route.route()) };
    VersionedRoute::new(key(n), route)
}

#[test]
fn the_estimate_of_a_size_is_from_above() {
    for route in [mk_route("ns/a1", u16::MAX), mk_large(1)] {
        let encoded = wire::RouteResource::from(&route).encoded_len() + 6;
        assert!(encoded <= encoded_bytes(&route), "{encoded} > {}", encoded_bytes(&route));
    }
}

/// What may happen to a gateway and its controller.
#[derive(Debug, Clone)]
enum Step {
    Edit(usize, Option<u16>),
    Respond,
    Answer,
    Reconnect,
    Refuse(BTreeSet<u16>),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_usize, prop::option::of(1..5_u16)).prop_map(|(n, port)| Step::Edit(n, port)),
        3 => Just(Step::Respond),
        3 => Just(Step::Answer),
        1 => Just(Step::Reconnect),
        1 => prop::collection::btree_set(1..5_u16, 0..2).prop_map(Step::Refuse),
    ]
}

proptest! {
    #[test]
    fn a_gateway_ends_up_with_the_snapshot(steps in prop::collection::vec(any_step(), 0..80)) {
        let mut snapshot = Snapshot::default();
        let mut gateway = Gateway::default();
        let mut session = Session::new([]);
        // What travels: sent by the controller, not yet taken by the gateway.
        let mut wire: Option<Response> = None;
        for step in steps {
            match step {
                Step::Edit(n, port) => snapshot = edit(snapshot, n, port),
                Step::Respond => wire = session.next(&snapshot, None).or(wire),
                Step::Answer => if let Some(response) = wire.take() {
                    let nonce = response.nonce;
                    let rejections = gateway.take(response);
                    prop_assert!(session.answer(nonce, &rejections).is_ok());
                },
                // What was on its way is lost, or was taken without the answer getting through.
                Step::Reconnect => {
                    if let Some(response) = wire.take() && response.nonce % 2 == 0 {
                        gateway.take(response);
                    }
                    session = Session::new(gateway.versions());
                }
                Step::Refuse(ports) => gateway.refuses = ports,
            }
        }
        if let Some(response) = wire.take() {
            let nonce = response.nonce;
            let rejections = gateway.take(response);
            prop_assert!(session.answer(nonce, &rejections).is_ok());
        }
        gateway.settle(&mut session, &snapshot);
        let refused: BTreeSet<AgentKey> = session.rejected().map(|(key, _)| key.clone()).collect();
        let mut expected = flat(&snapshot);
        let mut held = gateway.held.clone();
        expected.retain(|key, _| !refused.contains(key));
        held.retain(|key, _| !refused.contains(key));
        prop_assert_eq!(held, expected);
        prop_assert_eq!(session.held(), gateway.held.len());
        prop_assert!(refused.iter().all(|key| snapshot.get(key.as_str()).is_some()));
    }
}
