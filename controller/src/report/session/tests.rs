//! What is taken of a gateway's messages, and what ends its stream.

use krypton_discovery::wire::{self, HeldResource, RejectedResource};

use super::*;

fn mk_hello() -> ReportRequest {
    let node = wire::Node { id: "g1".into(), build: "0.1.0\n".into() };
    ReportRequest { node: Some(node), ..ReportRequest::default() }
}

fn mk_held(name: &str) -> HeldResource {
    HeldResource { name: name.into(), version: vec![7; 16] }
}

fn mk_rejected(name: &str) -> RejectedResource {
    RejectedResource { name: name.into(), version: vec![8; 16], reason: "port:\nno".into() }
}

fn mk_held_message(names: &[&str], more: bool) -> ReportRequest {
    ReportRequest { held: names.iter().map(|name| mk_held(name)).collect(), more, ..ReportRequest::default() }
}

#[test]
fn a_gateway_joins_with_all_that_it_told() {
    let first = ReportRequest { more: true, rejected: vec![mk_rejected("ns/z")], ..mk_hello() };
    let first = ReportRequest { held: vec![mk_held("ns/a")], ..first };
    let (mut session, node, told) = Session::begin(first, 10).unwrap();
    assert_eq!((node.id.as_str(), node.build.as_str()), ("g1", "0.1.0?"));
    assert!(told.joined.is_none());
    assert!(session.take(mk_held_message(&["ns/b"], true)).unwrap().joined.is_none());
    let joined = session.take(mk_held_message(&[], false)).unwrap().joined.unwrap();
    assert_eq!((joined.held(), joined.rejected()), (2, 1));

    let removed = ReportRequest { removed: vec!["ns/a".into()], ..mk_held_message(&["ns/c"], false) };
    let told = session.take(ReportRequest { rejected: vec![mk_rejected("ns/d")], ..removed }).unwrap();
    assert!(told.joined.is_none());
    let key = |name: &str| -> AgentKey { name.parse().unwrap() };
    let version = |byte| Version::try_from([byte; 16].as_slice()).unwrap();
    let expected = Delta {
        removed: vec![key("ns/a")],
        held: vec![(key("ns/c"), version(7))],
        rejected: vec![(key("ns/d"), version(8), "port:?no".into())],
    };
    assert_eq!(told.delta, expected);
}

#[test]
fn samples_come_with_any_message() {
    let load = AgentLoad { name: "ns/a".into(), in_flight: 1, waiting: 2, completed: 3 };
    let sample = LoadSample { age_ms: 1_500, agents: vec![load], more: false };
    let first = ReportRequest { more: true, samples: vec![sample.clone()], ..mk_hello() };
    let (mut session, _, told) = Session::begin(first, 10).unwrap();
    let load = Load { key: "ns/a".parse().unwrap(), in_flight: 1, waiting: 2, completed: 3 };
    let expected = [Sample { age: Duration::from_millis(1_500), loads: vec![load], more: false }];
    assert_eq!(told.samples, expected);
    let last = ReportRequest { samples: vec![sample.clone()], ..ReportRequest::default() };
    assert_eq!(session.take(last.clone()).unwrap().samples, expected);
    assert_eq!(session.take(last).unwrap().samples, expected);
}

#[test]
fn what_breaks_the_contract_is_named() {
    let begin = |first| Session::begin(first, 2).map(|_| ()).unwrap_err().to_string();
    assert_eq!(begin(ReportRequest::default()), "node.id: missing");
    let held = |held| begin(ReportRequest { held, ..mk_hello() });
    assert!(held(vec![mk_held("no slash")]).starts_with("held: \"no slash\""));
    let short = HeldResource { version: vec![1], ..mk_held("ns/a") };
    assert_eq!(held(vec![short]), "held: ns/a: version has 1 bytes, expected 16");
    let removed = ReportRequest { removed: vec!["/".into()], ..mk_hello() };
    assert!(begin(removed).starts_with("removed: namespace"));
    let rejected = RejectedResource { version: vec![], ..mk_rejected("ns/a") };
    let rejected = ReportRequest { rejected: vec![rejected], ..mk_hello() };
    assert_eq!(begin(rejected), "rejected: ns/a: version has 0 bytes, expected 16");
    let load = AgentLoad { name: "a".into(), ..AgentLoad::default() };
    let sample = LoadSample { agents: vec![load], ..LoadSample::default() };
    assert!(begin(ReportRequest { samples: vec![sample], ..mk_hello() }).starts_with("samples: "));

    let too_many = |first| Session::begin(first, 2).map(|_| ()).unwrap_err().is_too_much();
    assert!(too_many(ReportRequest { held: ["ns/a", "ns/b", "ns/c"].map(mk_held).into(), ..mk_hello() }));
    assert!(too_many(ReportRequest { samples: vec![LoadSample::default(); MAX_SAMPLES + 1], ..mk_hello() }));

    let (mut session, ..) = Session::begin(mk_hello(), 2).unwrap();
    assert_eq!(session.take(mk_hello()).unwrap_err(), ReportError::NodeAgain);
}
