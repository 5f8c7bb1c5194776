//! Calls: closed loop, at a rate, over tables and cores.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::ProgressBar;

use super::catalogue::{Call, Pace, SMALL, Variant};
use super::generator::Load;
use super::measure::{self, Reading, to_f64};
use super::rounds::{self, Subject};
use super::stage::Stage;
use crate::peers::{Peer, PeerKind};
use crate::result::{Doubt, Metric, Sample, ScenarioResult};
use crate::stats::{matters, median};

/// Agents that are called in turn: more than a processor remembers the way to, fewer than a command line holds.
const CALLED: usize = 50;

/// A proxy that is less busy in a closed loop, in percent of its cores, was not the limit.
const FULL: f64 = 90.0;

/// How long it is looked for what a peer can do at most.
const LOOK: Duration = Duration::from_secs(2);

/// Runs a scenario of calls.
///
/// # Errors
/// When a peer does not work as it should, or the generator does not.
pub(super) async fn run(
    stage: &mut Stage,
    found: &mut ScenarioResult,
    variants: &[Variant],
    call: Call,
    pace: Pace,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let call = Call { connections: stage.plan.shrunk(call.connections), ..call };
    if matches!(pace, Pace::HalfOfTheSlowest | Pace::ShareOfOwn(_)) {
        bar.set_message(format!("{}: what each can do at most", found.name));
        for variant in variants {
            if let Err(error) = learn_capacity(stage, *variant, call).await {
                let why = stage.death(*variant).ok_or(error)?;
                stage.note(format!("{} ended before the first round: {why}", variant.peer));
                stage.keep_only(variants).await;
            }
        }
    }
    let (direct, proxies): (Vec<_>, Vec<_>) =
        variants.iter().partition(|variant| variant.peer == PeerKind::Direct);
    let slowest_of = |variants: Vec<&Variant>| {
        variants.into_iter().filter_map(|variant| stage.capacity(*variant, call)).reduce(f64::min)
    };
    let slowest = slowest_of(proxies).or_else(|| slowest_of(direct));
    if let (Pace::HalfOfTheSlowest, Some(slowest)) = (pace, slowest) {
        found.notes.push(format!("All were called {:.0} times a second.", slowest / 2.0));
    }
    if let Pace::ShareOfOwn(share) = pace {
        let rates = variants.iter().filter_map(|variant| {
            Some(format!("{} {:.0}", variant.named(), stage.capacity(*variant, call)? * share))
        });
        found.notes.push(format!("Calls a second: {}.", rates.collect::<Vec<_>>().join(", ")));
    }
    rounds::run(stage, found, &Subject::each(variants), bar, async |stage, Subject { variant, .. }| {
        let rate = match pace {
            Pace::Closed => None,
            Pace::Rate(rate) => Some(f64::from(stage.plan.shrunk(rate))),
            Pace::HalfOfTheSlowest => slowest.map(|slowest| slowest / 2.0),
            Pace::ShareOfOwn(share) => stage.capacity(variant, call).map(|capacity| capacity * share),
        };
        if rate.is_none() && pace != Pace::Closed {
            // Nothing is known of it, and as fast as it goes would be another load.
            return Ok(None);
        }
        let (cores, load) = (stage.plan.proxy_cores.clone(), load(stage, call, rate));
        let sample = match stage.peer(variant).await? {
            Some(peer) => Some(measured(peer, call, load, &cores).await?),
            None => None,
        };
        // One that others disturbed says too little.
        let is_good =
            |sample: &&Sample| !sample.doubts.iter().any(|doubt| matters(doubt, Metric::CpuPerRequestUs));
        if let (Pace::Closed, Some(sample)) = (pace, sample.as_ref().filter(is_good)) {
            stage.learn_capacity(variant, call, sample.figures[&Metric::RequestsPerSecond]);
        }
        Ok(sample)
    })
    .await?;
    if pace == Pace::HalfOfTheSlowest {
        found.notes.extend(busy(found));
    }
    Ok(())
}

/// How busy the peers were at a rate for all. A proxy that is nearly idle pays for waking up more than for a call.
fn busy(found: &ScenarioResult) -> Option<String> {
    let mut peers: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for sample in &found.samples {
        let Some(busy) = sample.figures.get(&Metric::BusyPercent) else { continue };
        let name = format!("{} {}", sample.peer, sample.variant);
        peers.entry(name.trim_end().to_owned()).or_default().push(*busy);
    }
    let all: Vec<_> = peers.iter().map(|(name, busy)| format!("{name} {:.0} %", median(busy))).collect();
    (!all.is_empty()).then(|| {
        format!(
            "Busy at that rate, of a core: {}. Where that is little, much of what a call costs is waking up for it, which \
             costs all alike; see the scenarios named saturation too.",
            all.join(", ")
        )
    })
}

/// Finds out what a peer can do at most, unless it is known.
async fn learn_capacity(stage: &mut Stage, variant: Variant, call: Call) -> anyhow::Result<()> {
    if stage.capacity(variant, call).is_some() {
        return Ok(());
    }
    let look = LOOK.min(stage.plan.duration);
    let load = load(stage, call, None).time(look, stage.plan.warm_up);
    let cores = stage.plan.proxy_cores.clone();
    let Some(peer) = stage.peer(variant).await? else { return Ok(()) };
    let sample = measured(peer, call, load, &cores).await?;
    // A machine that is busy otherwise may not end a single call; a rate of 0 would be none.
    stage.learn_capacity(variant, call, sample.figures[&Metric::RequestsPerSecond].max(1.0));
    Ok(())
}

fn load(stage: &Stage, call: Call, rate: Option<f64>) -> Load {
    let load = Load::calls(call, call.connections, stage.generator_cores()).rate(rate);
    load.busy_poll(stage.busy_poll).time(stage.plan.duration, stage.plan.warm_up)
}

async fn measured(peer: &Peer, call: Call, load: Load, cores: &[usize]) -> anyhow::Result<Sample> {
    let rest = match call.body {
        Some(_) => format!("call?bytes={}", call.answer),
        None => format!("bytes/{}", call.answer),
    };
    let load = urls(peer, &rest).iter().fold(load, |load, url| load.url(url));
    let mut generating = load.start()?;
    generating.until("measuring").await?;
    let before = Reading::of(peer)?;
    generating.until("measured").await?;
    let window = Reading::of(peer)?.since(&before, cores);
    let mut sample = measure::calls(&generating.report().await?, &window);
    // Without a proxy the generator is always the limit; with one connection nobody is.
    let has_limit = !peer.pids().is_empty() && call.connections > 1;
    if has_limit && !load.knows_its_limit() && window.busy() < FULL * to_f64(cores.len()) {
        sample.doubts.push(Doubt::GeneratorWasTheLimit);
    }
    Ok(sample)
}

/// URLs of agents all over the table.
pub(super) fn urls(peer: &Peer, rest: &str) -> Vec<String> {
    let agents = peer.agents();
    let called = agents.min(CALLED);
    (0..called).map(|n| peer.url(n * agents / called, rest)).collect()
}

/// Krypton with tables of these sizes.
///
/// # Errors
/// When it does not work as it should, or the generator does not.
pub(super) async fn over_tables(
    stage: &mut Stage,
    found: &mut ScenarioResult,
    variants: &[Variant],
    sizes: &[usize],
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let mut sizes: Vec<_> = sizes.iter().map(|size| (size / stage.plan.shrink as usize).max(10)).collect();
    sizes.dedup();
    let subjects: Vec<_> = variants
        .iter()
        .flat_map(|variant| sizes.iter().map(|size| Subject { variant: *variant, x: Some(to_f64(*size)) }))
        .collect();
    let of = |x: Option<f64>| sizes.iter().copied().find(|size| Some(to_f64(*size)) == x).unwrap_or_default();
    rounds::run(stage, found, &subjects, bar, async |stage, Subject { variant, x }| {
        let (cores, load) = (stage.plan.proxy_cores.clone(), load(stage, SMALL, None));
        match stage.peer_with(variant, of(x), &cores).await? {
            Some(peer) => Ok(Some(measured(peer, SMALL, load, &cores).await?)),
            None => Ok(None),
        }
    })
    .await
}

/// Krypton on so many cores, from the first one on: it does not keep to those that the other scenarios have.
///
/// # Errors
/// When it does not work as it should, or the generator does not.
pub(super) async fn over_cores(
    stage: &mut Stage,
    found: &mut ScenarioResult,
    variants: &[Variant],
    counts: &[usize],
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let usable = crate::procfs::allowed_cores()?;
    let counts: Vec<_> = counts.iter().copied().filter(|count| *count <= usable.len()).collect();
    // The same for every count: none of those that the gateway has with the largest one.
    let most = counts.iter().copied().max().unwrap_or(1);
    let others = if usable.len() > most { usable[most..].to_vec() } else { stage.plan.load_cores.clone() };
    let before = stage.plan.load_cores.clone();
    stage.move_load(&others).await?;
    if usable.len() < 4 {
        found.notes.push(format!(
            "This machine has {} cores: with 2 of them for the gateway, generator and origin share them with it. \
             Nothing can be claimed from that.",
            usable.len()
        ));
    }
    let subjects: Vec<_> = variants
        .iter()
        .flat_map(|variant| counts.iter().map(|count| Subject { variant: *variant, x: Some(to_f64(*count)) }))
        .collect();
    let agents = stage.plan.agents;
    let ended = rounds::run(stage, found, &subjects, bar, async |stage, Subject { variant, x }| {
        let count = counts.iter().copied().find(|count| Some(to_f64(*count)) == x).unwrap_or(1);
        let (cores, load) = (usable[..count].to_vec(), load(stage, SMALL, None));
        match stage.peer_with(variant, agents, &cores).await? {
            Some(peer) => Ok(Some(measured(peer, SMALL, load, &cores).await?)),
            None => Ok(None),
        }
    })
    .await;
    stage.move_load(&before).await?;
    ended
}
