//! The main job on a real Kubernetes API: Agents and slices are applied, calls through the gateway follow them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::ensure;
use http::StatusCode;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use krypton_e2e::bridge::Bridge;
use krypton_e2e::cluster::{Namespace, shared};
use krypton_e2e::programs::{Controller, Gateway};
use krypton_e2e::wait::eventually;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::objects::{agent, put};
use crate::support::{
    Krypton, SOON, apply_echo, call, endpoints_become, get, instance, is_answered_by, is_ready, is_refused,
    path, ready, route, slice,
};

/// Calls that show where the gateway sends new ones: with two endpoints, each would get about half.
const SAMPLE: usize = 50;

/// All of [`SAMPLE`] calls are answered by that instance.
async fn only_answered_by(gateway: &Gateway, namespace: &Namespace, by: &str) {
    for _ in 0..SAMPLE {
        let answer = call(gateway, namespace).await;
        assert_eq!((answer.status, answer.by.as_str()), (StatusCode::OK, by));
    }
}

/// An endpoint with these conditions.
fn endpoint(address: SocketAddr, conditions: &Value) -> Value {
    json!({ "addresses": [address.ip()], "conditions": conditions })
}

async fn delete_slice(namespace: &Namespace, name: &str) {
    let slices: Api<EndpointSlice> = namespace.api();
    slices.delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn what_kubectl_applies_is_called_and_what_it_deletes_is_unknown() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let pod = instance(&bridge, 10, 0, "echo-a").await;
    let test = cluster.with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        is_refused(&krypton.gateway, namespace, "echo", "agent_not_found").await;
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/echo-agent.yaml");
        let manifest = std::fs::read_to_string(manifest).unwrap();
        namespace.apply(&manifest).await.unwrap();
        is_refused(&krypton.gateway, namespace, "echo-agent", "no_ready_endpoint").await;
        let slice = slice("by-hand", "echo-agent", pod.http.port(), &[ready(pod.http.ip())]);
        namespace.apply(&slice.to_string()).await.unwrap();

        let target = format!("/v1/agents/{}/echo-agent/some%2Fpath?q=1", namespace.name());
        let answer = eventually("it answers", SOON, async || {
            let answer = get(krypton.gateway.http, &target).await?;
            ensure!(answer.status == StatusCode::OK, "{answer:?}");
            Ok(answer)
        });
        let answer = answer.await.unwrap();
        assert_eq!((answer.by.as_str(), &answer.json()["target"]), ("echo-a", &json!("/some%2Fpath?q=1")));

        let delete = ["delete", "--namespace", namespace.name(), "--filename=-"];
        cluster.kubectl(&delete, &manifest).await.unwrap();
        is_refused(&krypton.gateway, namespace, "echo-agent", "agent_not_found").await;
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_changed_slice_is_used() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let first = instance(&bridge, 10, 0, "first").await;
    let second = instance(&bridge, 11, first.http.port(), "second").await;
    let test = cluster.with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        apply_echo(&krypton, namespace, &first, "first").await;
        put(namespace, slice("echo-1", "echo", second.http.port(), &[ready(second.http.ip())]))
            .await
            .unwrap();
        is_answered_by(&krypton.gateway, namespace, "second").await;
        only_answered_by(&krypton.gateway, namespace, "second").await;
        put(namespace, slice("echo-1", "echo", second.http.port(), &[])).await.unwrap();
        is_refused(&krypton.gateway, namespace, "echo", "no_ready_endpoint").await;
    });
    test.await.unwrap();
}

#[tokio::test]
async fn endpoints_that_take_no_new_calls_get_none() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let stays = instance(&bridge, 10, 0, "stays").await;
    let other = instance(&bridge, 11, stays.http.port(), "other").await;
    let (good, bad) = (stays.http, other.http);
    let test = cluster.with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        put(namespace, agent("echo", json!({}))).await.unwrap();
        for conditions in [
            json!({ "ready": false }),
            json!({ "ready": true, "terminating": true }),
            json!({ "ready": false, "serving": true, "terminating": true }),
        ] {
            // Unset conditions are those of an endpoint that takes calls.
            let both = [endpoint(good, &json!({})), endpoint(bad, &json!({ "ready": true }))];
            put(namespace, slice("echo-1", "echo", good.port(), &both)).await.unwrap();
            endpoints_become(&krypton.gateway, namespace, &[good, bad]).await;
            let one = [endpoint(good, &json!({})), endpoint(bad, &conditions)];
            put(namespace, slice("echo-1", "echo", good.port(), &one)).await.unwrap();
            endpoints_become(&krypton.gateway, namespace, &[good]).await;
            only_answered_by(&krypton.gateway, namespace, "stays").await;
        }
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_changed_timeout_is_enforced() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let pod = instance(&bridge, 10, 0, "slow").await;
    let test = cluster.with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        apply_echo(&krypton, namespace, &pod, "slow").await;
        let target = format!("{}?delay=1s", path(namespace, "echo"));
        assert_eq!(get(krypton.gateway.http, &target).await.unwrap().status, StatusCode::OK);

        put(namespace, agent("echo", json!({ "timeout": "300ms" }))).await.unwrap();
        eventually("the gateway has the timeout", SOON, async || {
            let route = route(&krypton.gateway, namespace).await?;
            ensure!(route["timeoutMs"] == 300, "{route}");
            Ok(())
        })
        .await
        .unwrap();
        let target = format!("{}?delay=1h", path(namespace, "echo"));
        let asked = Instant::now();
        let answer = get(krypton.gateway.http, &target).await.unwrap();
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout".to_owned())
        );
        assert!(asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());
    });
    test.await.unwrap();
}

#[tokio::test]
async fn pods_behind_a_labelled_service_are_called_as_the_real_controllers_report_them() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let first = instance(&bridge, 10, 0, "first").await;
    let second = instance(&bridge, 11, first.http.port(), "second").await;
    let (one, two, port) = (first.http, second.http, first.http.port());
    let test = cluster.with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        // Before the Agent: the controller leaves it alone then.
        put(namespace, service(&json!({ "app": "echo" }), port)).await.unwrap();
        put(namespace, agent("echo", json!({ "port": port }))).await.unwrap();
        let labels = BTreeMap::from([("app".to_owned(), "echo".to_owned())]);
        let pod = namespace.add_pod("echo-1", &labels, one.ip()).await.unwrap();
        namespace.add_pod("echo-2", &labels, two.ip()).await.unwrap();
        endpoints_become(&krypton.gateway, namespace, &[one, two]).await;
        let shown = route(&krypton.gateway, namespace).await.unwrap();
        assert_eq!(shown["endpoints"][0]["podUid"], json!(pod.metadata.uid.unwrap()));
        // Services are watched apart from endpoints.
        let service: SocketAddr = eventually("the gateway has the Service", SOON, async || {
            let route = route(&krypton.gateway, namespace).await?;
            Ok(serde_json::from_value(route["service"]["address"].clone())?)
        })
        .await
        .unwrap();
        assert_eq!(service.port(), port);

        namespace.set_pod_ready("echo-1", false).await.unwrap();
        endpoints_become(&krypton.gateway, namespace, &[two]).await;
        namespace.set_pod_ready("echo-1", true).await.unwrap();
        endpoints_become(&krypton.gateway, namespace, &[one, two]).await;
        namespace.terminate_pod("echo-2").await.unwrap();
        endpoints_become(&krypton.gateway, namespace, &[one]).await;
        only_answered_by(&krypton.gateway, namespace, "first").await;
    });
    test.await.unwrap();
}

/// The agent `echo`'s Service; without a selector where that is null.
fn service(selector: &Value, port: u16) -> Value {
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "echo", "labels": { "krypton.ai/agent": "echo" } },
        "spec": { "ports": [{ "name": "http", "port": port, "targetPort": port }] },
    });
    if !selector.is_null() {
        service["spec"]["selector"] = selector.clone();
    }
    service
}

/// Kubernetes mirrors hand-written Endpoints of a Service without a selector into slices, with the labels of the
/// Endpoints, not of the Service: the label has to stand there.
#[tokio::test]
async fn mirrored_endpoints_count_when_they_bear_the_label_themselves() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let outside = instance(&bridge, 10, 0, "outside").await;
    let port = outside.http.port();
    let endpoints = |labels: &Value| {
        json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": { "name": "echo", "labels": labels },
            "subsets": [{
                "addresses": [{ "ip": outside.http.ip() }],
                "ports": [{ "name": "http", "port": port }],
            }],
        })
    };
    let test = cluster.with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        put(namespace, service(&Value::Null, port)).await.unwrap();
        put(namespace, agent("echo", json!({}))).await.unwrap();
        put(namespace, endpoints(&json!({}))).await.unwrap();
        let mirrored = mirrored_labels(namespace).await;
        assert_eq!(mirrored["kubernetes.io/service-name"], "echo");
        assert_eq!(mirrored.get("krypton.ai/agent"), None, "the Service's labels are mirrored after all");
        is_refused(&krypton.gateway, namespace, "echo", "no_ready_endpoint").await;

        put(namespace, endpoints(&json!({ "krypton.ai/agent": "echo" }))).await.unwrap();
        is_answered_by(&krypton.gateway, namespace, "outside").await;
    });
    test.await.unwrap();
}

async fn mirrored_labels(namespace: &Namespace) -> BTreeMap<String, String> {
    let slices: Api<EndpointSlice> = namespace.api();
    eventually("the endpoints are mirrored", SOON, async || {
        let found = slices.list(&ListParams::default()).await?.items;
        ensure!(found.len() == 1, "{} slices", found.len());
        Ok(found[0].metadata.labels.clone().unwrap_or_default())
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn slices_of_one_agent_merge() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let (one, two, three) = (bridge.address(10), bridge.address(11), bridge.address(12));
    let at = |address: Ipv4Addr| SocketAddr::from((address, 8080));
    let test = cluster.with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        put(namespace, agent("echo", json!({}))).await.unwrap();
        put(namespace, slice("one", "echo", 8080, &[ready(one), ready(two)])).await.unwrap();
        // A pod moves between slices: for a moment it is in both.
        put(namespace, slice("two", "echo", 8080, &[ready(two), ready(three)])).await.unwrap();
        endpoints_become(&krypton.gateway, namespace, &[at(one), at(two), at(three)]).await;
        // Not the agent's: one label without the other, or another agent's.
        for (name, label, service) in [("three", "echo", "other"), ("four", "other", "echo")] {
            let mut foreign = slice(name, label, 8080, &[ready(bridge.address(13))]);
            foreign["metadata"]["labels"]["kubernetes.io/service-name"] = json!(service);
            put(namespace, foreign).await.unwrap();
        }
        delete_slice(namespace, "one").await;
        endpoints_become(&krypton.gateway, namespace, &[at(two), at(three)]).await;
    });
    test.await.unwrap();
}

#[tokio::test]
async fn one_address_family_is_dialled_and_host_names_are_not() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let v4 = bridge.address(10);
    let v6: Ipv6Addr = "fd00:5e5::10".parse().unwrap();
    let slice_of = |name: &str, kind: &str, address: Value| {
        let mut slice = slice(name, "echo", 8080, &[json!({ "addresses": [address] })]);
        slice["addressType"] = json!(kind);
        slice
    };
    let test = cluster.with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        put(namespace, agent("echo", json!({}))).await.unwrap();
        put(namespace, slice_of("v6", "IPv6", json!(v6))).await.unwrap();
        endpoints_become(&krypton.gateway, namespace, &[SocketAddr::from((v6, 8080))]).await;
        put(namespace, slice_of("name", "FQDN", json!("agent.example.com"))).await.unwrap();
        put(namespace, slice_of("v4", "IPv4", json!(v4))).await.unwrap();
        endpoints_become(&krypton.gateway, namespace, &[SocketAddr::from((v4, 8080))]).await;
        delete_slice(namespace, "v4").await;
        endpoints_become(&krypton.gateway, namespace, &[SocketAddr::from((v6, 8080))]).await;
    });
    test.await.unwrap();
}

#[tokio::test]
async fn two_gateways_serve_the_same() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let first = instance(&bridge, 10, 0, "first").await;
    let second = instance(&bridge, 11, first.http.port(), "second").await;
    let test = cluster.with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        apply_echo(&krypton, namespace, &first, "first").await;
        let other = Gateway::start(krypton.controller.discovery, &["--node-id", "other"]).await.unwrap();
        is_ready(&other).await;
        // Ready means whole: the first call is answered.
        assert_eq!(call(&other, namespace).await.by, "first");
        put(namespace, slice("echo-1", "echo", second.http.port(), &[ready(second.http.ip())]))
            .await
            .unwrap();
        for gateway in [&krypton.gateway, &other] {
            is_answered_by(gateway, namespace, "second").await;
        }
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_controller_of_some_namespaces_knows_no_others() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let pod = instance(&bridge, 10, 0, "pod").await;
    let test = cluster.with_namespace(async |foreign| {
        let test = cluster.with_namespace(async |second| {
            let test = cluster.with_namespace(async |first| {
                // The foreign one first: were it watched, it would be there by the time the others are.
                for namespace in [foreign, first, second] {
                    put(namespace, agent("echo", json!({}))).await.unwrap();
                    let endpoints = [ready(pod.http.ip())];
                    put(namespace, slice("echo-1", "echo", pod.http.port(), &endpoints)).await.unwrap();
                }
                let namespaces = format!("--namespace={},{}", first.name(), second.name());
                let controller =
                    Controller::start_on_cluster(cluster.kubeconfig(), &[&namespaces]).await.unwrap();
                let gateway = Gateway::start(controller.discovery, &[]).await.unwrap();
                is_answered_by(&gateway, first, "pod").await;
                is_answered_by(&gateway, second, "pod").await;
                is_refused(&gateway, foreign, "echo", "agent_not_found").await;
            });
            test.await.unwrap();
        });
        test.await.unwrap();
    });
    test.await.unwrap();
}
