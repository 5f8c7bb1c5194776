//! The controller and its API server: rights, a missing definition, outages, a lost history.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use krypton_e2e::bridge::Bridge;
use krypton_e2e::cluster::{Namespace, shared};
use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::programs::{Controller, Gateway};
use krypton_e2e::wait::eventually;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::objects::{agent, put};
use crate::support::{
    Krypton, SOON, Traffic, apply_echo, delete_agent, get, instance, is_answered_by, is_ready, is_refused,
    metric_becomes, path, ready, slice,
};

const KINDS: [&str; 3] = ["Agent", "EndpointSlice", "Service"];

/// Waits until every watch is alive (or not).
async fn watches_become(controller: &Controller, alive: bool) {
    for kind in KINDS {
        let series = format!("krypton_controller_source_up{{kind=\"{kind}\"}}");
        metric_becomes(controller.admin, &series, f64::from(u8::from(alive))).await;
    }
}

/// Waits until `/readyz?verbose` of the controller has that text.
async fn says(controller: &Controller, status: StatusCode, text: &str) {
    eventually(&format!("the controller says {text:?}"), SOON, async || {
        let answer = get(controller.admin, "/readyz?verbose").await?;
        ensure!(answer.status == status && answer.body.contains(text), "{} {}", answer.status, answer.body);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn after_an_outage_with_a_compacted_history_all_is_right() {
    let mut control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let first = instance(&bridge, 10, 0, "first").await;
    let second = instance(&bridge, 11, first.http.port(), "second").await;
    let of = |name: &str, pod: &krypton_e2e::programs::ExampleAgent| {
        slice(name, name, pod.http.port(), &[ready(pod.http.ip())])
    };
    let test = cluster.with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        apply_echo(&krypton, namespace, &first, "first").await;
        for name in ["steady", "goes"] {
            put(namespace, agent(name, json!({}))).await.unwrap();
            put(namespace, of(name, &first)).await.unwrap();
        }
        let Krypton { mut controller, gateway } = krypton;
        let steady = path(namespace, "steady");
        eventually("the steady one is served", SOON, async || {
            ensure!(get(gateway.http, &steady).await?.status == StatusCode::OK);
            Ok(())
        })
        .await
        .unwrap();
        let traffic = Traffic::start(gateway.http, steady);
        let log_before = controller.process.log().read().unwrap();

        control_plane.stop_apiserver();
        watches_become(&controller, false).await;
        says(&controller, StatusCode::OK, "lost, what is known stays in use").await;
        is_answered_by(&gateway, namespace, "first").await;
        // What happens now, the controller can only find out by a new list: it sees none of the events, and etcd
        // forgets them.
        controller.process.pause();
        control_plane.start_apiserver().await.unwrap();
        put(namespace, slice("echo-1", "echo", second.http.port(), &[ready(second.http.ip())]))
            .await
            .unwrap();
        delete_agent(namespace, "goes").await;
        put(namespace, agent("comes", json!({}))).await.unwrap();
        put(namespace, of("comes", &second)).await.unwrap();
        control_plane.compact_etcd().await.unwrap();
        controller.process.resume();

        is_answered_by(&gateway, namespace, "second").await;
        is_refused(&gateway, namespace, "goes", "agent_not_found").await;
        let answer = get(gateway.http, &path(namespace, "comes")).await.unwrap();
        assert_eq!((answer.status, answer.by.as_str()), (StatusCode::OK, "second"));
        watches_become(&controller, true).await;
        traffic.end().await.assert_whole();
        assert_eq!(controller.process.exit_status().unwrap(), None);
        eventually("the outage is told of once", SOON, async || {
            outage_is_told_once(&controller.process.log().read()?[log_before.len()..])
        })
        .await
        .unwrap();
    });
    test.await.unwrap();
}

/// Each watch that routes come from says that it was lost and that it is back, and nothing of the tries in between.
/// Those of the leader do too, or begin anew where the outage ended its term.
fn outage_is_told_once(log: &str) -> Result<()> {
    let told: Vec<&str> = log.lines().filter(|line| line.contains("krypton_controller::source")).collect();
    for (of, change, times) in [
        ("routes", "Watch was lost", KINDS.len()..=KINDS.len()),
        ("routes", "Watch is back", KINDS.len()..=KINDS.len()),
        ("workloads", "Watch was lost", 0..=MANAGED),
        ("workloads", "Watch is back", 0..=MANAGED),
    ] {
        let of = format!("\"of\":\"{of}\"");
        let told = told.iter().filter(|line| line.contains(&of) && line.contains(change)).count();
        ensure!(times.contains(&told), "{of} {change}: {log}");
    }
    Ok(())
}

/// Kinds that the leader watches besides.
const MANAGED: usize = 5;

/// Connections to wait for. By the pigeonhole, one of the three watches has made six of them, with five pauses of at
/// least half of 100, 200, 400, 800 and 1,600 ms between.
const TRIES: usize = 16;
const LEAST_PAUSES: Duration = Duration::from_millis(1_550);

/// Hangs up on whatever comes, until it was a watch's: the election has pauses of its own, and a test.
async fn try_of_a_watch(listener: &TcpListener) -> std::io::Result<()> {
    loop {
        let (mut connection, _) = listener.accept().await?;
        let mut request = vec![0; 1024];
        let read = connection.read(&mut request).await?;
        if !String::from_utf8_lossy(&request[..read]).contains("coordination.k8s.io") {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn an_api_server_that_hangs_up_is_tried_in_growing_pauses_and_told_of_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{ "name": "test", "cluster": { "server": server } }],
        "users": [{ "name": "test", "user": { "token": "none" } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let begun = Instant::now();
    let mut controller = Controller::start_on_cluster(&kubeconfig, &[]).await.unwrap();
    for _ in 0..TRIES {
        tokio::time::timeout(SOON, try_of_a_watch(&listener)).await.expect("it is tried again").unwrap();
    }
    assert!(begun.elapsed() >= LEAST_PAUSES, "{TRIES} tries took {:?}", begun.elapsed());
    says(&controller, StatusCode::SERVICE_UNAVAILABLE, "Agent in all namespaces: no complete list yet").await;
    assert_eq!(controller.process.exit_status().unwrap(), None);
    eventually("each watch tells of it once", SOON, async || {
        let log = controller.process.log().read()?;
        let told = log.lines().filter(|line| line.contains("Watch cannot start")).count();
        ensure!(told == KINDS.len(), "{told} times: {log}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_controller_that_is_there_before_its_definition_says_so_and_then_works() {
    let control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let pod = instance(&bridge, 10, 0, "pod").await;
    let test = cluster.with_namespace(async |namespace| {
        let controller = Controller::start_on_cluster(cluster.kubeconfig(), &[]).await.unwrap();
        let gateway = Gateway::start(controller.discovery, &[]).await.unwrap();
        let missing = "does not know the kind Agent: is its CustomResourceDefinition installed?";
        says(&controller, StatusCode::SERVICE_UNAVAILABLE, missing).await;
        let log = controller.process.log().read().unwrap();
        assert!(log.contains(missing), "{log}");
        assert_eq!(get(gateway.admin, "/readyz").await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
        is_refused(&gateway, namespace, "echo", "gateway_not_ready").await;

        cluster.install_agent_crd().await.unwrap();
        is_ready(&gateway).await;
        apply_echo(&Krypton { controller, gateway }, namespace, &pod, "pod").await;
    });
    test.await.unwrap();
}

#[tokio::test]
async fn the_right_to_read_three_kinds_is_enough_and_a_missing_one_is_named() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let pod = instance(&bridge, 10, 0, "pod").await;
    let folder = tempfile::tempdir().unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let name = namespace.name();
        let kubectl = async |args: &[&str]| cluster.kubectl(args, "").await.unwrap();
        kubectl(&["create", "serviceaccount", "reader", "--namespace", name]).await;
        let token = kubectl(&["create", "token", "reader", "--namespace", name]).await;
        let admin = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
        let mut config: Value = serde_json::from_str(&admin).unwrap();
        config["users"][0]["user"] = json!({ "token": token.trim() });
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).unwrap();

        // No --namespace: it reads the whole cluster.
        let controller = Controller::start_on_cluster(&kubeconfig, &[]).await.unwrap();
        says(&controller, StatusCode::SERVICE_UNAVAILABLE, "is forbidden").await;
        grant_reading(namespace).await;
        let gateway = Gateway::start(controller.discovery, &[]).await.unwrap();
        is_ready(&gateway).await;
        apply_echo(&Krypton { controller, gateway }, namespace, &pod, "pod").await;
    });
    test.await.unwrap();
}

/// Lets the service account `reader` list and watch, cluster-wide, what the controller reads.
async fn grant_reading(namespace: &Namespace) {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(namespace.cluster().client());
    let uid = namespaces.get(namespace.name()).await.unwrap().metadata.uid.context("no uid").unwrap();
    let metadata = json!({
        "name": namespace.name(),
        // The garbage collector takes them with the namespace.
        "ownerReferences": [
            { "apiVersion": "v1", "kind": "Namespace", "name": namespace.name(), "uid": uid },
        ],
    });
    let readable = [("krypton.ai", "agents"), ("discovery.k8s.io", "endpointslices"), ("", "services")];
    let rules = readable.map(|(group, resource)| {
        let verbs = ["list", "watch"];
        json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs })
    });
    let role = json!({ "metadata": metadata, "rules": rules });
    let binding = json!({
        "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace.name() },
        "subjects": [{ "kind": "ServiceAccount", "name": "reader", "namespace": namespace.name() }],
    });
    let role: ClusterRole = serde_json::from_value(role).unwrap();
    let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
    let client = namespace.cluster().client();
    Api::all(client.clone()).create(&PostParams::default(), &role).await.unwrap();
    Api::all(client).create(&PostParams::default(), &binding).await.unwrap();
}
