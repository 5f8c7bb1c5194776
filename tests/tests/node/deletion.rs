//! A deleted Agent takes all of its own with it, and no running call.

use std::time::Duration;

use anyhow::ensure;
use http::Method;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use krypton_e2e::client::{Events, full, get, keeping_client, request};
use krypton_e2e::node::images::AGENT;
use krypton_e2e::wait::eventually;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::conditions::condition_becomes;
use crate::objects::put;
use crate::support::{Krypton, SOON, busy_agent, kubectl, path, pods_are_ready, pods_of, with_namespace};

#[tokio::test]
async fn running_calls_outlive_a_deleted_agent_and_nothing_else_does() {
    /// They take eight seconds: longer than the pod goes on taking calls, shorter than its `drainTimeout`.
    const EVENTS: usize = 40;
    const PACE: Duration = Duration::from_millis(200);
    with_namespace(async |namespace| {
        let krypton = Krypton::start(namespace).await;
        put(namespace, busy_agent("echo", AGENT, 1)).await.unwrap();
        pods_are_ready(namespace, &pods_of("echo"), 1).await;
        condition_becomes(namespace, "echo", "Ready", "True", "Pinned").await;
        krypton.has_endpoints(namespace, "echo", 1).await;
        let path = path(namespace, "echo");
        let target = format!("{path}/events?sse=1&chunks={EVENTS}&pace={}ms", PACE.as_millis());
        let call = request(Method::POST, krypton.gateway.http, &target).body(full("")).unwrap();
        let mut stream = Events::of(keeping_client().request(call).await.unwrap());
        assert!(stream.next().await.unwrap().is_some());

        kubectl(namespace, &["delete", "agent", "echo", "--wait=false"]).await;
        kubectl(namespace, &["wait", "--for=delete", "agent/echo", "--timeout=30s"]).await;
        eventually("new calls find no agent", SOON, async || {
            let answer = get(krypton.gateway.http, &path).await?;
            ensure!(answer.status == 404, "{answer:?}");
            Ok(())
        })
        .await
        .unwrap();
        let seen = stream.pieces;
        assert_eq!(stream.rest().await.unwrap().len(), EVENTS - 1);
        assert!(seen < EVENTS, "the call was over before the agent was gone");
        eventually("all of the agent's own is gone", SOON, async || {
            let pods = namespace.api::<Pod>().list(&ListParams::default().labels(&pods_of("echo"))).await?;
            let pods: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
            ensure!(pods.is_empty(), "{pods:?}");
            ensure!(namespace.api::<Deployment>().get_opt("echo").await?.is_none(), "the Deployment");
            ensure!(namespace.api::<Service>().get_opt("echo").await?.is_none(), "the Service");
            ensure!(namespace.api::<ServiceAccount>().get_opt("echo").await?.is_none(), "the account");
            Ok(())
        })
        .await
        .unwrap();
    })
    .await;
}
