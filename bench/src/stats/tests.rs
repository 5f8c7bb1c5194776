use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::claims::verdict;
use super::*;
use crate::result::{Machine, RunResult, SCHEMA, ScenarioResult, Settings};

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

fn figures() -> impl Strategy<Value = Vec<f64>> {
    vec(0.001..1_000_000.0, LOOK_ROUNDS..24)
}

/// Rounds of two variants: equally many.
fn two() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    vec((0.001..1_000_000.0, 0.001..1_000_000.0), LOOK_ROUNDS..24).prop_map(|pairs| pairs.into_iter().unzip())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn equal_samples_are_once_each_other_and_nothing_apart(values in figures()) {
        prop_assert_eq!(ratio(&values, &values), Some(Interval { low: 1.0, mid: 1.0, high: 1.0 }));
        prop_assert_eq!(difference(&values, &values), Some(Interval { low: 0.0, mid: 0.0, high: 0.0 }));
    }

    #[test]
    fn the_unit_does_not_matter((subject, against) in two(), unit in 0.001..1000.0) {
        let scaled = |values: &[f64]| values.iter().map(|value| value * unit).collect::<Vec<_>>();
        let (before, after) = (ratio(&subject, &against).unwrap(), ratio(&scaled(&subject), &scaled(&against)).unwrap());
        prop_assert!(near(before.low, after.low) && near(before.mid, after.mid) && near(before.high, after.high));

        let twice = ratio(&scaled(&subject), &against).unwrap();
        prop_assert!(near(before.low * unit, twice.low) && near(before.high * unit, twice.high));
    }

    #[test]
    fn the_interval_holds_the_median_and_nothing_unseen(values in figures(), other in figures()) {
        let Interval { low, mid, high } = interval(&values).unwrap();
        prop_assert!(low <= mid && mid <= high);
        prop_assert!(near(mid, median(&values)));
        prop_assert!(values.iter().any(|value| *value <= low) && values.iter().any(|value| *value >= high));

        let changed = change(&values, &other).unwrap();
        prop_assert!(changed.low <= changed.mid && changed.mid <= changed.high);
    }

    #[test]
    fn the_order_of_rounds_does_not_matter((subject, against) in two(), seed in any::<u64>()) {
        let mut order: Vec<_> = (0..subject.len()).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut order);
        let shuffled = |values: &[f64]| order.iter().map(|n| values[*n]).collect::<Vec<_>>();
        prop_assert_eq!(ratio(&subject, &against), ratio(&shuffled(&subject), &shuffled(&against)));
        prop_assert_eq!(change(&subject, &against), change(&shuffled(&subject), &against));
    }

    #[test]
    fn half_of_the_values_are_on_either_side_of_the_median(values in figures()) {
        let median = median(&values);
        let below = values.iter().filter(|value| **value < median).count();
        let above = values.iter().filter(|value| **value > median).count();
        prop_assert!(below * 2 <= values.len() && above * 2 <= values.len());
    }
}

/// Noise as of a shared machine: both of a round suffer from what the round suffers from, and each by itself.
fn noisy_rounds(random: &mut fastrand::Rng, rounds: usize, times: f64) -> (Vec<f64>, Vec<f64>) {
    // The sum of twelve is as good as normal, with a variance of 1.
    let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
    let one = |_| {
        let round = 60.0 * (0.15 * normal()).exp();
        (round * times * (0.05 * normal()).exp(), round * (0.05 * normal()).exp())
    };
    (0..rounds).map(one).unzip()
}

#[test]
fn the_interval_covers_the_truth_in_about_95_of_100_cases() {
    let cases = 120;
    let covered = |seed: &u64| {
        let (subject, against) = noisy_rounds(&mut fastrand::Rng::with_seed(*seed), CLAIM_ROUNDS, 1.5);
        let found = ratio(&subject, &against).unwrap();
        found.low <= 1.5 && 1.5 <= found.high
    };
    let covered = (0..cases).filter(covered).count();
    assert!((108..=119).contains(&covered), "{covered} of {cases}");
}

#[test]
fn pairing_takes_out_what_a_round_suffers_from() {
    let (subject, against) = noisy_rounds(&mut fastrand::Rng::with_seed(7), 20, 1.5);
    let (paired, unpaired) = (ratio(&subject, &against).unwrap(), change(&against, &subject).unwrap());
    assert!(paired.noise() * 2.0 < unpaired.noise(), "{paired:?} {unpaired:?}");
}

#[test]
fn too_little_is_no_interval() {
    assert_eq!(ratio(&[1.0, 2.0], &[1.0, 2.0]), None);
    assert_eq!(ratio(&[1.0, 2.0, 3.0], &[1.0, 2.0]), None, "not of the same rounds");
    assert_eq!(ratio(&[1.0, 2.0, 3.0], &[1.0, 0.0, 1.0]), None, "not finite");
    assert_eq!(change(&[1.0, 2.0, 3.0], &[1.0, 2.0]), None);
    assert_eq!(
        interval(&[1.0, 2.0, 3.0]),
        Some(Interval { low: 1.0, mid: 2.0, high: 3.0 }),
        "the whole range"
    );
    assert!(median(&[]).is_nan());
    assert!(near(median(&[4.0, 1.0, 2.0, 3.0]), 2.5));
}

fn sample(peer: &str, variant: &str, round: u32, metric: Metric, figure: f64) -> Sample {
    Sample {
        peer: peer.to_owned(),
        variant: variant.to_owned(),
        round,
        x: None,
        figures: BTreeMap::from([(metric, figure)]),
        latency_us: Vec::new(),
        seconds: Vec::new(),
        doubts: Vec::new(),
    }
}

fn run(scenario: &str, metric: Metric, samples: Vec<Sample>) -> RunResult {
    let scenario = ScenarioResult {
        name: scenario.to_owned(),
        title: String::new(),
        load: String::new(),
        primary: metric,
        samples,
        notes: Vec::new(),
    };
    RunResult {
        schema: SCHEMA,
        started: String::new(),
        command: String::new(),
        machine: Machine { cores: 2, ..Machine::default() },
        settings: Settings { agents: 5000, proxy_cores: vec![0], ..Settings::default() },
        peers: Vec::new(),
        scenarios: vec![scenario],
        aborted: None,
    }
}

/// The gateway in `variant` takes `times` what nginx takes.
fn beside_nginx(variant: &str, times: f64, rounds: u32) -> RunResult {
    let metric = Metric::CpuPerRequestUs;
    let both = |round| {
        let base = 50.0 + f64::from(round % 3);
        let ours = base * times * (1.0 + 0.01 * f64::from(round % 2));
        [sample("krypton", variant, round, metric, ours), sample("nginx", "", round, metric, base)]
    };
    run(scenarios::SAME_RATE, metric, (0..rounds).flat_map(both).collect())
}

fn about(result: &RunResult, text: &str) -> Vec<Claim> {
    judge(result).into_iter().filter(|claim| claim.target.text.contains(text)).collect()
}

#[test]
fn a_target_is_met_only_beyond_the_noise_and_with_enough_rounds() {
    let inside = Interval { low: 1.4, mid: 1.5, high: 1.6 };
    assert_eq!(verdict(Some(inside), 1.6, 10), Verdict::Met);
    assert_eq!(verdict(Some(inside), 1.6, 9), Verdict::NotShown(Reason::TooFewRounds));
    assert_eq!(verdict(Some(inside), 1.59, 10), Verdict::NotShown(Reason::WithinNoise));
    assert_eq!(verdict(Some(inside), 1.4, 10), Verdict::NotShown(Reason::WithinNoise));
    assert_eq!(verdict(Some(inside), 1.39, 10), Verdict::Missed);
    assert_eq!(verdict(Some(inside), 1.39, 9), Verdict::NotShown(Reason::TooFewRounds));
    assert_eq!(verdict(None, 1.6, 0), Verdict::NotShown(Reason::TooFewRounds));
}

#[test]
fn each_build_has_a_bound_of_its_own() {
    let of = |result: &RunResult| about(result, "64 connections, against nginx").remove(0);
    let plain = of(&beside_nginx("", 1.5, 10));
    assert_eq!((plain.build, plain.verdict, plain.rounds), (Build::Plain, Verdict::Met, 10));
    let pgo = of(&beside_nginx("pgo", 1.5, 10));
    assert_eq!((pgo.build, pgo.verdict), (Build::Pgo, Verdict::Missed));
}

#[test]
fn both_builds_of_one_run_are_judged() {
    let mut result = beside_nginx("", 1.5, 10);
    let pgo = beside_nginx("pgo", 1.2, 10).scenarios.remove(0).samples;
    result.scenarios[0].samples.extend(pgo.into_iter().filter(|sample| sample.peer == "krypton"));
    let verdicts: Vec<_> =
        about(&result, "64 connections, against nginx").iter().map(|claim| claim.verdict).collect();
    assert_eq!(verdicts, [Verdict::Met, Verdict::Met]);
}

#[test]
fn the_access_log_is_compared_within_one_build() {
    let metric = Metric::CpuPerRequestUs;
    let both = |round| {
        [
            sample("krypton", "pgo", round, metric, 105.0),
            sample("krypton", "pgo, log off", round, metric, 100.0),
        ]
    };
    let result = run(scenarios::SAME_RATE, metric, (0..10).flat_map(both).collect());
    let claims = about(&result, "access log");
    assert_eq!(claims.iter().map(|claim| claim.verdict).collect::<Vec<_>>(), [Verdict::Met]);
}

#[test]
fn what_direct_takes_goes_out_of_the_added_latency() {
    let both = |round| {
        let direct = 500.0 * f64::from(round + 1);
        let of = |peer, added| sample(peer, "", round, Metric::P50Us, direct + added);
        [of("krypton", 180.0), of("nginx", 90.0)]
    };
    let result = run(scenarios::SSE, Metric::P50Us, (0..10).flat_map(both).collect());
    let claim = about(&result, "added over direct").remove(0);
    assert_eq!((claim.verdict, claim.measured.map(|measured| measured.mid)), (Verdict::Met, Some(90.0)));
}

#[test]
fn a_spoiled_sample_is_left_out_and_counted() {
    let mut result = beside_nginx("", 1.5, 11);
    result.scenarios[0].samples[0].doubts = vec![Doubt::Steal(30.0)];
    let claim = about(&result, "64 connections, against nginx").remove(0);
    assert_eq!((claim.verdict, claim.rounds, claim.left_out), (Verdict::Met, 10, 1));

    result.scenarios[0].samples[2].doubts = vec![Doubt::PeerDied];
    let claim = about(&result, "64 connections, against nginx").remove(0);
    assert_eq!((claim.rounds, claim.left_out), (9, 2));
    assert_eq!(claim.verdict, Verdict::NotShown(Reason::TooFewRounds));
}

#[test]
fn what_spoils_a_time_does_not_spoil_memory() {
    assert!(
        matters(&Doubt::ForeignCpu(20.0), Metric::P99Us) && !matters(&Doubt::ForeignCpu(3.0), Metric::P99Us)
    );
    assert!(!matters(&Doubt::ForeignCpu(20.0), Metric::BytesPerConnection));
    assert!(matters(&Doubt::GeneratorWasTheLimit, Metric::RequestsPerSecond));
    assert!(!matters(&Doubt::GeneratorWasTheLimit, Metric::CpuPerRequestUs));
    assert!(
        matters(&Doubt::Failures(1), Metric::CpuPerRequestUs)
            && !matters(&Doubt::Failures(1), Metric::Failed)
    );
    assert!(!matters(&Doubt::ConnectionTracking, Metric::P50Us));
}

#[test]
fn what_was_not_measured_is_not_shown() {
    let mut result = beside_nginx("", 1.5, 10);
    let verdict = |result: &RunResult, text| about(result, text).remove(0).verdict;
    assert_eq!(verdict(&result, "against Envoy"), Verdict::NotShown(Reason::NothingToCompare));
    assert_eq!(verdict(&result, "SSE, CPU"), Verdict::NotShown(Reason::NotMeasured));
    assert_eq!(verdict(&result, "two cores"), Verdict::NotShown(Reason::TooFewCores));
    result.settings.agents = 10;
    assert_eq!(verdict(&result, "64 connections, against nginx"), Verdict::NotShown(Reason::OtherConditions));
    result.settings.smoke = true;
    assert_eq!(verdict(&result, "64 connections, against nginx"), Verdict::NotShown(Reason::Smoke));
    result.scenarios.clear();
    assert_eq!(judge(&result).len(), TARGETS.len());
}

#[test]
fn sizes_are_told_apart() {
    let of = |round| {
        let at =
            |x, figure| Sample { x: Some(x), ..sample("krypton", "", round, Metric::TableUpdateUs, figure) };
        [at(5_000.0, 0.5), at(100_000.0, 30.0)]
    };
    let result = run(scenarios::TABLE_UPDATE, Metric::TableUpdateUs, (0..10).flat_map(of).collect());
    assert_eq!(about(&result, "among 5,000")[0].verdict, Verdict::Met);
    assert_eq!(about(&result, "among 100,000")[0].verdict, Verdict::Missed);
}

#[test]
fn several_samples_of_a_round_are_one_figure() {
    let samples: Vec<_> = [1.0, 9.0, 2.0].map(|figure| sample("nginx", "", 4, Metric::P50Us, figure)).into();
    assert_eq!(rounds(&samples, Metric::P50Us), Rounds { figures: BTreeMap::from([(4, 2.0)]), left_out: 0 });
}

#[test]
fn every_target_has_both_bounds() {
    for target in TARGETS {
        let (plain, pgo) = (target.bound(Build::Plain), target.bound(Build::Pgo));
        assert!(plain > 0.0 && pgo > 0.0 && pgo <= plain, "{}", target.text);
    }
    assert_eq!(Build::of("pgo, log off"), Build::Pgo);
    assert_eq!(Build::of("log off"), Build::Plain);
    assert_eq!(Build::Pgo.variant("log off"), "pgo, log off");
}
