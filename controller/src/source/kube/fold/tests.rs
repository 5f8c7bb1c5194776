//! What the watch sees becomes changes, and one bad object stands in nobody's way.

use serde_json::json;

use super::*;

fn mk_fold() -> Fold<AgentObject> {
    Fold::new(Scope::AllNamespaces, EndpointPolicy::default(), agent)
}

fn object(name: &str, version: u32, spec: &Value) -> DynamicObject {
    let object = json!({
        "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent",
        "metadata": {
            "namespace": "ns", "name": name, "uid": format!("uid-{name}"),
            "resourceVersion": version.to_string(),
            "managedFields": [{ "manager": "kubectl", "fieldsV1": { "f:spec": {} } }],
        },
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

fn good(name: &str, version: u32) -> DynamicObject {
    object(name, version, &json!({ "image": "i" }))
}

fn bad(name: &str, version: u32) -> DynamicObject {
    object(name, version, &json!({ "image": "i", "port": "many" }))
}

fn names(objects: &[AgentObject]) -> Vec<&str> {
    objects.iter().map(|object| object.id().name.as_str()).collect()
}

fn list(fold: &mut Fold<AgentObject>, objects: Vec<DynamicObject>) -> (Change<AgentObject>, Vec<ObjectId>) {
    let mut told = Vec::new();
    assert!(fold.take(Event::Init).change.is_none());
    for object in objects {
        let step = fold.take(Event::InitApply(object));
        assert!(step.change.is_none(), "a list counts as a whole");
        told.extend(step.newly_refused.map(|(id, _)| id));
    }
    (fold.take(Event::InitDone).change.unwrap(), told)
}

#[test]
fn a_bad_object_among_a_hundred_is_refused_alone() {
    let mut fold = mk_fold();
    let mut objects: Vec<_> = (0..100).map(|n| good(&format!("a{n}"), n)).collect();
    objects.insert(50, bad("bad", 7));
    let (change, told) = list(&mut fold, objects);
    let Change::Restarted { objects, refused, scope } = change else { panic!("no list") };
    assert_eq!((objects.len(), scope), (100, Scope::AllNamespaces));
    assert_eq!(refused, [ObjectId::new("ns", "bad")]);
    assert_eq!(told, refused);
    let reason = &fold.refused()[&ObjectId::new("ns", "bad")];
    assert!(reason.starts_with("spec.port: "), "{reason}");
}

#[test]
fn a_version_of_a_bad_object_is_told_once() {
    let mut fold = mk_fold();
    let told = |step: Step<AgentObject>| {
        assert!(step.change.is_none());
        step.newly_refused.is_some()
    };
    assert!(told(fold.take(Event::Apply(bad("a", 1)))));
    assert!(!told(fold.take(Event::Apply(bad("a", 1)))));
    assert_eq!(list(&mut fold, vec![bad("a", 1)]).1, []);
    assert!(told(fold.take(Event::Apply(bad("a", 2)))));
    assert!(matches!(fold.take(Event::Apply(good("a", 3))).change, Some(Change::Apply(_))));
    assert!(fold.refused().is_empty());
    assert!(told(fold.take(Event::Apply(bad("a", 4)))));
    assert!(matches!(fold.take(Event::Delete(bad("a", 5))).change, Some(Change::Delete(_))));
    assert!(fold.refused().is_empty());
}

#[test]
fn a_list_that_is_cut_off_counts_for_nothing() {
    let mut fold = mk_fold();
    fold.take(Event::Init);
    fold.take(Event::InitApply(good("a", 1)));
    let (change, _) = list(&mut fold, vec![good("b", 1)]);
    let Change::Restarted { objects, .. } = change else { panic!("no list") };
    assert_eq!(names(&objects), ["b"]);
}

#[test]
fn items_of_a_list_may_leave_out_their_kind() {
    let mut bare = good("a", 1);
    bare.types = None;
    assert!(matches!(agent(bare, &EndpointPolicy::default()), Decoded::Good(_)));
}

#[test]
fn what_stops_being_ours_is_gone() {
    let mut fold = Fold::new(Scope::AllNamespaces, EndpointPolicy::default(), service);
    let mk_service = |label: &str| {
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "namespace": "ns", "name": "a", "labels": { "krypton.ai/agent": label } },
            "spec": { "clusterIP": "10.96.0.1" },
        });
        serde_json::from_value::<DynamicObject>(object).unwrap()
    };
    assert!(matches!(fold.take(Event::Apply(mk_service("a"))).change, Some(Change::Apply(_))));
    let id = ObjectId::new("ns", "a");
    let gone = fold.take(Event::Apply(mk_service("b"))).change;
    assert!(matches!(gone, Some(Change::Delete(deleted)) if deleted == id));
}
