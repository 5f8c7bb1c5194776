//! Two runs side by side.
//!
//! Owns what is called a change. Rounds of different runs have nothing in common, so the interval is that of two medians
//! that are resampled apart. It knows the noise within either run, not what the machine did between them.

use std::fmt::Write as _;

use super::format::{counted, figure, head, name, percent, plain};
use super::table::{Cell, KRYPTON, Row, Table};
use crate::result::{Metric, RunResult, ScenarioResult};
use crate::stats::{self, Interval, LOOK_ROUNDS};

/// What changed from one run to another.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// What makes the two hard to compare, a sentence each.
    differences: Vec<String>,
    /// Figures that both have, by scenario.
    changes: Vec<Change>,
    /// What only one of them has.
    alone: Vec<String>,
    /// Primary figures of the gateway that a scenario of the later run does not have any more.
    gone: Vec<String>,
}

/// A figure of both runs.
#[derive(Debug)]
struct Change {
    scenario: String,
    variant: String,
    metric: Metric,
    /// The gateway's, and the one that the scenario is about.
    counts: bool,
    before: f64,
    after: f64,
    /// In the metric's unit; `None` with too few rounds.
    apart: Option<Interval>,
}

/// What a change is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    TooFewRounds,
    Within,
    Better,
    Worse,
}

// === impl Comparison ===

impl Comparison {
    pub(super) fn of(before: &RunResult, after: &RunResult) -> Self {
        let mut comparison = Self { differences: differences(before, after), ..Self::default() };
        for scenario in &before.scenarios {
            match after.scenarios.iter().find(|other| other.name == scenario.name) {
                Some(other) => comparison.scenario(scenario, other),
                None => comparison.alone.push(format!("{}: only in the first run", scenario.name)),
            }
        }
        let known = |name: &str| before.scenarios.iter().any(|scenario| scenario.name == name);
        let new = after.scenarios.iter().filter(|scenario| !known(&scenario.name));
        comparison.alone.extend(new.map(|scenario| format!("{}: only in the second run", scenario.name)));
        comparison
    }

    fn scenario(&mut self, before: &ScenarioResult, after: &ScenarioResult) {
        let (old, new) = (Table::of(before), Table::of(after));
        for row in &old.rows {
            let Some(other) = new.rows.iter().find(|other| other.key == row.key) else {
                let text = format!("{}, {}", before.name, name(&row.key));
                if row.key.peer == KRYPTON {
                    self.gone.push(format!("{text} is gone"));
                }
                self.alone.push(format!("{text}: only in the first run"));
                continue;
            };
            for (metric, cell) in old.metrics.iter().zip(&row.cells) {
                let Some(cell) = cell else { continue };
                let theirs = new.column(*metric).and_then(|column| other.cells[column]);
                let counts = row.key.peer == KRYPTON && *metric == before.primary;
                match theirs {
                    Some(theirs) => self.changes.push(Change {
                        scenario: before.name.clone(),
                        variant: name(&row.key),
                        metric: *metric,
                        counts,
                        before: cell.median,
                        after: theirs.median,
                        apart: change((row, cell), (other, &theirs), *metric),
                    }),
                    None if counts => {
                        self.gone.push(format!("{}, {}: no {}", before.name, name(&row.key), head(*metric)));
                    }
                    None => {}
                }
            }
        }
        let known = |row: &&Row<'_>| old.rows.iter().any(|other| other.key == row.key);
        let more = new.rows.iter().filter(|row| !known(row));
        self.alone
            .extend(more.map(|row| format!("{}, {}: only in the second run", before.name, name(&row.key))));
    }

    /// For a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: &str| writeln!(text, "{line}").expect("a string takes all that is written");
        for difference in &self.differences {
            line(&format!("! {difference}"));
        }
        let widest = |of: fn(&Change) -> &str| {
            self.changes.iter().map(|change| of(change).chars().count()).max().unwrap_or(0)
        };
        let (variant, metric) = (widest(|change| &change.variant), widest(|change| head(change.metric)));
        let mut scenario = "";
        for change in &self.changes {
            if change.scenario != scenario {
                scenario = &change.scenario;
                line(&format!("\n{scenario}"));
            }
            line(&format!(
                "  {:variant$}  {:metric$}  {:>10} → {:<10} {:34} {}",
                change.variant,
                head(change.metric),
                figure(change.metric, change.before),
                figure(change.metric, change.after),
                change.size(),
                change.worth().words(),
            ));
        }
        line("");
        for alone in &self.alone {
            line(alone);
        }
        line(&self.verdict());
        text
    }

    fn verdict(&self) -> String {
        let count = |worth| self.changes.iter().filter(|change| change.worth() == worth).count();
        let (better, worse, few) = (count(Worth::Better), count(Worth::Worse), count(Worth::TooFewRounds));
        let judged = self.changes.len() - few;
        let mut text = format!(
            "Of {} beyond the noise: {better} better, {worse} worse. By chance alone, one in twenty would be.",
            counted(judged, "figure")
        );
        if few > 0 {
            let more = format!(" {} had fewer than {LOOK_ROUNDS} rounds.", counted(few, "figure"));
            text.push_str(&more);
        }
        text.push_str(
            "\nThe noise is that within the runs; what the machine did between them is not in it, but what happened \
             to the others shows it.",
        );
        text
    }

    /// Primary figures of the gateway that are worse by more than `limit` percent and beyond the noise, or gone.
    pub(super) fn regressions(&self, limit: f64) -> Vec<String> {
        let worse = self.changes.iter().filter(|change| {
            change.counts && change.worth() == Worth::Worse && change.share().abs() * 100.0 > limit
        });
        let told = worse.map(|change| {
            format!("{}, {}: {} {}", change.scenario, change.variant, head(change.metric), change.size())
        });
        told.chain(self.gone.iter().cloned()).collect()
    }

    /// Primary figures of the gateway that could be judged, or that are gone.
    pub(super) fn judged(&self) -> usize {
        let judged = self.changes.iter().filter(|change| change.counts && change.apart.is_some());
        judged.count() + self.gone.len()
    }
}

fn change(before: (&Row<'_>, &Cell), after: (&Row<'_>, &Cell), metric: Metric) -> Option<Interval> {
    let values = |(row, cell): (&Row<'_>, &Cell)| {
        // What a doubt spoils is good for no claim.
        (!cell.spoiled).then(|| stats::rounds(row.samples.iter().copied(), metric).values())
    };
    stats::change(&values(before)?, &values(after)?)
}

// === impl Change ===

impl Change {
    fn worth(&self) -> Worth {
        match self.apart {
            None => Worth::TooFewRounds,
            Some(change) if change.low <= 0.0 && change.high >= 0.0 => Worth::Within,
            Some(change) if (change.high < 0.0) == self.metric.smaller_is_better() => Worth::Better,
            Some(_) => Worth::Worse,
        }
    }

    /// Infinite for what was nothing before.
    fn share(&self) -> f64 {
        (self.after - self.before) / self.before
    }

    /// In percent, or in the unit for what was nothing before.
    fn size(&self) -> String {
        let Some(Interval { low, mid, high }) = self.apart else { return String::new() };
        if self.before > 0.0 {
            let [low, mid, high] = [low, mid, high].map(|change| percent(change / self.before));
            return format!("{mid} ({low} to {high})");
        }
        let [low, mid, high] = [low, mid, high].map(|change| figure(self.metric, change));
        format!("{mid} more ({low} to {high})")
    }
}

// === impl Worth ===

impl Worth {
    fn words(self) -> &'static str {
        match self {
            Self::TooFewRounds => "too few rounds",
            Self::Within => "within the noise",
            Self::Better => "beyond the noise, better",
            Self::Worse => "beyond the noise, worse",
        }
    }
}

/// What else differs than the speed.
fn differences(before: &RunResult, after: &RunResult) -> Vec<String> {
    let mut all = Vec::new();
    let mut differ = |what: &str, before: String, after: String| {
        if before != after {
            all.push(format!("{what}: {before}, then {after}"));
        }
    };
    let (old, new) = (&before.machine, &after.machine);
    differ("Different CPU", old.cpu.clone(), new.cpu.clone());
    differ("Different number of cores", old.cores.to_string(), new.cores.to_string());
    differ("Different memory, bytes", old.memory.to_string(), new.memory.to_string());
    differ("Different kernel", old.kernel.clone(), new.kernel.clone());
    differ("Different system", old.system.clone(), new.system.clone());
    differ("Virtual machine", old.virtualized.to_string(), new.virtualized.to_string());
    let (old, new) = (&before.settings, &after.settings);
    differ("Different rounds", old.rounds.to_string(), new.rounds.to_string());
    differ("Different seconds of a measurement", plain(old.seconds), plain(new.seconds));
    differ("Different number of agents", old.agents.to_string(), new.agents.to_string());
    differ(
        "Different cores of the proxy",
        format!("{:?}", old.proxy_cores),
        format!("{:?}", new.proxy_cores),
    );
    differ("Different cores of the load", format!("{:?}", old.load_cores), format!("{:?}", new.load_cores));
    for peer in &before.peers {
        if let Some(other) = after.peers.iter().find(|other| other.name == peer.name) {
            differ(&format!("Different {}", peer.name), peer.version.clone(), other.version.clone());
        }
    }
    for (run, which) in [(before, "first"), (after, "second")] {
        if run.settings.smoke {
            all.push(format!("The {which} run is a smoke run: its figures say nothing about speed"));
        }
        if let Some(why) = &run.aborted {
            all.push(format!("The {which} run ended early: {why}"));
        }
    }
    all
}
