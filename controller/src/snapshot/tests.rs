//! A change shares what it does not touch, and what changes nothing makes no snapshot.

use proptest::prelude::*;

use super::*;
use crate::testing::mk_route;

fn mk_key(n: usize) -> AgentKey {
    AgentKey::new("ns", &format!("agent-{n}")).unwrap()
}

fn insert(snapshot: &Snapshot, n: usize, port: u16) -> Option<Snapshot> {
    snapshot.with([(mk_key(n), Some(mk_route(mk_key(n).as_str(), port).into()))])
}

#[test]
fn a_change_copies_one_shard() {
    let all = (0..5_000).map(|n| (mk_key(n), Some(mk_route(mk_key(n).as_str(), 80).into())));
    let old = Snapshot::default().with(all).unwrap();
    let new = insert(&old, 17, 81).unwrap();
    let differ: Vec<_> = (0..SHARDS).filter(|i| !Arc::ptr_eq(&old.shards()[*i], &new.shards()[*i])).collect();
    assert_eq!(differ, [shard_of("ns/agent-17")]);
    assert_eq!((old.len(), new.len(), new.generation()), (5_000, 5_000, 2));
}

#[test]
fn no_change_makes_no_snapshot() {
    let one = insert(&Snapshot::default(), 1, 80).unwrap();
    assert!(insert(&one, 1, 80).is_none());
    assert!(one.with([(mk_key(2), None)]).is_none());
    assert!(one.with([]).is_none());
}

#[test]
fn another_generation_with_the_same_route_is_a_change() {
    let with = |snapshot: &Snapshot, generation| {
        let route = mk_route(mk_key(1).as_str(), 80);
        snapshot.with([(mk_key(1), Some(AgentRoute { route, generation }))])
    };
    let first = with(&Snapshot::default(), 1).unwrap();
    assert!(with(&first, 1).is_none());
    let second = with(&first, 2).unwrap();
    assert_eq!(second.agent("ns/agent-1").unwrap().generation, 2);
    assert_eq!((second.len(), second.endpoints(), second.generation()), (1, 1, 2));
}

proptest! {
    #[test]
    fn a_snapshot_is_the_map_that_the_changes_make(
        changes in prop::collection::vec((0..20_usize, prop::option::of(1..4_u16)), 0..60)
    ) {
        let mut snapshot = Snapshot::default();
        let mut model = BTreeMap::new();
        for (n, port) in changes {
            let route = port.map(|port| mk_route(mk_key(n).as_str(), port));
            match &route {
                Some(route) => model.insert(mk_key(n), route.clone()),
                None => model.remove(&mk_key(n)),
            };
            snapshot = snapshot.with([(mk_key(n), route.map(Into::into))]).unwrap_or(snapshot);
        }
        let flat: BTreeMap<_, _> = snapshot.iter().map(|r| (r.key().clone(), r.clone())).collect();
        prop_assert_eq!(snapshot.len(), model.len());
        prop_assert_eq!(snapshot.endpoints(), model.values().map(|r| r.route().endpoints.len()).sum::<usize>());
        prop_assert_eq!(flat, model);
    }
}
