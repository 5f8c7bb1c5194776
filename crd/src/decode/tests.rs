use serde_json::{Value, json};

use super::*;
use crate::agent::{ImagePullPolicy, Mode, Protocol, PullSecret};
use crate::status::Phase;

fn mk_agent(spec: &Value) -> Value {
    json!({
        "apiVersion": "krypton.ai/v1alpha1",
        "kind": "Agent",
        "metadata": { "name": "travel-agent", "namespace": "agents" },
        "spec": spec,
    })
}

/// The field and the reason that `object` fails with.
fn field_error(object: Value) -> (String, String) {
    match Agent::from_value(object).unwrap_err() {
        DecodeError::Field { path, reason } => (path, reason),
        error @ DecodeError::Kind { .. } => panic!("{error}"),
    }
}

#[test]
fn every_field_of_the_go_system_keeps_its_meaning() {
    let agent = Agent::from_value(mk_agent(&json!({
        "image": "ghcr.io/org/travel-agent:latest",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{ "name": "registry" }],
        "runtime": "python",
        "framework": "langgraph",
        "protocol": "mcp",
        "mode": "serverless",
        "scaleToZeroAfter": "10m",
        "minReplicas": 0,
        "maxReplicas": 4,
        "concurrency": 16,
        "port": 9000,
        "invocationPath": "/mcp",
        "resources": { "requests": { "cpu": "100m" }, "limits": { "memory": "1Gi" } },
        "env": [{ "name": "MODEL", "value": "small" }],
        "envFrom": [{ "secretRef": { "name": "keys" } }],
        "timeout": "2m",
        "startupTimeout": "45s",
        "serviceAccountName": "traveller",
    })))
    .unwrap();
    let spec = &agent.spec;

    assert_eq!(spec.image, "ghcr.io/org/travel-agent:latest");
    assert_eq!(spec.image_pull_policy, ImagePullPolicy::Always);
    assert_eq!(spec.image_pull_secrets, [PullSecret { name: "registry".to_owned() }]);
    assert_eq!((spec.runtime.as_deref(), spec.framework.as_deref()), (Some("python"), Some("langgraph")));
    assert_eq!((spec.protocol, spec.mode), (Protocol::Mcp, Mode::Serverless));
    assert_eq!(spec.scale_to_zero_after.unwrap().to_string(), "10m0s");
    assert_eq!((spec.min_replicas, spec.max_replicas, spec.concurrency), (Some(0), Some(4), Some(16)));
    assert_eq!((spec.port.get(), spec.invocation_path.as_deref()), (9000, Some("/mcp")));
    assert_eq!(spec.resources.as_ref().unwrap()["limits"]["memory"], "1Gi");
    assert_eq!(spec.env[0]["name"], "MODEL");
    assert_eq!(spec.env_from[0]["secretRef"]["name"], "keys");
    assert_eq!(spec.timeout.unwrap().to_string(), "2m0s");
    assert_eq!(spec.startup_timeout.unwrap().to_string(), "45s");
    assert_eq!(spec.service_account_name.as_deref(), Some("traveller"));
}

#[test]
fn an_agent_stored_by_the_go_system_decodes() {
    let mut stored = mk_agent(&json!({
        "image": "ghcr.io/org/travel-agent:latest",
        "imagePullPolicy": "IfNotPresent",
        "protocol": "a2a",
        "mode": "always-on",
        "scaleToZeroAfter": "300s",
        "minReplicas": 1,
        "maxReplicas": 10,
        "concurrency": 8,
        "port": 8080,
        "invocationPath": "/",
        "timeout": "60s",
        "startupTimeout": "30s",
    }));
    stored["metadata"]["finalizers"] = json!(["krypton.ai/cleanup"]);
    stored["metadata"]["generation"] = json!(3);
    stored["status"] = json!({
        "phase": "Ready",
        "replicas": 1,
        "readyReplicas": 1,
        "desiredReplicas": 1,
        "url": "http://travel-agent.agents.svc/",
        "lastInvocationAt": "2026-05-27T10:00:00Z",
        "observedGeneration": 3,
        "conditions": [{
            "type": "Available", "status": "True", "reason": "Ready", "message": "",
            "lastTransitionTime": "2026-05-27T09:00:00Z",
        }],
    });

    let agent = Agent::from_value(stored).unwrap();

    let status = agent.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Ready));
    assert_eq!(
        (status.replicas, status.ready_replicas, status.desired_replicas),
        (Some(1), Some(1), Some(1))
    );
    assert_eq!(status.conditions[0].type_, "Available");
    assert_eq!(agent.metadata.finalizers.unwrap(), [crate::keys::FINALIZER]);
}

#[test]
fn a_failure_names_field_and_value() {
    for (field, value, reason) in [
        ("protocol", json!("grpc"), "unknown variant `grpc`, expected one of `a2a`, `mcp`, `http`"),
        ("mode", json!("sometimes"), "unknown variant `sometimes`, expected `serverless` or `always-on`"),
        ("timeout", json!("5x"), "\"5x\" has the unknown unit \"x\"; units are ns, us, ms, s, m and h"),
        ("startupTimeout", json!("0s"), "\"0s\" is not greater than zero"),
        (
            "drainTimeout",
            json!(5),
            "invalid type: integer `5`, expected a duration such as \"300s\" or \"1h30m\"",
        ),
        ("port", json!(-1), "invalid value: integer `-1`, expected a whole number from 1 to 65535"),
        ("port", json!(0), "invalid value: integer `0`, expected a whole number from 1 to 65535"),
        ("port", json!(70_000), "invalid value: integer `70000`, expected a whole number from 1 to 65535"),
        (
            "minReplicas",
            json!(-1),
            "invalid value: integer `-1`, expected a whole number from 0 to 2147483647",
        ),
        ("maxReplicas", json!(0), "invalid value: integer `0`, expected a whole number from 1 to 2147483647"),
        (
            "concurrency",
            json!(1_u64 << 31),
            "invalid value: integer `2147483648`, expected a whole number from 0 to 2147483647",
        ),
        ("replicas", json!("3"), "invalid type: string \"3\", expected a whole number from 0 to 2147483647"),
        ("image", json!(""), crate::agent::IMAGE_MISSING),
        (
            "imagePullPolicy",
            json!("Sometimes"),
            "unknown variant `Sometimes`, expected one of `Always`, `IfNotPresent`, `Never`, ``",
        ),
    ] {
        let mut spec = json!({ "image": "example" });
        spec[field] = value;
        assert_eq!(field_error(mk_agent(&spec)), (format!("spec.{field}"), reason.to_owned()));
    }
}

#[test]
fn a_failure_names_the_place_in_a_list_and_what_is_missing() {
    let (path, _) = field_error(mk_agent(&json!({ "image": "example", "env": [{}, "MODEL=small"] })));
    assert_eq!(path, "spec.env[1]");

    let (path, reason) = field_error(mk_agent(&json!({})));
    assert_eq!((path.as_str(), reason.as_str()), ("spec", "missing field `image`"));
}

#[test]
fn a_path_that_cannot_stand_in_a_request_line_is_refused() {
    let long = format!("/{}", "a".repeat(1024));
    let bad = ["a2a", "/a?b", "/a#b", "/a b", "/a\r\nHost: evil", "/\u{e4}", "/<", "/>", "/`", &long];
    for path in bad {
        let (field, reason) = field_error(mk_agent(&json!({ "image": "example", "invocationPath": path })));
        assert_eq!(field, "spec.invocationPath");
        assert!(reason.contains(crate::crd::INVOCATION_PATH_MESSAGE) || path.len() > 1024, "{reason}");
    }
    for path in ["/", "/a2a", "/%20;x=1,(y)", &format!("/{}", "a".repeat(1023))] {
        let agent =
            Agent::from_value(mk_agent(&json!({ "image": "example", "invocationPath": path }))).unwrap();
        assert_eq!(agent.spec.invocation_path.as_deref(), Some(path));
    }
}

#[test]
fn a_long_value_does_not_make_a_long_reason() {
    let (_, reason) = field_error(mk_agent(&json!({ "image": "example", "protocol": "x".repeat(100_000) })));
    assert_eq!(reason.chars().count(), MAX_REASON);
}

#[test]
fn empty_and_null_are_unset() {
    let agent = Agent::from_value(mk_agent(&json!({
        "image": "example", "imagePullPolicy": "", "invocationPath": "", "serviceAccountName": "",
        "protocol": null, "port": null, "timeout": null, "env": null,
    })))
    .unwrap();
    assert_eq!(agent.spec.image_pull_policy, ImagePullPolicy::ByTag);
    assert_eq!((agent.spec.invocation_path, agent.spec.service_account_name), (None, None));
    assert_eq!((agent.spec.protocol, agent.spec.port.get()), (Protocol::A2a, 8080));
}

#[test]
fn unknown_fields_are_ignored_and_open_ones_kept() {
    let agent = Agent::from_value(mk_agent(&json!({
        "image": "example",
        "someLaterField": true,
        "env": [{ "name": "A", "someLaterField": true }],
        "resources": { "limits": { "cpu": "a lot" } },
        "podTemplate": { "spec": { "nodeSelector": { "gpu": "true" } } },
    })))
    .unwrap();
    assert_eq!(agent.spec.env[0]["someLaterField"], true);
    assert_eq!(agent.spec.resources.unwrap()["limits"]["cpu"], "a lot");
    assert_eq!(agent.spec.pod_template.unwrap()["spec"]["nodeSelector"]["gpu"], "true");
}

#[test]
fn an_unreadable_status_is_left_out() {
    let mut agent = mk_agent(&json!({ "image": "example" }));
    agent["status"] = json!({ "phase": "Confused" });
    assert_eq!(Agent::from_value(agent).unwrap().status, None);
}

#[test]
fn another_kind_is_not_an_agent() {
    let kind = |api_version: &str, kind: &str| DecodeError::Kind {
        api_version: api_version.into(),
        kind: kind.into(),
    };
    let mut object = mk_agent(&json!({ "image": "example" }));
    object["kind"] = "Model".into();
    assert_eq!(Agent::from_value(object.clone()), Err(kind("krypton.ai/v1alpha1", "Model")));
    object["apiVersion"] = "krypton.ai/v2".into();
    assert_eq!(Agent::from_value(object), Err(kind("krypton.ai/v2", "Model")));
    for nonsense in [json!(null), json!([]), json!("Agent"), json!({})] {
        assert_eq!(Agent::from_value(nonsense), Err(kind("", "")));
    }
}

#[test]
fn what_is_decoded_can_be_written_and_decoded_again() {
    let agent = Agent::from_value(mk_agent(&json!({
        "image": "example", "timeout": "90s", "imagePullPolicy": "", "env": [{ "name": "A" }], "replicas": 0,
    })))
    .unwrap();
    assert_eq!(Agent::from_value(serde_json::to_value(&agent).unwrap()), Ok(agent));
}
