mod invented;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use proptest::prelude::*;

use super::*;
use crate::result::{Doubt, SCHEMA, Second};
use invented::{large, small};

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/golden").join(file)
}

/// With UPDATE_GOLDEN in the environment it writes the files instead, for a person to look at before they are committed.
fn check(file: &str, made: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(golden(file), made).unwrap();
    }
    let kept = fs::read_to_string(golden(file)).unwrap_or_default();
    assert!(kept == made, "{file} is not as it was; UPDATE_GOLDEN=1 takes this over:\n{made}");
}

fn html(result: &RunResult) -> String {
    page::page(result).into_string()
}

fn file_of(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn the_page_and_the_summary_are_these() {
    // A line for each element, so that a change is seen where it is.
    check("small.html", &html(&small()).replace("><", ">\n<"));
    check("small.md", &summary::summary(&small()));
}

#[test]
fn both_files_are_written_from_the_file_of_a_run() {
    let (folder, results) = file_of(&serde_json::to_string(&small()).unwrap());
    let out = folder.path().join("new/folder");
    main(&Args { results: results.clone(), out: Some(out.clone()) }).unwrap();
    assert_eq!(fs::read_to_string(out.join("report.html")).unwrap(), html(&small()));
    assert_eq!(fs::read_to_string(out.join("summary.md")).unwrap(), summary::summary(&small()));

    main(&Args { results, out: None }).unwrap();
    assert!(folder.path().join("report.html").exists(), "beside the results");
}

#[test]
fn nothing_is_needed_from_elsewhere() {
    let page = html(&large(3));
    for foreign in ["<script", "<link", "src=", "@import", "url(", "http://", "https://"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn every_plot_says_in_words_what_it_shows() {
    let page = html(&large(3));
    let plots = page.matches("<svg").count();
    assert!(plots > 10);
    assert_eq!(page.matches("<desc id=").count(), plots);
    assert_eq!(page.matches("role=\"img\"").count(), plots);
    let mut ids: Vec<_> = page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id is used twice");
}

#[test]
fn text_of_a_run_never_becomes_markup() {
    let evil = "<b onclick='x'>\"&|*_`[x](y)";
    let mut result = small();
    result.command = evil.to_owned();
    result.machine.cpu = evil.to_owned();
    result.aborted = Some(evil.to_owned());
    for peer in &mut result.peers {
        peer.version = evil.to_owned();
        peer.commands = vec![evil.to_owned()];
        peer.files = [(evil.to_owned(), evil.to_owned())].into();
        peer.missing = peer.missing.as_ref().map(|_| evil.to_owned());
    }
    for scenario in &mut result.scenarios {
        (scenario.name, scenario.title, scenario.load) = (evil.to_owned(), evil.to_owned(), evil.to_owned());
        scenario.notes = vec![evil.to_owned()];
        for sample in &mut scenario.samples {
            sample.variant = evil.to_owned();
            sample.doubts.push(Doubt::PeerDied);
        }
    }
    let (page, summary) = (html(&result), summary::summary(&result));
    assert!(!page.contains("<b onclick") && page.contains("&lt;b onclick"), "{page}");
    assert!(!page.contains("x'>\""), "an attribute is left open: {page}");
    assert!(!summary.contains('<') && summary.contains("\\[x\\](y)"), "{summary}");
}

#[test]
fn a_scenario_without_samples_is_said_to_have_none() {
    let mut result = small();
    result.scenarios[0].samples.clear();
    assert!(html(&result).contains("No measurement"));
    assert!(summary::summary(&result).contains(&format!("| {}", result.scenarios[0].title)));
}

#[test]
fn who_is_missing_is_named_with_the_reason() {
    let result = small();
    let why = result.peers.iter().find_map(|peer| peer.missing.clone()).unwrap();
    assert!(html(&result).contains(&format!("envoy took no part: </strong>{why}")));
    assert!(summary::summary(&result).contains("envoy took no part"));
}

#[test]
fn a_run_that_ended_early_says_so_first() {
    let mut result = small();
    result.aborted = Some("nginx ended with signal 9".to_owned());
    let page = html(&result);
    assert!(page.find("nginx ended with signal 9").unwrap() < page.find("id=\"targets\"").unwrap());
    assert!(summary::summary(&result).starts_with("**The run ended early: nginx ended with signal 9."));
}

#[test]
fn a_smoke_run_makes_no_claim() {
    let mut result = large(3);
    result.settings.smoke = true;
    let page = html(&result);
    assert!(page.contains("smoke run") && !page.contains("✓ met") && !page.contains("✗ missed"));
    assert!(!summary::summary(&result).contains("met:"));
}

#[test]
fn what_is_no_file_of_results_is_said_with_its_path() {
    let error = |text: &str| {
        let (_folder, path) = file_of(text);
        let error = format!("{:#}", read::read(&path).unwrap_err());
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        error
    };
    assert!(error("{\"schema\": ").contains("is not JSON"));
    assert!(error("{}").contains("no `schema`"));
    assert!(error("[1]").contains("no `schema`"));
    assert!(error("{\"schema\": 99}").contains("is of form 99, and this program knows forms up to 1"));
    assert!(error("{\"schema\": 1}").contains("missing field"));
    let empty = RunResult { scenarios: Vec::new(), ..small() };
    assert!(error(&serde_json::to_string(&empty).unwrap()).contains("holds no sample"));
    let absent = format!("{:#}", read::read(Path::new("/not/there.json")).unwrap_err());
    assert!(absent.starts_with("cannot read /not/there.json: "), "{absent}");
    assert_eq!(SCHEMA, 1, "the sentences above are of this form");
}

/// `result` with the gateway's figures of CPU so many times what they were.
fn with_cpu(mut result: RunResult, times: f64) -> RunResult {
    for sample in result.scenarios.iter_mut().flat_map(|scenario| &mut scenario.samples) {
        if let Some(cpu) = sample.figures.get_mut(&crate::result::Metric::CpuPerRequestUs) {
            *cpu *= if sample.peer == "krypton" { times } else { 1.0 };
        }
    }
    result
}

fn compared(before: &RunResult, after: &RunResult, limit: f64) -> (String, Vec<String>) {
    let comparison = compare::Comparison::of(before, after);
    (comparison.text(), comparison.regressions(limit))
}

#[test]
fn a_change_is_told_from_noise() {
    let before = small();
    let (text, worse) = compared(&before, &before, 0.0);
    assert!(!text.contains("beyond the noise, ") && !text.contains('!') && worse.is_empty(), "{text}");

    let (text, worse) = compared(&before, &with_cpu(small(), 2.0), 5.0);
    assert!(text.contains("+100 %") && text.contains("beyond the noise, worse"), "{text}");
    assert_eq!(worse.len(), 2, "with the access log and without: {worse:?}");
    assert!(compared(&before, &with_cpu(small(), 2.0), 150.0).1.is_empty(), "less than the limit");

    let (text, worse) = compared(&before, &with_cpu(small(), 0.5), 5.0);
    assert!(text.contains("beyond the noise, better") && worse.is_empty(), "{text}");
}

#[test]
fn other_machines_and_settings_are_named_first() {
    let mut after = small();
    after.machine.cpu = "Another CPU".to_owned();
    after.settings.seconds = 9.0;
    after.peers[1].version = "9.9".to_owned();
    let text = compared(&small(), &after, 5.0).0;
    let lines: Vec<_> = text.lines().take(3).collect();
    assert!(lines[0].starts_with("! Different CPU: ") && lines[0].ends_with(", then Another CPU"), "{text}");
    assert!(lines[1].starts_with("! Different seconds") && lines[2].contains("nginx"), "{text}");
}

#[test]
fn what_one_run_does_not_have_is_named() {
    let mut after = small();
    after.scenarios[0].samples.retain(|sample| sample.peer != "krypton");
    let (text, worse) = compared(&small(), &after, 5.0);
    assert!(text.contains("krypton: only in the first run"), "{text}");
    assert!(worse.iter().any(|gone| gone.ends_with("is gone")), "{worse:?}");
    after.scenarios.clear();
    assert!(compared(&small(), &after, 5.0).0.contains("only in the first run"));
}

#[test]
fn a_regression_fails_only_when_asked() {
    let (_before, a) = file_of(&serde_json::to_string(&small()).unwrap());
    let (_after, b) = file_of(&serde_json::to_string(&with_cpu(small(), 2.0)).unwrap());
    let args = |limit| CompareArgs { before: a.clone(), after: b.clone(), fail_on_regression: limit };
    compare_main(&args(None)).unwrap();
    let error = compare_main(&args(Some(5.0))).unwrap_err().to_string();
    assert!(
        error.starts_with("worse by more than 5 %, beyond the noise: same-rate-1k-64, krypton"),
        "{error}"
    );

    let mut few = small();
    for scenario in &mut few.scenarios {
        scenario.samples.retain(|sample| sample.round < 2);
    }
    let (_few, c) = file_of(&serde_json::to_string(&few).unwrap());
    let error =
        compare_main(&CompareArgs { before: a, after: c, fail_on_regression: Some(5.0) }).unwrap_err();
    assert!(error.to_string().contains("no primary figure"), "{error}");
}

#[test]
fn the_limit_is_a_percentage() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: CompareArgs,
    }
    let limit = |text| Line::try_parse_from(["x", "a", "b", "--fail-on-regression", text]);
    assert_eq!(limit("5").ok().and_then(|line| line.args.fail_on_regression), Some(5.0));
    assert_eq!(limit("2.5%").ok().and_then(|line| line.args.fail_on_regression), Some(2.5));
    assert!(limit("many").is_err() && limit("-1").is_err() && limit("nan").is_err());
}

/// Figures that no machine has: none of them may break the page.
fn odd() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1e-30), Just(1e30), Just(-1.0), -1e12..1e12_f64, 0.0..1.0_f64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_figures_make_a_page(figures in proptest::collection::vec((odd(), odd(), odd(), 0..4_u32), 1..12), sizes in any::<bool>()) {
        let mut result = small();
        let samples = &mut result.scenarios[0].samples;
        samples.truncate(figures.len());
        for (sample, (one, two, three, round)) in samples.iter_mut().zip(figures) {
            sample.round = round;
            sample.x = sizes.then_some(three);
            sample.figures.values_mut().for_each(|figure| *figure = one);
            sample.latency_us = vec![(one, two), (0.5, two), (0.99, three), (1.0, one)];
            sample.seconds = vec![Second { completed: u64::MAX, failed: 1, p99_us: two }; 3];
        }
        let page = html(&result);
        for broken in ["NaN", "inf\"", "inf ", ">inf"] {
            prop_assert!(!page.contains(broken), "{broken}");
        }
        prop_assert!(!summary::summary(&result).contains("NaN"));
        compare::Comparison::of(&small(), &result).text();
    }
}

/// The page of an invented run of everything, for a person to look at: `KRYPTON_BENCH_SHOW=FOLDER`.
#[test]
fn a_run_of_everything_has_a_page() {
    let result = large(10);
    let folder = tempfile::tempdir().unwrap();
    let shown =
        std::env::var_os("KRYPTON_BENCH_SHOW").map_or_else(|| folder.path().to_owned(), PathBuf::from);
    let files = write(&result, &shown).unwrap();
    assert_eq!(files.len(), 2);
    let page = fs::read_to_string(&files[0]).unwrap();
    for plot in [
        "Latency by percentile",
        "Added to direct, p50",
        "by size",
        "Completed per second",
        "Failed per second",
        "the most of any round",
    ] {
        assert!(page.contains(plot), "{plot}");
    }
    assert!(!page.contains("NaN") && !page.contains(">inf<"));
}
