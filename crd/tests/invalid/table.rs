//! Every kind of invalid spec, once: what of it is found by us and what by the API server.
//!
//! Also read by the tests on a real API server, so that what this table says of it is true.

use serde_json::{Value, json};

/// An invalid spec.
pub(crate) struct Invalid {
    /// What is written beside the image.
    pub(crate) spec: Value,
    /// The field that is named as wrong.
    pub(crate) field: String,
    /// Part of what we say of it.
    pub(crate) says: &'static str,
    /// Part of what the API server says of it by schema or rule; `None`: it cannot see it.
    pub(crate) api_server_says: Option<&'static str>,
}

/// Every field whose value is a duration.
pub(crate) const DURATIONS: [&str; 5] =
    ["timeout", "maxDuration", "startupTimeout", "drainTimeout", "scaleToZeroAfter"];

/// The whole table.
pub(crate) fn invalid_specs() -> Vec<Invalid> {
    let mut all = Vec::new();
    for (field, value, says, api_server_says) in values() {
        let spec = json!({ (field): value });
        all.push(Invalid {
            spec,
            field: format!("spec.{field}"),
            says,
            api_server_says: Some(api_server_says),
        });
    }
    for field in DURATIONS {
        for (value, says, api_server_says) in durations() {
            let spec = json!({ (field): value });
            let api_server_says = Some(api_server_says);
            all.push(Invalid { spec, field: format!("spec.{field}"), says, api_server_says });
        }
    }
    for (spec, field, says) in [
        (
            json!({ "minReplicas": 3, "maxReplicas": 2 }),
            "spec.maxReplicas",
            "must not be less than minReplicas",
        ),
        (json!({ "minReplicas": 0 }), "spec.minReplicas", "must be at least 1 when mode is always-on"),
        (json!({ "mode": "always-on", "minReplicas": 0 }), "spec.minReplicas", "set mode to serverless"),
    ] {
        all.push(Invalid { spec, field: field.to_owned(), says, api_server_says: Some(says) });
    }
    let unseen = environment().into_iter().chain(resources()).chain(pod_templates()).chain(containers());
    all.extend(unseen.map(|(spec, field, says)| Invalid {
        spec,
        field: field.to_owned(),
        says,
        api_server_says: None,
    }));
    all
}

/// Field, a value that it cannot have, what we say of it, what the API server says.
fn values() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    let path = "none of them a space, a control character, ? or #";
    let image = "must be an image reference such as";
    let count = "expected a whole number from 0 to 2147483647";
    vec![
        (
            "image",
            json!(""),
            "must not be empty; name the container image",
            "should be at least 1 chars long",
        ),
        ("image", json!(null), "must not be empty; name the container image", "Required value"),
        ("image", json!(7), "invalid type: integer `7`, expected a string", "must be of type string"),
        ("image", json!("a b"), image, image),
        ("image", json!("ghcr.io/Org/agent:1"), image, image),
        ("image", json!("agent:1:2"), image, image),
        ("image", json!("https://ghcr.io/org/agent"), image, image),
        ("image", json!("a".repeat(513)), image, "may not be more than 512"),
        ("protocol", json!("grpc"), "`a2a`, `mcp`, `http`", "supported values: \"a2a\", \"mcp\", \"http\""),
        ("mode", json!("sometimes"), "`always-on`", "supported values: \"serverless\", \"always-on\""),
        ("appProtocol", json!("http3"), "`h2c`", "supported values: \"http\", \"h2c\""),
        ("upstreamHost", json!("public"), "`localhost`", "supported values: \"preserve\", \"localhost\""),
        ("idleStreams", json!("forget"), "`release`", "supported values: \"hold\", \"release\""),
        ("imagePullPolicy", json!("Sometimes"), "`IfNotPresent`", "supported values"),
        ("port", json!(0), "from 1 to 65535", "should be greater than or equal to 1"),
        ("port", json!(65_536), "from 1 to 65535", "should be less than or equal to 65535"),
        ("port", json!("http"), "from 1 to 65535", "must be of type integer"),
        ("concurrency", json!(-1), count, "should be greater than or equal to 0"),
        ("concurrency", json!(2_147_483_648_i64), count, "int32"),
        ("concurrency", json!("8"), count, "must be of type integer"),
        ("minReplicas", json!(-1), count, "should be greater than or equal to 0"),
        ("maxReplicas", json!(0), "from 1 to 2147483647", "should be greater than or equal to 1"),
        ("replicas", json!(-1), count, "should be greater than or equal to 0"),
        ("maxStandingStreams", json!(-1), count, "should be greater than or equal to 0"),
        ("invocationPath", json!("a"), "must start with /", "must start with /"),
        ("invocationPath", json!("/a?b"), path, path),
        ("invocationPath", json!("/a#b"), path, path),
        ("invocationPath", json!("/a b"), path, path),
        ("invocationPath", json!("/a\nb"), path, path),
        ("invocationPath", json!("/ä"), "percent-encode others", "percent-encode others"),
        ("invocationPath", json!(format!("/{}", "a".repeat(1024))), "/aaa", "may not be more than 1024"),
        ("serviceAccountName", json!("My_Account"), "must be the name of a", "must be the name of a"),
        ("serviceAccountName", json!("a".repeat(254)), "must be the name of a", "may not be more than 253"),
        ("env", json!("MODEL=small"), "expected a sequence", "must be of type array"),
        ("envFrom", json!({ "secretRef": { "name": "a" } }), "expected a sequence", "must be of type array"),
        ("imagePullSecrets", json!("registry"), "expected a sequence", "must be of type array"),
        ("resources", json!("1Gi"), "expected a map", "must be of type object"),
        ("podTemplate", json!([]), "expected a map", "must be of type object"),
    ]
}

/// A duration that is refused, what we say of it, what the API server says.
fn durations() -> Vec<(Value, &'static str, &'static str)> {
    let positive = "must be greater than 0";
    vec![
        (json!("soon"), "is not a duration; write numbers with units", "should match"),
        (json!("5"), "lacks a unit", "should match"),
        (json!(""), "write a number with a unit", "should match"),
        (json!("1 s"), "has the unknown unit", "should match"),
        (json!("0"), "is not greater than zero", positive),
        (json!("0s"), "is not greater than zero", positive),
        (json!("-1s"), "is not greater than zero", positive),
        (json!("9999999999h"), "is too long", "must be greater than 0 and at most 2562047h"),
        (json!(format!("{}s", "1".repeat(64))), "is too long", "may not be more than 64"),
        (json!(300), "expected a duration such as", "must be of type string"),
    ]
}

/// A spec, the field that is wrong, what we say of it.
type Unseen = (Value, &'static str, &'static str);

fn environment() -> Vec<Unseen> {
    let env = |entry: Value| json!({ "env": [{ "name": "GOOD", "value": "1" }, entry] });
    let from = |entry: Value| json!({ "envFrom": [entry] });
    vec![
        (env(json!({ "value": "1" })), "spec.env[1].name", "is missing; give the variable a name"),
        (env(json!({ "name": "" })), "spec.env[1].name", "is empty; give the variable a name"),
        (env(json!({ "name": "A=B" })), "spec.env[1].name", "\"A=B\" cannot name a variable"),
        (env(json!({ "name": "ÄRGER" })), "spec.env[1].name", "cannot name a variable"),
        (env(json!({ "name": 1 })), "spec.env[1].name", "write \"1\", in quotes"),
        (env(json!({ "name": "PORT", "value": 8080 })), "spec.env[1].value", "write \"8080\", in quotes"),
        (env(json!({ "name": "DEBUG", "value": true })), "spec.env[1].value", "write \"true\", in quotes"),
        (
            env(
                json!({ "name": "A", "value": "1", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }),
            ),
            "spec.env[1].valueFrom",
            "stands beside value; keep one of the two",
        ),
        (
            env(json!({ "name": "A", "valueFrom": {} })),
            "spec.env[1].valueFrom",
            "names no source; write one of",
        ),
        (env(json!({ "name": "A", "valueFrom": "b" })), "spec.env[1].valueFrom", "is not an object"),
        (
            env(json!({ "name": "A", "valueFrom": {
                "secretKeyRef": { "name": "a", "key": "b" }, "configMapKeyRef": { "name": "a", "key": "b" },
            } })),
            "spec.env[1].valueFrom",
            "keep one of configMapKeyRef, secretKeyRef",
        ),
        (
            env(json!({ "name": "A", "valueFrom": { "secretKeyRef": { "name": "keys" } } })),
            "spec.env[1].valueFrom.secretKeyRef.key",
            "is missing; name it",
        ),
        (
            env(json!({ "name": "A", "valueFrom": { "secretKeyRef": "keys" } })),
            "spec.env[1].valueFrom.secretKeyRef",
            "is not an object",
        ),
        (from(json!({})), "spec.envFrom[0]", "names no source; write one of configMapRef, secretRef"),
        (
            from(json!({ "configMapRef": { "name": "a" }, "secretRef": { "name": "b" } })),
            "spec.envFrom[0]",
            "keep one of",
        ),
        (from(json!({ "secretRef": {} })), "spec.envFrom[0].secretRef.name", "is missing; name it"),
        (from(json!({ "secretRef": { "name": 1 } })), "spec.envFrom[0].secretRef.name", "in quotes"),
        (
            from(json!({ "prefix": "a=", "secretRef": { "name": "a" } })),
            "spec.envFrom[0].prefix",
            "cannot name a variable",
        ),
    ]
}

fn resources() -> Vec<Unseen> {
    let resources = |resources: Value| json!({ "resources": resources });
    let gpu = "nvidia.com/gpu";
    vec![
        (
            resources(json!({ "limits": { "memory": "1 Gi" } })),
            "spec.resources.limits[memory]",
            "\"1 Gi\" is not a quantity; write a number with a unit",
        ),
        (
            resources(json!({ "limits": { "memory": "1GB" } })),
            "spec.resources.limits[memory]",
            "is not a quantity",
        ),
        (
            resources(json!({ "requests": { "cpu": "a lot" } })),
            "spec.resources.requests[cpu]",
            "is not a quantity",
        ),
        (resources(json!({ "requests": { "cpu": "-1" } })), "spec.resources.requests[cpu]", "is negative"),
        (
            resources(json!({ "requests": { "memory": "2Gi" }, "limits": { "memory": "2G" } })),
            "spec.resources.requests[memory]",
            "2Gi is more than the limit of 2G; lower it, or raise the limit",
        ),
        (
            resources(json!({ "requests": { "cpu": 2 }, "limits": { "cpu": "1500m" } })),
            "spec.resources.requests[cpu]",
            "2 is more than the limit of 1500m",
        ),
        (
            resources(json!({ "limits": { "gpu": 1 } })),
            "spec.resources.limits[gpu]",
            "no resource of a container",
        ),
        (
            resources(json!({ "limits": { (gpu): "500m" } })),
            "spec.resources.limits[nvidia.com/gpu]",
            "not whole",
        ),
        (
            resources(json!({ "requests": { (gpu): 1 } })),
            "spec.resources.requests[nvidia.com/gpu]",
            "lacks a limit",
        ),
        (
            resources(json!({ "requests": { (gpu): 1 }, "limits": { (gpu): 2 } })),
            "spec.resources.requests[nvidia.com/gpu]",
            "1 must equal the limit of 2",
        ),
        (resources(json!({ "limits": ["1Gi"] })), "spec.resources.limits", "is not an object"),
        (resources(json!({ "claims": {} })), "spec.resources.claims", "write a list"),
    ]
}

fn pod_templates() -> Vec<Unseen> {
    let template = |template: Value| json!({ "podTemplate": template });
    let pod = |pod: Value| json!({ "podTemplate": { "spec": pod } });
    vec![
        (
            template(json!({ "containers": [] })),
            "spec.podTemplate.containers",
            "is no field of a pod template",
        ),
        (
            template(json!({ "kind": "PodTemplate" })),
            "spec.podTemplate.kind",
            "is no field of a pod template",
        ),
        (template(json!({ "spec": [] })), "spec.podTemplate.spec", "is not an object"),
        (template(json!({ "metadata": "a" })), "spec.podTemplate.metadata", "is not an object"),
        (
            template(json!({ "metadata": { "annotations": { "scrape": true } } })),
            "spec.podTemplate.metadata.annotations[scrape]",
            "write \"true\", in quotes",
        ),
        (
            template(json!({ "metadata": { "labels": { "tier": {} } } })),
            "spec.podTemplate.metadata.labels[tier]",
            "is not a text",
        ),
        (pod(json!({ "restartPolicy": "Never" })), "spec.podTemplate.spec.restartPolicy", "always restarted"),
        (
            pod(json!({ "activeDeadlineSeconds": 60 })),
            "spec.podTemplate.spec.activeDeadlineSeconds",
            "cannot stand in the template of a Deployment",
        ),
    ]
}

fn containers() -> Vec<Unseen> {
    let pod = |pod: Value| json!({ "podTemplate": { "spec": pod } });
    let at = "spec.podTemplate.spec.containers";
    vec![
        (pod(json!({ "containers": { "agent": {} } })), at, "is not a list; write one entry a container"),
        (
            pod(json!({ "containers": ["agent"] })),
            "spec.podTemplate.spec.containers[0]",
            "is not a container",
        ),
        (
            pod(json!({ "containers": [{ "image": "a" }] })),
            "spec.podTemplate.spec.containers[0].name",
            "is missing; name the container, or agent to change Krypton's own",
        ),
        (
            pod(json!({ "containers": [{ "name": "Side_Car", "image": "a" }] })),
            "spec.podTemplate.spec.containers[0].name",
            "cannot name a container",
        ),
        (
            pod(json!({ "containers": [{ "name": "a", "image": "a" }, { "name": "a", "image": "a" }] })),
            "spec.podTemplate.spec.containers[1].name",
            "\"a\" is taken",
        ),
        (
            pod(json!({ "containers": [{ "name": "agent" }, { "name": "agent" }] })),
            "spec.podTemplate.spec.containers[1].name",
            "\"agent\" is taken",
        ),
        (
            pod(json!({ "containers": [{ "name": "agnet", "command": ["run"] }] })),
            "spec.podTemplate.spec.containers[0].image",
            "is missing; name the image, or call the entry agent",
        ),
        (
            pod(json!({ "initContainers": [{ "name": "agent", "image": "a" }] })),
            "spec.podTemplate.spec.initContainers[0].name",
            "\"agent\" is taken",
        ),
        (
            pod(
                json!({ "containers": [{ "name": "agent", "ports": [{ "name": "http", "containerPort": 9000 }] }] }),
            ),
            "spec.podTemplate.spec.containers[0].ports[0].name",
            "set spec.port to change it",
        ),
    ]
}
