//! From samples to claims.
//!
//! Owns the arithmetic: medians, intervals, which samples count, and the [targets](TARGETS) with their verdicts. Never
//! reads a file and never prints; the same samples give the same figures on every machine, to the last digit.
//!
//! 1. [`rounds`] takes the figures of one variant out of a scenario, without the samples that a doubt spoils.
//! 2. [`paired`] puts two variants side by side by round: what both lived through at the same time.
//! 3. [`ratio`] and [`difference`] say how far they are apart, [`interval`] how far one scatters, and [`change`] what
//!    happened between two runs, whose rounds have nothing to do with each other.
//! 4. [`judge`] holds that against the targets.
//!
//! The intervals are percentile bootstraps of a median. With [`CLAIM_ROUNDS`] rounds they cover the truth in about 95
//! of 100 cases. With the three rounds of a [look](LOOK_ROUNDS) the interval is the whole range, which covers it in 75
//! of 100: good enough to see where one stands, not for a claim.

mod claims;
mod targets;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::result::{Doubt, Metric, Sample};

pub use claims::{Claim, Reason, Verdict, judge};
pub use targets::{Build, Kind, Side, TARGETS, Target, scenarios};

/// Fewest paired rounds that something can be claimed from.
pub const CLAIM_ROUNDS: usize = 10;

/// Fewest rounds that an interval is given for.
pub const LOOK_ROUNDS: usize = 3;

/// From how much CPU taken by others, or stolen by the hypervisor, a time says nothing, in percent of the proxy's
/// cores. Below it, what is left after pairing is smaller than what the targets are apart.
pub const SPOILED_FROM_PERCENT: f64 = 10.0;

const RESAMPLES: usize = 10_000;

/// Of the resampled medians, on either side: 2.5 %.
const TAIL_PER_MILLE: usize = 25;

/// Fixed, so that a report made anew says the same.
const SEED: u64 = 0x6b72_7970_746f_6e06;

/// A figure, and where it may lie with 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The near end.
    pub low: f64,
    /// What was measured.
    pub mid: f64,
    /// The far end.
    pub high: f64,
}

/// The figures of one variant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rounds {
    /// By round.
    pub figures: BTreeMap<u32, f64>,
    /// Samples that a doubt spoils; not among the figures.
    pub left_out: usize,
}

// === impl Interval ===

impl Interval {
    /// How far the ends are from the middle, as a share of it. Not a number for a middle of 0.
    #[must_use]
    pub fn noise(self) -> f64 {
        (self.high - self.low) / 2.0 / self.mid.abs()
    }
}

// === impl Rounds ===

impl Rounds {
    /// The figures in the order of the rounds.
    #[must_use]
    pub fn values(&self) -> Vec<f64> {
        self.figures.values().copied().collect()
    }
}

/// The middle one; between the middle two if their number is even. Not a number if there are none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    median_of(&mut sorted)
}

/// The median of `values`, and its 95 % interval. `None` with fewer than [`LOOK_ROUNDS`] of them, or if one is not finite.
#[must_use]
pub fn interval(values: &[f64]) -> Option<Interval> {
    let sorted = sorted(values)?;
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut drawn = vec![0; sorted.len()];
    let medians = (0..RESAMPLES).map(|_| resampled_median(&sorted, &mut drawn, &mut random)).collect();
    Some(within(medians, median(&sorted)))
}

/// How many times as large `subject` is as `against`: the median of the ratios within rounds, with its 95 % interval.
/// The values at one place are of one round. `None` if there are fewer than [`LOOK_ROUNDS`], if the two are not equally
/// many, or if a ratio is not finite.
#[must_use]
pub fn ratio(subject: &[f64], against: &[f64]) -> Option<Interval> {
    pairs(subject, against, |subject, against| subject / against)
}

/// As [`ratio`], for how much larger `subject` is.
#[must_use]
pub fn difference(subject: &[f64], against: &[f64]) -> Option<Interval> {
    pairs(subject, against, |subject, against| subject - against)
}

/// By how much the median has changed between two runs. The rounds of different runs have nothing in common, so each
/// side is resampled by itself. `None` if a side has fewer than [`LOOK_ROUNDS`], or if a value is not finite.
#[must_use]
pub fn change(before: &[f64], after: &[f64]) -> Option<Interval> {
    let (before, after) = (sorted(before)?, sorted(after)?);
    let mut random = fastrand::Rng::with_seed(SEED);
    let (mut old, mut new) = (vec![0; before.len()], vec![0; after.len()]);
    let changes = (0..RESAMPLES).map(|_| {
        let old = resampled_median(&before, &mut old, &mut random);
        resampled_median(&after, &mut new, &mut random) - old
    });
    Some(within(changes.collect(), median(&after) - median(&before)))
}

/// Whether a doubt spoils a figure. The others are told to the reader, who may know better.
#[must_use]
pub fn matters(doubt: &Doubt, metric: Metric) -> bool {
    use Metric::{
        BytesPerConnection, CoalescedPercent, EventsPerSecond, Failed, P50Us, P99Us, P999Us, P9999Us,
        RequestsPerSecond, RssAfterRatio, RssBytes,
    };
    let of_memory = matches!(metric, RssBytes | BytesPerConnection | RssAfterRatio);
    match doubt {
        // What a call cost the peer at the load that there was is known all the same.
        Doubt::GeneratorWasTheLimit => matches!(
            metric,
            RequestsPerSecond | EventsPerSecond | P50Us | P99Us | P999Us | P9999Us | CoalescedPercent
        ),
        Doubt::ForeignCpu(percent) | Doubt::Steal(percent) => {
            !of_memory && metric != Failed && *percent >= SPOILED_FROM_PERCENT
        }
        // A refusal is cheap and quick.
        Doubt::Failures(_) => metric != Failed,
        // It costs all peers the same.
        Doubt::ConnectionTracking => false,
        Doubt::PeerDied => true,
    }
}

/// What `samples` of one variant say of `metric`. Of several in one round the median.
pub fn rounds<'a>(samples: impl IntoIterator<Item = &'a Sample>, metric: Metric) -> Rounds {
    let mut all: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let mut left_out = 0;
    for sample in samples {
        let Some(figure) = sample.figures.get(&metric).copied().filter(|figure| figure.is_finite()) else {
            continue;
        };
        if sample.doubts.iter().any(|doubt| matters(doubt, metric)) {
            left_out += 1;
        } else {
            all.entry(sample.round).or_default().push(figure);
        }
    }
    let figures = all.into_iter().map(|(round, figures)| (round, median(&figures))).collect();
    Rounds { figures, left_out }
}

/// The figures of both, of the rounds that both have.
#[must_use]
pub fn paired(subject: &Rounds, against: &Rounds) -> (Vec<f64>, Vec<f64>) {
    let both =
        subject.figures.iter().filter_map(|(round, figure)| Some((*figure, *against.figures.get(round)?)));
    both.unzip()
}

fn pairs(subject: &[f64], against: &[f64], of: impl Fn(f64, f64) -> f64) -> Option<Interval> {
    if subject.len() != against.len() {
        return None;
    }
    let values: Vec<f64> =
        subject.iter().zip(against).map(|(subject, against)| of(*subject, *against)).collect();
    interval(&values)
}

/// Sorted, so that the order of rounds does not decide which of them a seed draws.
fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    if values.len() < LOOK_ROUNDS || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Some(sorted)
}

/// The median of as many values, drawn from these with putting back. `drawn` is scratch, as long as `values`, which are
/// sorted: so it is enough to count how often each was drawn.
fn resampled_median(values: &[f64], drawn: &mut [usize], random: &mut fastrand::Rng) -> f64 {
    drawn.fill(0);
    for _ in 0..values.len() {
        drawn[random.usize(..values.len())] += 1;
    }
    let (lower, upper) = ((values.len() - 1) / 2, values.len() / 2);
    let (mut seen, mut below) = (0, None);
    for (value, times) in values.iter().zip(drawn) {
        seen += *times;
        if below.is_none() && seen > lower {
            below = Some(*value);
        }
        if seen > upper {
            return f64::midpoint(below.unwrap_or(*value), *value);
        }
    }
    f64::NAN
}

fn median_of(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let middle = values.len() / 2;
    let even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let lower = below.iter().copied().max_by(f64::total_cmp);
    match lower {
        Some(lower) if even => f64::midpoint(lower, *upper),
        _ => *upper,
    }
}

fn within(mut medians: Vec<f64>, mid: f64) -> Interval {
    let tail = medians.len() * TAIL_PER_MILLE / 1000;
    let last = medians.len() - 1 - tail;
    let (_, low, above) = medians.select_nth_unstable_by(tail, f64::total_cmp);
    let low = *low;
    let (_, high, _) = above.select_nth_unstable_by(last - tail - 1, f64::total_cmp);
    Interval { low, mid, high: *high }
}
