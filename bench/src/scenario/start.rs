//! From the start of a gateway to its readiness.

use std::collections::BTreeMap;

use indicatif::ProgressBar;

use super::catalogue::Variant;
use super::rounds::{self, Subject};
use super::stage::Stage;
use crate::at_scale::Running;
use crate::procfs::pin_children;
use crate::result::{Metric, Sample, ScenarioResult};

/// Runs it: the controller stays, the gateway is started anew in each round.
///
/// # Errors
/// When a program does not start.
pub(super) async fn run(
    stage: &mut Stage,
    found: &mut ScenarioResult,
    variants: &[Variant],
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    stage.keep_only(&[]).await;
    let mut running = Vec::new();
    for variant in variants {
        let _pinned = pin_children(&stage.plan.load_cores)?;
        running.push((*variant, Running::start(stage.plan.programs_of(variant.build), stage.plan.agents)?));
    }
    rounds::run(stage, found, &Subject::each(variants), bar, async |stage, Subject { variant, .. }| {
        let Some((_, running)) = running.iter().find(|(of, _)| *of == variant) else { return Ok(None) };
        let _pinned = pin_children(&stage.plan.proxy_cores)?;
        let started = running.start_gateway()?;
        let figures = BTreeMap::from([(Metric::ReadySeconds, started.start.as_secs_f64())]);
        Ok(Some(Sample { figures, ..Sample::default() }))
    })
    .await
}
