//! The control plane that the tests of a run share.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::ensure;
use futures::FutureExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use krypton_e2e::cluster::shared;
use krypton_e2e::wait::eventually;
use kube::Api;
use kube::api::{ListParams, ObjectMeta, PostParams};

const SOON: Duration = Duration::from_secs(30);

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
        ..Default::default()
    }
}

#[tokio::test]
async fn the_api_is_ready_and_has_the_version_of_the_go_module() {
    let cluster = shared().await.unwrap();
    cluster.readyz().await.unwrap();
    let version = cluster.client().apiserver_version().await.unwrap();
    // With KUBEBUILDER_ASSETS it is whatever those are.
    if std::env::var_os("KUBEBUILDER_ASSETS").is_none() {
        assert_eq!(version.git_version, format!("v{}", krypton_e2e::binaries::KUBERNETES_VERSION));
    }
}

#[tokio::test]
async fn each_test_has_a_namespace_of_its_own() {
    let cluster = shared().await.unwrap();
    let test = cluster.with_namespace(async |first| {
        cluster
            .with_namespace(async |second| {
                assert_ne!(first.name(), second.name());
                let params = PostParams::default();
                first.api().create(&params, &config_map("same-name")).await.unwrap();
                let found: Option<ConfigMap> = second.api().get_opt("same-name").await.unwrap();
                assert_eq!(found, None);
                second.api().create(&params, &config_map("same-name")).await.unwrap();
            })
            .await
            .unwrap();
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_namespace_goes_with_its_test_even_when_that_panics() {
    let cluster = shared().await.unwrap();
    let mut name = String::new();
    let test = cluster.with_namespace(async |namespace| {
        name = namespace.name().to_owned();
        panic!("on purpose");
    });
    let outcome = AssertUnwindSafe(test).catch_unwind().await;
    assert!(outcome.is_err());
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    // The real namespace controller empties it.
    eventually("the namespace is gone", SOON, async || {
        ensure!(namespaces.get_opt(&name).await?.is_none(), "it is there");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_crd_of_the_chart_is_accepted_and_serves_the_examples() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/echo-agent.yaml");
        namespace.apply(&std::fs::read_to_string(manifest).unwrap()).await.unwrap();
        let agents: Api<krypton_crd::Agent> = namespace.api();
        assert_eq!(agents.list(&ListParams::default()).await.unwrap().items.len(), 1);
    });
    test.await.unwrap();
}
