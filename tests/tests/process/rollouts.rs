//! Pods that come and go under load: no call fails.

use std::net::SocketAddr;

use krypton_e2e::programs::ExampleAgent;

use crate::support::manifest::{Manifests, Pod, agent_with_pods};
use crate::support::{Krypton, SOON, agent, endpoints_become, traffic};

/// Answers that show that the load goes on.
const SOME: usize = 10;

fn put(krypton: &Krypton, pods: &[Pod]) {
    krypton.manifests.put("echo.yaml", agent_with_pods("echo", "protocol: http", pods));
}

/// What Kubernetes does to a pod that is deleted: its slice says so first, then it gets SIGTERM, then it is gone from
/// the slice. `others` stay.
async fn take_away(krypton: &Krypton, mut pod: ExampleAgent, others: &[SocketAddr]) {
    let others_ready = others.iter().copied().map(Pod::ready);
    let pods: Vec<Pod> = others_ready.clone().chain([Pod::terminating(pod.http)]).collect();
    put(krypton, &pods);
    endpoints_become(&krypton.gateway, "echo", others).await;
    pod.process.terminate();
    let status = pod.process.ended(SOON).await.unwrap();
    assert!(status.success(), "{status}");
    put(krypton, &others_ready.collect::<Vec<_>>());
}

#[tokio::test]
async fn an_agent_is_taken_away_under_load() {
    let (stays, goes) = (agent("stays").await, agent("goes").await);
    let krypton = Krypton::start(Manifests::with_echo(&[stays.http, goes.http])).await;
    let traffic = traffic(krypton.gateway.http);
    traffic.goes_on(SOME).await.unwrap();
    take_away(&krypton, goes, &[stays.http]).await;
    traffic.goes_on(SOME).await.unwrap();
    traffic.end_whole().await.unwrap();
}

#[tokio::test]
async fn all_agents_are_replaced_under_load_three_times() {
    let mut old = [agent("a-0").await, agent("b-0").await];
    let krypton = Krypton::start(Manifests::with_echo(&[old[0].http, old[1].http])).await;
    let traffic = traffic(krypton.gateway.http);
    for round in 1..=3 {
        for (index, pod) in ["a", "b"].into_iter().enumerate() {
            let new = agent(&format!("{pod}-{round}")).await;
            let other = old[1 - index].http;
            let all = [new.http, other, old[index].http];
            put(&krypton, &all.map(Pod::ready));
            endpoints_become(&krypton.gateway, "echo", &all).await;
            let leaves = std::mem::replace(&mut old[index], new);
            take_away(&krypton, leaves, &[old[0].http, old[1].http]).await;
            traffic.goes_on(SOME).await.unwrap();
        }
    }
    traffic.end_whole().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_died_without_a_word_is_gone_round() {
    let (stays, mut dies) = (agent("stays").await, agent("dies").await);
    let krypton = Krypton::start(Manifests::with_echo(&[stays.http, dies.http])).await;
    dies.process.kill();
    // The slice still names it: half of the first picks are refused, and go to the other one.
    for _ in 0..40 {
        let answer = krypton.get("/v1/agents/default/echo/").await;
        assert_eq!((answer.status, answer.header("x-agent-name")), (200, "stays"));
    }
}

#[tokio::test]
async fn an_agent_may_come_before_its_pods() {
    let krypton = Krypton::start(Manifests::with_echo(&[])).await;
    let answer = krypton.get("/v1/agents/default/echo/").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "no_ready_endpoint"));
    assert_eq!(answer.header("retry-after"), "1");
    let echo = agent("first").await;
    put(&krypton, &[Pod::ready(echo.http)]);
    endpoints_become(&krypton.gateway, "echo", &[echo.http]).await;
    assert_eq!(krypton.get("/v1/agents/default/echo/").await.status, 200);
}
