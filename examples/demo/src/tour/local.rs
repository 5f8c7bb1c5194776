//! The tour without a cluster.

mod changes;

use anyhow::Context as _;

use super::{Tour, calls, human};
use crate::screen::Screen;
use crate::stage::local::LocalStage;

/// Starts the stage, plays all steps, and sums them up.
///
/// # Errors
/// What does not start, or the first step that does not hold, by its name.
pub(crate) async fn play(stage: &mut LocalStage, screen: &Screen) -> anyhow::Result<()> {
    stage.start().await?;
    screen.title("Krypton, on this machine and without a cluster")?;
    let mut tour = Tour::new(stage, screen);
    tour.step("What runs where", what_runs).await?;
    tour.step("A call", async |stage: &mut LocalStage, screen: &Screen| {
        calls::plain(&stage.ground, "writer", screen).await
    })
    .await?;
    tour.step("An answer that streams", async |stage: &mut LocalStage, screen: &Screen| {
        calls::streamed(&stage.ground, "writer", screen).await
    })
    .await?;
    tour.step("A new agent, by copying its manifest", changes::agent_added).await?;
    tour.step("An MCP server", async |stage: &mut LocalStage, screen: &Screen| {
        calls::mcp(&stage.ground, "tools", screen).await
    })
    .await?;
    tour.step("A pod is taken away under traffic", changes::pod_taken_away).await?;
    tour.step("The controller dies while calls go on", changes::controller_killed).await?;
    tour.sum_up()
}

/// Shows the processes.
async fn what_runs(stage: &mut LocalStage, screen: &Screen) -> anyhow::Result<String> {
    let ports = stage.ports;
    let rows = [
        ("gateway", stage.ground.gateway, "takes your calls"),
        ("controller", ports.discovery, "reads manifests, tells the gateway where to route"),
        ("writer-1", ports.writers[0], "agent \"writer\" (A2A), its first pod"),
        ("writer-2", ports.writers[1], "agent \"writer\", its second pod"),
        ("tools-1", ports.tools, "agent \"tools\" (MCP)"),
    ];
    for (name, address, role) in rows {
        let pid = stage.ground.processes.pid(name).context("it was started")?;
        screen.say(format_args!("{name:<10}  {:<15}  pid {pid:<7}  {role}", address.to_string()))?;
    }
    screen.say(format_args!("manifests   {}", stage.manifests.path().display()))?;
    Ok(format!("{} real processes, and no Kubernetes", rows.len()))
}
