//! Questions as an API server asks them, and the answers that it understands.

use serde_json::Map;

use super::*;

fn mk_review(operation: &str, object: &Value, old: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "0c9a8d74",
            "kind": { "group": "krypton.ai", "version": "v1alpha1", "kind": "Agent" },
            "resource": { "group": "krypton.ai", "version": "v1alpha1", "resource": "agents" },
            "name": "a",
            "namespace": "agents",
            "operation": operation,
            "userInfo": { "username": "someone" },
            "object": object,
            "oldObject": old,
            "dryRun": false,
            "options": null,
        },
    })
}

fn mk_agent(spec: &Value) -> Value {
    let mut stored = json!({
        "image": "example:1", "imagePullPolicy": "IfNotPresent", "mode": "always-on", "port": 8080, "protocol": "a2a",
    });
    stored.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({
        "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent",
        "metadata": { "name": "a", "namespace": "agents", "managedFields": [] }, "spec": stored,
    })
}

fn ask(judge: Answer, review: &Value) -> Value {
    let question = parse(review.to_string().as_bytes()).unwrap();
    let answer = serde_json::to_value(judge(&question).into_review()).unwrap();
    assert_eq!((&answer["kind"], &answer["apiVersion"]), (&review["kind"], &review["apiVersion"]));
    assert_eq!(answer["response"]["uid"], "0c9a8d74");
    answer["response"].clone()
}

fn create(judge: Answer, spec: &Value) -> Value {
    ask(judge, &mk_review("CREATE", &mk_agent(spec), &Value::Null))
}

/// The patch in an answer; `None` where it has none.
fn patch(answer: &Value) -> Option<Value> {
    let bytes: Vec<u8> = serde_json::from_value(answer.get("patch")?.clone()).unwrap();
    assert_eq!(answer["patchType"], "JSONPatch");
    Some(serde_json::from_slice(&bytes).unwrap())
}

#[test]
fn a_good_agent_is_allowed_without_a_word() {
    let answer = create(validate, &json!({}));
    assert_eq!((&answer["allowed"], answer.get("warnings")), (&json!(true), None));
}

#[test]
fn all_that_is_wrong_is_in_one_answer_with_field_and_way_out() {
    let answer = create(
        validate,
        &json!({
            "timeout": "5x", "env": [{ "name": "PORT", "value": 8080 }], "minReplicas": 3, "maxReplicas": 2,
        }),
    );
    assert_eq!(answer["allowed"], false);
    let status = &answer["status"];
    assert_eq!(
        (&status["code"], &status["reason"], &status["status"]),
        (&json!(422), &json!("Invalid"), &json!("Failure"))
    );
    let details = &status["details"];
    assert_eq!(
        (&details["kind"], &details["group"], &details["name"]),
        (&json!("Agent"), &json!("krypton.ai"), &json!("a"))
    );
    let causes: Vec<_> = details["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| {
            assert_eq!(cause["reason"], "FieldValueInvalid");
            (cause["field"].as_str().unwrap(), cause["message"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        causes,
        [
            ("spec.timeout", "\"5x\" has the unknown unit \"x\"; units are ns, us, ms, s, m and h"),
            ("spec.maxReplicas", "maxReplicas must not be less than minReplicas: 2 is less than 3"),
            ("spec.env[0].value", "8080 is not a text; write \"8080\", in quotes"),
        ]
    );
    let message = status["message"].as_str().unwrap();
    assert!(causes.iter().all(|(field, cause)| message.contains(&format!("{field}: {cause}"))), "{message}");
}

#[test]
fn an_answer_is_bounded_however_broken_the_object_is() {
    let env = vec![json!({}); 10_000];
    let status = &create(validate, &json!({ "env": env }))["status"];
    let causes = status["details"]["causes"].as_array().unwrap();
    assert_eq!(causes.len(), MAX_CAUSES + 1);
    assert_eq!(causes[MAX_CAUSES]["message"], "and 9968 more");
    assert!(status["message"].as_str().unwrap().ends_with("and 9992 more"));

    let env = vec![json!({ "name": "A".repeat(1_000) }); 100];
    let answer = create(validate, &json!({ "env": env }));
    let warnings = answer["warnings"].as_array().unwrap();
    assert_eq!((warnings.len(), &answer["allowed"]), (MAX_WARNINGS, &json!(true)));
    assert!(warnings.iter().all(|warning| warning.as_str().unwrap().len() <= MAX_WARNING));
}

#[test]
fn what_is_suspicious_is_told_beside_the_answer() {
    let answer = create(validate, &json!({ "mode": "serverless", "minReplicas": 1 }));
    assert_eq!(answer["allowed"], true);
    assert!(
        answer["warnings"][0].as_str().unwrap().starts_with("spec.minReplicas: is 1, so this serverless")
    );
}

#[test]
fn an_update_is_judged_by_what_it_changes() {
    let old = mk_agent(&json!({ "timeout": "soon" }));
    let update = |new: &Value| ask(validate, &mk_review("UPDATE", new, &old))["allowed"].clone();
    assert_eq!(update(&mk_agent(&json!({ "timeout": "soon", "concurrency": 1 }))), true);
    assert_eq!(update(&mk_agent(&json!({ "timeout": "later" }))), false);
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    assert_eq!(update(&labelled), true);
    let mut ending = mk_agent(&json!({ "timeout": "later" }));
    ending["metadata"]["deletionTimestamp"] = json!("2026-05-27T10:00:00Z");
    assert_eq!(update(&ending), true);
}

#[test]
fn only_defaults_that_depend_on_nothing_are_filled_in() {
    assert_eq!(patch(&create(mutate, &json!({}))), None);
    let null = json!({ "imagePullPolicy": null, "mode": null, "port": null, "protocol": null });
    let mut bare = mk_agent(&json!({}));
    bare["spec"] = json!({ "image": "example:1" });
    for agent in [mk_agent(&null), bare] {
        let answer = ask(mutate, &mk_review("CREATE", &agent, &Value::Null));
        assert_eq!(answer["allowed"], true);
        assert_eq!(
            patch(&answer).unwrap(),
            json!([
                { "op": "add", "path": "/spec/imagePullPolicy", "value": "IfNotPresent" },
                { "op": "add", "path": "/spec/mode", "value": "always-on" },
                { "op": "add", "path": "/spec/port", "value": 8080 },
                { "op": "add", "path": "/spec/protocol", "value": "a2a" },
            ])
        );
    }
    let empty = create(mutate, &json!({ "imagePullPolicy": "", "mode": "serverless", "protocol": null }));
    assert_eq!(patch(&empty).unwrap(), json!([{ "op": "add", "path": "/spec/protocol", "value": "a2a" }]));
    let mut ending = mk_agent(&null);
    ending["metadata"]["deletionTimestamp"] = json!("2026-05-27T10:00:00Z");
    assert_eq!(patch(&ask(mutate, &mk_review("UPDATE", &ending, &Value::Null))), None);
}

#[test]
fn what_is_no_written_agent_is_allowed_untouched() {
    let broken = mk_agent(&json!({ "port": 0, "mode": null }));
    let with = |change: Value| {
        let mut review = mk_review("UPDATE", &broken, &broken);
        review["request"]
            .as_object_mut()
            .unwrap()
            .extend::<Map<String, Value>>(serde_json::from_value(change).unwrap());
        review
    };
    let pods = json!({ "group": "", "version": "v1", "resource": "pods" });
    let others = json!({ "group": "example.com", "version": "v1", "resource": "agents" });
    for review in [
        with(json!({ "resource": pods })),
        with(json!({ "resource": others })),
        with(json!({ "subResource": "status", "oldObject": null })),
        with(json!({ "subResource": "scale", "oldObject": null })),
        with(json!({ "operation": "DELETE", "object": null })),
        with(json!({ "operation": "CONNECT", "object": null, "oldObject": null })),
        with(json!({ "object": null })),
    ] {
        for judge in [mutate, validate] {
            let answer = ask(judge, &review);
            assert_eq!(
                (&answer["allowed"], patch(&answer), answer.get("warnings")),
                (&json!(true), None, None)
            );
        }
    }
}

#[test]
fn what_asks_nothing_is_no_question() {
    let error = |review: &str| parse(review.as_bytes()).unwrap_err().to_string();
    assert!(error("{").starts_with("not an AdmissionReview: "));
    assert!(error("{}").starts_with("not an AdmissionReview: "));
    assert_eq!(
        error(r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#),
        "an AdmissionReview without a request"
    );
    assert_eq!(
        error(r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1"}"#),
        "not an AdmissionReview of admission.k8s.io/v1 but \"AdmissionReview\" of \"admission.k8s.io/v1beta1\""
    );
}
