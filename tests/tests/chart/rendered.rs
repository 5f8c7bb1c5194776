//! What must be so in every file that people review, said once by itself.

use krypton_e2e::helm::Release;
use krypton_e2e::programs::binary;
use serde_json::{Value, json};

use crate::cases::CASES;
use crate::documents::{Documents, object, render};

const KRYPTON: Release<'static> = Release { name: "krypton", namespace: "krypton-system" };

/// The container of a Deployment of the release.
fn container<'a>(documents: &'a Documents, component: &str) -> &'a Value {
    let deployment = object(documents, &format!("Deployment krypton-system/krypton-{component}"));
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

fn args<'a>(documents: &'a Documents, component: &str) -> Vec<&'a str> {
    let args = container(documents, component)["args"].as_array().unwrap();
    args.iter().map(|arg| arg.as_str().unwrap()).collect()
}

/// Where the value of a variable comes from; null where there is no such variable.
fn source<'a>(documents: &'a Documents, component: &str, variable: &str) -> &'a Value {
    let env = container(documents, component)["env"].as_array().unwrap();
    let entry = env.iter().find(|entry| entry["name"] == variable);
    entry.map_or(&Value::Null, |entry| &entry["valueFrom"])
}

#[tokio::test]
async fn selectors_are_those_of_krypton_in_go() {
    let documents = render(KRYPTON, "").await;
    let gateway = object(&documents, "Deployment krypton-system/krypton-gateway");
    let expected = json!({
        "app.kubernetes.io/name": "krypton",
        "app.kubernetes.io/instance": "krypton",
        "app.kubernetes.io/component": "gateway",
    });
    // A Deployment's selector cannot be changed: with another one, `helm upgrade` from there would be refused.
    assert_eq!(gateway["spec"]["selector"]["matchLabels"], expected);
    assert_eq!(gateway["spec"]["template"]["metadata"]["labels"], expected);
}

#[tokio::test]
async fn what_the_controller_writes_is_never_rendered() {
    let documents = render(KRYPTON, "manager: {enableWebhooks: true}").await;
    for id in ["Secret krypton-system/krypton-certificates", "ConfigMap krypton-system/krypton-ca"] {
        let object = object(&documents, id);
        assert_eq!((&object["data"], &object["stringData"]), (&Value::Null, &Value::Null), "{id}");
    }
    for kind in ["Mutating", "Validating"] {
        let configuration = object(&documents, &format!("{kind}WebhookConfiguration krypton-webhooks"));
        assert_eq!(configuration["webhooks"][0]["clientConfig"]["caBundle"], Value::Null);
    }
}

#[tokio::test]
async fn a_gateway_sees_the_authority_alone_and_no_token_for_the_api_server() {
    for values in
        ["", "certificates: {source: cert-manager}", "certificates: {source: secret, secretName: mine}"]
    {
        let documents = render(KRYPTON, values).await;
        let deployment = object(&documents, "Deployment krypton-system/krypton-gateway");
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        let [snapshot, discovery] = &pod["volumes"].as_array().unwrap()[..] else { panic!("{pod:#}") };
        assert!(snapshot["emptyDir"].is_object());
        let [token, authority] = &discovery["projected"]["sources"].as_array().unwrap()[..] else {
            panic!("{discovery:#}")
        };
        assert_eq!(token["serviceAccountToken"]["audience"], "krypton-discovery");
        let authority = authority.get("configMap").or(authority.get("secret")).unwrap();
        assert_eq!(authority["items"], json!([{ "key": "ca.crt", "path": "ca.crt" }]));
        // The pod waits until it is there.
        assert_eq!(authority["optional"], Value::Null);
    }
}

#[tokio::test]
async fn threads_follow_the_cpu_limit_where_there_is_one() {
    let documents = render(KRYPTON, "gateway: {resources: {limits: {cpu: 1500m}}}").await;
    let limit = json!({ "resourceFieldRef": { "resource": "limits.cpu", "divisor": "1" } });
    assert_eq!(source(&documents, "gateway", "KRYPTON_THREADS"), &limit);
    let documents = render(KRYPTON, "gateway: {resources: {limits: {cpu: null}}}").await;
    assert_eq!(source(&documents, "gateway", "KRYPTON_THREADS"), &Value::Null);
}

#[tokio::test]
async fn the_read_timeout_is_told_where_something_is_in_front() {
    let told = "--ingress-read-timeout=10m";
    let timeout = "readTimeout: 10m, class: generic";
    let documents = render(KRYPTON, &format!("ingress: {{{timeout}}}")).await;
    assert!(!args(&documents, "controller").contains(&told));
    let documents = render(KRYPTON, &format!("ingress: {{{timeout}, enabled: true}}")).await;
    assert!(args(&documents, "controller").contains(&told));
    let route = "httpRoute: {enabled: true, parentRefs: [{name: shared}]}";
    let documents = render(KRYPTON, &format!("{{ingress: {{{timeout}}}, {route}}}")).await;
    assert!(args(&documents, "controller").contains(&told));
}

#[tokio::test]
async fn every_container_is_locked_down() {
    for case in CASES {
        let documents = render(case.release, case.values).await;
        for document in documents.values().filter(|document| document.kind() == "Deployment") {
            let pod = &document.object["spec"]["template"]["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{}", case.name);
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{}", case.name);
            let expected = json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            });
            assert_eq!(pod["containers"][0]["securityContext"], expected, "{}", case.name);
        }
    }
}

#[tokio::test]
async fn names_are_labels_however_long() {
    for case in CASES {
        for id in render(case.release, case.values).await.keys() {
            let (_, path) = id.split_once(' ').unwrap();
            let name = path.rsplit('/').next().unwrap();
            assert!(name.len() <= 63, "{}: {name}", case.name);
        }
    }
}

#[tokio::test]
async fn the_programs_take_every_flag_that_is_rendered() {
    for case in CASES {
        let documents = render(case.release, case.values).await;
        for component in ["gateway", "controller"] {
            let is_its = |id: &str| id.starts_with("Deployment ") && id.ends_with(&format!("-{component}"));
            let (_, deployment) = documents.iter().find(|(id, _)| is_its(id)).unwrap();
            let container = &deployment.object["spec"]["template"]["spec"]["containers"][0];
            let args = container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
            // The kubelet fills them in.
            let args = args.map(|arg| {
                arg.replace("[$(POD_IP)]", "[fd00::1]")
                    .replace("$(POD_IP)", "10.0.0.1")
                    .replace("$(POD_NAME)", "pod")
            });
            // Behind all others: what they are is looked at, and nothing starts.
            let program = std::process::Command::new(binary(&format!("krypton-{component}")).unwrap())
                .args(args)
                .arg("--version")
                .output()
                .unwrap();
            let refusal = String::from_utf8_lossy(&program.stderr);
            assert!(program.status.success(), "{}, {component}: {refusal}", case.name);
        }
    }
}
