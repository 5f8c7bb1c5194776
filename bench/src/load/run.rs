//! A run from its first connection to its report.
//!
//! Owns: the threads, the time that is measured, when it all ends, and what a person sees meanwhile. Never calls.
//!
//! 1. Threads connect; nothing is sent before all have.
//! 2. Warm-up, then the window. Its end, Ctrl-C, or of `idle` standard input, ends the load.
//! 3. Calls of an open loop that were due are waited for, but no longer than the time limit of a call.
//! 4. Threads are cut off, and what they saw is added up.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::clock::{nanos, now_ns};
use super::failure::Failure;
use super::gate::Opened;
use super::limits::{self, Used};
use super::plan::Plan;
use super::record::{LONGEST_NS, Live, Seen, Window};
use super::report::{Generator, Kind, LoadReport};
use super::thread::{Share, Told, work};

/// From the start signal to the first call: every thread has seen it by then.
const HEAD_START: Duration = Duration::from_millis(5);

/// Between two moves of the progress bar.
const TICK: Duration = Duration::from_millis(100);

struct Run {
    plan: Arc<Plan>,
    window: Window,
    live: Vec<Arc<Live>>,
    start: watch::Sender<Option<u64>>,
    told: mpsc::Receiver<Told>,
    interrupted: Arc<AtomicBool>,
}

/// Why the waiting ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// The time was up, or nothing was left to wait for.
    InTime,
    /// Ctrl-C.
    Interrupted,
}

/// Does what `plan` says.
///
/// # Errors
/// When nothing listens, a limit of the machine is too low, or a thread broke.
pub(super) fn run(plan: Plan) -> anyhow::Result<LoadReport> {
    limits::allow_connections(plan.connections)?;
    limits::pin(&plan.cores)?;
    let (plan, window) = (Arc::new(plan), Window::unset());
    let (start, started) = watch::channel(None);
    let (tell, told) = mpsc::channel(2 * plan.threads);
    let cut = CancellationToken::new();
    let mut run = Run {
        plan: Arc::clone(&plan),
        window: window.clone(),
        live: (0..plan.threads).map(|_| Arc::default()).collect(),
        start,
        told,
        interrupted: Arc::default(),
    };
    let threads = (0..plan.threads)
        .map(|index| {
            let share = Share {
                plan: Arc::clone(&plan),
                index,
                window: window.clone(),
                live: Arc::clone(&run.live[index]),
                start: started.clone(),
                cut: cut.clone(),
                interrupted: Arc::clone(&run.interrupted),
                told: tell.clone(),
            };
            std::thread::Builder::new().name(format!("load-{index}")).spawn(move || work(&share))
        })
        .collect::<Result<Vec<_>, _>>()
        .context("cannot start a thread");
    drop(tell);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let used = runtime.block_on(run.conduct());
    cut.cancel();
    let seen = join(threads?);
    let (used, seen) = (used?, seen?);
    let length = Duration::from_nanos(window.length_ns());
    let generator = Generator::new(&used, length, plan.threads, plan.busy_poll, &seen);
    let mut report = LoadReport::new(plan.kind, length, &seen, generator);
    report.interrupted = run.interrupted.load(Relaxed);
    Ok(report)
}

fn join(threads: Vec<JoinHandle<anyhow::Result<Seen>>>) -> anyhow::Result<Seen> {
    let mut all = Seen::new();
    for thread in threads {
        all.merge(&thread.join().map_err(|_| anyhow!("a thread of the generator panicked"))??);
    }
    Ok(all)
}

// === impl Run ===

impl Run {
    /// From the first connection to the end of the window, and of an open loop to its last call. What the generator
    /// used in the window.
    async fn conduct(&mut self) -> anyhow::Result<Used> {
        let opened = tokio::select! {
            opened = opened(&mut self.told, self.plan.threads) => opened?,
            interrupt = tokio::signal::ctrl_c() => {
                interrupt?;
                bail!("interrupted before all connections were made");
            }
        };
        self.check(opened)?;
        let begin_ns = now_ns() + nanos(HEAD_START);
        let length_ns = self.plan.duration.map_or(LONGEST_NS, nanos);
        self.window.set(begin_ns + nanos(self.plan.warm_up), length_ns);
        self.start.send_replace(Some(begin_ns));
        let progress = self.progress();
        let mut end = self.wait_until(self.window.start_ns(), &progress, std::future::pending()).await?;
        ensure!(end != End::Interrupted, "interrupted before the measurement began");
        let before = limits::used();
        self.announce("measuring")?;
        if end == End::InTime {
            end = if self.plan.kind == Kind::Idle && self.plan.duration.is_none() {
                let said = standard_input();
                self.wait_until(self.window.end_ns(), &progress, said).await?
            } else {
                self.wait_until(self.window.end_ns(), &progress, std::future::pending()).await?
            };
        }
        if end == End::Interrupted {
            // First, so that no thread takes the calls that are cut off for failures.
            self.interrupted.store(true, Relaxed);
        }
        self.window.end_now();
        let used = limits::used().since(&before);
        self.announce("measured")?;
        if end == End::InTime && self.plan.per_kilosecond.is_some() {
            self.last_calls().await;
        }
        progress.finish_and_clear();
        Ok(used)
    }

    fn check(&self, opened: Opened) -> anyhow::Result<()> {
        let addresses: Vec<String> = self.plan.groups.iter().map(|group| group.address.to_string()).collect();
        let addresses = addresses.join(", ");
        match opened.why {
            Some(why) if opened.made == 0 => bail!("{}", explain(why, &addresses, &self.plan)),
            Some(why) => eprintln!(
                "krypton-bench: {} of {} connections could not be made at first: {}",
                opened.failed,
                opened.failed + opened.made,
                explain(why, &addresses, &self.plan)
            ),
            None => {}
        }
        match (self.plan.kind, self.plan.output.json) {
            (Kind::Idle, true) => say(&json!({ "open": opened.made, "failed": opened.failed }))?,
            (Kind::Idle, false) => println!("{} open; a line closes them", opened.made),
            _ => {}
        }
        Ok(())
    }

    fn announce(&self, what: &str) -> anyhow::Result<()> {
        if self.plan.output.announce { say(&json!({ what: now_ns() })) } else { Ok(()) }
    }

    /// Moves the progress bar until `time_ns`, or until something else ends the load: Ctrl-C, `other`, nothing left.
    async fn wait_until(
        &mut self,
        time_ns: u64,
        progress: &ProgressBar,
        other: impl Future<Output = ()>,
    ) -> anyhow::Result<End> {
        let mut other = std::pin::pin!(other);
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        let mut done = 0;
        loop {
            let left = Duration::from_nanos(time_ns.saturating_sub(now_ns()));
            if left.is_zero() {
                return Ok(End::InTime);
            }
            tokio::select! {
                () = sleep(left.min(TICK)) => self.show(progress),
                () = &mut other => return Ok(End::InTime),
                interrupted = &mut interrupt => return interrupted.map(|()| End::Interrupted).map_err(Into::into),
                // The lanes of an open loop are through with their calls before its time is. Of what is only held
                // nothing is left.
                Some(Told::Done) = self.told.recv() => {
                    done += 1;
                    if self.plan.kind == Kind::Idle && done == self.plan.threads {
                        return Ok(End::InTime);
                    }
                }
            }
        }
    }

    /// Calls that were due in the window may still be on their way.
    async fn last_calls(&mut self) {
        let done = async { while self.told.recv().await.is_some() {} };
        let interrupt = async { tokio::signal::ctrl_c().await.ok() };
        // Whichever comes first: those that have no end then are counted as such.
        timeout(self.plan.timeout, async {
            tokio::select! { () = done => {}, _ = interrupt => {} }
        })
        .await
        .ok();
    }

    fn progress(&self) -> ProgressBar {
        if self.plan.output.quiet {
            return ProgressBar::hidden();
        }
        let style =
            ProgressStyle::with_template("{bar:30} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let length = self.window.end_ns().saturating_sub(now_ns());
        // Draws to standard error, and nothing where that is no terminal.
        ProgressBar::new(if self.plan.duration.is_none() { 0 } else { length }).with_style(style)
    }

    fn show(&self, progress: &ProgressBar) {
        if progress.is_hidden() {
            return;
        }
        let (completed, failed) =
            self.live.iter().map(|live| live.get()).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        let left = self.window.end_ns().saturating_sub(now_ns());
        progress.set_position(progress.length().unwrap_or(0).saturating_sub(left));
        let phase = if now_ns() < self.window.start_ns() { "warm-up: " } else { "" };
        progress.set_message(format!("{phase}{completed} done, {failed} failed"));
    }
}

async fn opened(told: &mut mpsc::Receiver<Told>, threads: usize) -> anyhow::Result<Opened> {
    let mut all = Opened::default();
    for _ in 0..threads {
        match told.recv().await {
            Some(Told::Ready(opened)) => all = all.and(opened),
            // Why is told when it is joined.
            Some(Told::Done) | None => {
                bail!("a thread of the generator ended before its connections were made")
            }
        }
    }
    Ok(all)
}

fn explain(why: Failure, addresses: &str, plan: &Plan) -> String {
    match why {
        Failure::Connect => {
            format!("nothing listens at {addresses}: start the server, or give the URL of one that runs")
        }
        Failure::NoPort => format!(
            "no port is left to connect to {addresses} from, or --source is no address of this machine: give some, as --source 127.0.0.2,127.0.0.3"
        ),
        Failure::NoDescriptor => {
            format!("--connections {} needs more open files: run `ulimit -n 65536` before", plan.connections)
        }
        Failure::Timeout => format!(
            "{addresses} did not answer within --timeout {}",
            humantime::format_duration(plan.timeout)
        ),
        Failure::Status(status) => {
            format!("{addresses} answered with status {status}: check the path of the URL")
        }
        Failure::Malformed => format!("{addresses} does not speak the protocol: check --protocol"),
        other => format!("{addresses} ended the first connection ({other})"),
    }
}

/// Ends with a line or the end of standard input.
async fn standard_input() {
    let (tell, told) = oneshot::channel();
    // Not a task: a read of a terminal cannot be given up, and would keep a runtime from ending.
    std::thread::spawn(move || {
        std::io::stdin().lock().read_line(&mut String::new()).ok();
        tell.send(()).ok();
    });
    told.await.ok();
}

/// A line of JSON on standard output, at once.
///
/// # Errors
/// When nobody reads it.
pub(super) fn say(document: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{document}")?;
    out.flush().context("cannot write to standard output")
}
