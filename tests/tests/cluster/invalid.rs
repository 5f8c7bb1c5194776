//! Every invalid spec, with the controller running: what the API server takes all the same ends in `Accepted=False`,
//! with the field and the reason, and gets no children.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use krypton_crd::validate;
use krypton_e2e::cluster::{Namespace, shared};
use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::wait::eventually;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use crate::crd::{agents, install_lax_crd};
use crate::invalid_specs::{Invalid, invalid_specs};
use crate::objects::{agent, put};
use crate::statuses::condition_becomes;
use crate::support::{SOON, start_controller};
use crate::workloads::{any, child};

/// Applies all of them; gives those that were taken, with their names. Each refusal names its field.
async fn put_all(namespace: &Namespace) -> Vec<(String, Invalid)> {
    let mut taken = Vec::new();
    for (number, case) in invalid_specs().into_iter().enumerate() {
        let name = format!("row-{number}");
        match put(namespace, agent(&name, case.spec.clone())).await {
            Ok(()) => taken.push((name, case)),
            Err(error) => {
                let refusal = format!("{error:#}");
                assert!(refusal.contains(last(&case.field)), "{}: {refusal}", case.spec);
            }
        }
    }
    taken
}

/// Server-side apply tells a wrong type by the field's path in its own spelling.
fn last(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or(field)
}

/// Each of `taken` is told what is wrong with it, and none has a child.
async fn are_refused(namespace: &Namespace, taken: &[(String, Invalid)]) {
    for (name, case) in taken {
        eventually(&format!("{} is refused", case.spec), SOON, async || {
            is_refused(namespace, name, case).await
        })
        .await
        .unwrap();
    }
    let deployments = namespace.api::<Deployment>().list(&ListParams::default()).await.unwrap();
    let made: Vec<_> = deployments.iter().map(ResourceExt::name_any).collect();
    assert!(!taken.iter().any(|(name, _)| made.contains(name)), "{made:?}");
}

async fn is_refused(namespace: &Namespace, name: &str, case: &Invalid) -> Result<()> {
    // As it is stored: some of them are no Agent that could be read.
    let agent = agents(namespace).get(name).await?;
    let status = agent.data.get("status").context("no status")?;
    let conditions = status["conditions"].as_array().context("no conditions")?;
    let accepted =
        conditions.iter().find(|condition| condition["type"] == "Accepted").context("no Accepted")?;
    ensure!(accepted["status"] == "False", "{accepted}");
    let reason = accepted["reason"].as_str().context("no reason")?;
    ensure!(["InvalidSpec", "InvalidPodTemplate"].contains(&reason), "{reason}");
    let message = accepted["message"].as_str().context("no message")?;
    ensure!(message.contains(&case.field) && message.contains(case.says), "{message}");
    ensure!(json!(agent.metadata.generation) == status["observedGeneration"], "{status}");
    Ok(())
}

#[tokio::test]
async fn what_the_api_server_cannot_see_is_told_in_the_status() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let _controller = start_controller(namespace, &[]).await;
        let taken = put_all(namespace).await;
        assert!(taken.iter().all(|(_, case)| case.api_server_says.is_none()));
        let unseen = invalid_specs().iter().filter(|case| case.api_server_says.is_none()).count();
        assert_eq!(taken.len(), unseen);
        are_refused(namespace, &taken).await;
    });
    test.await.unwrap();
}

/// Under a definition without rules, such as one of long ago, all but wrong types can be stored. Bounds that contradict
/// each other are settled by a default then: the Agent runs.
#[tokio::test]
async fn what_was_stored_without_rules_is_told_in_the_status() {
    let control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    install_lax_crd(&cluster).await;
    let test = cluster.with_namespace(async |namespace| {
        let taken = put_all(namespace).await;
        let bounds = |case: &Invalid| ["spec.minReplicas", "spec.maxReplicas"].contains(&case.field.as_str());
        let (settled, refused): (Vec<_>, Vec<_>) = taken.into_iter().partition(|(_, case)| {
            bounds(case) && validate(&agent("a", case.spec.clone()), None).refusal().is_none()
        });
        assert!(settled.len() == 3 && refused.iter().any(|(_, case)| case.field == "spec.protocol"));
        cluster.install_agent_crd().await.unwrap();
        let _controller = start_controller(namespace, &[]).await;
        are_refused(namespace, &refused).await;
        for (name, _) in settled {
            condition_becomes(namespace, &name, "Accepted", "True", "Accepted").await;
            child::<Deployment>(namespace, &name, any).await;
        }
    });
    test.await.unwrap();
}
