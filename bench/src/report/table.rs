//! The samples of a scenario as rows and columns.
//!
//! Owns which variants and figures a reader sees and in which order. Never formats.

use crate::result::{Doubt, Metric, Sample, ScenarioResult};
use crate::stats::{self, Build, Interval, Rounds};

/// Whom the others are compared with.
pub(super) const KRYPTON: &str = "krypton";

/// A variant at a size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Key<'a> {
    pub(super) peer: &'a str,
    pub(super) variant: &'a str,
    pub(super) x: Option<f64>,
}

/// What was measured of it.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) key: Key<'a>,
    pub(super) samples: Vec<&'a Sample>,
    /// One for each of the table's metrics.
    pub(super) cells: Vec<Option<Cell>>,
    /// Whether the others are compared with it.
    pub(super) reference: bool,
}

/// A figure over all rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cell {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) rounds: usize,
    /// Samples that a doubt spoils; not in the figures above.
    pub(super) left_out: usize,
    /// Nothing but spoiled samples is left, so the figures are of those.
    pub(super) spoiled: bool,
    /// How many times that of the gateway at the same size.
    pub(super) ratio: Option<Interval>,
}

/// A scenario.
#[derive(Debug)]
pub(super) struct Table<'a> {
    /// The primary one first.
    pub(super) metrics: Vec<Metric>,
    /// In the order in which they were first measured.
    pub(super) rows: Vec<Row<'a>>,
}

/// One kind of doubt in a variant.
#[derive(Debug, PartialEq)]
pub(super) struct Doubted<'a> {
    pub(super) key: Key<'a>,
    /// The worst of them.
    pub(super) doubt: &'a Doubt,
    /// Samples that have it.
    pub(super) samples: usize,
    /// Of so many.
    pub(super) of: usize,
}

// === impl Table ===

impl<'a> Table<'a> {
    pub(super) fn of(scenario: &'a ScenarioResult) -> Self {
        let mut rows: Vec<Row<'a>> = Vec::new();
        for sample in &scenario.samples {
            let key = Key { peer: &sample.peer, variant: &sample.variant, x: sample.x };
            match rows.iter_mut().find(|row| row.key == key) {
                Some(row) => row.samples.push(sample),
                None => rows.push(Row { key, samples: vec![sample], cells: Vec::new(), reference: false }),
            }
        }
        let mut metrics: Vec<_> =
            scenario.samples.iter().flat_map(|sample| sample.figures.keys().copied()).collect();
        metrics.sort_unstable_by_key(|metric| (*metric != scenario.primary, *metric));
        metrics.dedup();
        let references: Vec<_> = rows.iter().map(|row| reference(&rows, row.key.x)).collect();
        let mut columns = Vec::new();
        for metric in &metrics {
            let all: Vec<_> =
                rows.iter().map(|row| stats::rounds(row.samples.iter().copied(), *metric)).collect();
            let cell = |n: usize| {
                let against =
                    references[n].filter(|reference| *reference != n).map(|reference| &all[reference]);
                cell(&rows[n], *metric, &all[n], against)
            };
            columns.push((0..rows.len()).map(cell).collect::<Vec<_>>());
        }
        for (n, row) in rows.iter_mut().enumerate() {
            row.reference = references[n] == Some(n);
            row.cells = columns.iter().map(|column| column[n]).collect();
        }
        Self { metrics, rows }
    }

    /// Where in the rows' cells a metric is.
    pub(super) fn column(&self, metric: Metric) -> Option<usize> {
        self.metrics.iter().position(|other| *other == metric)
    }

    /// Rows with this figure and what it is.
    pub(super) fn cells(&self, metric: Metric) -> Vec<(&Row<'a>, Cell)> {
        let Some(column) = self.column(metric) else { return Vec::new() };
        self.rows.iter().filter_map(|row| Some((row, row.cells[column]?))).collect()
    }

    /// Samples of the primary figure that a doubt spoils.
    pub(super) fn left_out(&self) -> usize {
        let primary = self.rows.iter().filter_map(|row| row.cells.first().copied().flatten());
        primary.map(|cell| cell.left_out).sum()
    }

    /// What is doubtful, the worst of a kind for each variant.
    pub(super) fn doubts(&self) -> Vec<Doubted<'a>> {
        let mut all: Vec<Doubted<'a>> = Vec::new();
        for row in &self.rows {
            for doubt in row.samples.iter().flat_map(|sample| &sample.doubts) {
                let same = |other: &&mut Doubted<'a>| {
                    other.key == row.key
                        && std::mem::discriminant(other.doubt) == std::mem::discriminant(doubt)
                };
                if let Some(known) = all.iter_mut().find(same) {
                    known.samples += 1;
                    if size(doubt) > size(known.doubt) {
                        known.doubt = doubt;
                    }
                } else {
                    all.push(Doubted { key: row.key, doubt, samples: 1, of: row.samples.len() });
                }
            }
        }
        all
    }
}

/// The gateway's row that the others of this size are compared with: as released, else with a profile, else any.
fn reference(rows: &[Row<'_>], x: Option<f64>) -> Option<usize> {
    let ours = |row: &Row<'_>| row.key.peer == KRYPTON && row.key.x == x;
    let pgo = Build::Pgo.word();
    let named = |variant: &str| rows.iter().position(|row| ours(row) && row.key.variant == variant);
    named("").or_else(|| named(pgo)).or_else(|| rows.iter().position(ours))
}

fn cell(row: &Row<'_>, metric: Metric, rounds: &Rounds, against: Option<&Rounds>) -> Option<Cell> {
    let mut values = rounds.values();
    let spoiled = values.is_empty();
    if spoiled {
        values = row.samples.iter().filter_map(|sample| sample.figures.get(&metric).copied()).collect();
        values.retain(|value| value.is_finite());
    }
    let (min, max) = ends(&values)?;
    let ratio = against.and_then(|against| {
        let (subject, against) = stats::paired(rounds, against);
        stats::ratio(&subject, &against)
    });
    let (median, rounds, left_out) = (stats::median(&values), values.len(), rounds.left_out);
    Some(Cell { median, min, max, rounds, left_out, spoiled, ratio })
}

/// The smallest and the largest.
pub(super) fn ends(values: &[f64]) -> Option<(f64, f64)> {
    let min = values.iter().copied().min_by(f64::total_cmp)?;
    let max = values.iter().copied().max_by(f64::total_cmp)?;
    Some((min, max))
}

#[expect(clippy::cast_precision_loss, reason = "only compared, and calls that failed are far below 2^52")]
fn size(doubt: &Doubt) -> f64 {
    match doubt {
        Doubt::ForeignCpu(percent) | Doubt::Steal(percent) => *percent,
        Doubt::Failures(count) => *count as f64,
        Doubt::GeneratorWasTheLimit | Doubt::ConnectionTracking | Doubt::PeerDied => 0.0,
    }
}

// === impl Doubted ===

impl Doubted<'_> {
    /// What it is, without whose.
    pub(super) fn words(&self) -> String {
        match self.doubt {
            Doubt::GeneratorWasTheLimit => {
                "the generator was the limit: the peer could have done more".to_owned()
            }
            Doubt::ForeignCpu(percent) => format!("others used up to {percent:.0} % of the proxy's cores"),
            Doubt::Steal(percent) => {
                format!("the hypervisor took away up to {percent:.0} % of the proxy's cores")
            }
            Doubt::Failures(1) => "1 call failed".to_owned(),
            Doubt::Failures(count) => format!("up to {count} calls failed"),
            Doubt::ConnectionTracking => "the kernel tracked every connection".to_owned(),
            Doubt::PeerDied => "the peer ended during the measurement".to_owned(),
        }
    }
}
