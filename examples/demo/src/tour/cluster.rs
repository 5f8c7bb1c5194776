//! The tour on a Kubernetes node: what happens from `kubectl apply` to `kubectl delete`.

mod changes;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::{Tour, calls, human};
use crate::kubectl::PATIENCE;
use crate::screen::Screen;
use crate::stage::cluster::ClusterStage;

/// The definition of an Agent.
const DEFINITION: &str = "charts/krypton/files/crds/agents.yaml";

/// Where the controller keeps its Lease.
const NAMESPACE: &str = "krypton-system";

/// What `examples/` holds, in the order of kubectl.
const AGENTS: [&str; 3] = ["a2a-agent", "echo-agent", "mcp-agent"];

/// Plays all steps, and sums them up.
///
/// # Errors
/// The first step that does not hold, by its name.
pub(crate) async fn play(stage: &mut ClusterStage, screen: &Screen) -> anyhow::Result<()> {
    screen.title("Krypton on Kubernetes, with a node of its own on this machine")?;
    let mut tour = Tour::new(stage, screen);
    tour.step("Krypton comes to the cluster", installed).await?;
    tour.step("Agents are applied", agents_applied).await?;
    tour.step("A call", async |stage: &mut ClusterStage, screen: &Screen| {
        calls::plain(&stage.ground, "echo-agent", screen).await
    })
    .await?;
    tour.step("An answer that streams", async |stage: &mut ClusterStage, screen: &Screen| {
        calls::streamed(&stage.ground, "a2a-agent", screen).await
    })
    .await?;
    tour.step("An MCP server", async |stage: &mut ClusterStage, screen: &Screen| {
        calls::mcp(&stage.ground, "mcp-agent", screen).await
    })
    .await?;
    tour.step("An agent is scaled", changes::scaled).await?;
    tour.step("Its image is changed under traffic", changes::image_changed).await?;
    tour.step("An image that does not exist", changes::image_missing).await?;
    tour.step("An agent is deleted", changes::deleted).await?;
    tour.sum_up()
}

/// The definition of an Agent, the controller and the gateway.
async fn installed(stage: &mut ClusterStage, screen: &Screen) -> anyhow::Result<String> {
    stage.kubectl.show(screen, &["get", "nodes"]).await?;
    stage.kubectl.show(screen, &["apply", "-f", DEFINITION]).await?;
    stage.kubectl.run(&["wait", "--for=condition=Established", PATIENCE, "crd/agents.krypton.ai"]).await?;
    // It is there already on a cluster that has seen a tour.
    if stage.kubectl.run(&["get", "namespace", NAMESPACE]).await.is_err() {
        stage.kubectl.show(screen, &["create", "namespace", NAMESPACE]).await?;
    }
    stage.start().await?;
    let rows = [
        ("gateway", stage.ground.gateway, "takes your calls, knows no Kubernetes"),
        ("controller", stage.discovery, "makes pods of Agents, tells the gateway where to route"),
    ];
    for (name, address, role) in rows {
        let pid = stage.ground.processes.pid(name).context("it was started")?;
        screen.say(format_args!("{name:<10}  {:<15}  pid {pid:<7}  {role}", address.to_string()))?;
    }
    Ok("one definition, two programs".to_owned())
}

/// The manifests of `examples/` are applied; how long until all agents are ready?
async fn agents_applied(stage: &mut ClusterStage, screen: &Screen) -> anyhow::Result<String> {
    let applied = Instant::now();
    stage.kubectl.show(screen, &["apply", "-f", "examples/"]).await?;
    let ready = ["wait", "--for=condition=Ready", PATIENCE, "agents", "--all"];
    stage.kubectl.show(screen, &ready).await?;
    let took = applied.elapsed();
    stage.kubectl.show(screen, &["get", "agents"]).await?;
    stage.kubectl.show(screen, &["get", "pods"]).await?;
    let names = stage.kubectl.run(&["get", "agents", "-o", "name"]).await?;
    let names: Vec<&str> = names.lines().filter_map(|name| name.rsplit('/').next()).collect();
    ensure!(names == AGENTS, "the agents are {names:?}");
    for agent in AGENTS {
        let known = stage.ground.known_pods(agent).await?;
        ensure!(!known.is_empty(), "{agent} is Ready, but the gateway knows no pod of it");
    }
    Ok(format!("{} agents ready {} after kubectl apply began", AGENTS.len(), human(took)))
}
