//! Conditions of an Agent, for tests on both control planes.

use anyhow::{Context, Result, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use krypton_crd::Agent;
use krypton_e2e::cluster::Namespace;
use krypton_e2e::wait::eventually;

use crate::support::SOON;

/// A condition of the Agent `name`, as it is now.
pub(crate) async fn condition(namespace: &Namespace, name: &str, kind: &str) -> Result<Condition> {
    let agent = namespace.api::<Agent>().get(name).await?;
    let status = agent.status.context("no status")?;
    status.conditions.into_iter().find(|condition| condition.type_ == kind).context("no such condition")
}

/// Waits until a condition has that status and reason, for the Agent's current generation.
pub(crate) async fn condition_becomes(
    namespace: &Namespace,
    name: &str,
    kind: &str,
    status: &str,
    reason: &str,
) -> Condition {
    eventually(&format!("{kind} of {name} is {status}, {reason}"), SOON, async || {
        let generation = namespace.api::<Agent>().get(name).await?.metadata.generation;
        let condition = condition(namespace, name, kind).await?;
        ensure!(condition.status == status && condition.reason == reason, "{condition:?}");
        ensure!(condition.observed_generation >= generation, "of an older generation: {condition:?}");
        Ok(condition)
    })
    .await
    .unwrap()
}
