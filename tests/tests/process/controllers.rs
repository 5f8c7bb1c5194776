//! Gateways and their controller: one that restarts, hangs, is not there yet, or has several gateways.

use std::fs;
use std::net::SocketAddr;

use krypton_e2e::programs::Controller;
use tempfile::TempDir;

use crate::support::manifest::{Manifests, agent};
use crate::support::{
    Krypton, agent as start_agent, closed_port, controller_at, controller_on, endpoints_become,
    freshness_becomes, gateway_of, is_ready, logged, metric_becomes, status_becomes, traffic,
};
use krypton_e2e::client::get;

#[tokio::test]
async fn a_restarted_controller_sends_only_what_differs() {
    let echo = start_agent("first").await;
    let manifests = Manifests::with_echo(&[echo.http]);
    manifests.put("stays.yaml", agent("stays", "protocol: http", &[echo.http]));
    manifests.put("goes.yaml", agent("goes", "protocol: http", &[echo.http]));
    let mut krypton = Krypton::start(manifests).await;
    let traffic = traffic(krypton.gateway.http);

    krypton.controller.process.kill();
    freshness_becomes(&krypton.gateway, "lost").await;
    logged(&krypton.gateway.process.log(), "Lost the controller; serving the last table and trying again")
        .await;
    traffic.goes_on(20).await.unwrap();
    krypton.manifests.remove("goes.yaml");
    krypton.manifests.put("comes.yaml", agent("comes", "protocol: http", &[echo.http]));
    krypton.restart_controller().await;
    freshness_becomes(&krypton.gateway, "live").await;
    traffic.goes_on(20).await.unwrap();
    traffic.end_whole().await.unwrap();

    for (name, status) in [("echo", 200), ("stays", 200), ("comes", 200), ("goes", 404)] {
        assert_eq!(krypton.get(&format!("/v1/agents/default/{name}/")).await.status, status, "{name}");
    }
    let admin = krypton.controller.admin;
    metric_becomes(admin, "krypton_controller_upserts_total", 1.0).await;
    metric_becomes(admin, "krypton_controller_removals_total", 1.0).await;
}

#[tokio::test]
async fn a_controller_may_restart_again_and_again_under_load() {
    let echo = start_agent("first").await;
    let mut krypton = Krypton::start(Manifests::with_echo(&[echo.http])).await;
    let traffic = traffic(krypton.gateway.http);
    for _ in 0..3 {
        krypton.restart_controller().await;
        metric_becomes(krypton.controller.admin, "krypton_controller_gateways", 1.0).await;
        freshness_becomes(&krypton.gateway, "live").await;
        metric_becomes(krypton.controller.admin, "krypton_controller_upserts_total", 0.0).await;
    }
    traffic.goes_on(10).await.unwrap();
    traffic.end_whole().await.unwrap();
}

#[tokio::test]
async fn a_controller_that_hangs_is_noticed_and_taken_back() {
    let (first, second) = (start_agent("first").await, start_agent("second").await);
    let krypton = Krypton::start(Manifests::with_echo(&[first.http])).await;
    let traffic = traffic(krypton.gateway.http);
    krypton.controller.process.pause();
    krypton.manifests.put("late.yaml", agent("late", "protocol: http", &[second.http]));
    // By the pings of HTTP/2, after 15 s: its sockets stay open.
    freshness_becomes(&krypton.gateway, "lost").await;
    krypton.controller.process.resume();
    freshness_becomes(&krypton.gateway, "live").await;
    status_becomes(krypton.gateway.http, "/v1/agents/default/late/", 200).await;
    traffic.end_whole().await.unwrap();
}

#[tokio::test]
async fn a_controller_that_hangs_for_a_moment_loses_nothing() {
    let (first, second) = (start_agent("first").await, start_agent("second").await);
    let krypton = Krypton::start(Manifests::with_echo(&[first.http])).await;
    let traffic = traffic(krypton.gateway.http);
    krypton.controller.process.pause();
    krypton.manifests.put("late.yaml", agent("late", "protocol: http", &[second.http]));
    traffic.goes_on(30).await.unwrap();
    assert_eq!(krypton.get("/v1/agents/default/late/").await.status, 404);
    krypton.controller.process.resume();
    status_becomes(krypton.gateway.http, "/v1/agents/default/late/", 200).await;
    traffic.end_whole().await.unwrap();
    metric_becomes(krypton.gateway.admin, "krypton_discovery_streams_total", 1.0).await;
}

#[tokio::test]
async fn several_gateways_follow_one_controller() {
    let (first, second) = (start_agent("first").await, start_agent("second").await);
    let manifests = Manifests::with_echo(&[first.http]);
    let controller = controller_on(&manifests).await;
    let mut gateways = Vec::new();
    for node in ["gateway-1", "gateway-2", "gateway-3"] {
        let gateway = gateway_of(controller.discovery, &["--node-id", node]).await;
        is_ready(gateway.admin).await;
        gateways.push(gateway);
    }
    let listed = get(controller.admin, "/debug/gateways").await.unwrap().json();
    let mut nodes: Vec<_> =
        listed.as_array().unwrap().iter().map(|gateway| gateway["node"].as_str().unwrap()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["gateway-1", "gateway-2", "gateway-3"]);
    // The only controller leads, and hears from each what it holds.
    metric_becomes(controller.admin, "krypton_controller_report_members", 3.0).await;
    let listed = get(controller.admin, "/debug/gateways").await.unwrap().json();
    for gateway in listed.as_array().unwrap() {
        assert_eq!(gateway["report"]["held"], 1, "{gateway}");
    }

    manifests.put("echo.yaml", agent("echo", "protocol: http", &[second.http]));
    for gateway in &gateways {
        endpoints_become(gateway, "echo", &[second.http]).await;
    }
    // One that leaves takes nothing from the others.
    gateways.pop();
    metric_becomes(controller.admin, "krypton_controller_gateways", 2.0).await;
    manifests.put("echo.yaml", agent("echo", "protocol: http", &[first.http]));
    for gateway in &gateways {
        endpoints_become(gateway, "echo", &[first.http]).await;
    }
}

/// A gateway that has never had a table says so to probes and to callers.
async fn is_without_a_table(admin: SocketAddr, http: SocketAddr) {
    let told = get(admin, "/readyz?verbose").await.unwrap();
    assert_eq!(told.status, 503);
    assert!(told.text().contains("[-] table: waiting\n"), "{}", told.text());
    assert_eq!(get(http, "/readyz").await.unwrap().status, 503);
    let answer = get(http, "/v1/agents/default/echo/").await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (503, "gateway_not_ready"));
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn a_gateway_that_looks_for_its_controller_in_the_wrong_place_is_not_ready() {
    let gateway = gateway_of(closed_port().await, &[]).await;
    // It cannot have lost what it never had.
    let missing = logged(&gateway.process.log(), "Cannot reach the controller; trying again").await;
    assert!(missing["error"].as_str().unwrap().contains("Connection refused"), "{missing}");
    is_without_a_table(gateway.admin, gateway.http).await;
    assert_eq!(get(gateway.admin, "/healthz").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_gateway_may_start_before_its_controller() {
    let echo = start_agent("first").await;
    let manifests = Manifests::with_echo(&[echo.http]);
    let discovery = closed_port().await;
    let gateway = gateway_of(discovery, &[]).await;
    is_without_a_table(gateway.admin, gateway.http).await;
    let _controller = controller_at(discovery, &manifests).await;
    is_ready(gateway.admin).await;
    assert_eq!(get(gateway.http, "/v1/agents/default/echo/").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_controller_without_a_complete_list_is_not_ready_and_tells_nothing() {
    let folder = TempDir::new().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let api = closed_port().await;
    let cluster = format!("{{ name: c, cluster: {{ server: 'http://{api}' }} }}");
    let context = "{ name: c, context: { cluster: c, user: u } }";
    fs::write(
        &kubeconfig,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{cluster}]\ncontexts: [{context}]\n\
             users: [{{ name: u, user: {{}} }}]\n"
        ),
    )
    .unwrap();
    let controller = Controller::start_on_cluster(&kubeconfig, &[]).await.unwrap();
    let told = status_becomes(controller.admin, "/readyz?verbose", 503).await;
    assert!(told.text().contains("[-] snapshot: not complete yet\n"), "{}", told.text());
    assert!(told.text().contains("no complete list yet"), "{}", told.text());

    let gateway = gateway_of(controller.discovery, &[]).await;
    metric_becomes(controller.admin, "krypton_controller_gateways", 1.0).await;
    is_without_a_table(gateway.admin, gateway.http).await;
}

#[tokio::test]
async fn gateways_that_share_a_name_are_told_apart_by_a_warning() {
    let controller = controller_on(&Manifests::new()).await;
    let _first = gateway_of(controller.discovery, &["--node-id", "twin"]).await;
    let _second = gateway_of(controller.discovery, &["--node-id", "twin"]).await;
    let message = "Two gateways have one --node-id and push each other out; give each its own";
    let line = logged(&controller.process.log(), message).await;
    assert_eq!((line["level"].as_str(), line["node"].as_str()), (Some("WARN"), Some("twin")), "{line}");
}
