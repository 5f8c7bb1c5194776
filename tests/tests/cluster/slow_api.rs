//! An API server that is slow, that refuses, that is gone: no crash, no flood, nothing of it felt by callers, and all
//! is as it should be afterwards.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use k8s_openapi::api::coordination::v1::Lease;
use krypton_e2e::bridge::Bridge;
use krypton_e2e::cluster::{Namespace, shared};
use krypton_e2e::programs::{Controller, Gateway};
use krypton_e2e::wait::eventually;
use serde_json::json;

use crate::api_proxy::{ApiProxy, Behaviour};
use crate::objects::{agent, put};
use crate::statuses::status_is_current;
use crate::support::{
    Krypton, SOON, Traffic, apply_echo, delete_agent, instance, is_ready, metric_becomes, path,
};
use crate::workloads::{child, image_is};

const LEADER: &str = "krypton_controller_leader";

/// How long the trouble lasts: longer than the lease, so that the term ends.
const TROUBLE: Duration = Duration::from_secs(15);

/// Calls that a controller in trouble may make meanwhile, but for [`TRIES`]: eight watches, each tried again after half a
/// second at first and up to ten seconds later, and the Lease every two.
const FLOOD: usize = 100;

/// How often each Agent may be tried, pauses doubling from half a second on until the term ends after eight; with up to
/// two calls each time, for a child and for the status.
const TRIES: usize = 6;

/// Agents beside the one that is called.
const AGENTS: usize = 20;

async fn start_behind(proxy: &ApiProxy, namespace: &Namespace) -> Controller {
    let args = ["--namespace", namespace.name(), "--lease-namespace", namespace.name()];
    Controller::start_on_cluster(&proxy.kubeconfig(), &args).await.unwrap()
}

/// Everything is changed, and `trouble` begins in the middle of it.
async fn is_lived_through(trouble: Behaviour) {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let pod = instance(&bridge, 10, 0, "pod").await;
    let test = cluster.with_namespace(async |namespace| {
        let proxy = ApiProxy::start(&cluster).await;
        let controller = start_behind(&proxy, namespace).await;
        let gateway = Gateway::start(controller.discovery, &[]).await.unwrap();
        is_ready(&gateway).await;
        let mut krypton = Krypton { controller, gateway };
        apply_echo(&krypton, namespace, &pod, "pod").await;
        for number in 0..AGENTS {
            put(namespace, agent(&format!("agent-{number}"), json!({ "replicas": 0 }))).await.unwrap();
        }
        status_is_current(namespace, "agent-0").await;
        let traffic = Traffic::start(krypton.gateway.http, path(namespace, "echo"));

        proxy.take_calls();
        proxy.behave(trouble);
        let begun = Instant::now();
        for number in 0..AGENTS {
            let changed = json!({ "replicas": 0, "image": "other" });
            put(namespace, agent(&format!("agent-{number}"), changed)).await.unwrap();
        }
        delete_agent(namespace, "agent-1").await;
        tokio::time::sleep(TROUBLE.saturating_sub(begun.elapsed())).await;
        let calls = proxy.take_calls();
        println!("{trouble:?}: {calls} calls in {TROUBLE:?}");
        let most = FLOOD + AGENTS * TRIES * 2;
        assert!(calls <= most, "{calls} calls, {most} would be many");

        proxy.behave(Behaviour::Healthy);
        for number in (0..AGENTS).filter(|number| *number != 1) {
            let name = format!("agent-{number}");
            child(namespace, &name, image_is("other")).await;
            status_is_current(namespace, &name).await;
        }
        traffic.end().await.assert_whole();
        assert_eq!(krypton.controller.process.exit_status().unwrap(), None, "it lived through it");
        let log = krypton.controller.process.log().read().unwrap();
        assert!(!log.contains("panicked"), "{log}");
    });
    test.await.unwrap();
}

#[tokio::test]
async fn an_api_server_that_is_slow_is_waited_for() {
    is_lived_through(Behaviour::Slow(Duration::from_secs(3))).await;
}

#[tokio::test]
async fn an_api_server_that_refuses_is_not_flooded() {
    is_lived_through(Behaviour::Refusing).await;
}

#[tokio::test]
async fn an_api_server_that_is_gone_is_not_flooded() {
    is_lived_through(Behaviour::Away).await;
}

/// When the Lease was last renewed, as it says.
async fn lease(namespace: &Namespace) -> Lease {
    namespace.api::<Lease>().get("krypton-controller").await.unwrap()
}

#[tokio::test]
async fn a_leader_whose_renewals_take_too_long_stops_before_its_lease_ends() {
    /// Longer than any call for the Lease may take.
    const TOO_LONG: Duration = Duration::from_secs(20);
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let proxy = ApiProxy::start(&cluster).await;
        let slow = start_behind(&proxy, namespace).await;
        metric_becomes(slow.admin, LEADER, 1.0).await;
        put(namespace, agent("before", json!({ "replicas": 0 }))).await.unwrap();
        status_is_current(namespace, "before").await;
        // One that waits for the Lease, at a quick API server.
        let args = ["--namespace", namespace.name(), "--lease-namespace", namespace.name()];
        let kubeconfig = cluster.kubeconfig();
        let quick = Controller::start_on_cluster(kubeconfig, &args).await.unwrap();

        proxy.behave(Behaviour::Slow(TOO_LONG));
        let (followed, led) = tokio::join!(when(slow.admin, 0.0), when(quick.admin, 1.0));
        assert!(followed < led, "two led at a time for {:?}", followed.duration_since(led));
        put(namespace, agent("after", json!({ "replicas": 0 }))).await.unwrap();
        status_is_current(namespace, "after").await;
        let holder = lease(namespace).await.spec.unwrap().holder_identity;

        // What the slow one had begun comes to an end, and changes nothing.
        proxy.behave(Behaviour::Healthy);
        eventually("the slow one is heard again", SOON, async || {
            ensure!(proxy.take_calls() > 0);
            Ok(())
        })
        .await
        .unwrap();
        metric_becomes(slow.admin, LEADER, 0.0).await;
        assert_eq!(lease(namespace).await.spec.unwrap().holder_identity, holder);
    });
    test.await.unwrap();
}

/// When the controller came to lead, or to lead no more.
async fn when(admin: SocketAddr, leads: f64) -> Instant {
    metric_becomes(admin, LEADER, leads).await;
    Instant::now()
}
