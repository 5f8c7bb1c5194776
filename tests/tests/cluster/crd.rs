//! The Agent API as a real API server serves it: what kubectl shows, what is refused and in which words, and that
//! objects which broke the rules before stay writable.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use krypton_crd::crd::agent_crd;
use krypton_e2e::cluster::{Cluster, Namespace, shared};
use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::wait::eventually;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::invalid_specs::{DURATIONS, invalid_specs};
use crate::objects::{agent, put};

/// All of this takes milliseconds; this is for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(30);

pub(crate) fn agents(namespace: &Namespace) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<krypton_crd::Agent>(&());
    Api::namespaced_with(namespace.cluster().client(), namespace.name(), &resource)
}

/// Whether the API server would take it; with what it says if not.
pub(crate) async fn try_create(namespace: &Namespace, name: &str, spec: Value) -> Result<(), String> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let agent: DynamicObject =
        serde_json::from_value(agent(name, spec)).map_err(|error| error.to_string())?;
    match agents(namespace).create(&dry_run, &agent).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(error) => Err(format!("{error:?}")),
    }
}

/// What the API server does not refuse lands in the condition `Accepted`, by the function that is asked here.
#[tokio::test]
async fn an_invalid_spec_is_refused_by_name_or_known_to_us() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        for case in invalid_specs() {
            let spec = &case.spec;
            match (try_create(namespace, "a", spec.clone()).await, case.api_server_says) {
                (Err(refusal), Some(says)) => {
                    assert!(refusal.contains(&case.field) && refusal.contains(says), "{spec}: {refusal}");
                }
                (Ok(()), None) => {
                    let refusal = krypton_crd::validate(&agent("a", spec.clone()), None).refusal().unwrap();
                    let message = refusal.message;
                    assert!(
                        message.starts_with(&case.field) && message.contains(case.says),
                        "{spec}: {message}"
                    );
                }
                (outcome, says) => panic!("{spec}: {outcome:?}, and the table says {says:?}"),
            }
        }
    });
    test.await.unwrap();
}

/// We are no stricter than Kubernetes: what only we refuse would have failed as soon as there are pods to make.
#[tokio::test]
async fn what_only_we_refuse_could_not_become_a_deployment() {
    let cluster = shared().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        for case in invalid_specs().into_iter().filter(|case| case.api_server_says.is_none()) {
            let create = ["create", "--dry-run=server", "--validate=strict", "--filename=-"];
            let create = [&["--namespace", namespace.name()], &create[..]].concat();
            let deployment = deployment(&case.spec).to_string();
            let outcome = namespace.cluster().kubectl(&create, &deployment).await;
            assert!(outcome.is_err(), "Kubernetes takes {}", case.spec);
        }
        let good = deployment(&json!({ "env": [{ "name": "A", "value": "1" }] })).to_string();
        namespace.apply(&good).await.unwrap();
    });
    test.await.unwrap();
}

/// The Deployment of an Agent with these fields, as far as the table needs it.
fn deployment(spec: &Value) -> Value {
    let labels = json!({ "app": "a" });
    let port = json!({ "name": "http", "containerPort": 8080 });
    let mut container = json!({ "name": "agent", "image": "example:1", "ports": [port] });
    for field in ["env", "envFrom", "resources"] {
        if let Some(value) = spec.get(field) {
            container[field] = value.clone();
        }
    }
    let mut template = json!({ "metadata": { "labels": labels }, "spec": { "containers": [container] } });
    merge(&mut template, spec.get("podTemplate").unwrap_or(&json!({})));
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "a" },
        "spec": { "selector": { "matchLabels": labels }, "template": template },
    })
}

/// Objects merge, entries of lists are added, but for a first one named agent; all else is replaced.
fn merge(into: &mut Value, overlay: &Value) {
    match (into, overlay) {
        (Value::Object(into), Value::Object(overlay)) => {
            for (key, value) in overlay {
                merge(into.entry(key.clone()).or_insert_with(|| empty(value)), value);
            }
        }
        (Value::Array(into), Value::Array(overlay)) => {
            for (place, entry) in overlay.iter().enumerate() {
                match into.first_mut() {
                    Some(ours) if place == 0 && ours["name"] == "agent" && entry["name"] == "agent" => {
                        merge(ours, entry);
                    }
                    _ => into.push(entry.clone()),
                }
            }
        }
        (into, overlay) => *into = overlay.clone(),
    }
}

/// What a value of this kind is laid over.
fn empty(value: &Value) -> Value {
    match value {
        Value::Object(_) => json!({}),
        Value::Array(_) => json!([]),
        _ => Value::Null,
    }
}

#[tokio::test]
async fn a_name_that_no_service_can_have_is_refused() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        for name in ["1abc", "a.b", &"a".repeat(64)] {
            let refusal = try_create(namespace, name, json!({})).await.expect_err(name);
            assert!(refusal.contains("an Agent's name is the name of its Service: at most 63"), "{refusal}");
        }
        for name in ["a", "a-1", &"a".repeat(63)] {
            try_create(namespace, name, json!({})).await.unwrap();
        }
    });
    test.await.unwrap();
}

#[tokio::test]
async fn what_makes_sense_is_accepted() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        for spec in [
            json!({}),
            json!({ "minReplicas": 2, "maxReplicas": 2 }),
            json!({ "minReplicas": 20 }),
            json!({ "mode": "serverless", "minReplicas": 0 }),
            json!({ "replicas": 0 }),
            json!({ "port": 1 }),
            json!({ "port": 65_535 }),
            json!({ "concurrency": 0 }),
            json!({ "invocationPath": "/" }),
            json!({ "invocationPath": "/a%20b;c/..//d%2F" }),
            json!({ "invocationPath": format!("/{}", "a".repeat(1023)) }),
            json!({ "podTemplate": { "spec": { "nodeSelector": { "disk": "ssd" } } } }),
            json!({ "resources": { "limits": { "cpu": 1 } }, "env": [{ "name": "A", "value": "b" }] }),
        ] {
            let refusal = try_create(namespace, "a", spec.clone()).await.err();
            assert_eq!(refusal, None, "{spec}");
        }
        for duration in ["1h30m", "1.5s", "300ms", "+5s", "1ns", "2562047h"] {
            let spec = Value::Object(
                DURATIONS.map(|field| (field.to_owned(), json!(duration))).into_iter().collect(),
            );
            try_create(namespace, "a", spec).await.expect(duration);
        }
    });
    test.await.unwrap();
}

#[tokio::test]
async fn kubectl_lists_agents_by_short_name_and_category_in_columns() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        put(namespace, agent("echo", json!({ "mode": "serverless" }))).await.unwrap();
        let status = json!({ "status": {
            "replicas": 3,
            "url": "http://echo.test:8080",
            "conditions": [{ "type": "Ready", "status": "True" }],
        }});
        let merge = Patch::Merge(&status);
        agents(namespace).patch_status("echo", &PatchParams::default(), &merge).await.unwrap();

        let table = kubectl(namespace, &["get", "ag"]).await;
        let columns = ["NAME", "READY", "MODE", "REPLICAS", "URL", "AGE"];
        assert_eq!(words(&table, 0), columns, "{table}");
        assert_eq!(words(&table, 1)[..5], ["echo", "True", "serverless", "3", "http://echo.test:8080"]);
        let wide = kubectl(namespace, &["get", "ag", "--output=wide"]).await;
        let columns = ["NAME", "READY", "MODE", "REPLICAS", "URL", "PROTOCOL", "IMAGE", "AGE"];
        assert_eq!(words(&wide, 0), columns, "{wide}");
        assert_eq!(words(&wide, 1)[5..7], ["http", "example"], "{wide}");
        for category in ["krypton", "all"] {
            let found = kubectl(namespace, &["get", category, "--output=name"]).await;
            assert!(found.lines().any(|line| line == "agent.krypton.ai/echo"), "{category}: {found}");
        }
    });
    test.await.unwrap();
}

#[tokio::test]
async fn kubectl_explains_a_field_with_its_default_and_unit() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    // The API server publishes the schema a moment after the definition is established.
    eventually("the field is explained", SOON, async || {
        let text = cluster.kubectl(&["explain", "agent.spec.timeout"], "").await?;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in ["FIELD: timeout <string>", "How long the agent may stay silent", "Default 300s."] {
            ensure!(text.contains(part), "{text}");
        }
        Ok(())
    })
    .await
    .unwrap();
}

/// The names under `properties` of the schema at `pointer`.
fn properties(schema: &Value, pointer: &str) -> Vec<String> {
    let properties = schema.pointer(pointer).and_then(|schema| schema["properties"].as_object());
    properties.unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn kubectl_explains_every_field() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let crd = serde_json::to_value(agent_crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for part in ["spec", "status"] {
        let fields = properties(schema, &format!("/properties/{part}"));
        assert!(fields.len() > 5, "{fields:?}");
        eventually(&format!("every field of {part} is explained"), SOON, async || {
            let text = cluster.kubectl(&["explain", &format!("agent.{part}")], "").await?;
            for field in &fields {
                // Name and type in a line, then what it is, indented.
                let start = format!("  {field}\t<");
                let mut lines = text.lines().skip_while(|line| !line.starts_with(&start)).skip(1);
                let said =
                    lines.find(|line| !line.trim_start().starts_with("enum:")).unwrap_or_default().trim();
                ensure!(!said.is_empty() && said != "<no description>", "{field}: {said:?} in {text}");
            }
            Ok(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn kubectl_scales_an_agent_whose_size_is_pinned() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        put(namespace, agent("pinned", json!({ "replicas": 1 }))).await.unwrap();
        put(namespace, agent("free", json!({}))).await.unwrap();
        let status = json!({ "status": { "replicas": 1, "selector": "krypton.ai/agent=pinned" } });
        let merge = Patch::Merge(&status);
        agents(namespace).patch_status("pinned", &PatchParams::default(), &merge).await.unwrap();

        kubectl(namespace, &["scale", "agent/pinned", "--replicas=2"]).await;
        let scale = agents(namespace).get_scale("pinned").await.unwrap();
        let (spec, status) = (scale.spec.unwrap(), scale.status.unwrap());
        assert_eq!((spec.replicas, status.replicas), (Some(2), 1));
        assert_eq!(status.selector.as_deref(), Some("krypton.ai/agent=pinned"));
        assert_eq!(agents(namespace).get("pinned").await.unwrap().data["spec"]["replicas"], 2);

        // The field's description says so, and a first value written to it changes it.
        let refusal = agents(namespace).get_scale("free").await.unwrap_err();
        assert!(
            refusal.to_string().contains("the spec replicas field \".spec.replicas\" does not exist"),
            "{refusal}"
        );
    });
    test.await.unwrap();
}

/// A rule of today that an Agent stored under a laxer definition breaks.
fn rule_breakers() -> Vec<(&'static str, Value)> {
    vec![
        ("1abc", json!({})),
        ("a.b", json!({})),
        ("bounds", json!({ "minReplicas": 3, "maxReplicas": 2 })),
        ("no-pods", json!({ "mode": "always-on", "minReplicas": 0 })),
        ("soon", json!({ "timeout": "soon" })),
        ("no-time", json!({ "startupTimeout": "0s" })),
        ("too-long", json!({ "drainTimeout": "9999999999h" })),
        ("path", json!({ "invocationPath": "/a b" })),
        ("port", json!({ "port": 0 })),
        ("high-port", json!({ "port": 65_536 })),
        ("protocol", json!({ "protocol": "grpc" })),
        ("no-image", json!({ "image": "" })),
        ("image", json!({ "image": "Example of an image" })),
        ("account", json!({ "serviceAccountName": "My Account" })),
    ]
}

#[tokio::test]
async fn objects_that_broke_the_rules_before_stay_writable() {
    let control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    install_lax_crd(&cluster).await;
    let test = cluster.with_namespace(async |namespace| {
        for (name, spec) in rule_breakers() {
            put(namespace, agent(name, spec)).await.unwrap();
            let pinned = json!({ "spec": { "replicas": 1 } });
            agents(namespace).patch(name, &PatchParams::default(), &Patch::Merge(&pinned)).await.unwrap();
        }
        cluster.install_agent_crd().await.unwrap();
        // The API server takes the new definition up a moment later.
        eventually("the rules hold", SOON, async || {
            for (name, spec) in rule_breakers() {
                // Its own name is taken; another that breaks the same rule is not.
                let name = if spec == json!({}) { format!("{name}-2") } else { "new".to_owned() };
                ensure!(try_create(namespace, &name, spec).await.is_err(), "{name}");
            }
            Ok(())
        })
        .await
        .unwrap();
        for (name, _) in rule_breakers() {
            is_writable(namespace, name).await.context(name).unwrap();
        }
    });
    test.await.unwrap();
}

async fn is_writable(namespace: &Namespace, name: &str) -> Result<()> {
    let (agents, merge) = (agents(namespace), PatchParams::default());
    let labels = json!({ "metadata": { "labels": { "team": "a" }, "finalizers": ["krypton.ai/cleanup"] } });
    agents.patch(name, &merge, &Patch::Merge(&labels)).await.context("labels")?;
    let none = json!({ "metadata": { "finalizers": null } });
    agents.patch(name, &merge, &Patch::Merge(&none)).await.context("finalizers")?;
    let status = json!({ "status": { "replicas": 1, "phase": "Ready" } });
    agents.patch_status(name, &merge, &Patch::Merge(&status)).await.context("status")?;
    let scale = json!({ "spec": { "replicas": 2 } });
    agents.patch_scale(name, &merge, &Patch::Merge(&scale)).await.context("scale")?;
    // A field that no rule was broken with.
    let other = json!({ "spec": { "concurrency": 4 } });
    let written = agents.patch(name, &merge, &Patch::Merge(&other)).await.context("another field")?;
    ensure!(written.data["spec"]["replicas"] == 2 && written.data["spec"]["concurrency"] == 4);
    Ok(())
}

/// Our definition without its rules: any object of the right types can be stored.
pub(crate) async fn install_lax_crd(cluster: &Cluster) {
    let mut crd = serde_json::to_value(agent_crd()).unwrap();
    loosen(&mut crd["spec"]["versions"]);
    // As the chart's is applied, by the same field manager, so that this one is replaced by that one.
    cluster.kubectl(&["apply", "--server-side", "--filename=-"], &crd.to_string()).await.unwrap();
    let established = ["wait", "--for=condition=Established", "--timeout=30s", "crd/agents.krypton.ai"];
    cluster.kubectl(&established, "").await.unwrap();
}

fn loosen(schema: &mut Value) {
    const RULES: [&str; 7] =
        ["x-kubernetes-validations", "pattern", "enum", "minimum", "maximum", "minLength", "maxLength"];
    match schema {
        Value::Object(object) => {
            object.retain(|key, _| !RULES.contains(&key.as_str()));
            object.values_mut().for_each(loosen);
        }
        Value::Array(items) => items.iter_mut().for_each(loosen),
        _ => {}
    }
}

async fn kubectl(namespace: &Namespace, args: &[&str]) -> String {
    let args: Vec<&str> = ["--namespace", namespace.name()].iter().chain(args).copied().collect();
    namespace.cluster().kubectl(&args, "").await.unwrap()
}

/// The words of one line.
fn words(table: &str, line: usize) -> Vec<&str> {
    table.lines().nth(line).unwrap_or_default().split_whitespace().collect()
}
