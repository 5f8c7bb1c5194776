//! The rules of ownership, repair and giving way.

use krypton_crd::keys;
use serde_json::json;

use super::*;

const AGENT: &str = "agent-uid";

/// What is wanted: a Deployment of `replicas` pods with this image.
fn wanted(image: &str, replicas: u32) -> Value {
    json!({
        "metadata": { "name": "a", "annotations": { "krypton.ai/applied": image } },
        "spec": {
            "replicas": replicas,
            "template": { "spec": { "containers": [{ "name": "agent", "image": image }] } },
        },
    })
}

/// It as it is in the cluster, written by `managers`, the last of them last.
fn live_by(wanted: &Value, managers: &[(&str, &str)]) -> Live {
    let mut object = wanted.clone();
    object["metadata"]["uid"] = "child-uid".into();
    object["metadata"]["resourceVersion"] = "1".into();
    object["metadata"]["ownerReferences"] = json!([{ "controller": true, "kind": "Agent", "uid": AGENT }]);
    let entries = managers.iter().enumerate().map(|(second, (manager, operation))| {
        json!({
            "manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "time": format!("2026-01-01T00:00:{second:02}Z"),
            "fieldsV1": { "f:metadata": { "f:ownerReferences": {} }, "f:spec": { "f:replicas": {} } },
        })
    });
    object["metadata"]["managedFields"] = entries.collect();
    Live::new(object)
}

fn live(wanted: &Value) -> Live {
    live_by(wanted, &[("krypton-controller", "Apply")])
}

fn plan(wanted: &Value, live: Option<&Live>, memory: &ChildMemory, now: Instant) -> Step {
    Step::plan(wanted, live, AGENT, memory, now)
}

fn fresh(wanted: &Value, live: Option<&Live>) -> Step {
    plan(wanted, live, &ChildMemory::default(), Instant::now())
}

#[test]
fn an_absent_child_is_created_and_one_that_is_as_wanted_left_alone() {
    let wanted = wanted("i:1", 1);
    assert_eq!(fresh(&wanted, None), Step::Create);
    assert_eq!(fresh(&wanted, Some(&live(&wanted))), Step::Keep);
}

#[test]
fn an_object_of_somebody_else_is_left_alone() {
    let wanted = wanted("i:1", 1);
    let mut object = live(&wanted).object().clone();
    for owners in
        [json!(null), json!([]), json!([{ "controller": true, "uid": "other" }]), json!([{ "uid": AGENT }])]
    {
        object["metadata"]["ownerReferences"] = owners.clone();
        assert_eq!(fresh(&wanted, Some(&Live::new(object.clone()))), Step::Foreign, "{owners}");
    }
}

#[test]
fn what_an_earlier_agent_of_the_name_left_is_waited_out() {
    let wanted = wanted("i:1", 1);
    let mut object = live(&wanted).object().clone();
    let mut owner = json!({
        "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "name": "a", "uid": "earlier", "controller": true,
    });
    object["metadata"]["ownerReferences"] = json!([owner]);
    assert_eq!(fresh(&wanted, Some(&Live::new(object.clone()))), Step::Await);
    owner["name"] = "b".into();
    object["metadata"]["ownerReferences"] = json!([owner]);
    assert_eq!(fresh(&wanted, Some(&Live::new(object.clone()))), Step::Foreign);
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(fresh(&wanted, Some(&Live::new(object))), Step::Await);
}

#[test]
fn a_child_that_is_being_deleted_is_waited_for() {
    let wanted = wanted("i:1", 1);
    let mut object = live(&wanted).object().clone();
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(fresh(&wanted, Some(&Live::new(object))), Step::Later(DELETION_PAUSE));
}

#[test]
fn another_wish_is_applied_even_where_the_old_one_contains_it() {
    let (old, mut new) = (wanted("i:1", 1), wanted("i:1", 1));
    // A field that is no longer wanted: all that is wanted is there.
    new["metadata"]["annotations"]["krypton.ai/applied"] = "other".into();
    let step = fresh(&new, Some(&live(&old)));
    assert_eq!(step, Step::Apply { take_over: false, why: Why::Changed });
}

#[test]
fn what_we_created_becomes_ours_by_apply_with_its_first_change() {
    let created = live_by(&wanted("i:1", 1), &[("krypton-controller", "Update")]);
    assert_eq!(fresh(&wanted("i:1", 1), Some(&created)), Step::Keep);
    let step = fresh(&wanted("i:2", 1), Some(&created));
    assert_eq!(step, Step::Apply { take_over: true, why: Why::Changed });
}

#[test]
fn a_persons_edit_is_repaired() {
    let wanted = wanted("i:1", 1);
    let mut edited = wanted.clone();
    edited["spec"]["template"]["spec"]["containers"][0]["image"] = "evil".into();
    let edited = live_by(&edited, &[("krypton-controller", "Apply"), ("kubectl-edit", "Update")]);
    let step = fresh(&wanted, Some(&edited));
    let Step::Apply { take_over: false, why: Why::Repaired(path) } = step else { panic!("{step:?}") };
    assert!(path.to_string().ends_with("image"), "{path}");
}

#[test]
fn who_keeps_changing_it_back_is_given_way_to_for_a_while() {
    let wanted = wanted("i:1", 1);
    let mut edited = wanted.clone();
    edited["spec"]["template"]["spec"]["containers"][0]["image"] = "other".into();
    let edited = live_by(&edited, &[("krypton-controller", "Apply"), ("operator", "Update")]);
    let (mut memory, mut now) = (ChildMemory::default(), Instant::now());
    for _ in 0..REPAIRS {
        let Step::Apply { why, .. } = plan(&wanted, Some(&edited), &memory, now) else {
            panic!("not repaired")
        };
        memory.written(&wanted, Some(&why), Some("operator"), now);
        now += Duration::from_secs(10);
    }
    let contested = Step::Contested { manager: "operator".into() };
    assert_eq!(plan(&wanted, Some(&edited), &memory, now), contested);
    memory.give_way("operator", now);
    now += TRUCE / 2;
    assert_eq!(plan(&wanted, Some(&edited), &memory, now), contested);
    now += TRUCE / 2;
    assert!(matches!(plan(&wanted, Some(&edited), &memory, now), Step::Apply { .. }));
}

#[test]
fn seldom_repairs_are_no_fight() {
    let (memory, mut now) = (&mut ChildMemory::default(), Instant::now());
    let wanted = wanted("i:1", 1);
    let mut edited = wanted.clone();
    edited["spec"]["template"] = json!({});
    for _ in 0..10 {
        let Step::Apply { why, .. } = plan(&wanted, Some(&live(&edited)), memory, now) else {
            panic!("given way")
        };
        memory.written(&wanted, Some(&why), Some("operator"), now);
        now += FIGHT / 2;
    }
}

#[test]
fn the_go_controllers_child_is_taken_over_once_and_left_to_it_if_it_still_runs() {
    for manager in keys::GO_FIELD_MANAGERS {
        let wanted = wanted("i:1", 1);
        let go = live_by(&wanted, &[(manager, "Update"), ("krypton-controller", "Apply")]);
        let (mut memory, now) = (ChildMemory::default(), Instant::now());
        let step = plan(&wanted, Some(&go), &memory, now);
        assert_eq!(step, Step::Apply { take_over: true, why: Why::TakenOver });
        memory.written(&wanted, Some(&Why::TakenOver), None, now);
        let later = now + Duration::from_secs(30);
        assert_eq!(plan(&wanted, Some(&go), &memory, later), Step::Contested { manager: manager.into() });
        assert_eq!(plan(&wanted, Some(&live(&wanted)), &memory, later), Step::Keep, "it has stopped");
    }
}

#[test]
fn our_own_wish_for_another_size_is_applied_at_once() {
    let (one, three) = (wanted("i:1", 1), wanted("i:1", 3));
    let (mut memory, now) = (ChildMemory::default(), Instant::now());
    let resized = Step::Apply { take_over: false, why: Why::Resized };
    assert_eq!(plan(&three, Some(&live(&one)), &memory, now), resized, "after a start");
    memory.written(&one, None, None, now);
    assert_eq!(plan(&three, Some(&live(&one)), &memory, now), resized);
}

#[test]
fn another_writer_of_replicas_is_repaired_seldom() {
    let (one, five) = (wanted("i:1", 1), wanted("i:1", 5));
    let by_an_autoscaler = live_by(&five, &[("krypton-controller", "Apply"), ("autoscaler", "Update")]);
    let (mut memory, now) = (ChildMemory::default(), Instant::now());
    memory.written(&one, None, None, now);
    let why = Why::ForeignReplicas;
    let repair = Step::Apply { take_over: false, why: why.clone() };
    assert_eq!(plan(&one, Some(&by_an_autoscaler), &memory, now), repair);
    memory.written(&one, Some(&why), None, now);
    let later = now + REPLICAS_PAUSE / 3;
    assert_eq!(plan(&one, Some(&by_an_autoscaler), &memory, later), Step::Later(REPLICAS_PAUSE * 2 / 3));
    assert_eq!(plan(&one, Some(&by_an_autoscaler), &memory, now + REPLICAS_PAUSE), repair);
}

#[test]
fn a_refusal_is_believed_until_something_changes() {
    let (bad, better) = (wanted("i:1", 1), wanted("i:2", 1));
    let (mut memory, now) = (ChildMemory::default(), Instant::now());
    memory.refused(&bad, "spec.foo: unknown", now);
    assert_eq!(
        plan(&bad, None, &memory, now),
        Step::Refused { message: "spec.foo: unknown".into(), again: REFUSED_FOR }
    );
    assert_eq!(plan(&better, None, &memory, now), Step::Create);
    assert_eq!(plan(&bad, None, &memory, now + REFUSED_FOR), Step::Create);
    let old = live(&wanted("i:0", 1));
    assert!(matches!(plan(&bad, Some(&old), &memory, now), Step::Refused { .. }));
    assert_eq!(plan(&bad, Some(&live(&bad)), &memory, now), Step::Keep, "it is as wanted after all");
}

#[test]
fn who_takes_our_mark_away_is_repaired_and_in_the_end_given_way_to() {
    let wanted = wanted("i:1", 1);
    let mut stripped = wanted.clone();
    stripped["metadata"]["annotations"] = json!({});
    let stripped = live(&stripped);
    let (mut memory, now) = (ChildMemory::default(), Instant::now());
    let changed = Step::Apply { take_over: false, why: Why::Changed };
    assert_eq!(plan(&wanted, Some(&stripped), &memory, now), changed, "nobody knows what was written before");
    memory.written(&wanted, Some(&Why::Changed), None, now);
    for _ in 0..REPAIRS {
        let Step::Apply { why, .. } = plan(&wanted, Some(&stripped), &memory, now) else {
            panic!("given way")
        };
        assert!(matches!(why, Why::Repaired(_)), "{why:?}");
        memory.written(&wanted, Some(&why), None, now);
    }
    assert!(matches!(plan(&wanted, Some(&stripped), &memory, now), Step::Contested { .. }));
}

#[test]
fn a_truce_holds_back_repairs_and_not_the_authors_wish() {
    let (old, new) = (wanted("i:1", 1), wanted("i:2", 1));
    let mut edited = old.clone();
    edited["spec"]["template"] = json!({});
    let edited = live(&edited);
    let (mut memory, now) = (ChildMemory::default(), Instant::now());
    memory.written(&old, None, None, now);
    assert_eq!(memory.give_way("operator", now), TRUCE);
    assert_eq!(memory.give_way("operator", now + TRUCE / 3), TRUCE * 2 / 3, "the rest, not all of it again");
    assert!(matches!(plan(&old, Some(&edited), &memory, now), Step::Contested { .. }));
    let change = plan(&new, Some(&edited), &memory, now);
    assert_eq!(change, Step::Apply { take_over: false, why: Why::Changed });
    // The next one is longer, up to a limit.
    memory.written(&old, None, None, now);
    assert_eq!(memory.give_way("operator", now), TRUCE * 2);
    for _ in 0..10 {
        memory.written(&old, None, None, now);
        memory.give_way("operator", now);
    }
    memory.written(&old, None, None, now);
    assert_eq!(memory.give_way("operator", now), LONGEST_TRUCE);
    memory.kept(Some(&live(&old)));
    assert_eq!(plan(&old, Some(&live(&old)), &memory, now), Step::Keep);
}

#[test]
fn a_new_leader_knows_the_size_that_it_found() {
    let (one, five) = (wanted("i:1", 1), wanted("i:1", 5));
    let (mut memory, now) = (ChildMemory::default(), Instant::now());
    memory.kept(Some(&live(&one)));
    let why = Why::ForeignReplicas;
    assert_eq!(plan(&one, Some(&live(&five)), &memory, now), Step::Apply { take_over: false, why });
}

#[test]
fn another_operator_that_writes_under_that_name_is_not_taken_for_the_go_controller() {
    let wanted = wanted("i:1", 1);
    let mut object = live(&wanted).object().clone();
    let entry = |fields: Value| json!([{ "manager": "manager", "operation": "Update", "apiVersion": "apps/v1", "fieldsV1": fields }]);
    object["metadata"]["managedFields"] =
        entry(json!({ "f:metadata": { "f:annotations": { "f:theirs": {} } } }));
    assert_eq!(fresh(&wanted, Some(&Live::new(object.clone()))), Step::Keep);
    let sidecar = json!({ "f:spec": { "f:template": { "f:spec": { "f:containers": { "k:{\"name\":\"krypton-proxy\"}": {} } } } } });
    object["metadata"]["managedFields"] = entry(sidecar);
    let step = fresh(&wanted, Some(&Live::new(object)));
    assert_eq!(step, Step::Apply { take_over: true, why: Why::TakenOver });
}
