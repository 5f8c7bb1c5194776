//! Several controllers of which one leads, on a real Kubernetes API: who writes, who takes over, and when.

use std::time::{Duration, Instant};

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use krypton_e2e::cluster::{Namespace, shared};
use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::programs::{Controller, Gateway};
use krypton_e2e::wait::eventually;
use kube::Api;
use serde_json::json;

use crate::objects::{agent, put};
use crate::statuses::status_is_current;
use crate::support::{SOON, is_ready, metric, metric_becomes, start_controller};

/// How long a lease lasts that nobody renews.
const LEASE: Duration = Duration::from_secs(10);

const LEADER: &str = "krypton_controller_leader";

async fn leads(controller: &Controller) {
    metric_becomes(controller.admin, LEADER, 1.0).await;
}

async fn follows(controller: &Controller) {
    metric_becomes(controller.admin, LEADER, 0.0).await;
}

/// An Agent that is applied now gets its Deployment.
async fn works(namespace: &Namespace, name: &str) {
    put(namespace, agent(name, json!({}))).await.unwrap();
    let deployments: Api<Deployment> = namespace.api();
    eventually(&format!("{name} has a Deployment"), SOON, async || Ok(deployments.get(name).await?))
        .await
        .unwrap();
    status_is_current(namespace, name).await;
}

async fn holder(namespace: &Namespace) -> String {
    let lease: Lease = namespace.api::<Lease>().get("krypton-controller").await.unwrap();
    lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
}

#[tokio::test]
async fn one_of_two_leads_and_both_serve_gateways() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let first = start_controller(namespace, &["--identity", "first"]).await;
        leads(&first).await;
        let second = start_controller(namespace, &["--identity", "second"]).await;
        works(namespace, "echo").await;
        assert!(holder(namespace).await.starts_with("first_"));
        follows(&second).await;
        for controller in [&first, &second] {
            let gateway = Gateway::start(controller.discovery, &[]).await.unwrap();
            is_ready(&gateway).await;
        }
        assert!(metric(second.admin, LEADER).await.unwrap() < 1.0);
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_at_once() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let mut first = start_controller(namespace, &["--identity", "first"]).await;
        leads(&first).await;
        let second = start_controller(namespace, &["--identity", "second"]).await;
        works(namespace, "before").await;
        let asked = Instant::now();
        first.process.terminate();
        leads(&second).await;
        // It renewed some 2 s before, at most: what is left of the lease is more than this.
        assert!(asked.elapsed() < LEASE * 7 / 10, "it waited for the lease to run out");
        assert!(first.process.ended(SOON).await.unwrap().success());
        works(namespace, "after").await;
        assert!(holder(namespace).await.starts_with("second_"));
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_leader_that_is_killed_is_replaced_when_its_lease_runs_out() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let mut first = start_controller(namespace, &["--identity", "first"]).await;
        leads(&first).await;
        let second = start_controller(namespace, &["--identity", "second"]).await;
        works(namespace, "before").await;
        first.process.kill();
        let killed = Instant::now();
        leads(&second).await;
        // It renewed some 2 s before it was killed, at most.
        assert!(killed.elapsed() > LEASE / 2, "the lease was not waited for");
        works(namespace, "after").await;
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_leader_that_hangs_does_not_lead_when_it_wakes() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let first = start_controller(namespace, &["--identity", "first"]).await;
        leads(&first).await;
        let second = start_controller(namespace, &["--identity", "second"]).await;
        first.process.pause();
        leads(&second).await;
        first.process.resume();
        follows(&first).await;
        works(namespace, "after").await;
        assert!(holder(namespace).await.starts_with("second_"));
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_before_its_lease_ends_and_leads_again_later() {
    let mut control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let mut controller = start_controller(namespace, &["--identity", "only"]).await;
        leads(&controller).await;
        works(namespace, "before").await;
        control_plane.stop_apiserver();
        let stopped = Instant::now();
        follows(&controller).await;
        assert!(stopped.elapsed() < LEASE, "it led on for {:?}", stopped.elapsed());
        control_plane.start_apiserver().await.unwrap();
        leads(&controller).await;
        works(namespace, "after").await;
        assert!(controller.process.exit_status().unwrap().is_none(), "it lived through it");
    });
    test.await.unwrap();
}

#[tokio::test]
async fn a_deleted_lease_is_made_anew() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &["--identity", "only"]).await;
        works(namespace, "before").await;
        let leases: Api<Lease> = namespace.api();
        leases.delete("krypton-controller", &kube::api::DeleteParams::default()).await.unwrap();
        eventually("somebody leads again", SOON, async || {
            ensure!(leases.get_opt("krypton-controller").await?.is_some(), "no Lease");
            Ok(())
        })
        .await
        .unwrap();
        works(namespace, "after").await;
    });
    test.await.unwrap();
}

/// As two installations in one namespace are.
#[tokio::test]
async fn who_has_a_lease_of_another_name_leads_too() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let first = start_controller(namespace, &["--identity", "first"]).await;
        leads(&first).await;
        let args = ["--identity", "second", "--lease-name", "agents-controller"];
        let second = start_controller(namespace, &args).await;
        leads(&second).await;
        leads(&first).await;
        let other = namespace.api::<Lease>().get("agents-controller").await.unwrap();
        assert!(other.spec.unwrap().holder_identity.unwrap().starts_with("second_"));
        assert!(holder(namespace).await.starts_with("first_"));
    });
    test.await.unwrap();
}
