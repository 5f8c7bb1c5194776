//! Connections that are open and silent: what each costs, and what stays when they are closed.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::ProgressBar;

use super::calls::urls;
use super::catalogue::{Held, Variant};
use super::generator::Load;
use super::measure::{Reading, to_f64};
use super::rounds::{self, Subject};
use super::stage::Stage;
use crate::peers::Peer;
use crate::result::{Doubt, Metric, Sample, ScenarioResult};

/// After the last connection was opened or closed, before memory is read: allocators give back late.
const SETTLE: Duration = Duration::from_secs(10);

/// The same in a smoke test.
const SMOKE_SETTLE: Duration = Duration::from_millis(200);

/// Runs a scenario of held connections. Memory that was used once is not new again: each round has a peer of its own.
///
/// # Errors
/// When a peer does not work as it should, or the generator does not.
pub(super) async fn run(
    stage: &mut Stage,
    found: &mut ScenarioResult,
    variants: &[Variant],
    what: Held,
    count: u32,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let count = stage.plan.shrunk(count);
    let settle = if stage.plan.smoke { SMOKE_SETTLE } else { SETTLE };
    rounds::run(stage, found, &Subject::each(variants), bar, async |stage, Subject { variant, .. }| {
        stage.keep_only(&[]).await;
        let load = Load::new("idle", &stage.plan.load_cores);
        let rest = match what {
            Held::Streams => "hold",
            Held::KeepAlives => "bytes/1024",
        };
        let (cores, duration) = (stage.plan.proxy_cores.clone(), stage.plan.duration);
        let Some(peer) = stage.peer(variant).await? else { return Ok(None) };
        let possible = count.min(u32::try_from(peer.clients()).unwrap_or(u32::MAX));
        let load = load.set("--connections", &possible);
        let load = urls(peer, rest).iter().fold(load, |load, url| load.url(url));
        let sample = measured(peer, &load, possible, &cores, settle, duration).await?;
        if possible < count {
            stage.note(format!(
                "Only {possible} were held: this machine allows few open files (`ulimit -Hn`)."
            ));
        }
        Ok(Some(sample))
    })
    .await
}

async fn measured(
    peer: &Peer,
    load: &Load,
    count: u32,
    cores: &[usize],
    settle: Duration,
    idle: Duration,
) -> anyhow::Result<Sample> {
    // It was called to see that it works: what that took is to be given back.
    tokio::time::sleep(settle / 5).await;
    let empty = Reading::of(peer)?;
    let mut generating = load.start()?;
    generating.until("open").await?;
    tokio::time::sleep(settle).await;
    let held = Reading::of(peer)?;
    tokio::time::sleep(idle).await;
    let window = Reading::of(peer)?.since(&held, cores);
    generating.release();
    let report = generating.report().await?;
    tokio::time::sleep(settle).await;
    let after = Reading::of(peer)?;
    let each = |before: u64, after: u64| to_f64(after.saturating_sub(before)) / f64::from(count);
    let mut figures = BTreeMap::from([
        (Metric::BytesPerConnection, each(empty.rss(), held.rss())),
        (Metric::SocketBytesPerConnection, each(empty.socket_memory(), held.socket_memory())),
        (Metric::IdleCpuPercent, window.busy()),
        (Metric::RssBytes, to_f64(held.rss())),
        (Metric::OpenFiles, to_f64(window.used.fds)),
        (Metric::Failed, to_f64(report.failed)),
    ]);
    if empty.rss() > 0 {
        figures.insert(Metric::RssAfterRatio, to_f64(after.rss()) / to_f64(empty.rss()));
    }
    let mut doubts = window.doubts();
    if report.failed > 0 {
        doubts.push(Doubt::Failures(report.failed));
    }
    Ok(Sample { figures, doubts, ..Sample::default() })
}
