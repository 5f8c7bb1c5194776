//! Streams of events.

use std::time::Duration;

use indicatif::ProgressBar;

use super::calls::urls;
use super::catalogue::Variant;
use super::generator::Load;
use super::measure::{self, Reading};
use super::rounds::{self, Subject};
use super::stage::Stage;
use crate::peers::Peer;
use crate::result::{Sample, ScenarioResult};

/// How long a peer may take to open a stream: what the slowest takes for a call. What opening costs is no part of what
/// events cost.
const OPENING: Duration = Duration::from_millis(1);

/// Runs a scenario of streams.
///
/// # Errors
/// When a peer does not work as it should, or the generator does not.
pub(super) async fn run(
    stage: &mut Stage,
    found: &mut ScenarioResult,
    variants: &[Variant],
    streams: u32,
    interval: Duration,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let streams = stage.plan.shrunk(streams);
    rounds::run(stage, found, &Subject::each(variants), bar, async |stage, Subject { variant, .. }| {
        let plan = &stage.plan;
        let load = Load::new("sse", &plan.load_cores).set("--connections", &streams);
        let warm_up = plan.warm_up + OPENING * streams;
        let (load, cores) = (load.time(plan.duration, warm_up), plan.proxy_cores.clone());
        match stage.peer(variant).await? {
            Some(peer) => Ok(Some(measured(peer, interval, load, &cores).await?)),
            None => Ok(None),
        }
    })
    .await
}

async fn measured(peer: &Peer, interval: Duration, load: Load, cores: &[usize]) -> anyhow::Result<Sample> {
    let rest = format!("events?interval_us={}&count=0", interval.as_micros());
    let load = urls(peer, &rest).iter().fold(load, |load, url| load.url(url));
    let mut generating = load.start()?;
    generating.until("measuring").await?;
    let before = Reading::of(peer)?;
    generating.until("measured").await?;
    let window = Reading::of(peer)?.since(&before, cores);
    Ok(measure::events(&generating.report().await?, &window))
}
