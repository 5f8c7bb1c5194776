//! Pods that come and go under load: no call fails, no stream is cut, and the first call to a new pod is answered.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use krypton_e2e::client::get;
use krypton_e2e::cluster::Namespace;
use krypton_e2e::node::images::{AGENT, NEXT_AGENT};
use krypton_e2e::programs::Gateway;
use krypton_e2e::traffic::{Report, Traffic};
use krypton_e2e::wait::eventually;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::conditions::condition_becomes;
use crate::objects::{agent, put};
use crate::support::{
    HEAVY, Krypton, SOON, busy_agent, change, kubectl, path, pods_are_ready, pods_of, start_gateway,
    with_namespace,
};

/// Each pod takes a second to come and up to 17 s to go, under load and beside other tests.
const ROLLOUT: Duration = Duration::from_mins(2);

/// Answers that show that the load goes on.
const SOME: usize = 200;

/// A gateway that will be started again listens here: no outgoing connection takes its port in between, since those
/// leave from 127.0.0.1.
const REUSABLE: &str = "127.0.0.2:0";

/// Waits until exactly `count` pods of the agent are there, those on their way out counted, and none of `old`.
async fn only_new_pods(namespace: &Namespace, name: &str, count: usize, old: &[String]) {
    let pods: Api<Pod> = namespace.api();
    eventually(&format!("{count} pods of {name} are there, none of {old:?}"), ROLLOUT, async || {
        let found = pods.list(&ListParams::default().labels(&pods_of(name))).await?;
        let names: BTreeSet<_> = found.iter().map(ResourceExt::name_any).collect();
        ensure!(names.len() == count && !old.iter().any(|pod| names.contains(pod)), "{names:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Ends the load, of which no call may have failed, and tells how much it was.
async fn end(traffic: Traffic, what: &str) -> Report {
    traffic.goes_on(SOME).await.unwrap();
    let report = traffic.end_whole().await.unwrap();
    eprintln!(
        "{what}: {} calls ({:.0} a second), {} streams, {} uploads in {:.1?}, none failed",
        report.calls,
        report.calls_per_second(),
        report.streams,
        report.uploads,
        report.took
    );
    report
}

#[tokio::test]
async fn a_changed_image_is_rolled_out_under_load() {
    with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        put(namespace, busy_agent("echo", AGENT, 3)).await.unwrap();
        let old = pods_are_ready(namespace, &pods_of("echo"), 3).await;
        krypton.has_endpoints(namespace, "echo", 3).await;
        let traffic = krypton.traffic(namespace, "echo", HEAVY);
        traffic.goes_on(SOME).await.unwrap();

        change(namespace, "echo", json!({ "image": NEXT_AGENT })).await;
        only_new_pods(namespace, "echo", 3, &old).await;
        condition_becomes(namespace, "echo", "Ready", "True", "Pinned").await;
        end(traffic, "rollout of 3 pods").await;
        krypton.is_answered(namespace, "echo", "2").await;
    })
    .await;
}

#[tokio::test]
async fn an_agent_shrinks_and_loses_a_pod_under_load() {
    with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        put(namespace, busy_agent("echo", AGENT, 5)).await.unwrap();
        let pods = pods_are_ready(namespace, &pods_of("echo"), 5).await;
        krypton.has_endpoints(namespace, "echo", 5).await;
        let traffic = krypton.traffic(namespace, "echo", HEAVY);
        traffic.goes_on(SOME).await.unwrap();

        kubectl(namespace, &["delete", "pod", &pods[0], "--wait=false"]).await;
        only_new_pods(namespace, "echo", 5, &pods[..1]).await;
        pods_are_ready(namespace, &pods_of("echo"), 5).await;
        kubectl(namespace, &["scale", "agent/echo", "--replicas=1"]).await;
        only_new_pods(namespace, "echo", 1, &[]).await;
        end(traffic, "a deleted pod, then 5 to 1 pods").await;
    })
    .await;
}

#[tokio::test]
async fn two_gateways_are_restarted_in_turn_under_load() {
    /// Long enough for every caller to be told that its connection ends.
    const DRAIN: [&str; 2] = ["--drain-delay", "3s"];
    with_namespace(async |namespace| {
        let Krypton { controller, gateway: unused } = Krypton::start(namespace).await;
        drop(unused);
        let start = async |id: &str, listen: &str| {
            let args = ["--node-id", id, "--listen", listen, DRAIN[0], DRAIN[1]];
            start_gateway(&controller, &args).await
        };
        put(namespace, busy_agent("echo", AGENT, 2)).await.unwrap();
        pods_are_ready(namespace, &pods_of("echo"), 2).await;
        let mut gateways = [start("first", REUSABLE).await, start("second", REUSABLE).await];
        for gateway in &gateways {
            answers(gateway, namespace).await;
        }
        let addresses = gateways.each_ref().map(|gateway| gateway.http);
        let traffic = Traffic::start(&addresses, &path(namespace, "echo"), HEAVY);
        traffic.goes_on(SOME).await.unwrap();
        for (gateway, id) in gateways.iter_mut().zip(["first", "second"]) {
            restart(gateway, async |listen: SocketAddr| start(id, &listen.to_string()).await).await;
            traffic.goes_on(SOME).await.unwrap();
        }
        end(traffic, "restart of 2 gateways").await;
    })
    .await;
}

async fn answers(gateway: &Gateway, namespace: &Namespace) {
    eventually("the gateway has the agent's pods", SOON, async || {
        let answer = get(gateway.http, &path(namespace, "echo")).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// As Kubernetes replaces a pod of the gateway's: SIGTERM, and a new one once it has ended by itself.
async fn restart(gateway: &mut Gateway, start: impl AsyncFnOnce(SocketAddr) -> Gateway) {
    gateway.process.terminate();
    let status = gateway.process.ended(ROLLOUT).await.unwrap();
    assert!(status.success(), "{status}");
    *gateway = start(gateway.http).await;
}

#[tokio::test]
async fn the_first_call_to_a_new_pod_is_answered() {
    const ROUNDS: usize = 6;
    with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        put(namespace, agent("echo", json!({ "image": AGENT, "replicas": 1, "drainTimeout": "1s" })))
            .await
            .unwrap();
        for round in 0..ROUNDS {
            // A person looks at the Agent, a program at what the gateway has.
            if round % 2 == 0 {
                krypton.has_endpoints(namespace, "echo", 1).await;
            } else {
                condition_becomes(namespace, "echo", "Available", "True", "Ready").await;
            }
            let answer = get(krypton.gateway.http, &path(namespace, "echo")).await.unwrap();
            assert_eq!(answer.status, 200, "round {round}: {answer:?}");

            kubectl(namespace, &["scale", "agent/echo", "--replicas=0"]).await;
            condition_becomes(namespace, "echo", "Available", "False", "TurnedOff").await;
            krypton.has_endpoints(namespace, "echo", 0).await;
            let answer = get(krypton.gateway.http, &path(namespace, "echo")).await.unwrap();
            assert_eq!((answer.status, answer.code().as_str()), (503, "agent_scaled_to_zero"));
            kubectl(namespace, &["scale", "agent/echo", "--replicas=1"]).await;
        }
    })
    .await;
}
