//! Every scenario, as `krypton-bench run --smoke` runs it: seconds each, by unoptimised programs. What is checked is
//! that figures are there and make sense, never how good they are.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use krypton_bench::peers::PeerKind;
use krypton_bench::result::{Doubt, Metric, RunResult, Sample, ScenarioResult};
use krypton_e2e::wait::eventually;
use tokio::process::Command;

const BENCH: &str = env!("CARGO_BIN_EXE_krypton-bench");

/// Two minutes on a quiet machine.
const DEADLINE: Duration = Duration::from_mins(15);

/// Peers that another project's program is needed for.
const OTHERS: [PeerKind; 4] = [PeerKind::Nginx, PeerKind::Haproxy, PeerKind::Envoy, PeerKind::Go];

async fn run(args: &[&str]) -> Result<std::process::Output> {
    let child = Command::new(BENCH).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    Ok(tokio::time::timeout(DEADLINE, child).await.context("it hangs")??)
}

fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}

/// The API server is there, as it is in the tier `cluster` of the tests; and it takes endpoints, which needs root.
fn has_cluster() -> bool {
    std::env::var_os(krypton_e2e::cluster::TESTBED_ENV).is_some() && rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn every_scenario_gives_figures_that_make_sense() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().to_str().context("a path of text")?;
    let names = run(&["run", "--list"]).await?;
    let names = String::from_utf8(names.stdout)?;
    let names = names.lines().filter_map(|line| line.split_whitespace().next());
    let names: Vec<_> = names.filter(|name| *name != "churn" || has_cluster()).collect();
    ensure!(names.len() > 15, "{names:?}");

    let args = [&["run", "--smoke", "--out", out][..], &names].concat();
    let ran = run(&args).await?;
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    ensure!(ran.status.success(), "{told}");
    let result: RunResult = serde_json::from_slice(&std::fs::read(folder.path().join("results.json"))?)?;
    ensure!(result.settings.smoke && result.aborted.is_none());
    for peer in result.peers.iter().filter(|peer| peer.missing.is_some()) {
        eprintln!("Passed over: {peer:?}");
        ensure!(!is_ci(), "{} is missing", peer.name);
    }
    let found: Vec<_> = result.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    for name in &names {
        ensure!(found.contains(name), "{name} was not run: {told}");
    }
    for scenario in &result.scenarios {
        makes_sense(scenario).with_context(|| format!("{}: {:?}", scenario.name, scenario.notes))?;
    }
    let here = |peer: &&PeerKind| result.peers.iter().any(|p| p.name == peer.as_str() && p.missing.is_none());
    let saturation = result.scenarios.iter().find(|scenario| scenario.name == "saturation-1k-64");
    for peer in OTHERS.iter().filter(here) {
        let samples = &saturation.context("it was run")?.samples;
        ensure!(samples.iter().any(|sample| sample.peer == peer.as_str()), "{peer} was not measured");
    }
    let page = std::fs::read_to_string(folder.path().join("report.html"))?;
    ensure!(names.iter().all(|name| page.contains(name)), "the page has every scenario");
    ensure!(folder.path().join("summary.md").is_file());
    Ok(())
}

fn makes_sense(scenario: &ScenarioResult) -> Result<()> {
    ensure!(!scenario.notes.iter().any(|note| note.contains("takes no part")), "a peer does not work");
    ensure!(scenario.samples.iter().any(|sample| sample.peer == "krypton"), "Krypton was not measured");
    for sample in &scenario.samples {
        sample_makes_sense(scenario, sample).with_context(|| format!("{sample:?}"))?;
    }
    Ok(())
}

fn sample_makes_sense(scenario: &ScenarioResult, sample: &Sample) -> Result<()> {
    ensure!(sample.figures.values().all(|figure| figure.is_finite() && *figure >= 0.0), "no figure is odd");
    // Without a proxy there is no process of a peer to read.
    let is_known = sample.peer != "direct" || !scenario.primary.is_of_processes();
    ensure!(sample.figures.contains_key(&scenario.primary) == is_known, "no figure is missing");
    ensure!(!sample.doubts.contains(&Doubt::PeerDied));
    // The others lose calls where an endpoint ends; that is what the scenario shows. Krypton loses at most the one that
    // is on its way there, on a connection that it has just made.
    let may_fail = match (scenario.name.as_str(), sample.peer.as_str()) {
        ("endpoint-failure", "krypton") => 1.0,
        ("endpoint-failure", _) => f64::INFINITY,
        (_, "krypton" | "direct") => 0.0,
        // Go sends a POST over a kept connection that is just closed, and does not send it again.
        _ => 5.0,
    };
    let failed = sample.figures.get(&Metric::Failed).copied().unwrap_or_default();
    ensure!(failed <= may_fail, "calls failed");
    for metric in [Metric::RequestsPerSecond, Metric::EventsPerSecond] {
        ensure!(sample.figures.get(&metric).is_none_or(|figure| *figure > 0.0), "something came through");
    }
    ensure!(sample.latency_us.is_sorted_by(|a, b| a.1 <= b.1), "quantiles rise");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_run_is_told_in_a_sentence() -> Result<()> {
    for (args, expected) in [
        (&["run", "speed"][..], "there is no scenario \"speed\"; there are same-rate-1k-64,"),
        (&["run", "--peers", "apache"], "[possible values: direct, krypton, nginx"),
        (&["run", "--programs", "/nowhere"], "/nowhere/krypton-gateway is not there"),
        (&["run", "--proxy-cores", "4711"], "core 4711 cannot be used"),
        (&["run", "--rounds", "0"], "0 is not in 1..=1000"),
        (&["run", "--duration", "soon"], "--duration"),
        (&["run", "--smoke", "--out", "/proc/nowhere"], "--out /proc/nowhere"),
        (&["run", "--agents", "0"], "--agents must be 1 or more"),
    ] {
        let ran = run(args).await?;
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        ensure!(!ran.status.success() && told.contains(expected), "{args:?}: {told}");
    }
    Ok(())
}

/// A program of a version that does not fit is no reason to measure nobody.
#[tokio::test]
async fn a_peer_that_does_not_start_takes_no_figures_along() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broken = folder.path().join("haproxy");
    std::fs::write(&broken, "#!/bin/sh\nexit 3\n")?;
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755))?;
    let others = std::env::var_os("PATH").unwrap_or_default();
    let path =
        std::env::join_paths([folder.path().to_owned()].into_iter().chain(std::env::split_paths(&others)))?;
    let ran = Command::new(BENCH)
        .args(["run", "--smoke", "--peers", "direct,haproxy", "saturation-1k-1", "endpoint-failure", "--out"])
        .arg(folder.path())
        .env("PATH", path)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ran = tokio::time::timeout(DEADLINE, ran).await.context("it hangs")??;
    let told = String::from_utf8_lossy(&ran.stderr);
    let result: RunResult = serde_json::from_slice(&std::fs::read(folder.path().join("results.json"))?)?;
    let [saturation, failure] = &result.scenarios[..] else { anyhow::bail!("two were asked for: {told}") };
    ensure!(saturation.samples.iter().any(|sample| sample.peer == "direct"), "{told}");
    for scenario in [saturation, failure] {
        let note = scenario.notes.iter().find(|note| note.starts_with("haproxy takes no part: "));
        ensure!(note.is_some_and(|note| !note.contains("early")), "{:?}: {told}", scenario.notes);
        ensure!(scenario.samples.iter().all(|sample| sample.peer != "haproxy"));
    }
    Ok(())
}

/// What was measured until then is kept and marked, and nothing is left running.
#[tokio::test]
async fn an_interrupted_run_keeps_what_it_has() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // A terminal that asks, and a system; the second run puts the results of the first aside.
    interrupted(folder.path(), rustix::process::Signal::INT, "results.json").await?;
    interrupted(folder.path(), rustix::process::Signal::TERM, "results.before.json").await
}

/// Runs into `folder` and sends `signal` as soon as `written` is there.
async fn interrupted(folder: &Path, signal: rustix::process::Signal, written: &str) -> Result<()> {
    let child = Command::new(BENCH)
        // Rounds enough that the signal comes long before the end.
        .args(["run", "--peers", "direct", "--agents", "10", "--rounds", "10", "--duration", "200ms"])
        .args(["--out", folder.to_str().context("a path of text")?, "saturation-1k-1", "rate-2k"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let first = async || Ok(std::fs::metadata(folder.join(written))?);
    eventually("the first scenario has ended", DEADLINE, first).await?;
    let pid =
        child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())).context("it runs")?;
    rustix::process::kill_process(pid, signal)?;
    let ended = tokio::time::timeout(DEADLINE, child.wait_with_output()).await??;
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(!ended.status.success() && told.contains("not whole: it was interrupted in rate-2k"), "{told}");
    let result: RunResult = serde_json::from_slice(&std::fs::read(folder.join("results.json"))?)?;
    ensure!(result.aborted.is_some() && !result.scenarios[0].samples.is_empty());
    ensure!(std::fs::read_to_string(folder.join("report.html"))?.contains("interrupted"));
    Ok(())
}
