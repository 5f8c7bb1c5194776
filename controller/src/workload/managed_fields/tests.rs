//! Entries as the API server writes them, taken over and read.

use serde_json::json;

use super::*;

/// A Deployment of the Go system: written by Update, its status by another, its size by an autoscaler.
fn upstream_deployment() -> Value {
    json!({
        "metadata": {
            "resourceVersion": "41",
            "ownerReferences": [
                { "uid": "other" },
                { "uid": "owner", "controller": true },
            ],
            "managedFields": [
                {
                    "manager": "manager", "operation": "Update", "apiVersion": "apps/v1",
                    "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
                    "fieldsV1": {
                        "f:metadata": { "f:labels": { ".": {}, "f:krypton.ai/agent": {} } },
                        "f:spec": {
                            "f:paused": {},
                            "f:template": { "f:spec": { "f:containers": {
                                "k:{\"name\":\"agent\"}": { ".": {}, "f:name": {}, "f:args": {} },
                                "k:{\"name\":\"krypton-proxy\"}": { ".": {}, "f:name": {} },
                            } } },
                        },
                        "f:status": { "f:replicas": {} },
                    },
                },
                {
                    "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "apps/v1",
                    "time": "2026-01-03T00:00:00Z", "fieldsType": "FieldsV1", "subresource": "status",
                    "fieldsV1": {
                        "f:metadata": { "f:annotations": { "f:deployment.kubernetes.io/revision": {} } },
                        "f:spec": { "f:paused": {} },
                        "f:status": { "f:replicas": {} },
                    },
                },
                {
                    "manager": "hpa", "operation": "Update", "apiVersion": "apps/v1",
                    "fieldsType": "FieldsV1", "subresource": "scale",
                    "fieldsV1": { "f:spec": { "f:replicas": {} } },
                },
            ],
        },
    })
}

fn patched(live: &Value, patch: &Value) -> Vec<Value> {
    assert_eq!(patch[0]["op"], "test");
    assert_eq!(patch[0]["path"], "/metadata/resourceVersion");
    assert_eq!(patch[0]["value"], live["metadata"]["resourceVersion"]);
    assert_eq!(patch[1]["op"], "replace");
    assert_eq!(patch[1]["path"], "/metadata/managedFields");
    assert_eq!(patch.as_array().unwrap().len(), 2);
    patch[1]["value"].as_array().unwrap().clone()
}

#[test]
fn what_an_earlier_writer_owns_becomes_ours_by_apply() {
    let live = upstream_deployment();
    let entries = patched(&live, &take_over(&live, &["manager", FIELD_MANAGER]).unwrap());
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[..2], live["metadata"]["managedFields"].as_array().unwrap()[1..]);

    let mut fields = live["metadata"]["managedFields"][0]["fieldsV1"].clone();
    fields.as_object_mut().unwrap().remove("f:status");
    let expected = json!({
        "manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": "apps/v1",
        "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields,
    });
    assert_eq!(entries[2], expected);
}

#[test]
fn what_we_own_already_is_kept_in_the_same_entry() {
    let mut live = upstream_deployment();
    live["metadata"]["managedFields"].as_array_mut().unwrap().push(json!({
        "manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": "apps/v1",
        "time": "2026-01-05T00:00:00Z", "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": { "f:annotations": { "f:krypton.ai/applied": {} }, "f:labels": {} },
            "f:spec": { "f:replicas": {}, "f:template": {} },
        },
    }));
    let entries = patched(&live, &take_over(&live, &["manager"]).unwrap());
    assert_eq!(entries.len(), 3);
    let ours = &entries[2];
    assert_eq!(ours["time"], "2026-01-05T00:00:00Z");
    let fields = &ours["fieldsV1"];
    assert_eq!(fields["f:metadata"]["f:annotations"], json!({ "f:krypton.ai/applied": {} }));
    assert_eq!(fields["f:metadata"]["f:labels"], json!({ ".": {}, "f:krypton.ai/agent": {} }));
    // Owned as a whole by one and in parts by the other: both.
    assert_eq!(fields["f:spec"]["f:template"]["."], json!({}));
    assert!(
        fields["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"krypton-proxy\"}"]
            .is_object()
    );

    let mut after = live.clone();
    after["metadata"]["managedFields"] = entries.into();
    assert_eq!(take_over(&after, &["manager", FIELD_MANAGER]), None, "once is enough");
}

#[test]
fn there_is_nothing_to_take_over_without_such_an_entry() {
    let live = upstream_deployment();
    assert_eq!(take_over(&live, &[]), None);
    assert_eq!(take_over(&live, &["somebody"]), None);
    assert_eq!(take_over(&live, &["hpa", "kube-controller-manager"]), None, "subresources");
    assert_eq!(take_over(&json!({}), &["manager"]), None);
    let mut applied = upstream_deployment();
    applied["metadata"]["managedFields"][0]["operation"] = "Apply".into();
    assert_eq!(take_over(&applied, &["manager"]), None);
}

#[test]
fn writers_are_named_as_they_stand() {
    let live = upstream_deployment();
    let names: Vec<_> =
        writers(&live).iter().map(|writer| (writer.manager, writer.operation, writer.subresource)).collect();
    assert_eq!(
        names,
        [
            ("manager", "Update", None),
            ("kube-controller-manager", "Update", Some("status")),
            ("hpa", "Update", Some("scale")),
        ]
    );
    let times: Vec<_> = writers(&live).iter().map(|writer| writer.time).collect();
    assert_eq!(times, [Some("2026-01-01T00:00:00Z"), Some("2026-01-03T00:00:00Z"), None]);
    assert_eq!(writers(&json!({})), []);
}

#[test]
fn a_foreign_owner_is_the_last_who_wrote_the_field() {
    let live = upstream_deployment();
    let agent = FieldPath::of(&["spec", "template", "spec", "containers"])
        .then(Segment::Item(vec![("name", "agent".into())]));
    let port = Segment::Item(vec![("containerPort", 8080.into()), ("protocol", "TCP".into())]);
    let args = agent.clone().then(Segment::field("args"));
    for (path, owner) in [
        (FieldPath::of(&["spec", "replicas"]), Some("hpa")),
        (FieldPath::of(&["metadata", "labels", "krypton.ai/agent"]), Some("manager")),
        (FieldPath::of(&["metadata", "labels", "other"]), None),
        (FieldPath::of(&["spec", "paused"]), Some("kube-controller-manager")),
        (FieldPath::of(&["spec", "minReadySeconds"]), None),
        (args.clone(), Some("manager")),
        (args.then(Segment::Index(0)), Some("manager")),
        (agent.clone().then(Segment::field("image")), None),
        (agent.then(Segment::field("ports")).then(port), None),
    ] {
        assert_eq!(foreign_owner_of(&live, &path), owner, "{path}");
    }
    let mut ours = live;
    for entry in ours["metadata"]["managedFields"].as_array_mut().unwrap() {
        entry["manager"] = FIELD_MANAGER.into();
    }
    assert_eq!(foreign_owner_of(&ours, &FieldPath::of(&["spec", "replicas"])), None);
}

#[test]
fn the_owner_is_the_one_that_controls() {
    assert_eq!(owner_uid(&upstream_deployment()), Some("owner"));
    assert_eq!(owner_uid(&json!({ "metadata": { "ownerReferences": [{ "uid": "other" }] } })), None);
    assert_eq!(owner_uid(&json!({})), None);
}
