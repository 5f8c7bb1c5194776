//! Routes follow from the objects alone.

use std::collections::BTreeMap;

use krypton_crd::Agent;
use krypton_discovery::EndpointPolicy;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn mk_agent(name: &str, port: u16) -> AgentObject {
    mk_agent_at(name, port, None)
}

fn mk_agent_at(name: &str, port: u16, generation: Option<i64>) -> AgentObject {
    let agent = json!({
        "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent",
        "metadata": { "namespace": "ns", "name": name, "generation": generation },
        "spec": { "image": "i", "port": port },
    });
    AgentObject::from_agent(&Agent::from_value(agent).unwrap()).unwrap()
}

fn mk_slice(name: &str, agent: &str, addresses: &[u8]) -> SliceObject {
    let endpoints: Vec<_> =
        addresses.iter().map(|last| json!({ "addresses": [format!("10.0.0.{last}")] })).collect();
    let slice = json!({
        "metadata": {
            "namespace": "ns", "name": name,
            "labels": { "krypton.ai/agent": agent, "kubernetes.io/service-name": agent },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": endpoints,
    });
    SliceObject::from_slice(&serde_json::from_value(slice).unwrap(), &EndpointPolicy::default()).unwrap()
}

fn mk_service(name: &str, last: u8) -> ServiceObject {
    let service = json!({
        "metadata": { "namespace": "ns", "name": name, "labels": { "krypton.ai/agent": name } },
        "spec": {
            "clusterIP": format!("10.96.0.{last}"),
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
        },
    });
    let service = serde_json::from_value(service).unwrap();
    ServiceObject::from_service(&service, &EndpointPolicy::default()).unwrap()
}

fn restarted<T>(objects: Vec<T>) -> Change<T> {
    Change::Restarted { scope: Scope::AllNamespaces, objects, refused: vec![] }
}

fn empty<T>(scope: &Scope) -> Change<T> {
    Change::Restarted { scope: scope.clone(), objects: vec![], refused: vec![] }
}

fn mk_synced() -> Index {
    let all = Scope::AllNamespaces;
    let mut index = Index::new(std::slice::from_ref(&all));
    index.apply(SourceEvent::Agents(empty(&all)));
    index.apply(SourceEvent::EndpointSlices(empty(&all)));
    index.apply(SourceEvent::Services(empty(&all)));
    index
}

fn flat(snapshot: &Snapshot) -> BTreeMap<String, String> {
    snapshot.iter().map(|r| (r.key().to_string(), format!("{:?}", r.route()))).collect()
}

#[test]
fn nothing_is_given_before_every_list_is_there() {
    let scopes = [Scope::Namespace("a".into()), Scope::Namespace("b".into())];
    let mut index = Index::new(&scopes);
    for (n, scope) in scopes.iter().enumerate() {
        assert!(index.commit().is_none());
        index.apply(SourceEvent::Agents(empty(scope)));
        index.apply(SourceEvent::Services(empty(scope)));
        assert!(index.commit().is_none());
        index.apply(SourceEvent::EndpointSlices(empty(scope)));
        assert_eq!(index.awaited().len(), 3 - 3 * n);
    }
    let first = index.commit().expect("complete, if empty");
    assert!(first.is_empty());
    assert!(index.commit().is_none(), "nothing changed since");
}

#[test]
fn a_route_is_made_of_its_agent_slices_and_service() {
    let mut index = mk_synced();
    index.apply(SourceEvent::EndpointSlices(Change::Apply(mk_slice("a-1", "a", &[1]))));
    index.apply(SourceEvent::EndpointSlices(Change::Apply(mk_slice("a-2", "a", &[2]))));
    index.apply(SourceEvent::Services(Change::Apply(mk_service("a", 9))));
    assert!(index.commit().unwrap().is_empty(), "no Agent, no route");
    index.apply(SourceEvent::Agents(Change::Apply(mk_agent("a", 9000))));
    let route = index.commit().unwrap().get("ns/a").unwrap().route().clone();
    assert_eq!((route.port.get(), route.endpoints.len()), (9000, 2));
    let service = route.service.as_ref().map(|service| service.address().to_string());
    assert_eq!(service.as_deref(), Some("10.96.0.9:80"), "at the Service's own port");

    index.apply(SourceEvent::EndpointSlices(Change::Delete(ObjectId::new("ns", "a-1"))));
    assert_eq!(index.commit().unwrap().get("ns/a").unwrap().route().endpoints.len(), 1);
    index.apply(SourceEvent::Agents(Change::Delete(ObjectId::new("ns", "a"))));
    assert!(index.commit().unwrap().is_empty());
}

#[test]
fn a_list_replaces_its_own_scope_and_spares_what_was_refused() {
    let mut index = mk_synced();
    for name in ["a", "b", "c"] {
        index.apply(SourceEvent::Agents(Change::Apply(mk_agent(name, 80))));
    }
    index.apply(SourceEvent::Agents(empty(&Scope::Namespace("other".into()))));
    assert_eq!(index.commit().unwrap().len(), 3);
    let list = Change::Restarted {
        scope: Scope::AllNamespaces,
        objects: vec![mk_agent("a", 81)],
        refused: vec![ObjectId::new("ns", "b"), ObjectId::new("ns", "never-seen")],
    };
    index.apply(SourceEvent::Agents(list));
    let snapshot = index.commit().unwrap();
    let names: Vec<_> = flat(&snapshot).into_keys().collect();
    assert_eq!(names, ["ns/a", "ns/b"]);
    assert_eq!(snapshot.get("ns/a").unwrap().route().port.get(), 81);
}

#[test]
fn a_refused_endpoint_is_told_once() {
    let mut index = mk_synced();
    let bad = mk_slice("a-1", "a", &[1]);
    let slice = json!({
        "metadata": {
            "namespace": "ns", "name": "a-1",
            "labels": { "krypton.ai/agent": "a", "kubernetes.io/service-name": "a" },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": [{ "addresses": ["169.254.169.254"] }],
    });
    let slice: k8s_openapi::api::discovery::v1::EndpointSlice = serde_json::from_value(slice).unwrap();
    let refusing = SliceObject::from_slice(&slice, &EndpointPolicy::default()).unwrap();
    let apply = |index: &mut Index, slice: &SliceObject| {
        index.apply(SourceEvent::EndpointSlices(Change::Apply(slice.clone())));
        index.take_newly_refused().len()
    };
    assert_eq!(apply(&mut index, &refusing), 1);
    assert_eq!(apply(&mut index, &refusing), 0);
    assert_eq!(index.refused().count(), 1);
    assert_eq!(apply(&mut index, &bad), 0);
    assert_eq!(index.refused().count(), 0);
    assert_eq!(apply(&mut index, &refusing), 1);
}

#[test]
fn a_snapshot_tells_the_generation_of_each_agent() {
    let mut index = mk_synced();
    index.apply(SourceEvent::Agents(Change::Apply(mk_agent("folder", 80))));
    index.apply(SourceEvent::Agents(Change::Apply(mk_agent_at("a", 80, Some(1)))));
    let first = index.commit().unwrap();
    assert_eq!(first.agent("ns/folder").unwrap().generation, 0);
    assert_eq!(first.agent("ns/a").unwrap().generation, 1);
    // Something changed that makes no difference to the route.
    index.apply(SourceEvent::Agents(Change::Apply(mk_agent_at("a", 80, Some(2)))));
    let second = index.commit().unwrap();
    assert_eq!(second.agent("ns/a").unwrap().generation, 2);
    assert_eq!(second.get("ns/a"), first.get("ns/a"));
}

/// An edit of the world: what there is afterwards, not what happened.
#[derive(Debug, Clone)]
enum Edit {
    Agent(u8, Option<u16>),
    /// Slice, its Agent, its addresses.
    Slice(u8, Option<(u8, Vec<u8>)>),
    Service(u8, Option<u8>),
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let addresses = prop::collection::vec(1..5_u8, 0..3);
    prop_oneof![
        (0..4_u8, prop::option::of(1..3_u16)).prop_map(|(n, port)| Edit::Agent(n, port)),
        (0..5_u8, prop::option::of((0..4_u8, addresses))).prop_map(|(n, slice)| Edit::Slice(n, slice)),
        (0..4_u8, prop::option::of(1..3_u8)).prop_map(|(n, ip)| Edit::Service(n, ip)),
    ]
}

#[derive(Default)]
struct World {
    agents: BTreeMap<u8, AgentObject>,
    slices: BTreeMap<u8, SliceObject>,
    services: BTreeMap<u8, ServiceObject>,
}

fn put<T: Clone>(map: &mut BTreeMap<u8, T>, n: u8, name: &str, object: Option<T>) -> Change<T> {
    if let Some(object) = object {
        map.insert(n, object.clone());
        Change::Apply(object)
    } else {
        map.remove(&n);
        Change::Delete(ObjectId::new("ns", name))
    }
}

impl World {
    fn edit(&mut self, edit: Edit) -> SourceEvent {
        match edit {
            Edit::Agent(n, port) => {
                let name = format!("a{n}");
                let agent = port.map(|port| mk_agent(&name, port));
                SourceEvent::Agents(put(&mut self.agents, n, &name, agent))
            }
            Edit::Slice(n, slice) => {
                let name = format!("s{n}");
                let slice = slice.map(|(agent, ips)| mk_slice(&name, &format!("a{agent}"), &ips));
                SourceEvent::EndpointSlices(put(&mut self.slices, n, &name, slice))
            }
            Edit::Service(n, ip) => {
                let name = format!("a{n}");
                let service = ip.map(|ip| mk_service(&name, ip));
                SourceEvent::Services(put(&mut self.services, n, &name, service))
            }
        }
    }

    /// What is there, as complete lists.
    fn lists(&self) -> [SourceEvent; 3] {
        [
            SourceEvent::Agents(restarted(self.agents.values().cloned().collect())),
            SourceEvent::EndpointSlices(restarted(self.slices.values().cloned().collect())),
            SourceEvent::Services(restarted(self.services.values().cloned().collect())),
        ]
    }
}

proptest! {
    #[test]
    fn the_order_of_events_does_not_matter(
        edits in prop::collection::vec(any_edit(), 0..40),
        commits in prop::collection::vec(any::<bool>(), 40),
        relist in 0..40_usize,
        order in Just([0_usize, 1, 2]).prop_shuffle(),
    ) {
        let mut world = World::default();
        let mut index = mk_synced();
        for (n, edit) in edits.into_iter().enumerate() {
            index.apply(world.edit(edit));
            if commits[n] {
                index.commit();
            }
            if n == relist {
                for list in world.lists() {
                    index.apply(list);
                }
            }
        }
        index.commit();

        let mut fresh = Index::new(&[Scope::AllNamespaces]);
        let lists = world.lists();
        for n in order {
            fresh.apply(lists[n].clone());
        }
        let expected = fresh.commit().expect("complete");
        prop_assert_eq!(flat(&index.snapshot), flat(&expected));
        let versions = |snapshot: &Snapshot| -> BTreeMap<String, String> {
            snapshot.iter().map(|r| (r.key().to_string(), r.version().to_string())).collect()
        };
        prop_assert_eq!(versions(&index.snapshot), versions(&expected));
    }
}
