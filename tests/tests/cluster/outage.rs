//! A control plane of a test's own, for what the shared one must not suffer.

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use krypton_e2e::control_plane::ControlPlane;
use kube::Api;
use kube::api::{ObjectMeta, PostParams, WatchEvent, WatchParams};

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
        ..Default::default()
    }
}

#[tokio::test]
async fn the_api_goes_away_and_returns_with_a_compacted_history() {
    let mut control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let params = PostParams::default();
    let before =
        maps.create(&params, &config_map("before")).await.unwrap().metadata.resource_version.unwrap();
    maps.create(&params, &config_map("after")).await.unwrap();

    control_plane.stop_apiserver();
    cluster.readyz().await.unwrap_err();
    control_plane.compact_etcd().await.unwrap();
    control_plane.start_apiserver().await.unwrap();

    // The address and the data are the same; the history is not.
    assert_eq!(maps.get("after").await.unwrap().metadata.name.as_deref(), Some("after"));
    let events = maps.watch(&WatchParams::default(), &before).await.unwrap();
    let mut events = std::pin::pin!(events);
    match events.try_next().await.unwrap() {
        Some(WatchEvent::Error(status)) => assert_eq!(status.code, 410),
        other => panic!("a watch from revision {before} began with {other:?}"),
    }
}

#[tokio::test]
async fn its_data_goes_with_it() {
    let control_plane = ControlPlane::start().await.unwrap();
    let folder = control_plane.kubeconfig().parent().unwrap().to_owned();
    assert!(folder.exists());
    drop(control_plane);
    assert!(!folder.exists());
}
