//! Whether the targets are met.
//!
//! Owns the rule: with rounds enough *met* when the far end of the interval is inside, *missed* when the near end is
//! outside; *not shown* else. Never says "met" for want of evidence against it.

use super::targets::AGENTS;
use super::{Build, CLAIM_ROUNDS, Interval, Kind, Rounds, Side, TARGETS, Target};
use super::{difference, interval, paired, ratio, rounds};
use crate::result::{RunResult, ScenarioResult, Settings};

/// What became of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is reached, beyond the noise.
    Met,
    /// This run cannot tell.
    NotShown(Reason),
    /// It is not reached, beyond the noise.
    Missed,
}

/// Why a run cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It only looked whether everything works.
    Smoke,
    /// The machine has too few cores for it.
    TooFewCores,
    /// The table or the cores of the proxy were other ones than the target is about.
    OtherConditions,
    /// The gateway's side has no sample.
    NotMeasured,
    /// The other side took no part.
    NothingToCompare,
    /// Of the rounds too few are left.
    TooFewRounds,
    /// The bound lies within the interval.
    WithinNoise,
}

/// A target, held against a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Which.
    pub target: &'static Target,
    /// For which build.
    pub build: Build,
    /// What is held against the bound; `None` with too few rounds for an interval.
    pub measured: Option<Interval>,
    /// Rounds that it comes from.
    pub rounds: usize,
    /// Samples of either side that a doubt spoils.
    pub left_out: usize,
    /// What became of it.
    pub verdict: Verdict,
}

/// All targets, for the builds that took part.
#[must_use]
pub fn judge(result: &RunResult) -> Vec<Claim> {
    let mut builds: Vec<_> = Build::ALL.into_iter().filter(|build| took_part(result, *build)).collect();
    if builds.is_empty() {
        builds.push(Build::Plain);
    }
    let both = |target| builds.iter().map(move |build| claim(result, target, *build));
    TARGETS.iter().flat_map(both).collect()
}

/// Whether a run holds anything of this build.
fn took_part(result: &RunResult, build: Build) -> bool {
    let mut samples = result.scenarios.iter().flat_map(|scenario| &scenario.samples);
    samples.any(|sample| sample.peer == "krypton" && Build::of(&sample.variant) == build)
}

fn claim(result: &RunResult, target: &'static Target, build: Build) -> Claim {
    let of = |side: &Side| {
        let mut scenarios = result.scenarios.iter();
        let scenario = scenarios.find(|scenario| scenario.name == target.scenario);
        scenario.map(|scenario| side_of(scenario, side, target, build)).unwrap_or_default()
    };
    let subject = of(&target.subject);
    let against = match &target.kind {
        Kind::AtMostRatio(side) | Kind::AtMostAbove(side) => Some(of(side)),
        Kind::AtMostAbsolute => None,
    };
    let (ours, theirs) = match &against {
        Some(against) => paired(&subject, against),
        None => (subject.values(), Vec::new()),
    };
    let measured = match target.kind {
        Kind::AtMostRatio(_) => ratio(&ours, &theirs),
        Kind::AtMostAbove(_) => difference(&ours, &theirs),
        Kind::AtMostAbsolute => interval(&ours),
    };
    let left_out = subject.left_out + against.as_ref().map_or(0, |against| against.left_out);
    let nothing = |side: &Rounds| side.figures.is_empty() && side.left_out == 0;
    let verdict = if result.settings.smoke {
        Verdict::NotShown(Reason::Smoke)
    } else if result.machine.cores < target.needs_cores {
        Verdict::NotShown(Reason::TooFewCores)
    } else if !target.brings_its_own_sizes() && !as_released(&result.settings) {
        Verdict::NotShown(Reason::OtherConditions)
    } else if nothing(&subject) {
        Verdict::NotShown(Reason::NotMeasured)
    } else if against.as_ref().is_some_and(nothing) {
        Verdict::NotShown(Reason::NothingToCompare)
    } else {
        verdict(measured, target.bound(build), ours.len())
    };
    Claim { target, build, measured, rounds: ours.len(), left_out, verdict }
}

/// Whether a run was made under the conditions that targets are about.
fn as_released(settings: &Settings) -> bool {
    settings.agents == AGENTS && settings.proxy_cores.len() == 1
}

fn side_of(scenario: &ScenarioResult, side: &Side, target: &Target, build: Build) -> Rounds {
    let variant = side.variant_in(build);
    let of_it = scenario.samples.iter().filter(|sample| {
        sample.peer == side.peer && sample.variant == variant && (side.x.is_none() || side.x == sample.x)
    });
    rounds(of_it, target.metric)
}

/// The rule by itself.
pub(super) fn verdict(measured: Option<Interval>, bound: f64, rounds: usize) -> Verdict {
    match measured {
        None => Verdict::NotShown(Reason::TooFewRounds),
        Some(_) if rounds < CLAIM_ROUNDS => Verdict::NotShown(Reason::TooFewRounds),
        Some(measured) if measured.low > bound => Verdict::Missed,
        Some(measured) if measured.high > bound => Verdict::NotShown(Reason::WithinNoise),
        Some(_) => Verdict::Met,
    }
}

// === impl Verdict ===

impl Verdict {
    /// In one or two words.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotShown(_) => "not shown",
            Self::Missed => "missed",
        }
    }
}

// === impl Reason ===

impl Reason {
    /// The rest of the sentence "Not shown: …".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Smoke => "the run only looked whether everything works",
            Self::TooFewCores => "the machine has too few cores",
            Self::OtherConditions => "it is about one core and 5,000 agents",
            Self::NotMeasured => "not measured in this run",
            Self::NothingToCompare => "the other side took no part",
            Self::TooFewRounds => "too few rounds for a claim",
            Self::WithinNoise => "the bound lies within the noise",
        }
    }
}
