use super::*;

fn wanted() -> Wanted {
    Wanted {
        parts: [Part::Crd, Part::Defaults, Part::Finalizers].into(),
        release: "krypton".to_owned(),
        release_namespace: "krypton-system".to_owned(),
        unrecorded: false,
    }
}

/// Our definition, as far as it matters, and as Helm left it.
fn our_crd() -> Value {
    json!({
        "metadata": {
            "name": "agents.krypton.ai", "resourceVersion": "7",
            "annotations": { (keys::HELM_RELEASE_ANNOTATION): "krypton",
                (keys::HELM_NAMESPACE_ANNOTATION): "krypton-system" },
            "labels": { (keys::MANAGED_BY_LABEL): "Helm" },
        },
        "spec": { "versions": [{ "schema": { "openAPIV3Schema": { "properties": { "spec": { "properties": {
            "timeout": { "type": "string" }, "port": { "default": 8080 } } } } } } }] },
    })
}

fn go_crd() -> Value {
    json!({
        "metadata": { "name": "agents.krypton.ai", "resourceVersion": "7" },
        "spec": { "versions": [{ "schema": { "openAPIV3Schema": { "properties": { "spec": { "properties": {
            "timeout": { "type": "string", "default": "60s" } } } } } } }] },
    })
}

/// An Agent with `spec`, of which `applied` was applied.
fn agent(spec: &Value, applied: &Value) -> Value {
    let applied = json!({ "spec": applied }).to_string();
    json!({
        "metadata": {
            "namespace": "team-a", "name": "travel", "resourceVersion": "41",
            "annotations": { (keys::LAST_APPLIED_ANNOTATION): applied },
        },
        "spec": spec,
    })
}

fn stored() -> Value {
    json!({
        "image": "a:1", "imagePullPolicy": "IfNotPresent", "protocol": "a2a", "mode": "serverless", "port": 8080,
        "scaleToZeroAfter": "5m0s", "minReplicas": 1, "maxReplicas": 10, "concurrency": 8, "invocationPath": "/",
        "timeout": "1m0s", "startupTimeout": "0s",
    })
}

fn facts(agents: Vec<Value>) -> Facts {
    Facts { crd: Some(our_crd()), agents, ..Facts::default() }
}

#[test]
fn defaults_that_nobody_wrote_go_and_nothing_else() {
    let applied = json!({ "image": "a:1", "mode": "serverless", "maxReplicas": 10 });
    let plan = plan(&facts(vec![agent(&stored(), &applied)]), &wanted());
    assert_eq!(plan.left, Vec::<String>::new());
    let [change] = &plan.changes[..] else { unreachable!("one: {plan:?}") };
    assert_eq!(change.about(), "Agent team-a/travel");
    assert_eq!(
        change.lines,
        [
            "- spec.concurrency: 8",
            "- spec.invocationPath: /",
            "- spec.minReplicas: 1   (from then on 0)",
            "- spec.scaleToZeroAfter: 5m0s",
            "- spec.startupTimeout: 0s",
            "- spec.timeout: 1m0s   (from then on 300s, of silence)",
        ]
    );
    assert_eq!(
        change.patch,
        json!({
            "metadata": { "resourceVersion": "41" },
            "spec": { "concurrency": null, "invocationPath": null, "minReplicas": null, "scaleToZeroAfter": null,
                "startupTimeout": null, "timeout": null },
        })
    );
}

#[test]
fn what_differs_from_the_default_stays() {
    let spec = json!({ "image": "a:1", "timeout": "61s", "minReplicas": 0, "maxReplicas": 11, "concurrency": 1,
        "invocationPath": "/mcp", "startupTimeout": "1m", "scaleToZeroAfter": "5m1s" });
    assert_eq!(plan(&facts(vec![agent(&spec, &json!({}))]), &wanted()), Plan::default());
}

#[test]
fn a_default_that_was_written_stays() {
    let plan =
        plan(&facts(vec![agent(&json!({ "timeout": "60s" }), &json!({ "timeout": "60s" }))]), &wanted());
    assert_eq!(plan, Plan::default());
}

#[test]
fn a_zero_that_was_written_is_told() {
    let plan = plan(&facts(vec![agent(&json!({ "timeout": "0s" }), &json!({ "timeout": "0s" }))]), &wanted());
    assert_eq!(plan.changes, []);
    assert!(plan.left[0].contains("Agent team-a/travel: spec.timeout (0s) was written by kubectl apply"));
}

#[test]
fn where_nothing_tells_what_was_applied_it_stays_unless_asked_for() {
    let mut agent = agent(&json!({ "timeout": "60s", "startupTimeout": "0s" }), &json!({}));
    agent["metadata"]["annotations"] = json!({});
    let facts = facts(vec![agent]);
    let careful = plan(&facts, &wanted());
    assert_eq!(careful.changes[0].lines, ["- spec.startupTimeout: 0s"], "nobody means zero");
    assert!(careful.left[0].contains("spec.timeout (60s)") && careful.left[0].contains("--unrecorded"));
    let bold = plan(&facts, &Wanted { unrecorded: true, ..wanted() });
    assert_eq!((bold.changes[0].lines.len(), bold.left.len()), (2, 0));
}

#[test]
fn the_finalizer_goes_from_agents_and_models_and_others_stay() {
    let mut one = agent(&json!({}), &json!({}));
    one["metadata"]["finalizers"] = json!(["a/b", keys::FINALIZER]);
    let model = json!({ "metadata": { "namespace": "team-a", "name": "llm", "resourceVersion": "5",
        "finalizers": [keys::FINALIZER] }, "spec": { "timeout": "60s" } });
    let other = json!({ "metadata": { "namespace": "team-a", "name": "x", "finalizers": ["a/b"] } });
    let facts = Facts { models: vec![model, other], ..facts(vec![one]) };
    let plan = plan(&facts, &wanted());
    let patches: Vec<_> = plan.changes.iter().map(|change| (change.about(), &change.patch)).collect();
    assert_eq!(
        patches,
        [
            (
                "Agent team-a/travel".to_owned(),
                &json!({ "metadata": { "resourceVersion": "41", "finalizers": ["a/b"] } })
            ),
            (
                "Model team-a/llm".to_owned(),
                &json!({ "metadata": { "resourceVersion": "5", "finalizers": [] } })
            ),
        ]
    );
}

#[test]
fn while_the_go_system_runs_only_the_definition_is_written() {
    let mut one = agent(&stored(), &json!({}));
    one["metadata"]["finalizers"] = json!([keys::FINALIZER]);
    let facts = Facts {
        crd: Some(go_crd()),
        go_managers: vec!["krypton-system/krypton-manager".to_owned()],
        ..facts(vec![one])
    };
    let plan = plan(&facts, &wanted());
    assert_eq!(plan.changes.len(), 1);
    assert_eq!(
        plan.changes[0].lines,
        [
            "+ metadata.annotations[meta.helm.sh/release-name]: krypton",
            "+ metadata.annotations[meta.helm.sh/release-namespace]: krypton-system",
            "+ metadata.labels[app.kubernetes.io/managed-by]: Helm",
        ]
    );
    assert_eq!(plan.left.len(), 2);
    assert!(plan.left.iter().all(|left| left.contains("krypton-system/krypton-manager")));
}

#[test]
fn under_the_go_systems_definition_defaults_would_come_back() {
    let facts = Facts { crd: Some(go_crd()), ..facts(vec![agent(&stored(), &json!({}))]) };
    let plan = plan(&facts, &Wanted { parts: [Part::Defaults].into(), ..wanted() });
    assert_eq!(plan.changes, []);
    assert!(plan.left[0].contains("put them back"), "{:?}", plan.left);
}

#[test]
fn a_definition_of_another_release_is_left() {
    let mut crd = our_crd();
    crd["metadata"]["annotations"][keys::HELM_RELEASE_ANNOTATION] = json!("agents");
    let plan = plan(&Facts { crd: Some(crd), ..Facts::default() }, &wanted());
    assert_eq!(plan.changes, []);
    assert!(plan.left[0].contains("belongs to the Helm release agents"));
}

#[test]
fn what_somebody_else_managed_is_shown_before_it_is_replaced() {
    let mut crd = our_crd();
    crd["metadata"]["labels"][keys::MANAGED_BY_LABEL] = json!("kustomize");
    let plan = plan(&Facts { crd: Some(crd), ..Facts::default() }, &wanted());
    assert_eq!(
        plan.changes[0].lines,
        [
            "- metadata.labels[app.kubernetes.io/managed-by]: kustomize",
            "+ metadata.labels[app.kubernetes.io/managed-by]: Helm"
        ]
    );
}

#[test]
fn after_it_was_written_nothing_is_left_to_do() {
    let mut one = agent(&stored(), &json!({}));
    one["metadata"]["finalizers"] = json!([keys::FINALIZER]);
    let mut facts = Facts { crd: Some(go_crd()), ..facts(vec![one]) };
    // As the API server would: the definition first, then Helm, then the Agents.
    for _ in 0..2 {
        for change in plan(&facts, &wanted()).changes {
            let object = match change.kind {
                Kind::Crd => facts.crd.as_mut().unwrap(),
                Kind::Agent | Kind::Model => &mut facts.agents[0],
            };
            merge(object, &change.patch);
        }
        facts.crd.as_mut().unwrap()["spec"] = our_crd()["spec"].clone();
    }
    assert_eq!(plan(&facts, &wanted()), Plan::default());
    assert_eq!(facts.agents[0]["spec"]["image"], "a:1");
}

/// A merge patch, RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}
