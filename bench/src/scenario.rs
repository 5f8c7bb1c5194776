//! What is measured, and in which order.
//!
//! Owns a run: who takes part ([`catalogue`]), what it stands on ([`stage`]), the rounds ([`rounds`]), and the file of
//! results. Never judges what came of it: that is for [`stats`](crate::stats).
//!
//! 1. Cores are shared out: one for the proxy, the others for generator and origin.
//! 2. For each scenario the peers are started, each is called once to see that it works, and what they can do at most
//!    is found where a scenario's rate follows from it.
//! 3. In each round every variant is measured once, in one order and the next time in the other, so that what changes
//!    on the machine meets all alike.
//! 4. After each scenario the results so far are written: a run that ends early leaves what it has.

mod calls;
mod catalogue;
mod churn;
mod failure;
mod generator;
mod held;
mod measure;
mod rounds;
mod stage;
mod start;
mod streams;
mod table_update;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use krypton_e2e::state::{self, RunDir};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::load::MAX_DURATION;
use crate::peers::PeerKind;
use crate::procfs;
use crate::programs::Programs;
use crate::report;
use crate::result::{Doubt, RunResult, SCHEMA, ScenarioResult};
use crate::stats::Build;
use catalogue::{Kind, Scenario};
use stage::{Plan, Stage, share_a_core, share_cores};

/// Scenarios to run, and how.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
pub struct Args {
    /// Scenarios, by name or by its beginning [default: all]
    scenarios: Vec<String>,

    /// Name the scenarios, and do nothing else
    #[arg(long)]
    list: bool,

    /// Who takes part, as krypton,nginx
    #[arg(long, value_delimiter = ',', default_values_t = PeerKind::ALL)]
    peers: Vec<PeerKind>,

    /// Rounds of each scenario. Under 10 good ones nothing is claimed, and one that others disturbed does not count
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// How long each measurement takes, as 5s
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,

    /// Agents in the table of every peer
    #[arg(long, default_value_t = 5000)]
    agents: usize,

    /// A look in under five minutes: fewer scenarios, 3 rounds of 1.5 s
    #[arg(long, conflicts_with_all = ["rounds", "duration", "scenarios"])]
    quick: bool,

    /// See that everything works, in seconds: no figure of it says anything about speed
    #[arg(long, conflicts_with_all = ["rounds", "duration", "quick", "agents"])]
    smoke: bool,

    /// Folder for the results; those of the run before are kept there as results.before.json
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    out: PathBuf,

    /// The folder with krypton-gateway and krypton-controller [default: where this program is]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// A gateway built with a profile (`make release-pgo`), to be measured as well
    #[arg(long, value_name = "FILE")]
    pgo_gateway: Option<PathBuf>,

    /// Cores of the proxy under test [default: the first]
    #[arg(long, value_delimiter = ',', value_name = "CORE")]
    proxy_cores: Vec<usize>,

    /// Cores of generator and origin [default: all others]
    #[arg(long, value_delimiter = ',', value_name = "CORE")]
    load_cores: Vec<usize>,
}

/// Open files without which nothing can be measured: 512 connections and what else is open.
const FILES: u64 = 1024;

/// Signals after which a run ends with what it has.
struct Stop([Signal; 3]);

// === impl Stop ===

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?]))
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

// === impl Args ===

impl Args {
    fn plan(&self) -> anyhow::Result<Plan> {
        let programs = match &self.programs {
            Some(folder) => std::path::absolute(folder).context("--programs")?,
            None => std::env::current_exe()?.parent().context("this program is in a folder")?.to_owned(),
        };
        let plain = Programs::in_folder(&programs);
        let pgo = match &self.pgo_gateway {
            // A name without a folder would be looked for where programs of the system are.
            Some(path) => Some(std::path::absolute(path).context("--pgo-gateway")?),
            None => None,
        };
        let pgo = pgo.map(|gateway| (Build::Pgo, Programs { gateway, ..plain.clone() }));
        let programs: Vec<_> = [(Build::Plain, plain)].into_iter().chain(pgo).collect();
        if let Some(path) = programs.iter().find_map(|(_, programs)| programs.missing())
            && self.peers.contains(&PeerKind::Krypton)
        {
            bail!(
                "{} is not there, or no program; build it, or name it by --programs or --pgo-gateway",
                path.display()
            );
        }
        let usable = procfs::allowed_cores()?;
        let (proxy_cores, load_cores) = share_cores(&usable, &self.proxy_cores, &self.load_cores)?;
        if share_a_core(&proxy_cores, &load_cores) {
            eprintln!("{SHARED_CORE}");
        }
        let (rounds, duration, agents, shrink) = match (self.quick, self.smoke) {
            (true, _) => (3, Duration::from_millis(1500), self.agents, 1),
            (_, true) => (1, Duration::from_millis(500), 200, 100),
            _ => (self.rounds, self.duration, self.agents, 1),
        };
        ensure!(agents > 0, "--agents must be 1 or more");
        ensure!(
            !duration.is_zero() && duration <= MAX_DURATION,
            "--duration {duration:?} is not above 0 and at most {MAX_DURATION:?}"
        );
        enough_files()?;
        let warm_up = Duration::from_secs(1).min(duration / 3);
        let (peers, smoke) = (self.peers.clone(), self.smoke);
        Ok(Plan {
            rounds,
            duration,
            warm_up,
            agents,
            shrink,
            peers,
            proxy_cores,
            load_cores,
            programs,
            smoke,
        })
    }
}

/// What a reader has to know then.
const SHARED_CORE: &str = "Proxy, generator and origin share a core: no figure is of use.";

/// What a reader of such a scenario should know.
const BUSY_POLL: &str = "Generator and origin did not sleep, so no proxy paid for waking them. Where the two share a core \
                         that makes single calls wait: latency is told by the scenarios named rate.";

/// Runs them, and writes results, page and summary.
///
/// # Errors
/// What keeps a run from beginning; after that, what went wrong is part of the results, and told at the end.
pub fn main(args: &Args) -> anyhow::Result<()> {
    if args.list {
        for scenario in catalogue::ALL {
            println!("{:20} {}", scenario.name, scenario.title);
        }
        return Ok(());
    }
    let chosen = catalogue::choose(&args.scenarios)?;
    let chosen: Vec<_> = chosen.into_iter().filter(|scenario| !args.quick || scenario.quick).collect();
    let plan = args.plan()?;
    let chosen = possible(chosen, &plan, !args.scenarios.is_empty())?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("--out {}", args.out.display()))?;
    // One thread: children inherit the cores of the thread that starts them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // What a killed run left behind would be measured with.
        state::sweep().await?;
        let ended = run(plan, &chosen, &args.out).await;
        RunDir::of_this_process()?.clear().await?;
        ended
    })
}

/// Without those that cannot be here. One that was named by the user is an error then.
fn possible(
    chosen: Vec<&'static Scenario>,
    plan: &Plan,
    are_named: bool,
) -> anyhow::Result<Vec<&'static Scenario>> {
    let is_root = rustix::process::geteuid().is_root();
    let mut possible = Vec::new();
    for scenario in chosen {
        match scenario.obstacle(&plan.peers, &plan.builds(), is_root) {
            None => possible.push(scenario),
            Some(why) if are_named => bail!("{}: {why}", scenario.name),
            Some(why) => eprintln!("{} is left out: {why}", scenario.name),
        }
    }
    ensure!(!possible.is_empty(), "there is nothing to measure");
    Ok(possible)
}

async fn run(plan: Plan, chosen: &[&'static Scenario], out: &Path) -> anyhow::Result<()> {
    let mut result = RunResult {
        schema: SCHEMA,
        started: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        machine: procfs::describe(),
        settings: plan.settings(),
        peers: Vec::new(),
        scenarios: Vec::new(),
        aborted: None,
    };
    let bar = progress(&plan, chosen);
    // One for all scenarios: a signal that comes between two of them counts as well.
    let mut stop = Stop::listen()?;
    let mut stage = Stage::set(plan).await?;
    let mut is_kept = false;
    for scenario in chosen {
        let mut found = begin(scenario, result.settings.smoke);
        if bar.is_hidden() {
            // Into a file goes no bar, but whoever reads it wants to know how far it is.
            eprintln!("{}: {}", scenario.name, scenario.title);
        }
        let ended = tokio::select! {
            biased;
            // A terminal interrupts the generator too; that it ends is no failure then.
            () = stop.asked() => {
                result.aborted = Some(format!("it was interrupted in {}", scenario.name));
                Ok(())
            }
            ended = measure(&mut stage, scenario, &mut found, &bar) => ended,
        };
        found.notes.extend(stage.take_notes());
        if let Err(error) = ended {
            bar.suspend(|| eprintln!("{}: {error:#}", scenario.name));
            found.notes.push(format!("It ended early: {error:#}"));
        }
        result.scenarios.push(found);
        result.peers = stage.seen.values().cloned().collect();
        keep(&result, out, &mut is_kept)?;
        if result.aborted.is_some() {
            break;
        }
    }
    bar.finish_and_clear();
    stage.clear().await;
    if is_kept {
        for path in report::write(&result, out)? {
            println!("{}", path.display());
        }
    }
    let failed: Vec<_> =
        result.scenarios.iter().filter(|s| s.samples.is_empty()).map(|s| s.name.as_str()).collect();
    ensure!(result.aborted.is_none(), "the run is not whole: {}", result.aborted.unwrap_or_default());
    ensure!(failed.is_empty(), "nothing was measured in {}", failed.join(", "));
    let samples = result.scenarios.iter().flat_map(|scenario| &scenario.samples);
    let dead: BTreeSet<_> =
        samples.filter(|sample| sample.doubts.contains(&Doubt::PeerDied)).map(|s| s.peer.as_str()).collect();
    ensure!(dead.is_empty(), "ended while it was measured: {}", Vec::from_iter(dead).join(", "));
    Ok(())
}

/// Whether this process may open as many files as the smallest scenarios need; [`Stage`] raises the soft limit.
fn enough_files() -> anyhow::Result<()> {
    let (_, hard) = rlimit::Resource::NOFILE.get().context("cannot read the limit of open files")?;
    ensure!(
        hard >= FILES,
        "a run needs {FILES} open files and may have {hard}: run `ulimit -n {FILES}` as root before"
    );
    Ok(())
}

fn begin(scenario: &Scenario, is_smoke: bool) -> ScenarioResult {
    ScenarioResult {
        name: scenario.name.to_owned(),
        title: scenario.title.to_owned(),
        load: if is_smoke {
            format!("{}; scaled down to look whether it works", scenario.load())
        } else {
            scenario.load()
        },
        primary: scenario.primary,
        samples: Vec::new(),
        notes: Vec::new(),
    }
}

async fn measure(
    stage: &mut Stage,
    scenario: &Scenario,
    found: &mut ScenarioResult,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let variants = scenario.variants(&stage.plan.peers, &stage.plan.builds());
    stage.set_busy_poll(scenario.busy_poll()).await?;
    if stage.busy_poll {
        stage.note(BUSY_POLL.to_owned());
    }
    if share_a_core(&stage.plan.proxy_cores, &stage.plan.load_cores) {
        stage.note(SHARED_CORE.to_owned());
    }
    stage.keep_only(&variants).await;
    match scenario.kind {
        Kind::Calls { call, pace, .. } => calls::run(stage, found, &variants, call, pace, bar).await,
        Kind::Events { streams, interval } => {
            streams::run(stage, found, &variants, streams, interval, bar).await
        }
        Kind::Held { what, count } => held::run(stage, found, &variants, what, count, bar).await,
        Kind::Table { agents } => calls::over_tables(stage, found, &variants, agents, bar).await,
        Kind::TableUpdate { agents } => {
            table_update::run(stage, found, &variants, agents, bar);
            Ok(())
        }
        Kind::Cores { cores } => calls::over_cores(stage, found, &variants, cores, bar).await,
        Kind::EndpointFailure => failure::run(stage, found, &variants, bar).await,
        Kind::Start => start::run(stage, found, &variants, bar).await,
        Kind::Churn => churn::run(stage, found, &variants, bar).await,
    }
}

fn progress(plan: &Plan, chosen: &[&'static Scenario]) -> ProgressBar {
    let variants: u64 =
        chosen.iter().map(|scenario| scenario.variants(&plan.peers, &plan.builds()).len() as u64).sum();
    let bar = ProgressBar::new(variants * u64::from(plan.rounds));
    let style =
        ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} about {eta} left: {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Writes what there is, once there is something. What an earlier run left is put aside before.
fn keep(result: &RunResult, out: &Path, is_kept: &mut bool) -> anyhow::Result<()> {
    if result.scenarios.iter().all(|scenario| scenario.samples.is_empty()) {
        return Ok(());
    }
    let path = out.join("results.json");
    if !std::mem::replace(is_kept, true) && path.is_file() {
        std::fs::rename(&path, out.join("results.before.json"))
            .with_context(|| path.display().to_string())?;
    }
    write(result, out)
}

/// As editors do: what is there stays whole until the new one is.
fn write(result: &RunResult, out: &Path) -> anyhow::Result<()> {
    let (path, new) = (out.join("results.json"), out.join(".results.json.new"));
    std::fs::write(&new, serde_json::to_vec_pretty(result)?).with_context(|| new.display().to_string())?;
    std::fs::rename(&new, &path).with_context(|| path.display().to_string())
}
