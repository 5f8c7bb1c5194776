//! An Agent is programmed exactly when every gateway holds its route, and who asks is woken whenever that changes.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::testing::mk_route;

fn key(n: usize) -> AgentKey {
    AgentKey::new("ns", &format!("a{n}")).unwrap()
}

fn version(n: usize, port: u16) -> Version {
    mk_route(key(n).as_str(), port).version()
}

fn edit(snapshot: &Snapshot, n: usize, route: Option<(u16, i64)>) -> Snapshot {
    let route =
        route.map(|(port, generation)| AgentRoute { route: mk_route(key(n).as_str(), port), generation });
    snapshot.with([(key(n), route)]).unwrap_or_else(|| snapshot.clone())
}

fn snapshot_of(agents: usize) -> Snapshot {
    let routes = (0..agents)
        .map(|n| (key(n), Some(AgentRoute { route: mk_route(key(n).as_str(), 80), generation: 1 })));
    Snapshot::default().with(routes).unwrap()
}

fn holds(resources: &[(usize, u16)]) -> Delta {
    Delta {
        held: resources.iter().map(|(n, port)| (key(*n), version(*n, *port))).collect(),
        ..Delta::default()
    }
}

fn rejects(n: usize, port: u16) -> Delta {
    Delta { rejected: vec![(key(n), version(n, port), "port: because".into())], ..Delta::default() }
}

fn holding(delta: Delta) -> Holding {
    let mut holding = Holding::default();
    holding.apply(delta);
    holding
}

fn pending(missing: &[&str]) -> ProgrammedState {
    ProgrammedState::Pending { missing: missing.iter().map(ToString::to_string).collect(), more: 0 }
}

fn changed(programmed: &mut Programmed) -> Vec<String> {
    programmed.take_changed().iter().map(|key| key.name().to_owned()).collect()
}

/// In the middle of a term, with two Agents.
fn mk_settled() -> Programmed {
    let mut programmed = Programmed::default();
    programmed.begin_term();
    programmed.set_snapshot(snapshot_of(2));
    programmed.settle();
    programmed.take_changed();
    programmed
}

#[test]
fn all_gateways_must_hold_the_route_of_the_generation() {
    let mut programmed = mk_settled();
    assert_eq!(programmed.state(&key(0), 1), ProgrammedState::NoGateways);
    programmed.join("g2", StreamId(1), holding(holds(&[(0, 80), (1, 79)])));
    programmed.join("g1", StreamId(2), holding(holds(&[(0, 80)])));
    assert_eq!(programmed.state(&key(0), 1), ProgrammedState::Held);
    assert_eq!(programmed.state(&key(1), 1), pending(&["g1", "g2"]));
    programmed.apply("g2", StreamId(1), holds(&[(1, 80)]));
    assert_eq!(programmed.state(&key(1), 1), pending(&["g1"]));
    // What it held before it left is of no interest.
    programmed.leave("g1", StreamId(2));
    assert_eq!(programmed.state(&key(1), 1), ProgrammedState::Held);
    for (key, generation) in [(key(0), 0), (key(0), 2), (key(9), 1)] {
        assert_eq!(programmed.state(&key, generation), ProgrammedState::Unsettled);
    }
}

#[test]
fn a_refusal_counts_for_the_version_that_is_refused() {
    let mut programmed = mk_settled();
    programmed.join("g1", StreamId(1), holding(holds(&[(0, 80), (1, 80)])));
    let next = edit(&snapshot_of(2), 0, Some((81, 2)));
    programmed.set_snapshot(next.clone());
    assert_eq!(programmed.state(&key(0), 2), pending(&["g1"]));
    programmed.take_changed();
    programmed.apply("g1", StreamId(1), rejects(0, 81));
    let reason = "port: because".to_owned();
    assert_eq!(programmed.state(&key(0), 2), ProgrammedState::Rejected { gateway: "g1".into(), reason });
    assert_eq!(changed(&mut programmed), ["a0"]);
    // The old one is still held, so going back to it is no wait.
    programmed.set_snapshot(edit(&next, 0, Some((80, 3))));
    assert_eq!(programmed.state(&key(0), 3), ProgrammedState::Held);
    programmed.set_snapshot(next);
    programmed.apply("g1", StreamId(1), holds(&[(0, 81)]));
    assert_eq!(programmed.state(&key(0), 2), ProgrammedState::Held, "taken after all");
}

#[test]
fn a_new_leader_says_only_what_is_certain() {
    let mut programmed = Programmed::default();
    programmed.begin_term();
    programmed.set_snapshot(snapshot_of(3));
    assert_eq!(programmed.state(&key(0), 1), ProgrammedState::Unsettled);
    programmed.join("g1", StreamId(1), holding(holds(&[(0, 80)])));
    programmed.apply("g1", StreamId(1), rejects(1, 80));
    programmed.take_changed();
    assert_eq!(programmed.state(&key(0), 1), ProgrammedState::Held);
    assert!(matches!(programmed.state(&key(1), 1), ProgrammedState::Rejected { .. }));
    assert_eq!(programmed.state(&key(2), 1), ProgrammedState::Unsettled);
    programmed.settle();
    assert_eq!(programmed.state(&key(2), 1), pending(&["g1"]));
    assert!(changed(&mut programmed).contains(&"a2".to_owned()));
    programmed.end_term();
    assert_eq!(programmed.state(&key(2), 1), ProgrammedState::Unsettled);
    assert!(!programmed.has_changed());
}

#[test]
fn few_gateways_are_named_and_the_rest_counted() {
    let mut programmed = mk_settled();
    for n in 0..12 {
        programmed.join(&format!("g{n:02}"), StreamId(n), Holding::default());
    }
    let missing = (0..NAMED).map(|n| format!("g{n:02}")).collect();
    assert_eq!(programmed.state(&key(0), 1), ProgrammedState::Pending { missing, more: 12 - NAMED });
}

#[test]
fn of_two_streams_of_one_gateway_the_newer_counts() {
    let mut programmed = mk_settled();
    programmed.join("g1", StreamId(1), Holding::default());
    programmed.join("g1", StreamId(2), holding(holds(&[(0, 80)])));
    assert!(programmed.apply("g1", StreamId(1), holds(&[(1, 80)])).is_none());
    programmed.leave("g1", StreamId(1));
    assert_eq!(programmed.members(), 1);
    assert_eq!(programmed.state(&key(0), 1), ProgrammedState::Held);
    assert_eq!(programmed.state(&key(1), 1), pending(&["g1"]));
}

#[test]
fn a_gateway_that_holds_everything_comes_and_goes_unnoticed() {
    let mut programmed = mk_settled();
    programmed.join("g1", StreamId(1), holding(holds(&[(0, 80), (1, 80)])));
    assert_eq!(changed(&mut programmed), ["a0", "a1"], "there was none before");
    programmed.join("g2", StreamId(2), holding(holds(&[(0, 80), (1, 80)])));
    programmed.leave("g2", StreamId(2));
    programmed.apply("g1", StreamId(1), holds(&[(0, 80)]));
    assert!(!programmed.has_changed());
    // One that is empty wakes each Agent once as it comes, and no further ones as it learns what nobody waits for.
    programmed.join("g2", StreamId(3), Holding::default());
    assert_eq!(changed(&mut programmed), ["a0", "a1"]);
    programmed.apply("g2", StreamId(3), holds(&[(0, 79)]));
    assert!(!programmed.has_changed());
    programmed.leave("g1", StreamId(1));
    assert!(!programmed.has_changed());
    programmed.leave("g2", StreamId(3));
    assert_eq!(changed(&mut programmed), ["a0", "a1"]);
}

#[test]
fn a_snapshot_wakes_only_the_agents_that_differ() {
    let mut programmed = mk_settled();
    let next = edit(&snapshot_of(2), 1, Some((80, 2)));
    assert!(programmed.set_snapshot(next.clone()).is_empty());
    assert_eq!(changed(&mut programmed), ["a1"], "a generation alone is a difference");
    assert_eq!(programmed.set_snapshot(edit(&next, 1, None)), [key(1)]);
    assert!(!programmed.has_changed(), "nobody asks for one that is gone");
}

#[test]
fn refusals_of_one_gateway_are_bounded() {
    let mut holding = Holding::default();
    let wanted = version(0, 80);
    let rejected = (0..Holding::MAX_REJECTED + 10).map(|n| (key(n), wanted, String::new())).collect();
    holding.apply(Delta { rejected, ..Delta::default() });
    assert_eq!(holding.rejected(), Holding::MAX_REJECTED);
}

/// Measured, so that a blunder is seen: 5,000 Agents and 10 gateways take far less than a second without
/// optimisation.
#[test]
fn thousands_of_agents_are_compared_in_no_time() {
    let all: Vec<_> = (0..5_000).map(|n| (n, 80)).collect();
    let holdings: Vec<_> = (0..10).map(|_| holding(holds(&all))).collect();
    let mut programmed = mk_settled();
    programmed.set_snapshot(snapshot_of(5_000));
    let started = Instant::now();
    for (n, holding) in (0..).zip(holdings) {
        programmed.join(&format!("g{n}"), StreamId(n), holding);
    }
    let joined = started.elapsed();
    let asked = Instant::now();
    let changed = programmed.take_changed();
    let held = changed.iter().filter(|key| programmed.state(key, 1) == ProgrammedState::Held).count();
    println!("10 gateways join: {joined:?}, 5,000 states: {:?}", asked.elapsed());
    assert_eq!(held, 5_000);
    assert!(started.elapsed().as_secs() < 5);
}

/// What may happen to a leader.
#[derive(Debug, Clone)]
enum Step {
    Edit(usize, Option<(u16, i64)>),
    Join(usize, Vec<(usize, u16)>),
    Leave(usize),
    Hold(usize, usize, u16),
    Reject(usize, usize, u16),
    Remove(usize, usize),
    Settle,
    Begin,
}

fn any_step() -> impl Strategy<Value = Step> {
    let held = prop::collection::vec((0..4_usize, 1..3_u16), 0..4);
    prop_oneof![
        4 => (0..4_usize, prop::option::of((1..3_u16, 1..3_i64))).prop_map(|(n, route)| Step::Edit(n, route)),
        3 => (0..3_usize, held).prop_map(|(g, held)| Step::Join(g, held)),
        1 => (0..3_usize).prop_map(Step::Leave),
        4 => (0..3_usize, 0..4_usize, 1..3_u16).prop_map(|(g, n, port)| Step::Hold(g, n, port)),
        1 => (0..3_usize, 0..4_usize, 1..3_u16).prop_map(|(g, n, port)| Step::Reject(g, n, port)),
        1 => (0..3_usize, 0..4_usize).prop_map(|(g, n)| Step::Remove(g, n)),
        1 => Just(Step::Settle),
        1 => Just(Step::Begin),
    ]
}

/// What gateways hold and refuse, as simply as it can be said.
type Model = BTreeMap<usize, (u64, BTreeMap<usize, u16>, BTreeMap<usize, u16>)>;

fn model_state(
    model: &Model,
    snapshot: &Snapshot,
    settled: bool,
    n: usize,
    generation: i64,
) -> ProgrammedState {
    let wanted = snapshot.agent(key(n).as_str()).filter(|agent| agent.generation == generation);
    let Some(port) = wanted.map(|agent| agent.route.route().port.get()) else {
        return ProgrammedState::Unsettled;
    };
    if let Some((g, _)) = model.iter().find(|(_, (_, _, rejected))| rejected.get(&n) == Some(&port)) {
        return ProgrammedState::Rejected { gateway: format!("g{g}"), reason: "port: because".into() };
    }
    let missing = model.iter().filter(|(_, (_, held, _))| held.get(&n) != Some(&port));
    let missing: Vec<_> = missing.map(|(g, _)| format!("g{g}")).collect();
    match (model.is_empty(), missing.is_empty()) {
        (false, true) => ProgrammedState::Held,
        _ if !settled => ProgrammedState::Unsettled,
        (true, _) => ProgrammedState::NoGateways,
        _ => ProgrammedState::Pending { missing, more: 0 },
    }
}

proptest! {
    #[test]
    fn held_is_what_every_gateway_holds_and_no_change_goes_untold(
        steps in prop::collection::vec(any_step(), 0..80)
    ) {
        let (mut programmed, mut snapshot, mut model) = (Programmed::default(), Snapshot::default(), Model::new());
        let (mut settled, mut stream) = (false, 0);
        // What whoever writes the status was last told.
        let mut told: BTreeMap<(usize, i64), ProgrammedState> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Edit(n, route) => {
                    snapshot = edit(&snapshot, n, route);
                    programmed.set_snapshot(snapshot.clone());
                }
                Step::Join(g, held) => {
                    stream += 1;
                    programmed.join(&format!("g{g}"), StreamId(stream), holding(holds(&held)));
                    model.insert(g, (stream, held.into_iter().collect(), BTreeMap::new()));
                }
                Step::Leave(g) => if let Some((stream, ..)) = model.remove(&g) {
                    programmed.leave(&format!("g{g}"), StreamId(stream));
                },
                Step::Hold(g, n, port) => if let Some((stream, held, rejected)) = model.get_mut(&g) {
                    programmed.apply(&format!("g{g}"), StreamId(*stream), holds(&[(n, port)]));
                    held.insert(n, port);
                    rejected.remove(&n);
                },
                Step::Reject(g, n, port) => if let Some((stream, _, rejected)) = model.get_mut(&g) {
                    programmed.apply(&format!("g{g}"), StreamId(*stream), rejects(n, port));
                    rejected.insert(n, port);
                },
                Step::Remove(g, n) => if let Some((stream, held, rejected)) = model.get_mut(&g) {
                    let delta = Delta { removed: vec![key(n)], ..Delta::default() };
                    programmed.apply(&format!("g{g}"), StreamId(*stream), delta);
                    held.remove(&n);
                    rejected.remove(&n);
                },
                Step::Settle => { programmed.settle(); settled = true; }
                Step::Begin => { programmed.begin_term(); settled = false; }
            }
            let woken = programmed.take_changed();
            for n in 0..4 {
                for generation in 1..3 {
                    let state = programmed.state(&key(n), generation);
                    prop_assert_eq!(&state, &model_state(&model, &snapshot, settled, n, generation));
                    let is_there = snapshot.agent(key(n).as_str()).is_some();
                    let before = told.insert((n, generation), state.clone());
                    if is_there && before.is_some_and(|before| before != state) {
                        prop_assert!(woken.contains(&key(n)), "a{} changed to {:?} untold", n, state);
                    }
                }
            }
        }
    }
}
