//! A release through its life, on a cluster without a node: what Helm itself must not break.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use krypton_crd::Agent;
use krypton_e2e::cluster::Cluster;
use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::helm::{Helm, Release};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::api_server::make_namespaces;

const KRYPTON: Release<'static> = Release { name: "krypton", namespace: "krypton-system" };
const VALUES: &str = "manager: {enableWebhooks: true}";

/// Base64 of `authority`, as bundles are written in JSON.
const BUNDLE: &str = "YXV0aG9yaXR5";

/// As the leading controller does.
async fn fill(cluster: &Cluster) {
    let params = PatchParams::default();
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), KRYPTON.namespace);
    let key = Patch::Merge(json!({ "data": { "tls.key": BUNDLE } }));
    secrets.patch("krypton-certificates", &params, &key).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), KRYPTON.namespace);
    let authority = Patch::Merge(json!({ "data": { "ca.crt": "authority" } }));
    maps.patch("krypton-ca", &params, &authority).await.unwrap();
    let bundle = Patch::<()>::Json(
        serde_json::from_value(json!([
            { "op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": BUNDLE },
        ]))
        .unwrap(),
    );
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(cluster.client());
    mutating.patch("krypton-webhooks", &params, &bundle).await.unwrap();
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client());
    validating.patch("krypton-webhooks", &params, &bundle).await.unwrap();
}

async fn assert_is_full(cluster: &Cluster, after: &str) {
    let authority = ByteString(b"authority".to_vec());
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), KRYPTON.namespace);
    let secret = secrets.get("krypton-certificates").await.unwrap();
    assert_eq!(secret.data.unwrap_or_default().get("tls.key"), Some(&authority), "{after}");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), KRYPTON.namespace);
    let map = maps.get("krypton-ca").await.unwrap();
    assert_eq!(map.data.unwrap_or_default()["ca.crt"], "authority", "{after}");
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(cluster.client());
    let found = mutating.get("krypton-webhooks").await.unwrap().webhooks.unwrap_or_default();
    assert_eq!(found[0].client_config.ca_bundle.as_ref(), Some(&authority), "{after}");
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client());
    let found = validating.get("krypton-webhooks").await.unwrap().webhooks.unwrap_or_default();
    assert_eq!(found[0].client_config.ca_bundle.as_ref(), Some(&authority), "{after}");
}

#[tokio::test]
async fn upgrades_leave_what_the_controller_wrote_and_the_end_leaves_agents() {
    let control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    make_namespaces(&cluster).await;
    let helm = Helm::on(&cluster).unwrap();
    helm.install(KRYPTON, VALUES, &[]).await.unwrap();
    fill(&cluster).await;

    helm.upgrade(KRYPTON, VALUES, &[]).await.unwrap();
    assert_is_full(&cluster, "an upgrade to the same").await;
    let changed =
        "{manager: {enableWebhooks: true, replicas: 3}, webhooks: {timeoutSeconds: 5}, commonLabels: {a: b}}";
    helm.upgrade(KRYPTON, changed, &[]).await.unwrap();
    assert_is_full(&cluster, "an upgrade that changes them").await;
    helm.rollback(KRYPTON, &[]).await.unwrap();
    assert_is_full(&cluster, "a rollback").await;

    let agents: Api<Agent> = Api::namespaced(cluster.client(), "team-a");
    let agent = serde_json::from_value(json!({
        "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent",
        "metadata": { "name": "echo" }, "spec": { "image": "echo" },
    }));
    agents.create(&PostParams::default(), &agent.unwrap()).await.unwrap();
    helm.uninstall(KRYPTON, &["--wait"]).await.unwrap();
    agents.get("echo").await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), KRYPTON.namespace);
    let left = secrets.list(&ListParams::default()).await.unwrap();
    assert!(left.items.is_empty(), "{left:?}");

    // And back again, with the definition that stayed.
    helm.install(KRYPTON, "", &[]).await.unwrap();
}
