//! What goes wrong between the Kubernetes API and a call, and what the caller sees of it: nothing, where that can be.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt};
use http::StatusCode;
use krypton_e2e::bridge::Bridge;
use krypton_e2e::cluster::{Namespace, shared};
use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::programs::{Controller, Gateway};
use krypton_e2e::wait::eventually;
use serde_json::{Value, json};

use crate::crd::install_lax_crd;
use crate::objects::{agent, put};
use crate::support::{
    Krypton, SOON, Traffic, apply_echo, call, delete_agent, endpoints_become, get, instance, is_answered_by,
    is_ready, is_refused, metric_becomes, path, ready, route, slice, start_controller, table,
};

/// Where clients of the Service dial it; its pod listens elsewhere.
const SERVICE_PORT: u16 = 80;

/// A Service without a selector, so that its slices are the test's, at an address of the test's own.
fn service(address: Ipv4Addr, target: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "echo", "labels": { "krypton.ai/agent": "echo" } },
        "spec": { "clusterIP": address, "ports": [{ "name": "http", "port": SERVICE_PORT, "targetPort": target }] },
    })
}

/// A Service that has no address.
fn headless_service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "echo", "labels": { "krypton.ai/agent": "echo" } },
        "spec": { "clusterIP": "None", "ports": [{ "name": "http", "port": SERVICE_PORT }] },
    })
}

/// Applies the agent `echo` with a pod, and a Service at `cluster_ip`; waits until the gateway knows both.
async fn apply_echo_with_service(
    gateway: &Gateway,
    namespace: &Namespace,
    pod: SocketAddr,
    cluster_ip: Ipv4Addr,
) {
    // A test before this one may have had the same bridge, and its namespace may not be gone yet. The Service is there
    // before its Agent, so that the controller leaves it alone.
    eventually("the address is free", SOON, async || put(namespace, service(cluster_ip, pod.port())).await)
        .await
        .unwrap();
    put(namespace, agent("echo", json!({ "port": pod.port() }))).await.unwrap();
    put(namespace, slice("echo-1", "echo", pod.port(), &[ready(pod.ip())])).await.unwrap();
    endpoints_become(gateway, namespace, &[pod]).await;
    let expected = SocketAddr::from((cluster_ip, SERVICE_PORT)).to_string();
    eventually("the gateway knows the Service", SOON, async || {
        let route = route(gateway, namespace).await?;
        ensure!(route["service"]["address"] == expected.as_str(), "{route}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Waits until the snapshot file holds each of these addresses.
async fn is_on_disk(file: &Path, addresses: &[Ipv4Addr]) {
    eventually("the table is on disk", SOON, async || {
        let bytes = std::fs::read(file)?;
        let holds = |address: &Ipv4Addr| bytes.windows(4).any(|window| window == address.octets());
        ensure!(addresses.iter().all(holds), "not this one");
        Ok(())
    })
    .await
    .unwrap();
}

/// Starts it again where gateways look for it.
async fn start_again(namespace: &Namespace, discovery: SocketAddr) -> Controller {
    start_controller(namespace, &["--discovery-listen", &discovery.to_string()]).await
}

#[tokio::test]
async fn an_address_that_changed_hands_while_nobody_could_tell_is_not_dialled() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let cluster_ip = bridge.cluster_ip().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table");
    let flags = ["--snapshot-file", file.to_str().unwrap()];
    let ours = instance(&bridge, 10, 0, "ours").await;
    let (pod, port) = (ours.http, ours.http.port());
    let test = cluster.with_namespace(async |namespace| {
        let controller = start_controller(namespace, &[]).await;
        let discovery = controller.discovery;
        let gateway = Gateway::start(discovery, &flags).await.unwrap();
        apply_echo_with_service(&gateway, namespace, pod, cluster_ip).await;
        is_answered_by(&gateway, namespace, "ours").await;
        is_on_disk(&file, &[bridge.address(10), cluster_ip]).await;
        drop((controller, gateway, ours));

        // Somebody else's pod has the address now, and the Service leads to where ours went.
        let _stranger = instance_again(pod, "stranger").await;
        let _moved = instance_again(SocketAddr::from((cluster_ip, SERVICE_PORT)), "by-the-service").await;
        let gateway = Gateway::start(discovery, &flags).await.unwrap();
        is_ready(&gateway).await;
        let shown = table(&gateway).await.unwrap();
        assert_eq!((&shown["freshness"], &shown["dials"]), (&json!("fromDisk"), &json!("clusterIp")));
        for _ in 0..20 {
            let answer = call(&gateway, namespace).await;
            assert_eq!((answer.status, answer.by.as_str()), (StatusCode::OK, "by-the-service"));
        }

        // The controller is back, and with it the truth about pods.
        let direct = instance(&bridge, 11, port, "direct").await;
        put(namespace, slice("echo-1", "echo", port, &[ready(direct.http.ip())])).await.unwrap();
        let _controller = start_again(namespace, discovery).await;
        is_answered_by(&gateway, namespace, "direct").await;
        assert_eq!(table(&gateway).await.unwrap()["dials"], "endpoints");
    });
    test.await.unwrap();
}

/// An instance at an address that is there already.
async fn instance_again(address: SocketAddr, name: &str) -> krypton_e2e::programs::ExampleAgent {
    krypton_e2e::programs::ExampleAgent::start(address, &["--name", name]).await.unwrap()
}

#[tokio::test]
async fn a_controller_that_is_gone_for_a_moment_does_not_make_pods_doubtful() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let cluster_ip = bridge.cluster_ip().unwrap();
    let pod = instance(&bridge, 10, 0, "pod").await;
    let _service = instance_again(SocketAddr::from((cluster_ip, SERVICE_PORT)), "service").await;
    let test = cluster.with_namespace(async |namespace| {
        let Krypton { controller, gateway } = Krypton::start(namespace).await;
        apply_echo_with_service(&gateway, namespace, pod.http, cluster_ip).await;
        drop(controller);
        eventually("the gateway notices", SOON, async || {
            let shown = table(&gateway).await?;
            ensure!(shown["freshness"] == "lost", "{shown}");
            Ok(())
        })
        .await
        .unwrap();
        let answer = call(&gateway, namespace).await;
        // For 30 s; then it would be right to ask the Service.
        assert_eq!((answer.status, answer.by.as_str()), (StatusCode::OK, "pod"));
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_restarts_without_a_controller_serves_from_disk() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let pod = instance(&bridge, 10, 0, "pod").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table");
    let flags = ["--snapshot-file", file.to_str().unwrap()];
    let test = cluster.with_namespace(async |namespace| {
        let controller = start_controller(namespace, &[]).await;
        let discovery = controller.discovery;
        let gateway = Gateway::start(discovery, &flags).await.unwrap();
        let krypton = Krypton { controller, gateway };
        put(namespace, headless_service()).await.unwrap();
        apply_echo(&krypton, namespace, &pod, "pod").await;
        is_on_disk(&file, &[bridge.address(10)]).await;
        drop(krypton);

        let gateway = Gateway::start(discovery, &flags).await.unwrap();
        is_ready(&gateway).await;
        // There is no address of a Service to ask, so the pod it is.
        assert_eq!(call(&gateway, namespace).await.by, "pod");
        is_refused(&gateway, namespace, "other", "agent_not_found").await;

        delete_agent(namespace, "echo").await;
        let _controller = start_again(namespace, discovery).await;
        is_refused(&gateway, namespace, "echo", "agent_not_found").await;
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_controller_that_is_killed_and_comes_back_costs_no_call() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let first = instance(&bridge, 10, 0, "first").await;
    let second = instance(&bridge, 11, first.http.port(), "second").await;
    let test = cluster.with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        apply_echo(&krypton, namespace, &first, "first").await;
        put(namespace, agent("goes", json!({}))).await.unwrap();
        is_refused(&krypton.gateway, namespace, "goes", "no_ready_endpoint").await;
        let Krypton { mut controller, gateway } = krypton;
        let traffic = Traffic::start(gateway.http, path(namespace, "echo"));

        controller.process.kill();
        put(namespace, slice("echo-1", "echo", first.http.port(), &[ready(second.http.ip())])).await.unwrap();
        delete_agent(namespace, "goes").await;
        assert_eq!(call(&gateway, namespace).await.by, "first");
        let _controller = start_again(namespace, controller.discovery).await;
        is_answered_by(&gateway, namespace, "second").await;
        is_refused(&gateway, namespace, "goes", "agent_not_found").await;
        traffic.end().await.assert_whole();
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_controller_that_hangs_costs_no_call_and_goes_on_where_it_was() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let first = instance(&bridge, 10, 0, "first").await;
    let second = instance(&bridge, 11, first.http.port(), "second").await;
    let test = cluster.with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        apply_echo(&krypton, namespace, &first, "first").await;
        let traffic = Traffic::start(krypton.gateway.http, path(namespace, "echo"));
        krypton.controller.process.pause();
        put(namespace, slice("echo-1", "echo", first.http.port(), &[ready(second.http.ip())])).await.unwrap();
        for _ in 0..20 {
            assert_eq!(call(&krypton.gateway, namespace).await.by, "first");
        }
        krypton.controller.process.resume();
        is_answered_by(&krypton.gateway, namespace, "second").await;
        traffic.end().await.assert_whole();
    });
    test.await.unwrap();
}

#[tokio::test]
async fn addresses_that_nobody_may_dial_do_not_reach_the_gateway() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let good = SocketAddr::from((bridge.address(10), 8080));
    let of_type = |name: &str, kind: &str, addresses: &[&str]| {
        let endpoints: Vec<_> = addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
        let mut slice = slice(name, "echo", 8080, &endpoints);
        slice["addressType"] = json!(kind);
        slice
    };
    let test = cluster.with_namespace(async |namespace| {
        // The API server's own part. Were it to take one of these, ours would have to be seen below.
        for (kind, addresses) in [
            ("IPv4", &["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "localhost"][..]),
            ("IPv6", &["::1", "fe80::1", "ff02::1", "::", "::ffff:127.0.0.1", "127.0.0.1"]),
        ] {
            for address in addresses {
                let refusal = put(namespace, of_type("refused", kind, &[address])).await.expect_err(address);
                let refusal = format!("{refusal:#}");
                assert!(refusal.contains("endpoints[0].addresses[0]"), "{address}: {refusal}");
            }
        }

        let krypton = Krypton::start_with(namespace, &["--deny-cidrs", "198.51.100.0/24"]).await;
        put(namespace, agent("echo", json!({}))).await.unwrap();
        let refused = "krypton_controller_refused_endpoints";
        // The metadata service that is not link-local, alone: no address family is chosen for its sake.
        put(namespace, of_type("metadata", "IPv6", &["fd00:ec2::254"])).await.unwrap();
        metric_becomes(krypton.controller.admin, refused, 1.0).await;
        put(namespace, of_type("mixed", "IPv4", &["198.51.100.7", "198.51.100.8", &good.ip().to_string()]))
            .await
            .unwrap();
        endpoints_become(&krypton.gateway, namespace, &[good]).await;
        metric_becomes(krypton.controller.admin, refused, 3.0).await;
        // The gateway did not have to refuse anything: it never heard of them.
        assert_eq!(route(&krypton.gateway, namespace).await.unwrap()["refused"], json!([]));
        let sources = get(krypton.controller.admin, "/debug/sources").await.unwrap();
        for reason in ["fd00:ec2::254 is a metadata service", "198.51.100.7 is in the denied network"] {
            assert!(sources.body.contains(reason), "{}", sources.body);
        }

        put(namespace, of_type("mixed", "IPv4", &[&good.ip().to_string()])).await.unwrap();
        metric_becomes(krypton.controller.admin, refused, 1.0).await;
    });
    test.await.unwrap();
}

/// How many Agents stand beside the bad one.
const GOOD: usize = 100;

/// Objects that are written at a time.
const WRITERS: usize = 8;

#[tokio::test]
async fn one_agent_that_cannot_be_read_does_not_hide_a_hundred_others() {
    let control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    install_lax_crd(&cluster).await;
    let bridge = Bridge::create().unwrap();
    let pod = instance(&bridge, 10, 0, "pod").await;
    let test = cluster.with_namespace(async |namespace| {
        let names: Vec<String> = (0..GOOD).map(|n| format!("good-{n}")).collect();
        let objects = names.iter().flat_map(|name| {
            let endpoints = [ready(pod.http.ip())];
            [agent(name, json!({})), slice(name, name, pod.http.port(), &endpoints)]
        });
        let bad = agent("bad", json!({ "protocol": "grpc" }));
        let objects = objects.chain([bad, slice("bad", "bad", pod.http.port(), &[ready(pod.http.ip())])]);
        let writes = futures::stream::iter(objects.map(|object| put(namespace, object)));
        writes.buffer_unordered(WRITERS).try_collect::<Vec<_>>().await.unwrap();

        let Krypton { controller, gateway } = Krypton::start(namespace).await;
        for name in &names {
            let answer = get(gateway.http, &path(namespace, name)).await.unwrap();
            assert_eq!((answer.status, answer.by.as_str()), (StatusCode::OK, "pod"), "{name}: {answer:?}");
        }
        is_refused(&gateway, namespace, "bad", "agent_not_found").await;
        let refused = "krypton_controller_refused_objects_total{kind=\"Agent\"}";
        metric_becomes(controller.admin, refused, 1.0).await;
        metric_becomes(controller.admin, "krypton_controller_agents", 100.0).await;
        let sources = get(controller.admin, "/debug/sources").await.unwrap();
        assert!(sources.body.contains("spec.protocol") && sources.body.contains("grpc"), "{}", sources.body);

        // Repaired, it is served; broken again, its last good version is.
        put(namespace, agent("bad", json!({}))).await.unwrap();
        eventually("the repaired one is served", SOON, async || {
            let answer = get(gateway.http, &path(namespace, "bad")).await?;
            ensure!(answer.by == "pod", "{answer:?}");
            Ok(())
        })
        .await
        .unwrap();
        put(namespace, agent("bad", json!({ "timeout": "soon" }))).await.unwrap();
        metric_becomes(controller.admin, refused, 2.0).await;
        let answer = get(gateway.http, &path(namespace, "bad")).await.unwrap();
        assert_eq!((answer.status, answer.by.as_str()), (StatusCode::OK, "pod"));
        eventually("each bad version is told of once", SOON, async || {
            let log = controller.process.log().read()?;
            let told = log.lines().filter(|line| line.contains("Object cannot be used")).count();
            ensure!(told == 2, "{told} times: {log}");
            Ok(())
        })
        .await
        .unwrap();
    });
    test.await.unwrap();
}
