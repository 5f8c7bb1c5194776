//! Rounds: every variant once, in one order and then in the other.

use indicatif::ProgressBar;

use super::catalogue::Variant;
use super::stage::Stage;
use crate::peers::PeerKind;
use crate::result::{Doubt, Sample, ScenarioResult};

/// One thing that is measured once a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Subject {
    pub(super) variant: Variant,
    /// Where a scenario goes over sizes: which.
    pub(super) x: Option<f64>,
}

/// Measures each of `subjects` once a round. `measure` gives nothing for a peer that is missing. A peer that dies is
/// marked, and left out from then on.
///
/// # Errors
/// When a measurement fails though its peer runs.
pub(super) async fn run(
    stage: &mut Stage,
    found: &mut ScenarioResult,
    subjects: &[Subject],
    bar: &ProgressBar,
    mut measure: impl AsyncFnMut(&mut Stage, Subject) -> anyhow::Result<Option<Sample>>,
) -> anyhow::Result<()> {
    let mut subjects = subjects.to_vec();
    for round in 0..stage.plan.rounds {
        let mut dead = Vec::new();
        for at in order(subjects.len(), round) {
            let subject = subjects[at];
            bar.set_message(format!("{}: {} {}", found.name, subject.variant.peer, subject.variant.label()));
            let measured = measure(stage, subject).await;
            let sample = match (measured, stage.death(subject.variant)) {
                (sample, None) => sample?,
                // One of its processes may have ended unseen by who called it.
                (sample, Some(why)) => {
                    found.notes.push(format!("{} ended in round {round}: {why}", subject.variant.named()));
                    dead.push(subject.variant);
                    let mut sample = sample.ok().flatten().unwrap_or_default();
                    sample.doubts.push(Doubt::PeerDied);
                    Some(sample)
                }
            };
            bar.inc(1);
            stage.trim_logs()?;
            if let Some(mut sample) = sample {
                if subject.variant.peer == PeerKind::Direct {
                    sample.figures.retain(|metric, _| !metric.is_of_processes());
                }
                let peer = subject.variant.peer.to_string();
                found.samples.push(Sample {
                    peer,
                    variant: subject.variant.label(),
                    round,
                    x: subject.x,
                    ..sample
                });
            }
        }
        subjects.retain(|subject| !dead.contains(&subject.variant));
    }
    Ok(())
}

/// Forwards in even rounds, backwards in odd ones.
fn order(count: usize, round: u32) -> Vec<usize> {
    let forwards = 0..count;
    if round.is_multiple_of(2) { forwards.collect() } else { forwards.rev().collect() }
}

// === impl Subject ===

impl Subject {
    /// Each of `variants`, in a scenario without sizes.
    pub(super) fn each(variants: &[Variant]) -> Vec<Self> {
        variants.iter().map(|variant| Self { variant: *variant, x: None }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_turns_round_with_each_round() {
        assert_eq!(order(3, 0), [0, 1, 2]);
        assert_eq!(order(3, 1), [2, 1, 0]);
        assert_eq!(order(3, 2), order(3, 0));
    }
}
