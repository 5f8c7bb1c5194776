//! An endpoint ends while it is called.

use indicatif::ProgressBar;

use super::calls::urls;
use super::catalogue::{SMALL, Variant};
use super::generator::Load;
use super::measure::{self, Reading};
use super::rounds::{self, Subject};
use super::stage::{ADDRESSES, Stage, start_origin};
use crate::peers::{PeerKind, StartError, start};
use crate::result::{Doubt, Sample, ScenarioResult};

/// Calls a second: what every peer can do.
const RATE: u32 = 500;

/// Runs it. Each round has origins and a peer of its own: what a peer learned of a dead endpoint must not help it again.
///
/// # Errors
/// When a peer does not work as it should, or the generator does not.
pub(super) async fn run(
    stage: &mut Stage,
    found: &mut ScenarioResult,
    variants: &[Variant],
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    stage.keep_only(&[]).await;
    rounds::run(stage, found, &Subject::each(variants), bar, async |stage, Subject { variant, .. }| {
        measured(stage, variant).await
    })
    .await
}

async fn measured(stage: &mut Stage, variant: Variant) -> anyhow::Result<Option<Sample>> {
    let plan = stage.plan.clone();
    let mut origins = Vec::with_capacity(ADDRESSES.len());
    for address in ADDRESSES {
        origins.push(start_origin(&[address], &plan.load_cores, false).await?);
    }
    let addresses = origins.iter().flat_map(|origin| origin.addresses().to_vec()).collect();
    let setup = stage.setup_with(variant, plan.agents, &plan.proxy_cores, addresses);
    let peer = match start(variant.peer, &setup).await {
        Ok(peer) => peer,
        // It is told by the scenarios that start peers for all rounds.
        Err(StartError::Missing { .. }) => return Ok(None),
        Err(StartError::Failed(error)) if variant.peer == PeerKind::Krypton => return Err(error),
        Err(StartError::Failed(error)) => {
            stage.note(format!("{} takes no part: {error:#}", variant.peer));
            return Ok(None);
        }
    };
    let call = SMALL;
    let load = Load::calls(call, plan.shrunk(call.connections), &plan.load_cores)
        .rate(Some(f64::from(plan.shrunk(RATE))));
    let load = urls(&peer, "bytes/1024").iter().fold(load, |load, url| load.url(url));
    let mut generating = load.time(plan.duration * 2, plan.warm_up).start()?;
    generating.until("measuring").await?;
    let before = Reading::of(&peer)?;
    tokio::time::sleep(plan.duration).await;
    // As a crash would: its connections are reset.
    origins[0].process().kill();
    generating.until("measured").await?;
    let window = Reading::of(&peer)?.since(&before, &plan.proxy_cores);
    let report = generating.report().await?;
    peer.stop().await?;
    let mut sample = measure::calls(&report, &window);
    // They are what is measured, and no reason to doubt it.
    sample.doubts.retain(|doubt| !matches!(doubt, Doubt::Failures(_)));
    Ok(Some(sample))
}
