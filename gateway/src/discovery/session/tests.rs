//! Whatever happens to streams, the table ends as the controller has it.

use std::collections::BTreeMap;

use krypton_discovery::EndpointPolicy;
use proptest::prelude::*;

use super::*;
use crate::route_table::test_util::mk_resource;

struct Gateway {
    writer: RouteTableWriter,
    session: Session,
    holds: Holds,
    metrics: DiscoveryMetrics,
}

impl Gateway {
    fn new() -> Self {
        Self {
            writer: RouteTableWriter::new(EndpointPolicy::default()),
            session: Session::default(),
            holds: Holds::default(),
            metrics: DiscoveryMetrics::default(),
        }
    }

    fn apply(
        &mut self,
        response: wire::DeltaRoutesResponse,
    ) -> Result<wire::DeltaRoutesRequest, ProtocolError> {
        self.session.apply(response, &mut self.writer, &self.holds, &self.metrics)
    }

    fn port(&self, key: &str) -> Option<u16> {
        let view = self.writer.handle().get(key)?.load();
        Some(view.endpoints()[0].address().port())
    }
}

fn mk_upsert(key: &str, port: u16) -> wire::RouteResource {
    (&mk_resource(key, &[(format!("10.0.0.1:{port}"), "")])).into()
}

fn mk_bad(key: &str) -> wire::RouteResource {
    let mut resource = mk_upsert("ns/any", 1);
    key.clone_into(&mut resource.name);
    resource.route.as_mut().unwrap().port = 0;
    resource.version = vec![0xbb; 16];
    resource
}

fn mk_response(nonce: u64, upserts: Vec<wire::RouteResource>, removed: &[&str]) -> wire::DeltaRoutesResponse {
    let removed = removed.iter().map(ToString::to_string).collect();
    wire::DeltaRoutesResponse { nonce, upserts, removed, ..Default::default() }
}

#[test]
fn the_good_is_applied_and_the_bad_named() {
    let mut gateway = Gateway::new();
    gateway.apply(mk_response(1, vec![mk_upsert("ns/a", 1), mk_upsert("ns/b", 1)], &[])).unwrap();
    let nack = gateway
        .apply(mk_response(2, vec![mk_bad("ns/a"), mk_upsert("ns/b", 2), mk_bad("no slash")], &[]))
        .unwrap();
    assert_eq!(nack.response_nonce, 2);
    let named: Vec<_> = nack.rejected.iter().map(|r| (r.name.as_str(), r.reason.as_str())).collect();
    let no_slash = r#"name: "no slash" is not of the form namespace/name"#;
    assert_eq!(named, [("ns/a", "port: 0 is not a port"), ("no slash", no_slash)]);
    assert_eq!(nack.rejected[0].version, mk_bad("ns/a").version);
    assert_eq!((gateway.port("ns/a"), gateway.port("ns/b")), (Some(1), Some(2)), "the last good is kept");
    assert_eq!(gateway.metrics.rejected.get(), 2);
    let held = Session::first_request("node", &gateway.writer).initial_resource_versions;
    let of_a = held.iter().find(|held| held.name == "ns/a").unwrap();
    assert_eq!(of_a.version, mk_upsert("ns/a", 1).version, "a refused version is not claimed to be held");
}

#[test]
fn of_a_name_that_comes_twice_the_last_counts() {
    let mut gateway = Gateway::new();
    gateway.apply(mk_response(1, vec![mk_upsert("ns/a", 1), mk_upsert("ns/a", 2)], &[])).unwrap();
    assert_eq!(gateway.port("ns/a"), Some(2));
    let nack = gateway.apply(mk_response(2, vec![mk_upsert("ns/a", 3), mk_bad("ns/a")], &[])).unwrap();
    assert_eq!(nack.rejected.len(), 1);
    assert_eq!(
        gateway.port("ns/a"),
        Some(2),
        "what came before the bad one in its message is not the last good"
    );
}

#[test]
fn an_agent_made_anew_is_not_removed() {
    let mut gateway = Gateway::new();
    gateway.apply(mk_response(1, vec![mk_upsert("ns/a", 1), mk_upsert("ns/b", 1)], &[])).unwrap();
    gateway
        .apply(mk_response(2, vec![mk_upsert("ns/a", 2)], &["ns/a", "ns/b", "ns/never", "no slash"]))
        .unwrap();
    assert_eq!((gateway.port("ns/a"), gateway.port("ns/b")), (Some(2), None));
}

#[test]
fn a_nonce_that_does_not_grow_ends_the_stream_and_changes_nothing() {
    let mut gateway = Gateway::new();
    let wrong = |nonce, last| Err(ProtocolError::Nonce { nonce, last });
    assert_eq!(gateway.apply(mk_response(0, vec![mk_upsert("ns/a", 1)], &[])), wrong(0, 0));
    gateway.apply(mk_response(5, vec![], &[])).unwrap();
    assert_eq!(gateway.apply(mk_response(5, vec![mk_upsert("ns/a", 1)], &[])), wrong(5, 5));
    assert_eq!(gateway.apply(mk_response(4, vec![mk_upsert("ns/a", 1)], &[])), wrong(4, 5));
    assert_eq!(gateway.port("ns/a"), None);
}

#[test]
fn a_table_is_whole_when_nothing_more_follows() {
    let mut gateway = Gateway::new();
    gateway.apply(wire::DeltaRoutesResponse { more: true, ..mk_response(1, vec![], &[]) }).unwrap();
    assert!(!gateway.session.is_complete());
    gateway.apply(mk_response(2, vec![], &[])).unwrap();
    gateway.apply(wire::DeltaRoutesResponse { more: true, ..mk_response(3, vec![], &[]) }).unwrap();
    assert!(gateway.session.is_complete(), "later deltas do not make it less");
}

#[test]
fn refused_addresses_are_counted() {
    let mut gateway = Gateway::new();
    let resource = mk_resource("ns/a", &[("127.0.0.1:80", ""), ("10.0.0.1:80", "")]);
    gateway.apply(mk_response(1, vec![(&resource).into()], &[])).unwrap();
    assert_eq!(gateway.metrics.refused_endpoints.get(), 1);
    assert_eq!(gateway.port("ns/a"), Some(80));
}

/// What happens between a controller and a gateway.
#[derive(Debug, Clone)]
enum Event {
    /// The controller's snapshot changes; `None` removes. A port of 0 is a route that the gateway refuses.
    Edit(u8, Option<u16>),
    /// The controller sends what differs, in messages of at most so many resources.
    Deliver(usize),
    /// The stream ends after so many of those messages, and a new one begins.
    DropAfter(usize),
}

/// The controller's side of one stream: what it believes the gateway holds.
#[derive(Default)]
struct Peer {
    sent: BTreeMap<String, Vec<u8>>,
    nonce: u64,
}

type Snapshot = BTreeMap<String, u16>;

impl Peer {
    fn greeted(first: wire::DeltaRoutesRequest) -> Self {
        let sent = first.initial_resource_versions.into_iter().map(|held| (held.name, held.version));
        Self { sent: sent.collect(), nonce: 0 }
    }

    /// The messages that bring the gateway to `snapshot`.
    fn diff(&mut self, snapshot: &Snapshot, size: usize) -> Vec<wire::DeltaRoutesResponse> {
        let resource = |key: &String, port| if port == 0 { mk_bad(key) } else { mk_upsert(key, port) };
        let now: Vec<_> = snapshot.iter().map(|(key, port)| resource(key, *port)).collect();
        let differs = now.iter().filter(|r| self.sent.get(&r.name) != Some(&r.version)).cloned();
        let upserts: Vec<_> = differs.collect();
        let removed: Vec<_> = self.sent.keys().filter(|key| !snapshot.contains_key(*key)).cloned().collect();
        self.sent = now.into_iter().map(|resource| (resource.name, resource.version)).collect();
        let mut messages: Vec<_> = upserts
            .chunks(size)
            .map(|part| wire::DeltaRoutesResponse {
                upserts: part.to_vec(),
                more: true,
                ..Default::default()
            })
            .collect();
        messages.push(wire::DeltaRoutesResponse { removed, ..Default::default() });
        for message in &mut messages {
            self.nonce += 1;
            message.nonce = self.nonce;
        }
        messages
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0u8..8, prop::option::of(0u16..4)).prop_map(|(agent, port)| Event::Edit(agent, port)),
        2 => (1usize..4).prop_map(Event::Deliver),
        1 => (0usize..4).prop_map(Event::DropAfter),
    ]
}

proptest! {
    #[test]
    fn the_gateway_ends_with_what_the_controller_has(events in prop::collection::vec(any_event(), 0..60)) {
        let (mut gateway, mut peer) = (Gateway::new(), Peer::default());
        let mut snapshot = Snapshot::new();
        // What the gateway may serve: the newest good value that was delivered.
        let mut expected = Snapshot::new();
        for event in events.into_iter().chain([Event::DropAfter(0), Event::Deliver(2)]) {
            match event {
                Event::Edit(agent, Some(port)) => drop(snapshot.insert(format!("ns/a-{agent}"), port)),
                Event::Edit(agent, None) => drop(snapshot.remove(&format!("ns/a-{agent}"))),
                Event::Deliver(size) => {
                    for message in peer.diff(&snapshot, size) {
                        gateway.apply(message).unwrap();
                    }
                    expected.retain(|key, _| snapshot.contains_key(key));
                    expected.extend(snapshot.iter().filter(|(_, port)| **port != 0).map(|(k, p)| (k.clone(), *p)));
                    prop_assert!(gateway.session.is_complete());
                }
                Event::DropAfter(messages) => {
                    for message in peer.diff(&snapshot, 1).into_iter().take(messages) {
                        for resource in &message.upserts {
                            let port = snapshot[&resource.name];
                            if port != 0 {
                                expected.insert(resource.name.clone(), port);
                            }
                        }
                        expected.retain(|key, _| !message.removed.contains(key));
                        gateway.apply(message).unwrap();
                    }
                    peer = Peer::greeted(Session::first_request("node", &gateway.writer));
                    gateway.session = Session::default();
                }
            }
            let held: Snapshot =
                gateway.writer.held().map(|(key, _)| (key.to_string(), gateway.port(key.as_str()).unwrap())).collect();
            prop_assert_eq!(&held, &expected);
        }
    }
}
